#include "call.hpp"

#include "body.hpp"
#include "defects.hpp"
#include "passports.hpp"
#include "saved_invite.hpp"

#include <algorithm>
#include <iterator>

namespace sidecar {
namespace {

constexpr std::size_t contacts_max = 16;  // of one 3xx
constexpr std::size_t referrals_max = 16;
constexpr std::size_t relays_max = 16;  // in-dialog requests open at once in one call

bool has_early_media(const pjsip_rx_data* response) {
    return has_sdp(response, Sdp::media) || find_header(response->msg_info.msg, "RSeq") != nullptr;
}

// The SIP addresses of a 3xx, in order; bounded. They borrow from it.
std::vector<Contact> contacts_of(Context& context, const pjsip_msg* msg) {
    std::vector<Contact> found;
    if (msg == nullptr || msg->line.status.code / 100 != 3) return found;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        const auto* contact = reinterpret_cast<const pjsip_contact_hdr*>(header);
        if (header->type != PJSIP_H_CONTACT || contact->star || contact->uri == nullptr) continue;
        const bool secure = PJSIP_URI_SCHEME_IS_SIPS(contact->uri);
        if (!PJSIP_URI_SCHEME_IS_SIP(contact->uri) && !secure) continue;
        if (found.size() == contacts_max) {
            context.counters.add(Counter::texts_cut);
            break;
        }
        const auto* uri = static_cast<const pjsip_sip_uri*>(pjsip_uri_get_uri(contact->uri));
        const auto text = printed(reinterpret_cast<const pjsip_uri*>(uri), PJSIP_URI_IN_CONTACT_HDR);
        found.push_back({
            .user = user_in(text),
            .host = view(uri->host),
            .port = uri->port,
            .transport = secure ? "tls" : view(uri->transport_param),
            .q_thousandths = contact->q1000 > 0 ? contact->q1000 : 1000,  // none: pjsip says 0
        });
    }
    return found;
}

}  // namespace

template <typename I>
void Call::late(const I&) {
    context_.counters.add(Counter::commands_unmatched);
}

template <typename I>
void Call::unknown(const I&) {
    context_.counters.add(Counter::inputs_unknown);
}

// --- the table -------------------------------------------------------------------------------------------------------
//
// A row for each input: what it does in each state. No row can be missing, and each says something of every state:
//
//   ignored   it comes late, or twice, as anything may on the wire
//   late      a command that does not fit (any more): counted as commands_unmatched
//   unknown   cannot come as far as we know: its leg does not exist then, or its timer does not run. A defect, and counted

#define SIDECAR_HANDLER(name) &Call::name,
#define SIDECAR_ROW(input, ...)                                                             \
    template <>                                                                             \
    void Call::on(const input& given) {                                                     \
        static constexpr Handler<input> in_state[]{SIDECAR_FOR_EACH(SIDECAR_HANDLER, __VA_ARGS__)}; \
        static_assert(std::size(in_state) == states);                                       \
        (this->*in_state[static_cast<std::size_t>(state_)])(given);                         \
    }

// clang-format off
//                                  admitting                routing                  rerouting                answering              talking                 ending             adopted            kept
SIDECAR_ROW(commands::Route,        route,                   late,                    route,                   late,                  late,                   late,              late,                       late)
SIDECAR_ROW(commands::RelayAnswer,  late,                    late,                    late,                    relay_answer,          late,                   late,              late,                       late)
SIDECAR_ROW(commands::RelayFailure, late,                    late,                    relay_failure,           late,                  late,                   late,              late,                       late)
SIDECAR_ROW(commands::Reject,       reject,                  reject,                  reject,                  reject,                late,                   late,              late,                       late)
SIDECAR_ROW(commands::Release,      release,                 release,                 release,                 release,               release,                late,              release,                    release)
SIDECAR_ROW(commands::ArmDeadline,  arm_before_answer,       arm_before_answer,       arm_before_answer,       arm_before_answer,     arm_in_call,            late,              late,                       late)
SIDECAR_ROW(inputs::Provisional,    unknown,                 pass_provisional,        unknown,                 ignored,               ignored,                ignored,           ignored,                    ignored)
SIDECAR_ROW(inputs::Answer,         unknown,                 hold_answer,             unknown,                 unknown,               unknown,                unknown,           unknown,                    ignored)
SIDECAR_ROW(inputs::Failure,        unknown,                 hold_failure,            unknown,                 unknown,               unknown,                ignored,           ignored,                    ignored)
SIDECAR_ROW(inputs::Cancel,         cancelled,               cancelled,               cancelled,               cancelled,             ignored,                ignored,           cancelled,                  ignored)
SIDECAR_ROW(inputs::ByeOfA,         left_by_a_before_answer, left_by_a_before_answer, left_by_a_before_answer, left_by_a_before_answer, left_by_a,            bye_of_a_crossed,  left_by_a_adopted,          ignored)
SIDECAR_ROW(inputs::ByeOfB,         unknown,                 bye_of_b_too_early,      unknown,                 left_by_b_while_held,  left_by_b,              bye_of_b_crossed,  left_by_b_adopted,          ignored)
SIDECAR_ROW(inputs::Ack,            unknown,                 unknown,                 unknown,                 unknown,               acknowledged,           acknowledged_late, unknown,                    ignored)
SIDECAR_ROW(inputs::NoAck,          unknown,                 unknown,                 unknown,                 unknown,               not_acknowledged,       never_acknowledged,unknown,                    ignored)
SIDECAR_ROW(inputs::NoAckOfRelay,   ignored,                 ignored,                 ignored,                 ignored,               relay_not_acknowledged, ignored,           unknown,                    ignored)
SIDECAR_ROW(inputs::BrokenTransport, transport_broken,       transport_broken,        transport_broken,        transport_broken,      transport_broken,       transport_broken_late,transport_broken_late,   ignored)
SIDECAR_ROW(inputs::HoldDeadline,   held_too_long,           unknown,                 held_too_long,           held_too_long,         unknown,                unknown,           unknown,                    ignored)
SIDECAR_ROW(inputs::RingDeadline,   rang_too_long,           rang_too_long,           rang_too_long,           rang_too_long,         unknown,                unknown,           unknown,                    ignored)
SIDECAR_ROW(inputs::Limit,          unknown,                 unknown,                 unknown,                 unknown,               limit_reached,          ignored,           unknown,                    ignored)
SIDECAR_ROW(inputs::ExtendDeadline, unknown,                 unknown,                 unknown,                 unknown,               slice_ending,           unknown,           unknown,                    ignored)
SIDECAR_ROW(inputs::Life,           ignored,                 ignored,                 ignored,                 ignored,               show_life,              ignored,           ignored,                    ignored)
SIDECAR_ROW(inputs::Keep,           ignored,                 ignored,                 ignored,                 ignored,               keep,                   ignored,           ignored,                    ignored)
SIDECAR_ROW(inputs::Request,        relay_before_answer,     relay_before_answer,     relay_before_answer,     relay_before_answer,   relay_in_call,          refuse_late,       refuse_adopted,             ignored)
SIDECAR_ROW(inputs::LegEnded,       unknown,                 ignored,                 unknown,                 unknown,               unknown,                report_ended_legs, report_ended_legs,          ignored)
// clang-format on

