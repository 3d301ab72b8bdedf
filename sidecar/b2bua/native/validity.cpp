#include "validity.hpp"

#include "body.hpp"
#include "defects.hpp"
#include "message.hpp"
#include "stand_in.hpp"
#include "text.hpp"

#include <algorithm>
#include <string_view>

namespace sidecar::validity {
namespace {

int count(const pjsip_msg* msg, std::initializer_list<pjsip_hdr_e> types) {
    int found = 0;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        found += std::find(types.begin(), types.end(), header->type) != types.end();
    }
    return found;
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

// RFC 4475 §3.1.2.14 and §3.1.2.15, of the value of From or To as it was written: blanks within the brackets, or a display
// name without quotes that holds a separator. pjsip keeps neither.
bool is_odd_name_addr(std::string_view value) {
    const std::size_t quoted = value.find_first_not_of(" \t");
    std::size_t at = quoted == std::string_view::npos ? value.size() : quoted;
    if (at < value.size() && value[at] == '"') {
        for (++at; at < value.size() && value[at] != '"'; ++at) {
            if (value[at] == '\\') ++at;
        }
    }
    const std::size_t open = value.find('<', at);
    if (open == std::string_view::npos) return false;  // an addr-spec: what follows it are parameters
    const auto name = value.substr(at, open - at);
    if (name.find_first_of(",;") != std::string_view::npos) return true;
    const std::size_t close = value.find('>', open);
    if (close == std::string_view::npos) return true;
    return is_blank(value[open + 1]) || is_blank(value[close - 1]);
}

bool names(std::string_view line, std::string_view name, char compact) {
    std::size_t length = line.find(':');
    if (length == std::string_view::npos) return false;
    while (length > 0 && is_blank(line[length - 1])) --length;
    if (length == 1) return (line[0] | 0x20) == compact;
    const pj_str_t written = borrow(line.substr(0, length));
    return same_text(written, name);
}

// One header field, the lines that continue it among it; `rest` is what follows.
std::string_view next_line(std::string_view& rest) {
    std::size_t end = 0;
    do {
        end = rest.find_first_of("\r\n", end);
        if (end == std::string_view::npos) end = rest.size();
        const std::size_t next = end + (rest.substr(end, 2) == "\r\n" ? 2 : end < rest.size() ? 1 : 0);
        if (end == 0 || next >= rest.size() || !is_blank(rest[next])) {
            const auto line = rest.substr(0, end);
            rest.remove_prefix(next);
            return line;
        }
        end = next;
    } while (true);
}

bool has_odd_names(std::string_view rest) {
    next_line(rest);
    while (!rest.empty()) {
        const auto line = next_line(rest);
        if (line.empty()) break;
        if ((names(line, "From", 'f') || names(line, "To", 't')) && is_odd_name_addr(line.substr(line.find(':') + 1))) {
            return true;
        }
    }
    return false;
}

bool has_foreign_date(const pjsip_msg* msg) {  // RFC 3261 §20.17: GMT and no other zone
    const pjsip_hdr* header = find_header(msg, "Date");
    return header != nullptr && !header_value(header, 64).ends_with("GMT");
}

bool has_route_elsewhere(const pjsip_msg* msg) {
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (header->type == PJSIP_H_RECORD_ROUTE && !leads_by_sip(header)) return true;
    }
    return false;
}

}  // namespace

void take_first(pjsip_rx_data* message) {
    auto& info = message->msg_info;
    const pjsip_hdr* head = &info.msg->hdr;
    for (pjsip_hdr* header = head->prev; header != head; header = header->prev) {
        switch (header->type) {
            case PJSIP_H_FROM: info.from = reinterpret_cast<pjsip_from_hdr*>(header); break;
            case PJSIP_H_TO: info.to = reinterpret_cast<pjsip_to_hdr*>(header); break;
            case PJSIP_H_CALL_ID: info.cid = reinterpret_cast<pjsip_cid_hdr*>(header); break;
            case PJSIP_H_CSEQ: info.cseq = reinterpret_cast<pjsip_cseq_hdr*>(header); break;
            default: break;
        }
    }
    if (info.msg->type != PJSIP_REQUEST_MSG) return;
    auto& method = info.msg->line.req.method;
    const bool stream = (message->tp_info.transport->flag & PJSIP_TRANSPORT_DATAGRAM) == 0;
    if (stream && ends_something(info.cseq->method) && view(info.cseq->method.name).ends_with(view(method.name))) {
        method = info.cseq->method;  // a body in front of it, whose length was too large, took its beginning along
    }
    if (!ends_something(method)) return;
    info.cseq->method = info.msg->line.req.method;
}

// RFC 3261 §20: parameters behind a URI without brackets are those of the header field. pjsip takes them for the URI's where
// it does not know the scheme.
void read_bare_tags(pjsip_rx_data* message) {
    for (pjsip_fromto_hdr* header : {message->msg_info.from, message->msg_info.to}) {
        auto* uri = static_cast<pjsip_uri*>(pjsip_uri_get_uri(header->uri));
        const bool known = PJSIP_URI_SCHEME_IS_SIP(uri) || PJSIP_URI_SCHEME_IS_SIPS(uri) || PJSIP_URI_SCHEME_IS_TEL(uri);
        if (known || header->tag.slen != 0) continue;
        auto& content = reinterpret_cast<pjsip_other_uri*>(uri)->content;
        const auto whole = view(content);
        const auto tag = stand_in::tag_in(whole);
        if (tag.empty()) continue;
        header->tag = borrow(tag);
        content.slen = static_cast<pj_ssize_t>(whole.find(';'));
    }
}

bool is_ambiguous(const pjsip_rx_data* request) {
    const auto& info = request->msg_info;
    const auto message = text_of(request);
    const auto line = message.substr(0, message.find_first_of("\r\n"));
    if (std::count(line.begin(), line.end(), ' ') != 2) return true;
    if (pjsip_method_cmp(&info.cseq->method, &info.msg->line.req.method) != 0) return true;
    if (info.max_fwd != nullptr && info.max_fwd->ivalue > 255) return true;
    if (!body_is_whole(request)) return true;
    if (count(info.msg, {PJSIP_H_FROM, PJSIP_H_TO, PJSIP_H_CALL_ID, PJSIP_H_CSEQ}) != 4) return true;
    if (count(info.msg, {PJSIP_H_CONTENT_LENGTH}) > 1) return true;
    const auto* uri = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(info.msg->line.req.uri));
    if (!PJSIP_URI_SCHEME_IS_SIP(uri) && !PJSIP_URI_SCHEME_IS_SIPS(uri)) return false;
    return !pj_list_empty(&reinterpret_cast<const pjsip_sip_uri*>(uri)->header_param);
}

bool is_malformed(const pjsip_rx_data* request) {
    const pjsip_msg* msg = request->msg_info.msg;
    return count(msg, {PJSIP_H_MAX_FORWARDS}) > 1 || count(msg, {PJSIP_H_CONTENT_TYPE}) > 1 || has_foreign_date(msg) ||
           has_odd_names(text_of(request)) || has_route_elsewhere(msg);
}

}  // namespace sidecar::validity
