#include "text.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>

namespace sidecar {

bool is_token(std::string_view text) {
    const auto allowed = [](unsigned char c) {
        return std::isalnum(c) != 0 || (c != 0 && std::strchr("-.!%*_`'~+", c) != nullptr);
    };
    return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return out;
}

std::string printed(const pjsip_uri* uri, pjsip_uri_context_e context) {
    char buffer[uri_bytes_max];
    const int length = pjsip_uri_print(context, uri, buffer, sizeof buffer);
    return length > 0 ? std::string(buffer, static_cast<std::size_t>(length)) : std::string();
}

std::string header_value(const pjsip_hdr* header, std::size_t bytes_max) {
    char buffer[2048];
    const int length = pjsip_hdr_print_on(const_cast<pjsip_hdr*>(header), buffer, sizeof buffer);
    if (length <= 0) return {};
    std::string_view line(buffer, static_cast<std::size_t>(length));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return {};
    line.remove_prefix(colon + 1);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    return std::string(line.substr(0, bytes_max));
}

std::string host_port(std::string_view host, int port) {
    const bool bare_ipv6 = host.find(':') != std::string_view::npos && host.front() != '[';
    std::string out;
    out.reserve(host.size() + 8);
    if (bare_ipv6) out += '[';
    out += host;
    if (bare_ipv6) out += ']';
    out += ':';
    out += std::to_string(port);
    return out;
}

namespace {

// Escapes what a user part may not hold, and what is escaped stays so.
std::string as_user(std::string_view text) {
    static constexpr char digits[] = "0123456789ABCDEF";
    static constexpr std::string_view plain = "-_.!~*'()&=+$,;?/%";
    std::string out;
    for (const char c : text) {
        const bool letter_or_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (letter_or_digit || plain.find(c) != std::string_view::npos) {
            out += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out.append(1, '%').append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        }
    }
    return out;
}

}  // namespace

std::string user_in(std::string_view uri) {
    const auto colon = uri.find(':');
    if (colon == std::string_view::npos) return {};
    const bool tel = colon == 3 && pj_ansi_strnicmp(uri.data(), "tel", 3) == 0;
    const std::string_view rest = uri.substr(colon + 1);
    if (tel) return as_user(rest);
    const auto at = rest.find('@');
    if (at == std::string_view::npos) return {};
    return std::string(rest.substr(0, std::min(at, rest.find(':'))));  // without the password
}

std::string_view request_uri_of(const pjsip_rx_data* request) {
    const std::string_view message(request->msg_info.msg_buf, static_cast<std::size_t>(request->msg_info.len));
    return request_uri_in(message.substr(0, message.find_first_of("\r\n")));
}

std::string_view request_uri_in(std::string_view line) {
    const auto start = line.find(' ');
    const auto end = line.rfind(' ');
    return start < end && end != std::string_view::npos ? line.substr(start + 1, end - start - 1) : std::string_view();
}

pjsip_uri* other_uri(pj_pool_t* pool, const pj_str_t& uri) {
    const auto whole = view(uri);
    const auto colon = whole.find(':');
    if (colon == std::string_view::npos || colon + 1 == whole.size() || !is_token(whole.substr(0, colon))) return nullptr;
    const auto scheme = whole.substr(0, colon), content = whole.substr(colon + 1);
    for (const char* own : {"sip", "sips", "tel"}) {
        if (lower(scheme) == own) return nullptr;
    }
    const bool printable = std::all_of(content.begin(), content.end(), [](unsigned char c) {
        return c > 0x20 && c < 0x7f && c != '<' && c != '>' && c != '"';
    });
    if (!printable) return nullptr;
    auto* made = pjsip_other_uri_create(pool);
    made->scheme = borrow(scheme);
    made->content = borrow(content);
    return reinterpret_cast<pjsip_uri*>(made);
}

bool is_within(std::string_view urn, std::string_view service) {
    if (urn.size() < service.size() || lower(urn.substr(0, service.size())) != service) return false;
    return urn.size() == service.size() || urn[service.size()] == '.';
}

std::string_view without_brackets(std::string_view host) {
    return host.size() > 2 && host.front() == '[' ? host.substr(1, host.size() - 2) : host;
}

bool is_private_address(std::string_view host) {
    const pj_str_t text = borrow(without_brackets(host));
    unsigned char b[16];
    if (pj_inet_pton(pj_AF_INET(), &text, b) == PJ_SUCCESS) {
        return b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 192 && b[1] == 168) ||  // RFC 1918
               (b[0] == 100 && (b[1] & 0xc0) == 64) || (b[0] == 169 && b[1] == 254);                  // RFC 6598, RFC 3927
    }
    if (pj_inet_pton(pj_AF_INET6(), &text, b) != PJ_SUCCESS) return false;
    return (b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80);  // RFC 4193, RFC 4291
}

bool is_literal_address(std::string_view host) {
    const pj_str_t text = borrow(without_brackets(host));
    pj_in6_addr scratch;
    return pj_inet_pton(pj_AF_INET(), &text, &scratch) == PJ_SUCCESS ||
           pj_inet_pton(pj_AF_INET6(), &text, &scratch) == PJ_SUCCESS;
}

}  // namespace sidecar