Call::Call(Context& context, std::uint64_t id) : context_(context), id_(id), b_token_(random_hex(16)), a_(context, *this) {}

Call::~Call() = default;

bool Call::start(pjsip_rx_data* invite, std::optional<Claim> claim) {
    if (!a_.accept(invite)) return false;
    claim_ = std::move(claim);
    invite_ = std::make_unique<HeldMessage>(context_, invite);
    session_.learn(Side::a, invite->msg_info.msg);
    if (const auto* hops = static_cast<const pjsip_max_fwd_hdr*>(
            pjsip_msg_find_hdr(invite->msg_info.msg, PJSIP_H_MAX_FORWARDS, nullptr))) {
        max_forwards_ = static_cast<int>(hops->ivalue) - 1;
    }
    hold_.arm(context_.settings.answer_hold_ms_max);
    return true;
}

InviteReceived invite_of(Context& context, const pjsip_rx_data* invite, std::uint64_t id, Moment at) {
    const PeerGroup& group = context.sender_of(invite);
    const auto request_uri = request_uri_of(invite);
    const auto* from = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(invite->msg_info.from->uri));
    InviteReceived received{};
    received.mono_ns = at.mono_ns;
    received.wall_ns = at.wall_ns;
    received.bridge_id = id;
    if (group.is_listed()) {
        received.peer = group.name;
        received.tls_name = context.tls_names.name_of(group, invite->tp_info.transport);
    }
    received.request_uri = request_uri;
    received.request_user = lower(request_uri.substr(0, 4)) == "urn:" ? std::string(request_uri) : user_in(request_uri);
    received.from_user = user_in(printed(from, PJSIP_URI_IN_REQ_URI));
    received.passports = passports_of(context, invite);
    received.headers = wanted_headers_of(context, invite->msg_info.msg);
    return received;
}

void Call::announce(const pjsip_rx_data* invite) {
    InviteReceived received = invite_of(context_, invite, id_, context_.moment());
    caller_group_ = context_.sender_of(invite).id();
    received.leg = a_.dialog.identity();
    received.b_token = b_token_;
    received.echoed = echoed_lines(context_, invite);
    if (claim_) received.claimed_peer = claim_->peer;
    tell(received);
    context_.tables.awaits(*this);
}

Call::Awaits Call::awaits() const {
    if (state_ == State::admitting) return Awaits::beginning;
    return state_ == State::answering ? Awaits::answer : Awaits::nothing;
}

// --- of an earlier boot ----------------------------------------------------------------------------------------------

bool Call::adopt(const commands::Adopt& saved) {
    if (saved.kept) return go_on(saved);
    state_ = State::adopted;
    const bool waits = saved.a_state == SavedLegState::early || saved.a_state == SavedLegState::answering;
    std::optional<SavedInvite> invite;
    if (waits) invite.emplace(context_, saved);
    if (!a_.resume(saved, invite ? invite->get() : nullptr)) return false;
    a_reported_ = a_.ended();
    if (!saved.leg_b && !saved.route) return true;
    b_ = std::make_unique<CalleeLeg>(context_, *this, saved.attempt);
    const auto* caller = invite && invite->from() != nullptr ? invite->from() : a_.dialog.remote();
    const bool known = saved.leg_b ? b_->resume(saved) : b_->resume_invite(saved, caller);
    if (!known) {
        b_.reset();
        return true;
    }
    b_existed_ = true;
    b_reported_ = b_->ended();
    return true;
}

