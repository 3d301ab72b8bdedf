#include "liveness.hpp"

#include "call.hpp"
#include "leg.hpp"
#include "message.hpp"

#include <algorithm>
#include <limits>

namespace sidecar {
namespace {

constexpr std::size_t heard_bytes_max = 40;  // a method may be as long as its sender likes

std::string named(const pjsip_rx_data* message) {  // "INFO", "200 OPTIONS"
    const pjsip_msg* msg = message->msg_info.msg;
    std::string text;
    if (msg->type == PJSIP_RESPONSE_MSG) text = std::to_string(msg->line.status.code) + ' ';
    text += view(message->msg_info.cseq->method.name);
    return text.substr(0, heard_bytes_max);
}

}  // namespace

Liveness::Liveness(Context& context, Call& call) : context_(context), call_(call), peers_{Peer(*this), Peer(*this)} {}

void Liveness::answered(const pjsip_rx_data* answer) { peers_[1].note(answer); }

void Liveness::start(Leg& a, Leg& b) {
    running_ = true;
    peers_[0].start(a);
    peers_[1].start(b);
    // Calls that were answered together are not asked together, and a short call is never asked.
    interval_ms_ = context_.settings.options_interval_ms;
    if (interval_ms_ > 0) tick_.arm(interval_ms_ / 2 + pj_rand() % (interval_ms_ / 2 + 1));
}

void Liveness::give_up(const Silence& silence) {
    call_.on(inputs::Limit{DeadlineKind::dead_peer, {our_reason(context_, "dead_peer")}, &silence});
}

void Liveness::doubt(Leg& leg) {
    for (Peer& peer : peers_) {
        if (!running_ || !peer.is(leg)) continue;
        peer.doubt();
        peer.ask();
    }
}

void Liveness::heard(const Leg& leg, const pjsip_rx_data* message) {
    for (Peer& peer : peers_) {
        if (running_ && peer.is(leg)) peer.heard(message);
    }
}

void Liveness::tick() {
    if (interval_ms_ > 0) tick_.arm(interval_ms_);
    for (Peer& peer : peers_) {
        if ((interval_ms_ > 0 && peer.is_asked()) || peer.in_doubt()) peer.ask();
    }
}

void Liveness::ask_again_soon() { tick_.arm(4LL * context_.settings.t1_ms); }

void Liveness::stop() {
    running_ = false;
    tick_.disarm();
    for (Peer& peer : peers_) peer.stop();
}

// --- one peer --------------------------------------------------------------------------------------------------------

bool Liveness::Peer::is_asked() const { return leg_ != nullptr && leg_->liveness() != LivenessCheck::off; }

void Liveness::Peer::stop() {
    leg_ = nullptr;
    stop_asking();
}

void Liveness::Peer::stop_asking() {
    again_.disarm();
    for (Tsx* open : {&options_, &second_}) {
        if (!*open) continue;
        pjsip_transaction* tsx = open->get();
        open->let_go();
        Tsx::end(tsx, PJSIP_SC_REQUEST_TERMINATED);  // else it would be repeated for the rest of Timer F
    }
}

void Liveness::Peer::note(const pjsip_rx_data* message) {
    heard_ = named(message);
    heard_ns_ = owner_.context_.moment().mono_ns;
}

void Liveness::Peer::heard(const pjsip_rx_data* message) {
    note(message);
    if (leg_->liveness() != LivenessCheck::options) stop_asking();
}

void Liveness::Peer::ask() {
    if (options_ || leg_ == nullptr || leg_->state() != LegState::confirmed) return;
    TxPtr request = leg_->dialog.request(pjsip_options_method);
    if (request) add_header(request.get(), "Accept", "application/sdp");  // RFC 3261 §11.1
    asked_ = {"OPTIONS"};
    if (!request || !options_.send(std::move(request), this)) return not_sent();
    if (leg_->liveness() == LivenessCheck::any) again_.arm(16LL * owner_.context_.settings.t1_ms);
}

// RFC 3311 §5.1: an UPDATE without a body changes nothing. INFO is older than Allow (RFC 2976), and refused it is an answer.
void Liveness::Peer::ask_otherwise() {
    if (!options_ || second_ || leg_ == nullptr || leg_->state() != LegState::confirmed) return;
    const char* name = leg_->allows_update() ? "UPDATE" : "INFO";
    const pjsip_method method{PJSIP_OTHER_METHOD, borrow(name)};
    TxPtr request = leg_->dialog.request(method);
    if (request && second_.send(std::move(request), this)) asked_.emplace_back(name);
}

void Liveness::Peer::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    const bool first = options_.is(tsx);
    if ((!first && !second_.is(tsx)) || tsx->status_code < 200) return;
    (first ? options_ : second_).let_go();
    const bool heard = event.body.tsx_state.type == PJSIP_EVENT_RX_MSG;
    if (heard) {
        Tsx::end(tsx, tsx->status_code);  // not Timer K's 5 s: a repeat of this answer does no harm
        return on_answer(tsx->status_code, event.body.tsx_state.src.rdata);
    }
    if (!first) return;  // the first one is given up before it
    if (event.body.tsx_state.type == PJSIP_EVENT_TRANSPORT_ERROR) return not_sent();
    gone();
}

void Liveness::Peer::on_answer(int code, const pjsip_rx_data* answer) {
    in_doubt_ = false;
    stop_asking();
    if (is_life(code)) return owner_.call_.on(inputs::Life{*leg_, answer});
    note(answer);
    gone();
}

void Liveness::Peer::gone() {
    if (!is_asked()) return;
    const auto ago_ms = (Moment::now().mono_ns - heard_ns_) / 1'000'000;
    Silence silence{leg_->side(), asked_, heard_, {}};
    if (heard_ns_ != 0) silence.heard_ago_ms = static_cast<int>(std::min<std::int64_t>(ago_ms, std::numeric_limits<int>::max()));
    stop_asking();
    owner_.give_up(silence);
}

void Liveness::Peer::not_sent() {
    again_.disarm();
    if (in_doubt_) return owner_.call_.on(inputs::BrokenTransport{leg_->side()});
    in_doubt_ = true;
    owner_.ask_again_soon();
}

}  // namespace sidecar
