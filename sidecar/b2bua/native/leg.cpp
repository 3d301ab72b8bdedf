#include "leg.hpp"

#include "body.hpp"
#include "call.hpp"
#include "defects.hpp"

#include <algorithm>

namespace sidecar {
namespace {

bool is_response(const pjsip_event& event) { return event.body.tsx_state.type == PJSIP_EVENT_RX_MSG; }

const pjsip_rx_data* response_of(const pjsip_event& event) { return event.body.tsx_state.src.rdata; }

constexpr std::int64_t life_interval_ns = 1'000'000'000;

// An INVITE that answers a challenge is a transaction of its own, and to be found again after a crash as the first is.
void name_try(pjsip_tx_data* request, const std::string& branch, int number) {
    auto* via = static_cast<pjsip_via_hdr*>(pjsip_msg_find_hdr(request->msg, PJSIP_H_VIA, nullptr));
    via->branch_param = copy(request->pool, number == 0 ? branch : branch + "-" + std::to_string(number));
}

}  // namespace

void report_dropped(Context& context, std::uint64_t bridge_id, int attempt, int code, const Dialog& answered) {
    context.counters.add(Counter::dropped_answers);
    context.events.push(bridge_id, context.moment(), AnswerDropped{attempt, code, answered.identity()});
}

// --- both ------------------------------------------------------------------------------------------------------------

Leg::Leg(Context& context, Call& call, Side side)
    : dialog(context), context_(context), call_(&call), bridge_id_(call.id()), side_(side) {}

Leg::~Leg() { leave_table(); }

void Leg::enter_table() {
    context_.tables.enter(*this);
    in_table_ = true;
}

void Leg::leave_table() {
    if (!in_table_) return;
    in_table_ = false;
    context_.tables.leave(*this);
}

Dialog* Leg::dialog_between(std::string_view local_tag, std::string_view remote_tag) {
    if (dialog.local_tag() == local_tag && dialog.remote_tag() == remote_tag) return &dialog;
    EarlyDialog* early = call_ != nullptr ? call_->early_dialog(side_, local_tag, remote_tag) : nullptr;
    return early != nullptr ? &early->of(side_) : nullptr;
}

Dialog& Leg::dialog_meant(std::string_view local_tag, std::string_view remote_tag) {
    Dialog* found = dialog_between(local_tag, remote_tag);
    return found != nullptr ? *found : dialog;
}

void Leg::finish(int code) {
    if (ended()) return;
    state_ = LegState::ended;
    last_code_ = code;
    bye_.let_go();
    invite_.retire();
    leave_table();
    on_finished();
}

void Leg::hang_up(const std::vector<std::string>& reasons, const pjsip_rx_data* bye) {
    if (ended() || state_ == LegState::leaving) return;
    state_ = LegState::leaving;
    TxPtr request = dialog.request(pjsip_bye_method);
    if (!request) return finish(PJSIP_SC_INTERNAL_SERVER_ERROR);
    // A leg hears one BYE, whoever was killed meanwhile: that of the next boot is a repeat of this (RFC 3261 §17.2.3).
    auto* via = static_cast<pjsip_via_hdr*>(pjsip_msg_find_hdr(request->msg, PJSIP_H_VIA, nullptr));
    via->branch_param = copy(request->pool, "z9hG4bK" + std::string(dialog.local_tag()) + "-bye");
    if (bye != nullptr) {
        pass_through(context_, bye, request.get(), passing());
    } else {
        add_reasons(request.get(), reasons);
    }
    if (!bye_.send(std::move(request), this)) finish(PJSIP_SC_SERVICE_UNAVAILABLE);
}

void Leg::peer_left(int code) {
    if (state_ == LegState::leaving) alive_ = true;  // its BYE crossed ours: it was there until now
    finish(code);
}

bool Leg::on_bye_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    if (!bye_.is(tsx)) return false;
    if (tsx->status_code < 200) return true;
    if (is_response(event)) {
        TxPtr again = dialog.again(tsx->last_tx, response_of(event), bye_tries_);
        if (again && bye_.send(std::move(again), this)) return true;
        if (Digest::is_challenge(tsx->status_code)) bye_challenge_ = tsx->status_code;
    }
    alive_ = is_response(event) && tsx->status_code < 300;
    finish(tsx->status_code);
    return true;
}