// --- of the boot before a planned restart, and for the one after it ---

// A question that is asked of a peer (Liveness) is asked again.
bool Call::is_quiet() const {
    const bool confirmed = a_.state() == LegState::confirmed && b_ && b_->state() == LegState::confirmed;
    return confirmed && relays_.empty() && !session_.asks();
}

void Call::keep(const inputs::Keep&) {
    if (!is_quiet()) return;
    KeptState kept{};
    kept.answered_mono_ns = answered_at_.mono_ns;
    kept.answered_wall_ns = answered_at_.wall_ns;
    kept.a = a_.kept();
    kept.b = b_->kept();
    session_.keep(kept);
    for (const auto& one : referrals_) kept.referrals.push_back({one.from, one.uas_cseq, one.uac_cseq});
    state_ = State::kept;
    limit_.disarm();
    extend_.disarm();
    liveness_.stop();
    session_.stop();
    tell(CallKept{a_.dialog.identity(), b_->dialog.identity(), std::move(kept)});
}

bool Call::go_on(const commands::Adopt& saved) {
    const KeptState& kept = *saved.kept;
    if (!saved.leg_b || !saved.route || !a_.go_on(saved, kept.a)) return false;
    b_ = std::make_unique<CalleeLeg>(context_, *this, saved.attempt);
    if (!b_->go_on(saved, kept.b)) return false;
    a_.let_identity_pass(saved.route->keep_identity);
    b_existed_ = true;
    state_ = State::talking;
    answered_at_ = {kept.answered_mono_ns, kept.answered_wall_ns};
    for (const auto& one : kept.referrals) referrals_.push_back({one.sender, one.uas_cseq, one.uac_cseq});
    if (referrals_.size() > referrals_max) referrals_.resize(referrals_max);
    liveness_.start(a_, *b_);
    session_.go_on(kept, a_, *b_);
    return true;
}

void Call::left_by_a_adopted(const inputs::ByeOfA& input) {
    a_.state() == LegState::confirmed ? left_by_a(input) : left_by_a_before_answer(input);
}

void Call::left_by_b_adopted(const inputs::ByeOfB& input) {
    if (!take_bye(*b_, input.bye)) return;
    begin_ending();
    b_->confirm(nullptr);
    b_->peer_left(PJSIP_SC_OK);
    end_a(PJSIP_SC_TEMPORARILY_UNAVAILABLE, reasons_of(context_, input.bye->msg_info.msg));
    report_ended_legs({});
}

// The dialog is there, and nobody to pass it to: 481 would have the peer end it by itself.
void Call::refuse_adopted(const inputs::Request& input) {
    refuse_in_dialog(input.leg, input.request, Counter::unmatched_requests, PJSIP_SC_INTERNAL_SERVER_ERROR);
}

template <typename E>
void Call::tell(const E& event) {
    tell(event, context_.moment());
}

// Nothing that arrived while the answer was let go is older than the answer.
template <typename E>
void Call::tell(const E& event, Moment at) {
    context_.events.push(id_, at.mono_ns < answered_at_.mono_ns ? answered_at_ : at, event);
}

// --- commands --------------------------------------------------------------------------------------------------------

void Call::route(const commands::Route& command) {
    b_existed_ = true;
    a_.trying();  // the call is on disk: were we killed now, A would hear of it from the next start
    if (state_ == State::ending) return;
    hold_.disarm();
    failure_.reset();
    state_ = State::routing;
    a_.let_identity_pass(command.keep_identity);
    b_ = std::make_unique<CalleeLeg>(context_, *this, command.attempt);
    if (!b_->start(command, *invite_, a_.dialog.remote(), max_forwards_, b_token_, claim_ ? &claim_->header : nullptr)) {
        hold_failure({*b_, RouteFailure::unreachable, nullptr});
    }
}

void Call::relay_answer(const commands::RelayAnswer&) {
    hold_.disarm();
    ring_.disarm();
    b_->early_dialogs().close();
    const bool sent = a_.answer(*answer_);
    const bool offered = invite_->has_session();
    if (!renegotiated_early_) session_.sent(Side::b, invite_->body());
    answer_.reset();
    invite_.reset();
    if (!sent) return transport_broken({Side::a});
    state_ = State::talking;
    // Where A made the offer its ACK has nothing to tell B. Waiting for it would have B give up an answer whose ACK was
    // lost on A (RFC 3261 §13.3.1.4) before our own timer does, and the record would name the callee.
    if (offered) b_->confirm(nullptr);
    context_.counters.add(Counter::answers_relayed);
    answered_at_ = Moment::now();
    tell(AnswerRelayed{}, answered_at_);
    if (limit_ms_ >= 0) limit_.arm(limit_ms_);
    if (extend_ms_ >= 0) extend_.arm(extend_ms_);
    liveness_.start(a_, *b_);
    session_.start(a_, *b_);
}

