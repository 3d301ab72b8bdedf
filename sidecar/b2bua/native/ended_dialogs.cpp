#include "ended_dialogs.hpp"

#include "text.hpp"

#include <utility>

namespace sidecar {

std::string dialog_name(std::string_view local_tag, std::string_view remote_tag, std::string_view call_id) {
    std::string name;
    name.reserve(local_tag.size() + remote_tag.size() + call_id.size() + 3);  // none is the beginning of another
    return name.append(local_tag).append(1, '\0').append(remote_tag).append(1, '\0').append(call_id).append(1, '\0');
}

void EndedDialogs::add(const Dialog& early) {
    Ended ended{dialog_name(early.local_tag(), early.remote_tag(), early.call_id())};
    ended.party = early.party();
    keep(std::move(ended));
}

void EndedDialogs::add(const Leg& leg) {
    const Dialog& dialog = leg.dialog;
    Ended ended{dialog_name(dialog.local_tag(), dialog.remote_tag(), dialog.call_id())};
    ended.overtaken_cseq = leg.overtaken_cseq();
    ended.party = dialog.party();
    if (const auto* callee = dynamic_cast<const CalleeLeg*>(&leg)) {
        ended.bridge_id = callee->bridge_id();
        ended.attempt = callee->attempt();
        ended.invite_cseq = callee->invite_cseq();
        ended.answered = callee->was_answered();
    }
    keep(std::move(ended));
}

// As if this boot had given it up. To a challenge its last INVITE may have had the next numbers.
void EndedDialogs::add(const commands::Adopt& saved, const commands::GivenUp& one) {
    const LegNames names = leg_b_names(saved.b_token, one.attempt);
    const pj_str_t there = borrow(one.leg.remote_address);
    pj_sockaddr address;
    if (pj_sockaddr_parse(pj_AF_UNSPEC(), 0, &there, &address) != PJ_SUCCESS) return;
    Ended ended{dialog_name(names.tag, {}, names.call_id)};
    ended.bridge_id = saved.bridge_id;
    ended.attempt = one.attempt;
    ended.invite_cseq = names.cseq;
    ended.challenges = context_.settings.credentials.contains(one.gateway) ? invite_tries_max : 0;
    ended.party.is_called(context_, address, one.leg.transport == Transport::tls, one.gateway);
    keep(std::move(ended));
}

std::string_view EndedDialogs::Ended::tag() const { return std::string_view(name).substr(0, name.find('\0')); }

void EndedDialogs::keep(Ended&& ended) {
    if (ended_.size() == dialogs_max) {
        Ended& first = ended_.front();
        forget(by_name_, first.name, &first);
        forget(by_tag_, first.tag(), &first);
        ended_.pop_front();
    }
    Ended& last = ended_.emplace_back(std::move(ended));
    note(by_name_, last.name, &last);
    note(by_tag_, last.tag(), &last);
}

// The key lives in the entry: that of an older one goes with it.
void EndedDialogs::note(Index& index, std::string_view key, Ended* ended) {
    index.erase(key);
    index.emplace(key, ended);
}

void EndedDialogs::forget(Index& index, std::string_view key, const Ended* ended) {
    const auto found = index.find(key);
    if (found != index.end() && found->second == ended) index.erase(found);
}

EndedDialogs::Ended* EndedDialogs::find(const Index& index, std::string_view key) {
    const auto found = index.find(key);
    return found == index.end() ? nullptr : found->second;
}

const RemoteParty* EndedDialogs::party_of(const pjsip_rx_data* request) const {
    const auto& info = request->msg_info;
    const Ended* ended = find(by_name_, dialog_name(view(info.to->tag), view(info.from->tag), view(info.cid->id)));
    return ended == nullptr ? nullptr : &ended->party;
}

// A 2xx to an INVITE whose leg has ended, of that branch or another (RFC 3261 §13.2.2.4): whoever sends it is off the
// hook and waits for its ACK.
bool EndedDialogs::took_answer(const pjsip_rx_data* rdata) {
    const auto& info = rdata->msg_info;
    const int code = info.msg->line.status.code;
    if (info.cseq->method.id != PJSIP_INVITE_METHOD || code / 100 != 2) return false;
    const auto local_tag = view(info.from->tag), remote_tag = view(info.to->tag), call_id = view(info.cid->id);
    const auto name = dialog_name(local_tag, remote_tag, call_id);
    const Ended* known = find(by_name_, name);
    const bool overtaken = known != nullptr && info.cseq->cseq == known->overtaken_cseq;
    Ended* ended = find(by_tag_, local_tag);
    if (ended == nullptr || (ended->attempt == 0 && !overtaken)) return false;
    const int later = info.cseq->cseq - ended->invite_cseq;
    const bool own_cseq = later >= 0 && later <= ended->challenges;
    Dialog late(context_);
    if (!late.start_late(rdata, own_cseq ? info.cseq->cseq : ended->invite_cseq, ended->party)) {
        drop_foreign(context_, rdata);
        return true;
    }
    const bool repeated = known != nullptr && (known->answered || overtaken);
    const bool same_call_id = ended->name.ends_with(std::string(1, '\0').append(call_id).append(1, '\0'));
    const bool ours = overtaken || (same_call_id && own_cseq);
    if (!ours || (!repeated && ended->branches == branches_max)) {
        context_.counters.add(Counter::unmatched_responses);
        return true;
    }
    if (TxPtr ack = late.ack(info.cseq->cseq, "z9hG4bK" + random_hex(12))) send_ack(context_, std::move(ack));
    if (repeated) {  // its BYE is on the way, or that of the dialog was
        context_.counters.add(Counter::repeated_answers);
        return true;
    }
    Ended branch = *ended;
    branch.name = name;
    branch.answered = true;
    ++branch.branches;
    if (TxPtr bye = late.request(pjsip_bye_method)) send_unattended(context_, std::move(bye));
    report_dropped(context_, branch.bridge_id, branch.attempt, code, late);
    keep(std::move(branch));
    return true;
}

}  // namespace sidecar