void Leg::overtake(Tsx& reinvite, int cseq) {
    if (!reinvite) return;
    pjsip_tsx_stop_retransmit(reinvite.get());
    overtaken_.take_over(reinvite, this);
    overtaken_cseq_ = cseq;
}

bool Leg::on_overtaken_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    if (!overtaken_.is(tsx)) return false;
    if (tsx->status_code < 200) return true;
    overtaken_.let_go();
    if (is_response(event) && tsx->status_code < 300) acknowledge(overtaken_cseq_, nullptr);
    return true;
}

bool Leg::on_ending_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    return on_bye_tsx(tsx, event) || on_overtaken_tsx(tsx, event);
}

void Leg::acknowledge(int cseq, const pjsip_rx_data* from) {
    last_ack_.cseq = cseq;
    last_ack_.branch = "z9hG4bK" + random_hex(12);
    last_ack_.body.reset();
    if (from != nullptr && !raw_body(from).empty()) last_ack_.body = std::make_unique<HeldMessage>(context_, from);
    send_last_ack();
}

void Leg::send_last_ack() {
    TxPtr ack = dialog.ack(last_ack_.cseq, last_ack_.branch);
    if (!ack) return;
    if (last_ack_.body) last_ack_.body->put_into(ack.get(), passing());
    send_ack(context_, std::move(ack));
}

void Leg::on_repeated_answer(const pjsip_rx_data* answer) {
    context_.counters.add(Counter::repeated_answers);
    if (answer->msg_info.cseq->cseq == last_ack_.cseq) send_last_ack();  // RFC 3261 §13.2.2.4; else it is still held
}

void Leg::learn_methods(const pjsip_msg* msg) {
    if (find_header(msg, "Allow") != nullptr) allows_update_ = lists(msg, "Allow", "UPDATE");
}

bool Leg::life_due(std::int64_t mono_ns) {
    if (mono_ns - last_life_ns_ < life_interval_ns) return false;
    last_life_ns_ = mono_ns;
    return true;
}

header_policy::Options Leg::passing() const {
    header_policy::Options options;
    options.identity = identity_passes_;
    options.receiver.trusted = dialog.trusts_peer();
    options.receiver.keep_outside = context_.settings.keep_assertions_outside;
    if (!withheld_.empty()) options.withheld = &withheld_;
    return options;
}

// --- A ---------------------------------------------------------------------------------------------------------------

bool CallerLeg::accept(pjsip_rx_data* invite) {
    dialog.start_uas(invite);
    invite_cseq_ = invite->msg_info.cseq->cseq;
    liveness_ = dialog.group().liveness;
    learn_methods(invite->msg_info.msg);
    responses_ = ResponseBase(context_, invite, dialog.local_tag());
    if (!responses_ || !invite_.accept(invite, this)) return false;
    enter_table();
    if (context_.settings.trying_ms > 0) {
        trying_.arm(context_.settings.trying_ms);
        return true;
    }
    tried_ = true;
    return invite_.respond(responses_.trying());
}

void CallerLeg::trying() {
    if (state_ != LegState::inviting || tried_ || !invite_) return;
    tried_ = true;
    trying_.disarm();
    if (!invite_.respond(responses_.trying())) call_->on(inputs::BrokenTransport{side_});
}

void CallerLeg::provisional(const pjsip_rx_data* from_b, const header_policy::Options& options, const Dialog& in) {
    if (state_ != LegState::inviting && state_ != LegState::early) return;
    const auto& line = from_b->msg_info.msg->line.status;
    TxPtr response = responses_.make(context_, line.code, view(line.reason), in.local_tag());
    if (!response) return;
    state_ = LegState::early;
    in.add_contact(response.get());
    pass_through(context_, from_b, response.get(), options);
    if (!invite_.respond(std::move(response))) call_->on(inputs::BrokenTransport{side_});
}