void Call::relay_failure(const commands::RelayFailure& command) {
    int code = command.sip_code;
    if (code == 0) code = failure_ ? failure_->code() : no_answer_code_;
    header_policy::Options options = a_.passing();
    options.retry_after = command.keep_retry_after;
    options.challenges = failure_ && failure_->code() == code;
    options.contacts = command.keep_contacts;
    const auto failure = std::move(failure_);
    begin_ending();
    a_.refuse(code, {}, failure.get(), options);
    report_ended_legs({});
}

void Call::reject(const commands::Reject& command) {
    end_both(command.sip_code, {our_reason(command.q850_cause, command.text)}, command.retry_after_s);
}

void Call::release(const commands::Release& command) {
    end_both(command.sip_code, {our_reason(command.q850_cause, command.text)});
}

void Call::arm_before_answer(const commands::ArmDeadline& command) {
    switch (command.kind) {
        case DeadlineKind::ring:
            return ring_.arm(command.after_ms);
        case DeadlineKind::max_duration:
        case DeadlineKind::grant:
            limit_kind_ = command.kind;
            limit_ms_ = command.after_ms;
            limit_reasons_ = {our_reason(command.q850_cause, command.text)};
            return;
        case DeadlineKind::extend:
            extend_ms_ = command.after_ms;
            return;
        case DeadlineKind::hold:
        case DeadlineKind::no_ack:
        case DeadlineKind::dead_peer:
        case DeadlineKind::session_timer:  // these four are the bridge's own
            return context_.counters.add(Counter::commands_unmatched);
    }
}

void Call::arm_in_call(const commands::ArmDeadline& command) {
    if (command.kind == DeadlineKind::ring) return;  // it does not ring any more
    arm_before_answer(command);
    const long long left_ms = command.after_ms - (Moment::now().mono_ns - answered_at_.mono_ns) / 1'000'000;
    if (command.kind == DeadlineKind::max_duration || command.kind == DeadlineKind::grant) limit_.arm(left_ms);
    if (command.kind == DeadlineKind::extend) extend_.arm(left_ms);
}

// --- ending ----------------------------------------------------------------------------------------------------------

void Call::begin_ending() {
    state_ = State::ending;
    hold_.disarm();
    ring_.disarm();
    limit_.disarm();
    extend_.disarm();
    liveness_.stop();
    session_.stop();
    invite_.reset();
    answer_.reset();
    failure_.reset();
    if (b_) b_->early_dialogs().close();
    close_relays();
}

void Call::close_relays() {
    for (auto& relay : relays_) {
        relay->close();
        context_.tables.retire(std::move(relay));
    }
    relays_.clear();
}

// A final response or a BYE, whichever it needs.
void Call::end_a(int sip_code, const Reasons& reasons, int retry_after_s) {
    if (a_.state() == LegState::inviting || a_.state() == LegState::early) {
        a_.may_be_answered() ? a_.refuse_and_leave(sip_code, reasons) : a_.refuse(sip_code, reasons, nullptr, {}, retry_after_s);
    } else {
        a_.leave(reasons);
    }
}

void Call::end_both(int sip_code, const Reasons& reasons, int retry_after_s) {
    begin_ending();
    end_a(sip_code, reasons, retry_after_s);
    if (b_) b_->leave(reasons);
    report_ended_legs({});
}

void Call::report_ended_legs(const inputs::LegEnded&) {
    if (b_ && b_->ended()) {
        b_code_ = b_->last_code();
        b_alive_ = b_->alive();
        b_reasons_ = b_->last_reasons();
        b_bye_challenge_ = b_->bye_challenge();
    }
    const bool report_a = a_.ended() && !a_reported_;
    const bool report_b = b_existed_ && !b_reported_ && (!b_ || b_->ended());
    a_reported_ |= report_a;
    b_reported_ |= report_b;
    // Before the last report: who has read it finds the slot free.
    if (a_reported_ && (b_reported_ || !b_existed_)) context_.tables.retire(*this);
    if (report_a) tell(LegTerminated{Side::a, a_.last_code(), a_.alive(), {}, a_.bye_challenge()});
    if (report_b) tell(LegTerminated{Side::b, b_code_, b_alive_, b_reasons_, b_bye_challenge_});
}

void Call::transport_broken(const inputs::BrokenTransport& input) {
    tell(TransportFailed{input.side});
    end_both(PJSIP_SC_INTERNAL_SERVER_ERROR, {our_reason(context_, "transport_lost")});
}

void Call::transport_broken_late(const inputs::BrokenTransport& input) { tell(TransportFailed{input.side}); }

// --- deadlines -------------------------------------------------------------------------------------------------------

void Call::hold_fired(void* self) {
    auto* call = static_cast<Call*>(self);
    // Nobody could answer while all of this process stood still.
    if (Stall::is_late(call->hold_.due_ns(), Moment::now().mono_ns)) {
        return call->hold_.arm(call->context_.settings.answer_hold_ms_max);
    }
    call->on(inputs::HoldDeadline{});
}

void Call::ring_fired(void* self) { static_cast<Call*>(self)->on(inputs::RingDeadline{}); }

