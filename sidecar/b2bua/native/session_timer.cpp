#include "session_timer.hpp"

#include "body.hpp"
#include "call.hpp"
#include "leg.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace sidecar {
namespace {

constexpr int interval_s_max = 1'000'000;

std::size_t index(Side side) { return static_cast<std::size_t>(side); }

Side other(Side side) { return side == Side::a ? Side::b : Side::a; }

int seconds_of(const pjsip_msg* msg, const char* name, const char* short_name) {  // 0: none
    const pjsip_hdr* header = find_header(msg, name);
    if (header == nullptr && short_name != nullptr) header = find_header(msg, short_name);
    if (header == nullptr) return 0;
    const std::string value = header_value(header, 64);
    int seconds = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    return error == std::errc() && seconds > 0 ? std::min(seconds, interval_s_max) : 0;
}

int session_expires_s(const pjsip_msg* msg) { return seconds_of(msg, "Session-Expires", "x"); }

bool says_timer(const pjsip_msg* msg) {
    return lists(msg, "Supported", "timer") || lists(msg, "k", "timer") || lists(msg, "Require", "timer");
}

// Of a 2xx: true where it is who asked, `uac`.
std::optional<bool> asker_refreshes(const pjsip_msg* msg) {
    const pjsip_hdr* header = find_header(msg, "Session-Expires");
    if (header == nullptr) header = find_header(msg, "x");
    if (header == nullptr) return std::nullopt;
    std::string value = header_value(header, 256);
    std::erase_if(value, [](char c) { return c == ' ' || c == '\t'; });
    value = lower(value);
    value += ';';
    if (value.find(";refresher=uac;") != std::string::npos) return true;
    if (value.find(";refresher=uas;") != std::string::npos) return false;
    return std::nullopt;
}

}  // namespace

void SessionTimer::learn(Side side, const pjsip_msg* msg) {
    const auto* to = static_cast<const pjsip_to_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_TO, nullptr));
    const bool in_dialog = to != nullptr && to->tag.slen > 0;  // of an INVITE it may be a proxy's word (§8.1)
    if (says_timer(msg) || (in_dialog && session_expires_s(msg) > 0)) knows_[index(side)] = true;
}

void SessionTimer::agreed(Side asker, const pjsip_msg* answer) { take(asker, answer, lists(answer, "Require", "timer")); }

void SessionTimer::take(Side asker, const pjsip_msg* answer, bool insists) {
    interval_s_ = session_expires_s(answer);
    refresher_ = Refresher::nobody;  // §7.2: without Session-Expires in the 2xx the session has no end
    if (interval_s_ > 0) {
        const auto by_asker = asker_refreshes(answer);
        if (by_asker == false || knows_[index(asker)]) {  // who writes Session-Expires into a 2xx knows timers
            refresher_ = Refresher::peer;
        } else if (insists || by_asker == true) {
            refresher_ = Refresher::us;
            if (towards_ != other(asker)) sdp_ = nullptr;
            towards_ = other(asker);
        }
    }
    if (legs_[0] != nullptr) arm();
}

void SessionTimer::start(Leg& a, Leg& b) {
    legs_ = {&a, &b};
    arm();
}

void SessionTimer::arm() {
    over_.disarm();
    due_.disarm();
    if (refresher_ == Refresher::peer) over_.arm(interval_s_ * 1000LL);
    if (refresher_ == Refresher::us) due_.arm(interval_s_ * 500LL);  // §10: half of it has passed
}

// --- over a planned restart ---

constexpr std::size_t piece_bytes = 1000;  // of an SDP; a text may be twice as long

static std::string hexadecimal(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : bytes) (text += digits[byte >> 4]) += digits[byte & 15];
    return text;
}

static std::string bytes_of(const std::vector<std::string>& pieces) {  // of no other digits than those
    const auto value = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
    std::string bytes;
    for (const auto& text : pieces) {
        for (std::size_t i = 0; i + 1 < text.size(); i += 2) bytes += static_cast<char>(value(text[i]) * 16 + value(text[i + 1]));
    }
    return bytes;
}