bool CallerLeg::answer(const HeldMessage& held) {
    TxPtr response = responses_.make(context_, held.code(), held.phrase(), dialog.local_tag());
    if (!response) return false;
    dialog.add_contact(response.get());
    held.put_into(response.get(), passing());
    if (!invite_.respond(std::move(response))) return false;
    state_ = LegState::answered;
    responses_ = {};
    return true;
}

void CallerLeg::refuse(int code, const std::vector<std::string>& reasons, const HeldMessage* held,
                       const header_policy::Options& options, int retry_after_s) {
    end_invite(code, reasons, held, options, retry_after_s, false);
}

void CallerLeg::refuse_and_leave(int code, const std::vector<std::string>& reasons) {
    end_invite(code, reasons, nullptr, {}, 0, true);
}

void CallerLeg::end_invite(int code, const std::vector<std::string>& reasons, const HeldMessage* held,
                           const header_policy::Options& options, int retry_after_s, bool leaves) {
    if (state_ != LegState::inviting && state_ != LegState::early) return;
    const bool same_code = held != nullptr && held->code() == code;
    if (TxPtr response = responses_.make(context_, code, same_code ? held->phrase() : std::string_view())) {
        if (held != nullptr) held->put_into(response.get(), options);
        add_reasons(response.get(), reasons);
        if (retry_after_s > 0) add_header(response.get(), "Retry-After", std::to_string(retry_after_s));
        invite_.respond(std::move(response));
    }
    responses_ = {};
    if (leaves) return hang_up(reasons);
    invite_.wait_for_ack(dialog.group().id());
    finish(code);
}

CallerLeg::Ack CallerLeg::acknowledged(const pjsip_rx_data* ack) {
    const bool is_first = state_ == LegState::answered;
    const bool may_be = is_first && lacks(context_, ack, Part::cseq);  // no other INVITE of A's waits for one
    if (!may_be && ack->msg_info.cseq->cseq != invite_cseq_) return Ack::of_another;
    if (!is_first) return Ack::repeated;
    invite_.retire();
    state_ = LegState::confirmed;
    return Ack::first;
}

void CallerLeg::leave(const std::vector<std::string>& reasons, const pjsip_rx_data* bye) {
    if (state_ == LegState::answered) {
        bye_is_due_ = true;
        due_reasons_ = bye != nullptr ? reasons_of(context_, bye->msg_info.msg) : reasons;
    } else if (bye_is_due_) {  // what was due is sent once the ACK is in
        bye_is_due_ = false;
        hang_up(due_reasons_);
    } else {
        hang_up(reasons, bye);
    }
}

void CallerLeg::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    if (on_ending_tsx(tsx, event)) return;
    if (!invite_.is(tsx) || tsx->state != PJSIP_TSX_STATE_TERMINATED) return;
    invite_.let_go();
    if (state_ == LegState::leaving) return;
    if (state_ == LegState::answered) {
        state_ = LegState::confirmed;  // given up rather than acknowledged: the BYE may go now (RFC 3261 §15)
        call_->on(inputs::NoAck{});
    } else {
        call_->on(inputs::BrokenTransport{side_});
    }
}

void CallerLeg::on_cancel(pjsip_rx_data* cancel) {
    if (!dialog.hears(cancel)) return drop_foreign(context_, cancel);
    answer_request(context_, cancel, PJSIP_SC_OK, dialog.local_tag());
    if (state_ == LegState::inviting || state_ == LegState::early) call_->on(inputs::Cancel{cancel});
}

void CallerLeg::on_finished() { call_->on(inputs::LegEnded{}); }

// --- B ---------------------------------------------------------------------------------------------------------------

static Destination destination_of(const commands::Route& route) {
    return {route.host,          route.port,      route.transport, route.user, route.uri_parameters,
            route.to_parameters, route.authority, route.gateway,  route.urn};
}

