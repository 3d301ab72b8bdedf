#include "call.hpp"

#include "bridge.hpp"

#include <algorithm>

namespace sidecar {
namespace {

constexpr std::size_t contacts_max = 16;  // of one 3xx
constexpr std::size_t referrals_max = 16;
constexpr std::size_t relays_max = 16;  // in-dialog requests open at once in one call

bool has_early_media(const pjsip_rx_data* response) {
    return response->msg_info.msg->body != nullptr || find_header(response->msg_info.msg, "RSeq") != nullptr;
}

// The SIP addresses of a 3xx, in order; bounded. They borrow from it.
std::vector<Contact> contacts_of(const pjsip_msg* msg) {
    std::vector<Contact> found;
    if (msg == nullptr || msg->line.status.code / 100 != 3) return found;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        const auto* contact = reinterpret_cast<const pjsip_contact_hdr*>(header);
        if (header->type != PJSIP_H_CONTACT || contact->star || contact->uri == nullptr) continue;
        const bool secure = PJSIP_URI_SCHEME_IS_SIPS(contact->uri);
        if (!PJSIP_URI_SCHEME_IS_SIP(contact->uri) && !secure) continue;
        if (found.size() == contacts_max) {
            counters.add(Counter::texts_cut);
            break;
        }
        const auto* uri = static_cast<const pjsip_sip_uri*>(pjsip_uri_get_uri(contact->uri));
        const auto text = printed(reinterpret_cast<const pjsip_uri*>(uri), PJSIP_URI_IN_CONTACT_HDR);
        found.push_back({
            .user = std::string(user_in(text)),
            .host = view(uri->host),
            .port = uri->port,
            .transport = secure ? "tls" : view(uri->transport_param),
            .q_thousandths = contact->q1000 > 0 ? contact->q1000 : 1000,  // none: pjsip says 0
        });
    }
    return found;
}

}  // namespace

Call::Call(std::uint64_t id) : id_(id), b_token_(random_hex(16)), a_(*this) {}

Call::~Call() = default;

bool Call::start(pjsip_rx_data* invite, std::optional<Claim> claim) {
    if (!a_.accept(invite)) return false;
    claim_ = std::move(claim);
    invite_ = std::make_unique<HeldMessage>(invite);
    if (const auto* hops = static_cast<const pjsip_max_fwd_hdr*>(
            pjsip_msg_find_hdr(invite->msg_info.msg, PJSIP_H_MAX_FORWARDS, nullptr))) {
        max_forwards_ = static_cast<int>(hops->ivalue) - 1;
    }
    hold_.arm(stack.settings.answer_hold_ms_max);
    return true;
}

void Call::announce(const pjsip_rx_data* invite) {
    InviteReceived received = invite_of(invite, id_, Moment::now());
    received.leg = a_.dialog.identity();
    received.b_token = b_token_;
    if (claim_) received.claimed_peer = stack.settings.peers.name(claim_->group);
    tell(received);
}

template <typename E>
void Call::tell(const E& event) {
    bridge->tell(id_, Moment::now(), event);
}

// --- commands --------------------------------------------------------------------------------------------------------

void Call::run(const commands::Route& command) {
    if (state_ != State::deciding && state_ != State::failed) return counters.add(Counter::commands_unmatched);
    hold_.disarm();
    failure_.reset();
    state_ = State::calling;
    b_existed_ = true;
    b_ = std::make_unique<CalleeLeg>(*this, command.attempt);
    if (!b_->start(command, *invite_, a_.dialog.remote(), max_forwards_, b_token_, claim_ ? &claim_->header : nullptr)) {
        on_failed(*b_, RouteFailure::unreachable, nullptr);
    }
}

void Call::run(const commands::RelayAnswer&) {
    if (state_ != State::holding) return counters.add(Counter::commands_unmatched);
    hold_.disarm();
    ring_.disarm();
    const bool sent = a_.answer(*answer_);
    const bool offered = invite_->has_body();
    answer_.reset();
    invite_.reset();
    if (!sent) return on_transport_failed(Side::a);
    state_ = State::answered;
    // Where A made the offer its ACK has nothing to tell B. Waiting for it would have B give up an answer whose ACK was
    // lost on A (RFC 3261 §13.3.1.4) before our own timer does, and the record would name the callee.
    if (offered) b_->confirm(nullptr);
    counters.add(Counter::answers_relayed);
    const Moment now = Moment::now();
    answered_ns_ = now.mono_ns;
    bridge->tell(id_, now, AnswerRelayed{});
    if (duration_ms_ >= 0) duration_.arm(duration_ms_);
    if (grant_ms_ >= 0) grant_.arm(grant_ms_);
    liveness_.start(a_, *b_);
}