void SessionTimer::keep(KeptState& kept) const {
    kept.a.knows_timer = knows_[0];
    kept.b.knows_timer = knows_[1];
    kept.session_s = interval_s_;
    kept.peer_refreshes = refresher_ == Refresher::peer;
    kept.we_refresh = refresher_ == Refresher::us;
    kept.refreshed = towards_;
    kept.no_update = no_update_;
    kept.refresh_due_mono_ns = kept.we_refresh ? due_.due_ns() : over_.due_ns();
    if (sdp_ == nullptr) return;
    const std::string_view sdp(static_cast<const char*>(sdp_->data), sdp_->len);
    for (std::size_t i = 0; i < sdp.size(); i += piece_bytes) kept.sdp.push_back(hexadecimal(sdp.substr(i, piece_bytes)));
}

void SessionTimer::go_on(const KeptState& kept, Leg& a, Leg& b) {
    legs_ = {&a, &b};
    knows_ = {kept.a.knows_timer, kept.b.knows_timer};
    interval_s_ = std::clamp(kept.session_s, 0, interval_s_max);
    refresher_ = kept.we_refresh ? Refresher::us : kept.peer_refreshes ? Refresher::peer : Refresher::nobody;
    towards_ = kept.refreshed;
    no_update_ = kept.no_update;
    if (const std::string sdp = bytes_of(kept.sdp); !sdp.empty()) take_sdp(sdp);
    const auto left_ms = (kept.refresh_due_mono_ns - Moment::now().mono_ns) / 1'000'000;
    // What was due while nobody listened is still repeated.
    if (refresher_ == Refresher::peer) over_.arm(std::max<long long>(left_ms, context_.settings.timeout_ms()));
    if (refresher_ == Refresher::us) due_.arm(left_ms);
}

void SessionTimer::take_sdp(std::string_view sdp) {
    sdp_pool_ = new_pool(context_, "sdp", 1024, 1024);
    const pj_str_t type = borrow("application"), subtype = borrow("sdp"), text = borrow(sdp);
    sdp_ = pjsip_msg_body_create(sdp_pool_.get(), &type, &subtype, &text);
}

// Of a multipart body the SDP alone: what else is in it was of its moment, and is not said again.
void SessionTimer::sent(Side side, const pjsip_msg_body* body) {
    if (refresher_ != Refresher::us || side != towards_ || body == nullptr) return;
    const auto sdp = sdp_in(body);
    if (!sdp) return;
    sdp_ = nullptr;
    if (sdp->empty()) return;  // it cannot be read, and what was before it is no more
    take_sdp(*sdp);
}

void SessionTimer::sent(Side side, const pjsip_rx_data* message) {
    if (refresher_ != Refresher::us || side != towards_ || !has_sdp(message, Sdp::session)) return;
    PoolPtr pool = new_pool(context_, "sdp", 1024, 1024);
    sent(side, copy_body(pool.get(), message));
}

void SessionTimer::stop() {
    over_.disarm();
    due_.disarm();
    Leg* leg = legs_[index(asked_)];
    legs_ = {};
    if (!request_) return;
    if (invites_) return leg->overtake(request_, cseq_);
    pjsip_transaction* tsx = request_.get();
    request_.let_go();
    Tsx::end(tsx, PJSIP_SC_REQUEST_TERMINATED);  // BYE wins
}

void SessionTimer::over(void* self) { static_cast<SessionTimer*>(self)->give_up(); }

void SessionTimer::give_up() {
    call_.on(inputs::Limit{DeadlineKind::session_timer, {our_reason(context_, "session_timer")}});
}

// --- our own refreshes ---------------------------------------------------------------------------------------------------

void SessionTimer::refresh_in(long long milliseconds) {
    if (refresher_ == Refresher::us) due_.arm(milliseconds);
}