CalleeLeg::CalleeLeg(Context& context, Call& call, int attempt) : Leg(context, call, Side::b), attempt_(attempt) {}

CalleeLeg::~CalleeLeg() { leave_table(); }  // its name there may lie in an early dialog

void CalleeLeg::follow(const commands::Route& route) {
    withheld_ = route.withheld_headers;
    if (route.large_by_udp) dialog.stay_with_udp();
    let_identity_pass(route.keep_identity);
    liveness_ = route.liveness;
}

bool CalleeLeg::start(const commands::Route& route, const HeldMessage& invite, const pjsip_fromto_hdr* caller, int max_forwards,
                      std::string_view b_token, const NamedHeader* claim) {
    const LegNames names = leg_b_names(b_token, attempt_);
    const Destination to = destination_of(route);
    follow(route);
    by_udp_ = route.transport == Transport::udp;
    if (!dialog.start_uac(names, to, {caller, route.from_user, route.anonymous, route.from_parameters})) {
        state_ = LegState::ended;
        return false;
    }
    dialog.answer_challenges_of(route.gateway);
    TxPtr request = dialog.request(pjsip_invite_method);
    invite_cseq_ = dialog.local_cseq() - 1;
    pjsip_msg* msg = request->msg;
    auto* via = static_cast<pjsip_via_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_VIA, nullptr));
    via->branch_param = copy(request->pool, names.branch);
    auto* hops = static_cast<pjsip_max_fwd_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_MAX_FORWARDS, nullptr));
    hops->ivalue = max_forwards;
    invite.put_into(request.get(), passing());
    if (!identity_passes_ && invite.has_identity()) context_.counters.add(Counter::identities_removed);
    for (const auto& [name, value] : route.add_headers) add_header(request.get(), name, value);
    if (claim != nullptr) add_header(request.get(), claim->name, claim->value);
    single_branch_ = route.single_branch;
    if (single_branch_) ask_for_one_callee(request.get());
    enter_table();
    if (!invite_.send(std::move(request), this)) {
        finish(PJSIP_SC_SERVICE_UNAVAILABLE);
        return false;
    }
    no_response_ms_ = route.no_response_ms;
    no_progress_ms_ = route.no_progress_ms;
    await_response();
    return true;
}

void CalleeLeg::await_response() {
    sent_ns_ = Moment::now().mono_ns;
    if (no_response_ms_ > 0) silence_.arm(no_response_ms_);
}

void CalleeLeg::await_progress() {
    if (no_progress_ms_ > 0) silence_.arm(no_progress_ms_ - (Moment::now().mono_ns - sent_ns_) / 1'000'000);
}

bool CalleeLeg::first_of_its_code(int code) {
    const auto index = static_cast<std::size_t>(code - 100);
    if (codes_seen_.test(index)) return false;
    codes_seen_.set(index);
    return true;
}

void CalleeLeg::cancel(const std::vector<std::string>& reasons) {
    if ((!invite_ && !saved_invite_) || cancel_wanted_) return;
    cancel_wanted_ = true;
    cancel_reasons_ = reasons;
    if (saved_invite_) return cancel_saved();
    silence_.disarm();
    if (heard_code_ > 0) send_cancel();  // else it waits for a provisional (RFC 3261 §9.1), or for Timer B
}

void CalleeLeg::send_cancel() {
    if (cancel_sent_ || !invite_) return;
    cancel_sent_ = true;
    if (TxPtr request = cancel_of(context_, invite_.get()->last_tx)) {
        add_reasons(request.get(), cancel_reasons_);
        send_unattended(context_, std::move(request));
    }
    pjsip_tsx_set_timeout(invite_.get(), context_.settings.timeout_ms());  // RFC 3261 §9.1: without its 487 it is over then
}

void CalleeLeg::confirm(const pjsip_rx_data* from_a) {
    if (state_ != LegState::answered) return;
    state_ = LegState::confirmed;
    acknowledge(invite_cseq_, from_a);
}