void Call::run(const commands::RelayFailure& command) {
    if (state_ != State::failed) return counters.add(Counter::commands_unmatched);
    int code = command.sip_code;
    if (code == 0) code = failure_ ? failure_->code() : no_answer_code_;
    header_policy::Options options;
    options.retry_after = command.keep_retry_after;
    options.challenges = failure_ && failure_->code() == code;
    options.contacts = command.keep_contacts;
    const auto failure = std::move(failure_);
    begin_ending();
    a_.refuse(code, {}, failure.get(), options);
    settle();
}

void Call::run(const commands::Reject& command) {
    if (!waiting()) return counters.add(Counter::commands_unmatched);
    end_both(command.sip_code, {our_reason(command.q850_cause, command.text)}, command.retry_after_s);
}

void Call::run(const commands::Release& command) {
    if (state_ == State::ending) return counters.add(Counter::commands_unmatched);
    end_both(command.sip_code, {our_reason(command.q850_cause, command.text)});
}

void Call::run(const commands::ArmDeadline& command) {
    if (state_ == State::ending) return counters.add(Counter::commands_unmatched);
    const std::vector<std::string> reasons{our_reason(command.q850_cause, command.text)};
    long long delay = command.after_ms;
    if (answered_ns_ != 0) delay -= (Moment::now().mono_ns - answered_ns_) / 1'000'000;
    switch (command.kind) {
        case DeadlineKind::ring:
            if (waiting()) ring_.arm(command.after_ms);
            return;
        case DeadlineKind::max_duration:
            duration_ms_ = command.after_ms;
            duration_reasons_ = reasons;
            if (state_ == State::answered) duration_.arm(delay);
            return;
        case DeadlineKind::grant:
            grant_ms_ = command.after_ms;
            grant_reasons_ = reasons;
            if (state_ == State::answered) grant_.arm(delay);
            return;
        case DeadlineKind::hold:
        case DeadlineKind::no_ack:
        case DeadlineKind::dead_peer:
        case DeadlineKind::session_timer:  // these four are the bridge's own
            return counters.add(Counter::commands_unmatched);
    }
}

// --- ending ----------------------------------------------------------------------------------------------------------

void Call::begin_ending() {
    state_ = State::ending;
    hold_.disarm();
    ring_.disarm();
    duration_.disarm();
    grant_.disarm();
    liveness_.stop();
    invite_.reset();
    answer_.reset();
    failure_.reset();
    close_relays();
}

void Call::close_relays() {
    for (auto& relay : relays_) {
        relay->close();
        bridge->retire(std::move(relay));
    }
    relays_.clear();
}

void Call::end_both(int sip_code, const std::vector<std::string>& reasons, int retry_after_s) {
    const bool was_waiting = waiting();
    begin_ending();
    if (was_waiting) {
        a_.refuse(sip_code, reasons, nullptr, {}, retry_after_s);
    } else {
        a_.leave(reasons);
    }
    if (b_) b_->leave(reasons);
    settle();
}

void Call::settle() {
    if (state_ != State::ending) return;
    if (b_ && b_->ended()) {
        b_code_ = b_->last_code();
        b_alive_ = b_->alive();
        b_reasons_ = b_->last_reasons();
    }
    const bool report_a = a_.ended() && !a_reported_;
    const bool report_b = b_existed_ && !b_reported_ && (!b_ || b_->ended());
    a_reported_ |= report_a;
    b_reported_ |= report_b;
    // Before the last report: who has read it finds the slot free.
    if (a_reported_ && (b_reported_ || !b_existed_)) bridge->retire(*this);
    if (report_a) tell(LegTerminated{Side::a, a_.last_code(), a_.alive(), {}});
    if (report_b) tell(LegTerminated{Side::b, b_code_, b_alive_, b_reasons_});
}

