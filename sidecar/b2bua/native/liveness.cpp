#include "liveness.hpp"

#include "call.hpp"
#include "leg.hpp"
#include "message.hpp"

#include <charconv>

namespace sidecar {
namespace {

int session_expires_s(const pjsip_msg* msg) {  // 0: none
    const pjsip_hdr* header = find_header(msg, "Session-Expires");
    if (header == nullptr) return 0;
    const std::string value = header_value(header, 64);
    int seconds = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    return error == std::errc() && seconds > 0 ? seconds : 0;
}

}  // namespace

Liveness::Liveness(Context& context, Call& call) : context_(context), call_(call), peers_{Peer(*this), Peer(*this)} {}

void Liveness::agreed(const pjsip_msg* answer) { session_s_ = session_expires_s(answer); }

void Liveness::start(Leg& a, Leg& b) {
    running_ = true;
    peers_[0].start(a);
    peers_[1].start(b);
    // Calls that were answered together are not asked together, and a short call is never asked.
    const int interval_ms = context_.settings.options_interval_ms;
    if (interval_ms > 0) tick_.arm(interval_ms / 2 + pj_rand() % (interval_ms / 2 + 1));
    arm_session();
}

void Liveness::refreshed(const pjsip_msg* answer) {
    agreed(answer);
    if (running_) arm_session();
}

void Liveness::arm_session() {
    if (session_s_ > 0) {
        session_.arm(session_s_ * 1000LL);
    } else {
        session_.disarm();  // RFC 4028 §7.2: without Session-Expires in the 2xx the session has no end
    }
}

void Liveness::session_fired(void* self) { static_cast<Liveness*>(self)->give_up(DeadlineKind::session_timer, "session_timer"); }

void Liveness::give_up(DeadlineKind kind, std::string_view detail) {
    call_.on(inputs::Limit{kind, {our_reason(context_, detail)}});
}

void Liveness::doubt(Leg& leg) {
    for (Peer& peer : peers_) {
        if (!running_ || !peer.is(leg)) continue;
        peer.doubt();
        peer.ask();
    }
}

void Liveness::tick() {
    const int interval_ms = context_.settings.options_interval_ms;
    if (interval_ms > 0) tick_.arm(interval_ms);
    for (Peer& peer : peers_) {
        if (interval_ms > 0 || peer.in_doubt()) peer.ask();
    }
}

void Liveness::ask_again_soon() { tick_.arm(4LL * context_.settings.t1_ms); }

void Liveness::stop() {
    running_ = false;
    tick_.disarm();
    session_.disarm();
    for (Peer& peer : peers_) peer.stop();
}

// --- one peer --------------------------------------------------------------------------------------------------------

void Liveness::Peer::stop() {
    leg_ = nullptr;
    if (!options_) return;
    pjsip_transaction* tsx = options_.get();
    options_.let_go();
    Tsx::end(tsx, PJSIP_SC_REQUEST_TERMINATED);  // else it would be repeated for the rest of Timer F
}

void Liveness::Peer::ask() {
    if (options_ || leg_ == nullptr || leg_->state() != LegState::confirmed) return;
    TxPtr request = leg_->dialog.request(pjsip_options_method);
    if (request) add_header(request.get(), "Accept", "application/sdp");  // RFC 3261 §11.1
    if (!request || !options_.send(std::move(request), this)) not_sent();
}

void Liveness::Peer::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    if (!options_.is(tsx) || tsx->status_code < 200) return;
    options_.let_go();
    switch (event.body.tsx_state.type) {
        case PJSIP_EVENT_RX_MSG:
            Tsx::end(tsx, tsx->status_code);  // not Timer K's 5 s: a repeat of this answer does no harm
            in_doubt_ = false;
            if (tsx->status_code == PJSIP_SC_CALL_TSX_DOES_NOT_EXIST || tsx->status_code == PJSIP_SC_REQUEST_TIMEOUT) {
                return owner_.give_up(DeadlineKind::dead_peer, "dead_peer");
            }
            return owner_.call_.on(inputs::Life{*leg_});
        case PJSIP_EVENT_TRANSPORT_ERROR:
            return not_sent();
        default:
            return owner_.give_up(DeadlineKind::dead_peer, "dead_peer");
    }
}

void Liveness::Peer::not_sent() {
    if (in_doubt_) return owner_.call_.on(inputs::BrokenTransport{leg_->side()});
    in_doubt_ = true;
    owner_.ask_again_soon();
}

}  // namespace sidecar