void CalleeLeg::leave(const std::vector<std::string>& reasons, const pjsip_rx_data* bye) {
    switch (state_) {
        case LegState::inviting:
        case LegState::early:
            return cancel(bye != nullptr ? reasons_of(context_, bye->msg_info.msg) : reasons);
        case LegState::answered:
            confirm(nullptr);
            [[fallthrough]];
        case LegState::confirmed:
            return hang_up(reasons, bye);
        case LegState::leaving:
        case LegState::ended:
            return;
    }
}

void CalleeLeg::give_up() {
    call_ = nullptr;
    silence_.disarm();
    early_dialogs_.close();
    leave({});
    if (ended()) context_.tables.forget(*this);
}

void CalleeLeg::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    if (on_ending_tsx(tsx, event) || !invite_.is(tsx)) return;
    const int code = tsx->status_code;
    if (is_response(event)) {
        const pjsip_rx_data* response = response_of(event);
        if (code < 200) return on_provisional(response);
        if (tried_again(response)) return;
        invite_.let_go();  // pjsip acknowledges what is not 2xx, and forgets what is
        if (code < 300) return on_answer(response);
        return on_failure(RouteFailure::final_response, response);
    }
    if (tsx->state != PJSIP_TSX_STATE_TERMINATED) return;
    invite_.let_go();
    const bool broken = event.body.tsx_state.type == PJSIP_EVENT_TRANSPORT_ERROR;
    on_failure(broken ? RouteFailure::unreachable : RouteFailure::transaction_timeout, nullptr);
}

// RFC 3261 §22.2: the same Call-ID, To and From, the next CSeq.
bool CalleeLeg::tried_again(const pjsip_rx_data* challenge) {
    if (cancel_wanted_ || call_ == nullptr || state_ != LegState::inviting) return false;
    TxPtr again = dialog.again(invite_.get()->last_tx, challenge, invite_tries_);
    if (!again) return false;
    name_try(again.get(), dialog.branch(), invite_tries_);
    if (!invite_.send(std::move(again), this)) return false;
    invite_cseq_ = dialog.local_cseq() - 1;
    heard_code_ = 0;  // of this INVITE nothing was heard yet: a CANCEL waits for it
    await_response();
    return true;
}

void CalleeLeg::on_provisional(const pjsip_rx_data* response) {
    const int code = response->msg_info.msg->line.status.code;
    heard_code_ = std::max(heard_code_, code);
    silence_.disarm();
    if (cancel_wanted_) return send_cancel();
    if (call_ != nullptr && heard_code_ == PJSIP_SC_TRYING) await_progress();
    if (call_ == nullptr || code == PJSIP_SC_TRYING) return;
    if (response->msg_info.to->tag.slen != 0) state_ = LegState::early;
    call_->on(inputs::Provisional{*this, response});
}

void CalleeLeg::on_answer(const pjsip_rx_data* response) {
    const int code = response->msg_info.msg->line.status.code;
    silence_.disarm();
    learn_methods(response->msg_info.msg);
    state_ = LegState::answered;
    was_answered_ = true;
    last_code_ = code;
    if (cancel_wanted_ || call_ == nullptr) {  // it crossed our CANCEL
        if (EarlyDialog* early = early_dialogs_.of_tag(view(response->msg_info.to->tag))) dialog.swap(early->b);
        dialog.learn(response);
        report_dropped(context_, bridge_id_, attempt_, code, dialog);
        return leave(cancel_reasons_);
    }
    call_->on(inputs::Answer{*this, response});
}

void CalleeLeg::on_failure(RouteFailure cause, const pjsip_rx_data* response) {
    silence_.disarm();
    alive_ = response != nullptr;
    if (call_ != nullptr) call_->on(inputs::Failure{*this, cause, response});
    const bool was_cancelled = call_ != nullptr && response != nullptr;
    if (was_cancelled) last_reasons_ = reasons_of(context_, response->msg_info.msg);
    finish(response != nullptr ? response->msg_info.msg->line.status.code : 0);
}