void Call::on_transport_failed(Side side) {
    tell(TransportFailed{side});
    if (state_ == State::ending) return;
    const std::vector<std::string> reasons{our_reason("transport_lost")};
    end_both(PJSIP_SC_INTERNAL_SERVER_ERROR, reasons);
}

// --- deadlines -------------------------------------------------------------------------------------------------------

void Call::on_hold_deadline() {
    if (!waiting()) return;
    tell(DeadlineReached{DeadlineKind::hold, 0});
    end_both(PJSIP_SC_INTERNAL_SERVER_ERROR, {our_reason("journal")});
}

void Call::on_ring_deadline() {
    if (!waiting()) return;
    const int heard = b_ ? b_->heard_code() : 0;
    tell(DeadlineReached{DeadlineKind::ring, heard});
}

void Call::on_limit_deadline(DeadlineKind kind, const std::vector<std::string>& reasons) {
    if (state_ != State::answered) return;
    tell(DeadlineReached{kind, 0});
    end_both(PJSIP_SC_REQUEST_TIMEOUT, reasons);
}

void Call::duration_fired(void* self) {
    auto* call = static_cast<Call*>(self);
    call->on_limit_deadline(DeadlineKind::max_duration, call->duration_reasons_);
}

void Call::grant_fired(void* self) {
    auto* call = static_cast<Call*>(self);
    call->on_limit_deadline(DeadlineKind::grant, call->grant_reasons_);
}

void Call::on_dead_peer() { on_limit_deadline(DeadlineKind::dead_peer, {our_reason("dead_peer")}); }

void Call::on_session_expired() {
    on_limit_deadline(DeadlineKind::session_timer, {our_reason("session_timer")});
}

void Call::on_not_acknowledged() {
    if (state_ == State::ending) {
        a_.leave({});  // the BYE that was due
        return settle();
    }
    tell(DeadlineReached{DeadlineKind::no_ack, 0});
    end_both(PJSIP_SC_REQUEST_TIMEOUT, {our_reason("no_ack")});
}

void Call::on_relay_not_acknowledged() {
    if (state_ == State::answered) on_not_acknowledged();
}

void Call::on_relay_not_sent(Leg& to) { liveness_.doubt(to); }

// --- from leg B ------------------------------------------------------------------------------------------------------

void Call::on_provisional(CalleeLeg& leg, const pjsip_rx_data* response, bool other_branch) {
    if (state_ != State::calling) return;
    const int code = response->msg_info.msg->line.status.code;
    if (leg.first_of_its_code(code)) {
        tell(ProvisionalReceived{leg.attempt(), code});
    }
    header_policy::Options options;
    options.body = !other_branch;  // A has one dialog: the media of one branch only, and no PRACK to the wrong one
    if (!other_branch && has_early_media(response)) early_media_relayed_ = true;
    a_.provisional(response, options);
}

void Call::on_answer(CalleeLeg& leg, const pjsip_rx_data* response) {
    const int code = response->msg_info.msg->line.status.code;
    answer_ = std::make_unique<HeldMessage>(response);
    liveness_.agreed(response->msg_info.msg);
    state_ = State::holding;
    hold_.arm(stack.settings.answer_hold_ms_max);
    tell(AnswerHeld{leg.attempt(), code, leg.dialog.identity()});
}

void Call::on_failed(CalleeLeg& leg, RouteFailure cause, const pjsip_rx_data* response) {
    if (state_ != State::calling) return;  // it was cancelled: settle() reports it
    state_ = State::failed;
    hold_.arm(stack.settings.answer_hold_ms_max);
    RouteFailed failed{};
    failed.attempt = leg.attempt();
    failed.cause = cause;
    failed.early_media_relayed = early_media_relayed_;
    failed.heard_code = leg.heard_code();
    if (response != nullptr) {
        failure_ = std::make_unique<HeldMessage>(response);
        const pjsip_msg* msg = response->msg_info.msg;
        failed.sip_code = msg->line.status.code;
        failed.phrase = failure_->phrase();
        failed.reasons = reasons_of(msg);
        failed.headers = wanted_headers_of(msg);
        failed.contacts = contacts_of(msg);
    }
    b_code_ = failed.sip_code;
    b_alive_ = response != nullptr;
    no_answer_code_ = cause == RouteFailure::unreachable ? PJSIP_SC_INTERNAL_SERVER_ERROR : PJSIP_SC_REQUEST_TIMEOUT;
    tell(failed);
    give_up_attempt();
}