void Call::limit_fired(void* self) {
    auto* call = static_cast<Call*>(self);
    call->on(inputs::Limit{call->limit_kind_, call->limit_reasons_});
}

void Call::extend_fired(void* self) { static_cast<Call*>(self)->on(inputs::ExtendDeadline{}); }

void Call::held_too_long(const inputs::HoldDeadline&) {
    tell(DeadlineReached{DeadlineKind::hold, 0, {}});
    end_both(PJSIP_SC_INTERNAL_SERVER_ERROR, {our_reason(context_, "journal")});
}

void Call::rang_too_long(const inputs::RingDeadline&) {
    tell(DeadlineReached{DeadlineKind::ring, b_ ? b_->heard_code() : 0, {}});
}

void Call::limit_reached(const inputs::Limit& input) {
    DeadlineReached reached{input.kind, 0, {}};
    if (input.silence != nullptr) reached.silence = *input.silence;
    Moment at = context_.moment();
    if (input.kind == DeadlineKind::max_duration) {  // after a stall nobody pays for what is beyond it
        const std::int64_t late_ns = std::max<std::int64_t>(0, at.mono_ns - limit_.due_ns());
        at = {at.mono_ns - late_ns, at.wall_ns - late_ns};
    }
    tell(reached, at);
    end_both(PJSIP_SC_REQUEST_TIMEOUT, input.reasons);
}

void Call::slice_ending(const inputs::ExtendDeadline&) { tell(DeadlineReached{DeadlineKind::extend, 0, {}}); }

void Call::not_acknowledged(const inputs::NoAck&) {
    tell(DeadlineReached{DeadlineKind::no_ack, 0, {}});
    end_both(PJSIP_SC_REQUEST_TIMEOUT, {our_reason(context_, "no_ack")});
}

void Call::never_acknowledged(const inputs::NoAck&) {
    a_.leave({});  // the BYE that was due
    report_ended_legs({});
}

void Call::relay_not_acknowledged(const inputs::NoAckOfRelay&) { not_acknowledged({}); }

void Call::on_not_sent(Leg& to) { liveness_.doubt(to); }

// --- from leg B ------------------------------------------------------------------------------------------------------

void Call::pass_provisional(const inputs::Provisional& input) {
    const int code = input.response->msg_info.msg->line.status.code;
    if (input.leg.first_of_its_code(code)) tell(ProvisionalReceived{input.leg.attempt(), code});
    const auto tag = view(input.response->msg_info.to->tag);
    EarlyDialog* early = early_dialog_of(input.leg, input.response);
    // Of a branch that A has no dialog for: no media, and no PRACK that would go to another.
    header_policy::Options options = a_.passing();
    options.body = early != nullptr || input.leg.dialog.remote_tag().empty() || tag == input.leg.dialog.remote_tag();
    if (early == nullptr && options.body && (!tag.empty() || input.leg.own_code != 0)) input.leg.dialog.learn(input.response);
    if (options.body && has_early_media(input.response)) early_media_relayed_ = true;
    a_.provisional(input.response, options, early != nullptr ? early->a : a_.dialog);
    if (early != nullptr) stand_in_for_prack(*early, input.response);
}

// Its SDP, if any, is the answer to A's offer: the PRACK has none to give (RFC 3262 §5).
void Call::stand_in_for_prack(EarlyDialog& early, const pjsip_rx_data* response) {
    const auto* reliable = find_header(response->msg_info.msg, "RSeq");
    if (reliable == nullptr || invite_ == nullptr || !invite_->has_session()) return;
    const std::string rseq = header_value(reliable, 16);
    if (rseq.empty() || rseq.find_first_not_of("0123456789") != std::string::npos || !early.wants_our_prack(rseq)) return;
    pj_str_t name = borrow("PRACK");
    pjsip_method method;
    pjsip_method_init_np(&method, &name);
    TxPtr prack = early.b.request(method);
    if (!prack) return;
    add_header(prack.get(), "RAck", rseq + ' ' + std::to_string(response->msg_info.cseq->cseq) + " INVITE");
    send_unattended(context_, std::move(prack));
}

EarlyDialog* Call::early_dialog_of(CalleeLeg& leg, const pjsip_rx_data* response) {
    if (leg.single_branch()) return nullptr;
    const int code = response->msg_info.msg->line.status.code;
    const auto tag = view(response->msg_info.to->tag);
    if (leg.own_code != 0 && tag == leg.dialog.remote_tag()) return nullptr;
    if (!own_dialog_used_) {
        // RFC 3261 §12.1.2: no tag is a tag, too; but that of a mere ringing may be told later.
        if (tag.empty() && code < 200 && !has_early_media(response)) return nullptr;
        own_dialog_used_ = true;
        leg.own_code = code;
        leg.own_open = true;
        return nullptr;
    }
    EarlyDialogs& others = leg.early_dialogs();
    if (EarlyDialog* known = others.of_tag(tag)) return known;
    if (code < 200 && others.full()) return nullptr;
    EarlyDialog& made =
        others.add(std::make_unique<EarlyDialog>(context_, a_, a_.dialog, a_.invite_cseq(), leg.dialog, response));
    tell_of_branches();
    return &made;
}