void CalleeLeg::silent(void* self) {
    auto* leg = static_cast<CalleeLeg*>(self);
    if (leg->saved_invite_) return leg->on_failure(RouteFailure::transaction_timeout, nullptr);
    // RFC 3261 §18.1.1: a large INVITE tries TCP first, and nothing has left while that is being opened. See
    // TCP_CONNECT_TRIES in hook.py for how long that takes.
    if (leg->by_udp_ && leg->invite_ && leg->invite_.get()->transport == nullptr) return leg->await_response();
    if (leg->call_ != nullptr) leg->call_->on(inputs::Failure{*leg, RouteFailure::no_response, nullptr});
}

void CalleeLeg::on_branch_answer(const pjsip_rx_data* answer) {
    const int cseq = answer->msg_info.cseq->cseq;
    if (is_of_saved_invite(cseq)) return on_late_answer(answer);
    if (cseq != invite_cseq_) return;
    const std::string tag(view(answer->msg_info.to->tag));
    const bool known = std::find(branches_dropped_.begin(), branches_dropped_.end(), tag) != branches_dropped_.end();
    const bool too_many = branches_dropped_.size() == static_cast<std::size_t>(branches_max);
    if (!known && too_many) return context_.counters.add(Counter::unmatched_responses);
    EarlyDialog* early = early_dialogs_.of_tag(tag);
    Dialog other(context_);
    Dialog& branch = early != nullptr ? early->b : other;
    if (early != nullptr) {
        branch.learn(answer);
    } else {
        branch.start_fork(dialog, answer);
    }
    if (TxPtr ack = branch.ack(cseq, "z9hG4bK" + random_hex(12))) send_ack(context_, std::move(ack));
    if (known) return;  // its BYE is on the way
    branches_dropped_.push_back(tag);
    if (TxPtr bye = branch.request(pjsip_bye_method)) send_unattended(context_, std::move(bye));
    report_dropped(context_, bridge_id_, attempt_, answer->msg_info.msg->line.status.code, branch);
}

// --- of an earlier boot ---

void Leg::be_over() {
    state_ = LegState::ended;
    leave_table();
}

bool CallerLeg::resume(const commands::Adopt& saved, pjsip_rx_data* invite) {
    const SavedLeg& leg = saved.leg_a;
    if (!dialog.start_saved(leg, side_, saved.peer, {}, udp_transport_at(leg))) return false;
    invite_cseq_ = invite != nullptr ? invite->msg_info.cseq->cseq : leg.remote_cseq;
    enter_table();
    switch (saved.a_state) {
        case SavedLegState::over:
            be_over();
            break;
        case SavedLegState::answering:
            may_be_answered_ = true;
            [[fallthrough]];
        case SavedLegState::early:
            state_ = LegState::early;
            if (invite == nullptr) break;
            responses_ = ResponseBase(context_, invite, dialog.local_tag());
            invite_.accept(invite, this);
            break;
        case SavedLegState::answered:
            state_ = LegState::confirmed;
            break;
    }
    return true;
}

bool CalleeLeg::resume(const commands::Adopt& saved) {
    const SavedLeg& leg = *saved.leg_b;
    if (!dialog.start_saved(leg, side_, {}, saved.gateway, udp_transport_at(leg))) return false;
    dialog.answer_challenges_of(saved.gateway);
    // Answers to challenges have taken numbers, too. What else came before the answer (PRACK) is not told apart from them.
    invite_cseq_ = dialog.answers_challenges() ? leg.local_cseq - 1 : leg_b_names(saved.b_token, attempt_).cseq;
    was_answered_ = true;
    state_ = saved.b_state == SavedLegState::answering ? LegState::answered : LegState::confirmed;
    enter_table();
    if (saved.b_state == SavedLegState::over) be_over();
    return true;
}

// --- of the boot before a planned restart ---

// The body of an ACK is not kept: it would matter only to a 2xx with an offer whose ACK was lost just before.
KeptLeg Leg::kept() const { return {invite_cseq_, allows_update_, false, last_ack_.cseq, last_ack_.branch}; }