void SessionTimer::refresh() {
    const Leg* leg = legs_[index(towards_)];
    if (leg == nullptr) return;
    if (request_ && !invites_) return;  // Timer F ends it
    if (request_) {                     // an INVITE that rings: it has had its time
        TxPtr cancel = cancelled_ ? nullptr : cancel_of(context_, request_.get()->last_tx);
        cancelled_ = true;
        if (cancel) send_unattended(context_, std::move(cancel));
        pjsip_tsx_set_timeout(request_.get(), context_.settings.timeout_ms());
        return;
    }
    const bool by_update = leg->allows_update() && !no_update_;
    // RFC 3261 §14.1: no INVITE while another is open. It may be a refresh itself.
    const bool waits = leg->state() != LegState::confirmed || (!by_update && call_.negotiates());
    if (waits) return refresh_in(4LL * context_.settings.t1_ms);
    if (!by_update && sdp_ == nullptr) return;  // nothing to offer that would change nothing
    tries_ = 0;
    send(by_update);
}

// §7.4: an UPDATE without an offer, or an INVITE with the session as it is.
void SessionTimer::send(bool by_update) {
    asked_ = towards_;
    Leg& leg = *legs_[index(asked_)];
    const pjsip_method update{PJSIP_OTHER_METHOD, borrow("UPDATE")};
    TxPtr request = leg.dialog.request(by_update ? update : pjsip_invite_method);
    if (!request) return;
    add_header(request.get(), "Supported", "timer");
    add_header(request.get(), "Session-Expires", std::to_string(interval_s_) + ";refresher=uac");
    if (!by_update) request->msg->body = pjsip_msg_body_clone(request->pool, sdp_);
    invites_ = !by_update;
    cancelled_ = false;
    cseq_ = leg.dialog.local_cseq() - 1;
    if (!request_.send(std::move(request), this)) return call_.on_not_sent(leg);
    if (invites_) due_.arm(context_.settings.timeout_ms());
}

void SessionTimer::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    Leg* leg = legs_[index(asked_)];
    if (!request_.is(tsx) || leg == nullptr) return;
    if (event.body.tsx_state.type == PJSIP_EVENT_RX_MSG) {
        const pjsip_rx_data* answer = event.body.tsx_state.src.rdata;
        if (is_life(tsx->status_code)) call_.on(inputs::Life{*leg, answer});
        if (tsx->status_code >= 200) on_answer(tsx->status_code, answer);
        return;
    }
    if (tsx->state != PJSIP_TSX_STATE_TERMINATED) return;
    request_.let_go();
    if (event.body.tsx_state.type == PJSIP_EVENT_TRANSPORT_ERROR) call_.on_not_sent(*leg);
    refresh_in(4LL * context_.settings.t1_ms);  // whether it is there is not asked here
}

void SessionTimer::on_answer(int code, const pjsip_rx_data* answer) {
    Leg& leg = *legs_[index(asked_)];
    const long long soon_ms = 4LL * context_.settings.t1_ms;
    TxPtr again = leg.dialog.again(request_.get()->last_tx, answer, tries_);
    if (again) {
        cseq_ = leg.dialog.local_cseq() - 1;
        if (request_.send(std::move(again), this)) return;
    }
    request_.let_go();
    if (code < 300) {
        if (invites_) leg.acknowledge(cseq_, nullptr);
        call_.on_own_refresh(leg, answer);
        return take(other(asked_), answer->msg_info.msg, true);
    }
    switch (code) {
        case 405:  // it knows no UPDATE after all
        case 501:
            no_update_ = true;
            return refresh_in(invites_ ? soon_ms : 0);
        case 422:  // §7.4
            interval_s_ = std::max(interval_s_, seconds_of(answer->msg_info.msg, "Min-SE", nullptr));
            return refresh_in(soon_ms);
        case PJSIP_SC_REQUEST_PENDING:  // RFC 3261 §14.1: we made the Call-ID of leg B, and of leg A not
            return refresh_in(soon_ms + pj_rand() % (soon_ms + 1));
        case PJSIP_SC_CALL_TSX_DOES_NOT_EXIST:
        case PJSIP_SC_REQUEST_TIMEOUT:
            call_.on_not_sent(leg);  // ask at once
            [[fallthrough]];
        default:
            return refresh_in(std::max(soon_ms, interval_s_ * 125LL));
    }
}

}  // namespace sidecar