EarlyDialog* Call::early_dialog(Side side, std::string_view local_tag, std::string_view remote_tag) const {
    return b_ ? b_->early_dialogs().open_one(side, local_tag, remote_tag) : nullptr;
}

EarlyDialog* Call::early_dialog_of(const Leg& leg, const pjsip_rx_data* request) const {
    return early_dialog(leg.side(), view(request->msg_info.to->tag), view(request->msg_info.from->tag));
}

void Call::tell_of_branches() {
    const auto& others = b_->early_dialogs().all();
    if (others.empty()) return;  // of one alone its answer tells
    Forked forked{b_->attempt(), {}};
    if (b_->own_code != 0) forked.branches.push_back({b_->dialog.identity(), a_.dialog.identity(), b_->own_code});
    for (const auto& early : others) forked.branches.push_back(early->described());
    tell(forked);
}

// The dialog that was answered becomes that of the legs; what was theirs stays an early one.
void Call::make_own(EarlyDialog& answered) {
    a_.dialog.swap(answered.a);
    b_->dialog.swap(answered.b);
    std::swap(b_->own_code, answered.code);
    if (!b_->own_open) answered.close();
    b_->own_open = true;
    for (auto& relay : relays_) relay->swapped(answered);
    caller_changed_ = true;
}

void Call::hold_answer(const inputs::Answer& input) {
    const pjsip_msg* msg = input.response->msg_info.msg;
    if (EarlyDialog* early = early_dialog_of(input.leg, input.response)) make_own(*early);
    input.leg.dialog.learn(input.response);
    answer_ = std::make_unique<HeldMessage>(context_, input.response);
    liveness_.answered(input.response);
    session_.learn(Side::b, msg);
    session_.agreed(Side::a, msg);
    state_ = State::answering;
    hold_.arm(context_.settings.answer_hold_ms_max);
    AnswerHeld held{input.leg.attempt(), msg->line.status.code, input.leg.dialog.identity(), {}};
    if (caller_changed_) held.caller = a_.dialog.identity();
    tell(held);
    context_.tables.awaits(*this);
}

void Call::hold_failure(const inputs::Failure& input) {
    state_ = State::rerouting;
    hold_.arm(context_.settings.answer_hold_ms_max);
    RouteFailed failed{};
    failed.attempt = input.leg.attempt();
    failed.cause = input.cause;
    failed.early_media_relayed = early_media_relayed_;
    failed.heard_code = input.leg.heard_code();
    if (input.response != nullptr) {
        failure_ = std::make_unique<HeldMessage>(context_, input.response);
        const pjsip_msg* msg = input.response->msg_info.msg;
        failed.sip_code = msg->line.status.code;
        failed.phrase = failure_->phrase();
        failed.reasons = reasons_of(context_, msg);
        failed.headers = wanted_headers_of(context_, msg);
        failed.contacts = contacts_of(context_, msg);
    }
    b_code_ = failed.sip_code;
    b_alive_ = input.response != nullptr;
    const bool unreachable = input.cause == RouteFailure::unreachable;
    no_answer_code_ = unreachable ? PJSIP_SC_INTERNAL_SERVER_ERROR : PJSIP_SC_REQUEST_TIMEOUT;
    tell(failed);
    give_up_attempt();
}

// Its last transactions may outlive the decision, and the call.
void Call::give_up_attempt() {
    close_relays();  // they hold on to this leg
    CalleeLeg* leg = b_.get();
    context_.tables.abandon(std::move(b_));
    leg->give_up();
}

// --- from leg A, and in the dialogs ----------------------------------------------------------------------------------

void Call::cancelled(const inputs::Cancel& input) {
    const Reasons reasons = reasons_of(context_, input.cancel->msg_info.msg);
    tell(CancelReceived{reasons, wanted_headers_of(context_, input.cancel->msg_info.msg)});
    begin_ending();
    a_.refuse(PJSIP_SC_REQUEST_TERMINATED, {});
    if (b_) b_->leave(reasons);
    report_ended_legs({});
}

Leg* Call::other(const Leg& leg) { return leg.side() == Side::a ? static_cast<Leg*>(b_.get()) : &a_; }

bool Call::take_bye(Leg& leg, pjsip_rx_data* bye) {
    if (!answer_request(context_, bye, PJSIP_SC_OK, leg.dialog.local_tag())) return false;
    tell(ByeReceived{leg.side(), reasons_of(context_, bye->msg_info.msg), wanted_headers_of(context_, bye->msg_info.msg)});
    return true;
}

// RFC 3261 §15: a caller may end one early dialog of several. The INVITE goes on in the others.
bool Call::left_one_branch(pjsip_rx_data* bye) {
    EarlyDialog* early = early_dialog_of(a_, bye);
    const bool held = early == nullptr && state_ == State::answering;
    if (held || !b_ || b_->dialogs_open() < 2) return false;
    if (!answer_request(context_, bye, PJSIP_SC_OK, a_.dialog.local_tag())) return true;
    Dialog& there = early != nullptr ? early->b : b_->dialog;
    if (!there.established()) return true;  // of an attempt that is over
    if (TxPtr passed = there.request(pjsip_bye_method)) {
        pass_through(context_, bye, passed.get(), b_->passing());
        send_unattended(context_, std::move(passed));
    }
    if (early != nullptr) {
        early->close();
    } else {
        b_->own_open = false;
    }
    return true;
}