void Leg::take(const KeptLeg& kept) {
    invite_cseq_ = kept.invite_cseq;
    allows_update_ = kept.allows_update;
    last_ack_.cseq = kept.ack_cseq;
    last_ack_.branch = kept.ack_branch;
}

bool CallerLeg::go_on(const commands::Adopt& saved, const KeptLeg& kept) {
    if (!resume(saved, nullptr)) return false;
    take(kept);
    liveness_ = dialog.group().liveness;
    return dialog.go_on_to_caller(saved.leg_a, saved.request_uri);
}

bool CalleeLeg::go_on(const commands::Adopt& saved, const KeptLeg& kept) {
    if (!resume(saved)) return false;
    take(kept);
    follow(*saved.route);
    return dialog.go_on_to(destination_of(*saved.route), *saved.leg_b);
}

bool CalleeLeg::resume_invite(const commands::Adopt& saved, const pjsip_fromto_hdr* caller) {
    const commands::Route& route = *saved.route;
    const LegNames names = leg_b_names(saved.b_token, attempt_);
    const Destination to = destination_of(route);
    if (!dialog.start_uac(names, to, {caller, route.from_user, route.anonymous, route.from_parameters})) return false;
    dialog.answer_challenges_of(route.gateway);
    saved_invite_ = dialog.request(pjsip_invite_method);
    if (!saved_invite_) return false;
    invite_cseq_ = names.cseq;
    enter_table();
    return true;
}

bool CalleeLeg::is_of_saved_invite(int cseq) const {
    const int later = dialog.answers_challenges() ? invite_tries_max : 0;
    return saved_invite_ && cseq >= invite_cseq_ && cseq <= invite_cseq_ + later;
}

// Which of them was the last nobody knows any more: the others get 481.
void CalleeLeg::cancel_saved() {
    const int later = dialog.answers_challenges() ? invite_tries_max : 0;
    for (int number = 0; number <= later; ++number) {
        TxPtr request = cancel_of(context_, saved_invite_.get());
        if (!request) break;
        name_try(request.get(), dialog.branch(), number);
        auto* cseq = static_cast<pjsip_cseq_hdr*>(pjsip_msg_find_hdr(request->msg, PJSIP_H_CSEQ, nullptr));
        cseq->cseq = invite_cseq_ + number;
        add_reasons(request.get(), cancel_reasons_);
        send_unattended(context_, std::move(request));
    }
    silence_.arm(context_.settings.timeout_ms());
}

// The first makes the leg's dialog, and gets ACK and BYE; others are branches of it.
void CalleeLeg::on_late_answer(const pjsip_rx_data* answer) {
    silence_.disarm();
    invite_cseq_ = answer->msg_info.cseq->cseq;
    saved_invite_.reset();
    dialog.learn(answer);
    state_ = LegState::answered;
    was_answered_ = true;
    last_code_ = answer->msg_info.msg->line.status.code;
    report_dropped(context_, bridge_id_, attempt_, last_code_, dialog);
    leave(cancel_wanted_ ? cancel_reasons_ : Reasons{our_reason(context_, "crash_recovered")});
}

void CalleeLeg::on_late_failure(const pjsip_rx_data* response) {
    const int cseq = response->msg_info.cseq->cseq;
    if (!is_of_saved_invite(cseq)) return;
    if (TxPtr ack = dialog.ack(cseq, dialog.branch())) {  // RFC 3261 §17.1.1.3
        name_try(ack.get(), dialog.branch(), cseq - invite_cseq_);
        PJSIP_MSG_TO_HDR(ack->msg)->tag = copy(ack->pool, view(response->msg_info.to->tag));
        send_ack(context_, std::move(ack));
    }
    on_failure(RouteFailure::final_response, response);
}

void CalleeLeg::let_go_of(const pjsip_transport* transport) {
    Leg::let_go_of(transport);
    early_dialogs_.let_go_of(transport);
}

void CalleeLeg::on_finished() {
    if (call_ != nullptr) {
        call_->on(inputs::LegEnded{});
    } else {
        context_.tables.forget(*this);
    }
}

}  // namespace sidecar