// Its last transactions may outlive the decision, and the call.
void Call::give_up_attempt() {
    close_relays();  // they hold on to this leg
    CalleeLeg* leg = b_.get();
    bridge->adopt(std::move(b_));
    leg->give_up();
}

// --- from leg A, and in the dialogs ----------------------------------------------------------------------------------

void Call::on_cancel(const pjsip_rx_data* cancel) {
    if (!waiting()) return;
    const auto reasons = reasons_of(cancel->msg_info.msg);
    tell(CancelReceived{reasons, wanted_headers_of(cancel->msg_info.msg)});
    begin_ending();
    a_.refuse(PJSIP_SC_REQUEST_TERMINATED, {});
    if (b_) b_->leave(reasons);
    settle();
}

Leg* Call::other(const Leg& leg) { return leg.side() == Side::a ? static_cast<Leg*>(b_.get()) : &a_; }

void Call::on_bye(Leg& leg, pjsip_rx_data* bye) {
    const bool early_from_b = leg.side() == Side::b && waiting() && state_ != State::holding;
    if (early_from_b) {  // RFC 3261 §15: a callee cannot end what it has not answered
        answer_request(bye, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST, leg.dialog.local_tag());
        return;
    }
    if (!answer_request(bye, PJSIP_SC_OK, leg.dialog.local_tag())) return;

    const auto reasons = reasons_of(bye->msg_info.msg);
    tell(ByeReceived{leg.side(), reasons, wanted_headers_of(bye->msg_info.msg)});

    const bool was_waiting = waiting();
    const bool was_ending = state_ == State::ending;
    if (!was_ending) begin_ending();
    if (leg.side() == Side::a) {
        if (was_waiting) {
            a_.refuse(PJSIP_SC_REQUEST_TERMINATED, {});  // RFC 3261 §15.1.2
        } else {
            a_.peer_left(PJSIP_SC_OK);
        }
        if (b_ && !was_ending) b_->leave({}, bye);
    } else {
        if (b_->state() == LegState::answered) b_->confirm(nullptr);
        b_->peer_left(PJSIP_SC_OK);
        if (was_waiting) {
            a_.refuse(PJSIP_SC_TEMPORARILY_UNAVAILABLE, reasons);
        } else if (!was_ending) {
            a_.leave({}, bye);
        }
    }
    settle();
}

void Call::on_ack(Leg& leg, const pjsip_rx_data* ack) {
    const int cseq = ack->msg_info.cseq->cseq;
    if (leg.side() == Side::a) {
        switch (a_.acknowledged(ack)) {
            case CallerLeg::Ack::first:
                tell(AckReceived{});
                if (state_ == State::ending) {
                    a_.leave({});  // the BYE that was due
                    return settle();
                }
                if (b_) b_->confirm(ack);
                return;
            case CallerLeg::Ack::repeated:
                return;
            case CallerLeg::Ack::of_another:
                break;
        }
    }
    for (auto& relay : relays_) {
        if (!relay->awaits_ack(leg, cseq)) continue;
        heard(leg);
        return relay->on_ack(ack);
    }
    counters.add(Counter::acks_unmatched);
}

void Call::heard(Leg& leg) {
    if (state_ != State::answered) return;
    const Moment now = Moment::now();
    if (leg.life_due(now.mono_ns)) bridge->tell(id_, now, Life{leg.side()});
}

