#include "text.hpp"

#include <algorithm>

namespace sidecar {

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

std::string user_of(const pjsip_uri* uri) {
    if (PJSIP_URI_SCHEME_IS_SIP(uri) || PJSIP_URI_SCHEME_IS_SIPS(uri)) {
        return std::string(view(static_cast<pjsip_sip_uri*>(pjsip_uri_get_uri(uri))->user));
    }
    if (PJSIP_URI_SCHEME_IS_TEL(uri)) {
        return std::string(view(static_cast<pjsip_tel_uri*>(pjsip_uri_get_uri(uri))->number));
    }
    return {};
}

std::string_view without_brackets(std::string_view host) {
    return host.size() > 2 && host.front() == '[' ? host.substr(1, host.size() - 2) : host;
}

bool is_literal_address(std::string_view host) {
    const pj_str_t text = borrow(without_brackets(host));
    pj_in6_addr scratch;
    return pj_inet_pton(pj_AF_INET(), &text, &scratch) == PJ_SUCCESS ||
           pj_inet_pton(pj_AF_INET6(), &text, &scratch) == PJ_SUCCESS;
}

}  // namespace sidecar
