#include "gateway_request.hpp"

#include "message.hpp"

#include <charconv>

namespace sidecar {
namespace {

std::optional<int> seconds_in(std::string_view text) {  // the digits that it begins with; after them come parameters
    int seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    return error == std::errc() && seconds >= 0 ? std::optional(seconds) : std::nullopt;
}

std::optional<int> seconds_of(const pjsip_msg* msg, const char* header) {
    const pjsip_hdr* found = find_header(msg, header);
    return found == nullptr ? std::nullopt : seconds_in(header_value(found, 64));
}

}  // namespace

bool GatewayRequest::prepare(const commands::AskGateway& asked) {
    expires_s_ = asked.expires_s;
    timeout_ms_ = asked.timeout_ms;
    Destination to{asked.host, asked.port, asked.transport, asked.contact_user};
    to.gateway = asked.gateway;
    const LegNames names{asked.call_id.empty() ? random_hex(16) : asked.call_id, random_hex(8), {}};
    const std::string& remote = expires_s_ ? asked.identity : asked.target;
    if (!dialog_.start_alone(names, to, asked.target, asked.identity, remote, asked.cseq)) return false;
    dialog_.answer_challenges_of(asked.gateway);
    return true;
}

void GatewayRequest::send() {
    entered_ = true;
    sent_at_ = Moment::now();
    deadline_.arm(timeout_ms_);
    TxPtr request = dialog_.request(expires_s_ ? pjsip_register_method : pjsip_options_method);
    if (request && !expires_s_) add_header(request.get(), "Accept", "application/sdp");  // RFC 3261 §11.1
    if (request && expires_s_) add_header(request.get(), "Expires", std::to_string(*expires_s_));
    if (!send(std::move(request))) not_sent();
}

bool GatewayRequest::send(TxPtr request) {
    if (!request) return false;
    dialog_.add_contact(request.get());
    return tsx_.send(std::move(request), this);
}

void GatewayRequest::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    if (!tsx_.is(tsx) || tsx->status_code < 200) return;
    switch (event.body.tsx_state.type) {
        case PJSIP_EVENT_RX_MSG: {
            const pjsip_rx_data* answer = event.body.tsx_state.src.rdata;
            TxPtr again = dialog_.again(tsx->last_tx, answer, tries_);
            tsx_.let_go();
            const int code = tsx->status_code;
            Tsx::end(tsx, code);  // not Timer K's 5 s: a repeat of this answer does no harm
            if (send(std::move(again))) return;
            return end(RouteFailure::final_response, code, answer->msg_info.msg);
        }
        case PJSIP_EVENT_TRANSPORT_ERROR:
            tsx_.let_go();
            return not_sent();
        default:
            tsx_.let_go();
            return end(RouteFailure::no_response, 0, nullptr);
    }
}

void GatewayRequest::too_late(void* self) {
    auto* request = static_cast<GatewayRequest*>(self);
    if (pjsip_transaction* tsx = request->tsx_.get()) {
        request->tsx_.let_go();
        Tsx::end(tsx, PJSIP_SC_REQUEST_TERMINATED);  // else it would be repeated for the rest of Timer F
    }
    request->end(RouteFailure::no_response, 0, nullptr);
}

void GatewayRequest::not_sent() { end(RouteFailure::unreachable, 0, nullptr); }

void GatewayRequest::end(RouteFailure cause, int code, const pjsip_msg* answer) {
    deadline_.disarm();
    RequestEnded ended{};
    ended.request_id = id_;
    ended.cause = cause;
    ended.sip_code = code;
    ended.sent_mono_ns = sent_at_.mono_ns;
    if (answer != nullptr) {
        ended.granted_s = granted_s(answer);
        ended.min_expires_s = seconds_of(answer, "Min-Expires");
        ended.retry_after_s = seconds_of(answer, "Retry-After");
    }
    context_.events.push(0, context_.moment(), ended);
    if (entered_) context_.tables.forget(*this);
}

// How long the registrar keeps our binding (RFC 3261 §10.2.4): as it says of our Contact, which some rewrite, so that it is
// ours all the same where it is the only one; else as it says of all.
std::optional<int> GatewayRequest::granted_s(const pjsip_msg* answer) const {
    const pjsip_contact_hdr* only = nullptr;
    int count = 0;
    for (const pjsip_hdr* header = answer->hdr.next; header != &answer->hdr; header = header->next) {
        if (header->type != PJSIP_H_CONTACT) continue;
        const auto* contact = reinterpret_cast<const pjsip_contact_hdr*>(header);
        if (contact->star || contact->uri == nullptr) continue;
        ++count;
        only = contact;
        const auto* theirs = pjsip_uri_get_uri(contact->uri);
        const auto* ours = pjsip_uri_get_uri(dialog_.contact()->uri);
        if (pjsip_uri_cmp(PJSIP_URI_IN_CONTACT_HDR, theirs, ours) != PJ_SUCCESS) continue;
        count = 1;
        break;
    }
    const bool told = count == 1 && only->expires != PJSIP_EXPIRES_NOT_SPECIFIED;
    if (!told) return seconds_of(answer, "Expires");
    const auto seconds = static_cast<int>(only->expires);
    return seconds >= 0 ? std::optional(seconds) : std::nullopt;  // pjsip's word for one that it could not read, too
}

}  // namespace sidecar