void Call::left_by_a_before_answer(const inputs::ByeOfA& input) {
    if (left_one_branch(input.bye) || !take_bye(a_, input.bye)) return;
    begin_ending();
    a_.refuse(PJSIP_SC_REQUEST_TERMINATED, {});  // RFC 3261 §15.1.2
    if (b_) b_->leave({}, input.bye);
    report_ended_legs({});
}

// A message that was read late, after a stall, may have come after the limit of the call: it is ended by the limit.
bool Call::limit_came_first() {
    const bool came_first = limit_.was_due_by(context_.moment().mono_ns);
    if (came_first) limit_.fire();
    return came_first;
}

void Call::left_by_a(const inputs::ByeOfA& input) {
    if (limit_came_first()) return on(input);
    if (!take_bye(a_, input.bye)) return;
    begin_ending();
    a_.peer_left(PJSIP_SC_OK);
    if (b_) b_->leave({}, input.bye);
    report_ended_legs({});
}

void Call::bye_of_a_crossed(const inputs::ByeOfA& input) {
    if (!take_bye(a_, input.bye)) return;
    a_.peer_left(PJSIP_SC_OK);
    report_ended_legs({});
}

void Call::bye_of_b_too_early(const inputs::ByeOfB& input) {  // RFC 3261 §15: it cannot end what it has not answered
    answer_request(context_, input.bye, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST, b_->dialog.local_tag());
}

void Call::left_by_b_while_held(const inputs::ByeOfB& input) {
    if (!take_bye(*b_, input.bye)) return;
    begin_ending();
    b_->confirm(nullptr);
    b_->peer_left(PJSIP_SC_OK);
    a_.refuse(PJSIP_SC_TEMPORARILY_UNAVAILABLE, reasons_of(context_, input.bye->msg_info.msg));
    report_ended_legs({});
}

void Call::left_by_b(const inputs::ByeOfB& input) {
    if (limit_came_first()) return on(input);
    if (!take_bye(*b_, input.bye)) return;
    begin_ending();
    b_->confirm(nullptr);
    b_->peer_left(PJSIP_SC_OK);
    a_.leave({}, input.bye);
    report_ended_legs({});
}

void Call::bye_of_b_crossed(const inputs::ByeOfB& input) {
    if (!take_bye(*b_, input.bye)) return;
    b_->confirm(nullptr);
    b_->peer_left(PJSIP_SC_OK);
    report_ended_legs({});
}

void Call::on_ack(Leg& leg, const pjsip_rx_data* ack) {
    const int cseq = ack->msg_info.cseq->cseq;
    if (leg.side() == Side::a) {
        switch (a_.acknowledged(ack)) {
            case CallerLeg::Ack::first:
                return on(inputs::Ack{ack});
            case CallerLeg::Ack::repeated:
                return;
            case CallerLeg::Ack::of_another:
                break;
        }
    }
    for (auto& relay : relays_) {
        const bool may_be = lacks(context_, ack, Part::cseq) && relay->awaits_any_ack(leg);
        if (!may_be && !relay->awaits_ack(leg, cseq)) continue;
        on(inputs::Life{leg, ack});
        session_.sent(relay->to().side(), ack);
        return relay->on_ack(ack);
    }
    context_.counters.add(Counter::acks_unmatched);
}

void Call::acknowledged(const inputs::Ack& input) {
    tell(AckReceived{});
    liveness_.heard(a_, input.ack);
    session_.sent(Side::b, input.ack);
    if (b_) b_->confirm(input.ack);
}

void Call::acknowledged_late(const inputs::Ack&) {
    tell(AckReceived{});
    a_.leave({});  // the BYE that was due
    report_ended_legs({});
}

void Call::show_life(const inputs::Life& input) {
    const Moment at = context_.moment();
    input.leg.learn_methods(input.message->msg_info.msg);
    session_.learn(input.leg.side(), input.message->msg_info.msg);
    liveness_.heard(input.leg, input.message);
    if (input.leg.life_due(at.mono_ns)) tell(sidecar::Life{input.leg.side()}, at);
}

// --- requests inside a dialog ----------------------------------------------------------------------------------------

bool Call::refuse_in_dialog(Leg& leg, pjsip_rx_data* request, Counter counter, int code, int retry_after_s) {
    context_.counters.add(counter);
    answer_request(context_, request, code, leg.dialog.local_tag(), retry_after_s);
    return true;
}