bool Call::refused_in_dialog(Leg& leg, pjsip_rx_data* request) {
    const auto refuse = [&](Counter counter, int code, int retry_after_s = 0) {
        counters.add(counter);
        answer_request(request, code, leg.dialog.local_tag(), retry_after_s);
        return true;
    };
    const pjsip_method& method = request->msg_info.msg->line.req.method;
    if (view(method.name) == "REFER" && !stack.settings.pass_refer) return refuse(Counter::refused_refer, PJSIP_SC_DECLINE);
    const Leg* peer = other(leg);
    if (state_ == State::ending || peer == nullptr || peer->ended() || peer->dialog.remote_tag().empty()) {
        return refuse(Counter::unmatched_requests, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
    }
    if (request->msg_info.max_fwd != nullptr && request->msg_info.max_fwd->ivalue <= 0) {
        return refuse(Counter::refused_hops, PJSIP_SC_TOO_MANY_HOPS);
    }
    if (relays_.size() >= relays_max) return refuse(Counter::refused_relays, PJSIP_SC_INTERNAL_SERVER_ERROR, 1);
    if (method.id != PJSIP_INVITE_METHOD) return false;

    // RFC 3261 §14.2: a second INVITE before the first has its final response gets 500, one that meets ours gets 491.
    const int retry_after_s = 1 + static_cast<int>(pj_rand() % 10);
    if (waiting()) {
        return leg.side() == Side::a ? refuse(Counter::refused_overlap, PJSIP_SC_INTERNAL_SERVER_ERROR, retry_after_s)
                                     : refuse(Counter::refused_overlap, PJSIP_SC_REQUEST_PENDING);
    }
    if (a_.state() == LegState::answered) return refuse(Counter::refused_overlap, PJSIP_SC_REQUEST_PENDING);
    for (const auto& relay : relays_) {
        if (!relay->is_invite() || !relay->open()) continue;
        if (&relay->to() == &leg) return refuse(Counter::refused_overlap, PJSIP_SC_REQUEST_PENDING);
        return refuse(Counter::refused_overlap, PJSIP_SC_INTERNAL_SERVER_ERROR, retry_after_s);
    }
    return false;
}

void Call::on_request(Leg& leg, pjsip_rx_data* request) {
    if (refused_in_dialog(leg, request)) return;
    const Translation translation = translate(*this, leg, request);
    if (translation.refused != 0) {
        counters.add(Counter::refused_replaces);
        answer_request(request, translation.refused, leg.dialog.local_tag());
        return;
    }
    relays_.push_back(std::make_unique<Relay>(*this, leg, *other(leg)));
    Relay& relay = *relays_.back();
    if (!relay.start(request, translation.headers)) remove(relay);
}

void Call::on_refreshed(Relay& relay, const std::string& target_of_answer, const pjsip_rx_data* response) {
    Leg& from = relay.from();
    Leg& to = relay.to();
    const auto refresh = [&](Leg& leg, const std::string& target) {
        if (!leg.dialog.refresh_target(target)) return;
        const Dialog& dialog = leg.dialog;
        tell(TargetRefreshed{leg.side(), dialog.target(), dialog.local_cseq(), dialog.remote_cseq()});
    };
    refresh(from, relay.new_target());
    refresh(to, target_of_answer);
    liveness_.refreshed(response->msg_info.msg);
    if (find_header(response->msg_info.msg, "Session-Expires") == nullptr) return;  // RFC 4028 §7.2: no timer runs
    tell(SessionRefreshed{from.side()});
    tell(SessionRefreshed{to.side()});
}

void Call::remove(Relay& relay) {
    const auto found = std::find_if(relays_.begin(), relays_.end(), [&](const auto& held) { return held.get() == &relay; });
    if (found == relays_.end()) return;
    bridge->retire(std::move(*found));
    relays_.erase(found);
}

int Call::peer_cseq_of_invite(const Leg& from, int cseq) const {
    if (from.side() == Side::a && cseq == a_.invite_cseq() && b_) return b_->invite_cseq();
    for (const auto& relay : relays_) {
        if (&relay->from() == &from && relay->is_invite() && relay->uas_cseq() == cseq) return relay->uac_cseq();
    }
    return cseq;
}

void Call::note_refer(const Leg& from, int uas_cseq, int uac_cseq) {
    for (auto& referral : referrals_) {
        if (referral.from == from.side() && referral.uas_cseq == uas_cseq) {
            referral.uac_cseq = uac_cseq;  // sent again, for a challenge
            return;
        }
    }
    if (referrals_.size() == referrals_max) referrals_.erase(referrals_.begin());
    referrals_.push_back({from.side(), uas_cseq, uac_cseq});
}

std::optional<int> Call::peer_cseq_of_refer(const Leg& from, bool notify, int cseq) const {
    for (const auto& referral : referrals_) {
        const bool by_sender = referral.from == from.side();
        if (by_sender == notify || (by_sender ? referral.uas_cseq : referral.uac_cseq) != cseq) continue;
        return by_sender ? referral.uac_cseq : referral.uas_cseq;
    }
    return std::nullopt;
}

}  // namespace sidecar