bool Call::refused_in_dialog(Leg& leg, pjsip_rx_data* request) {
    const bool refers = view(request->msg_info.msg->line.req.method.name) == "REFER";
    if (refers && !context_.settings.pass_refer) {
        return refuse_in_dialog(leg, request, Counter::refused_refer, PJSIP_SC_DECLINE);
    }
    Leg* peer = other(leg);
    EarlyDialog* early = early_dialog_of(leg, request);
    const auto reaches = [&] { return (early != nullptr ? early->of(peer->side()) : peer->dialog).established(); };
    if (state_ == State::ending || peer == nullptr || peer->ended() || !reaches()) {
        return refuse_in_dialog(leg, request, Counter::unmatched_requests, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
    }
    if (request->msg_info.max_fwd != nullptr && request->msg_info.max_fwd->ivalue <= 0) {
        return refuse_in_dialog(leg, request, Counter::refused_hops, PJSIP_SC_TOO_MANY_HOPS);
    }
    if (relays_.size() < relays_max) return false;
    return refuse_in_dialog(leg, request, Counter::refused_relays, PJSIP_SC_INTERNAL_SERVER_ERROR, 1);
}

// RFC 3261 §14.2: a second INVITE before the first has its final response gets 500, one that meets ours gets 491.
static int some_seconds() { return 1 + static_cast<int>(pj_rand() % 10); }

void Call::relay_before_answer(const inputs::Request& input) {
    auto& [leg, request] = input;
    if (refused_in_dialog(leg, request)) return;
    renegotiated_early_ |= has_sdp(request, Sdp::session);
    if (request->msg_info.msg->line.req.method.id != PJSIP_INVITE_METHOD) return pass_request(leg, request);
    if (leg.side() == Side::a) {
        refuse_in_dialog(leg, request, Counter::refused_overlap, PJSIP_SC_INTERNAL_SERVER_ERROR, some_seconds());
    } else {
        refuse_in_dialog(leg, request, Counter::refused_overlap, PJSIP_SC_REQUEST_PENDING);
    }
}

void Call::relay_in_call(const inputs::Request& input) {
    auto& [leg, request] = input;
    if (refused_in_dialog(leg, request) || refused_overlapping(leg, request)) return;
    pass_request(leg, request);
}

void Call::refuse_late(const inputs::Request& input) { refused_in_dialog(input.leg, input.request); }

bool Call::refused_overlapping(Leg& leg, pjsip_rx_data* request) {
    if (request->msg_info.msg->line.req.method.id != PJSIP_INVITE_METHOD) return false;
    bool pending = a_.state() == LegState::answered || session_.invites(), overlaps = false;
    for (const auto& relay : relays_) {
        if (pending || overlaps || !relay->is_invite() || !relay->open()) continue;
        (&relay->to() == &leg ? pending : overlaps) = true;
    }
    if (pending) return refuse_in_dialog(leg, request, Counter::refused_overlap, PJSIP_SC_REQUEST_PENDING);
    if (!overlaps) return false;
    return refuse_in_dialog(leg, request, Counter::refused_overlap, PJSIP_SC_INTERNAL_SERVER_ERROR, some_seconds());
}

void Call::pass_request(Leg& leg, pjsip_rx_data* request) {
    const Translation translation = translate(context_, *this, leg, request);
    if (translation.refused != 0) {
        context_.counters.add(Counter::refused_replaces);
        answer_request(context_, request, translation.refused, leg.dialog.local_tag());
        return;
    }
    relays_.push_back(std::make_unique<Relay>(context_, *this, leg, *other(leg), early_dialog_of(leg, request)));
    Relay& relay = *relays_.back();
    if (!relay.start(request, translation.headers)) remove(relay);
}

void Call::refresh_target(Leg& leg, const std::string& target) {
    if (!leg.dialog.refresh_target(target)) return;
    const Dialog& dialog = leg.dialog;
    tell(TargetRefreshed{leg.side(), dialog.target(), dialog.local_cseq(), dialog.remote_cseq()});
}

void Call::on_own_refresh(Leg& leg, const pjsip_rx_data* response) {
    refresh_target(leg, contact_of(response->msg_info.msg));
    tell(SessionRefreshed{leg.side()});
}

bool Call::negotiates() const {
    return std::any_of(relays_.begin(), relays_.end(), [](const auto& relay) { return relay->is_invite() && relay->open(); });
}

void Call::on_refreshed(Relay& relay, const pjsip_rx_data* response, const pjsip_msg_body* sent) {
    Leg& from = relay.from();
    Leg& to = relay.to();
    if (relay.in() != nullptr || state_ == State::routing) {
        const bool moved = relay.from_dialog().refresh_target(relay.new_target());
        const bool other_moved = relay.to_dialog().refresh_target(contact_of(response->msg_info.msg));
        caller_changed_ |= relay.in() == nullptr;
        if (moved || other_moved) tell_of_branches();
        return;
    }
    refresh_target(from, relay.new_target());
    refresh_target(to, contact_of(response->msg_info.msg));
    session_.agreed(from.side(), response->msg_info.msg);
    session_.sent(to.side(), sent);
    session_.sent(from.side(), response);
    if (find_header(response->msg_info.msg, "Session-Expires") == nullptr) return;  // RFC 4028 §7.2: no timer runs
    tell(SessionRefreshed{from.side()});
    tell(SessionRefreshed{to.side()});
}

void Call::remove(Relay& relay) {
    const auto found = std::find_if(relays_.begin(), relays_.end(), [&](const auto& held) { return held.get() == &relay; });
    if (found == relays_.end()) return;
    context_.tables.retire(std::move(*found));
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
