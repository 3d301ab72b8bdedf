// Strings across the border between pjsip (counted, borrowed) and C++.
#pragma once

#include <pjsip.h>

#include <string>
#include <string_view>

namespace sidecar {

inline std::string_view view(const pj_str_t& s) {
    return s.slen > 0 ? std::string_view(s.ptr, static_cast<std::size_t>(s.slen)) : std::string_view();
}

// Borrows: the text must outlive every use. pj_str_t has no const pointer, pjsip does not write through it.
inline pj_str_t borrow(std::string_view s) {
    return {const_cast<char*>(s.data()), static_cast<pj_ssize_t>(s.size())};
}

inline pj_str_t copy(pj_pool_t* pool, std::string_view s) {
    pj_str_t from = borrow(s), to{};
    pj_strdup_with_null(pool, &to, &from);
    return to;
}

inline bool same_text(const pj_str_t& a, std::string_view b) {  // header names: case does not matter
    const pj_str_t other = borrow(b);
    return pj_stricmp(&a, &other) == 0;
}

bool is_token(std::string_view text);  // RFC 3261 §25.1
std::string lower(std::string_view text);  // of ASCII alone, whatever the locale

inline std::string_view text_of(const pjsip_rx_data* message) {
    return {message->msg_info.msg_buf, static_cast<std::size_t>(message->msg_info.len)};
}

inline constexpr std::size_t uri_bytes_max = 2048;

// As it stands in a Request-URI or Contact; empty where it is longer than uri_bytes_max.
std::string printed(const pjsip_uri* uri, pjsip_uri_context_e context);

// The value of any header, without its name; at most `bytes_max`, and empty where the header does not fit the buffer.
std::string header_value(const pjsip_hdr* header, std::size_t bytes_max);

// "127.0.0.1:5080", "[::1]:5080"
std::string host_port(std::string_view host, int port);

// As it stands in the first line. pjsip decodes the escapes of a user and does not know any more which they were.
std::string_view request_uri_of(const pjsip_rx_data* request);
std::string_view request_uri_in(std::string_view line);  // between the first and the last blank

// User part of a sip: or sips: URI, its escapes left alone. Of a tel: URI the number and all its parameters, as they stand in
// the user part of a SIP URI (RFC 3261 §19.1.6).
std::string user_in(std::string_view uri);

// A URI of none of pjsip's own schemes (RFC 3986 §3.1), of which it borrows; null where it is none. pjsip reads one only within
// angle brackets.
pjsip_uri* other_uri(pj_pool_t* pool, const pj_str_t& uri);

// Whether a URN is that service, given in lower case, or one of its own: urn:service:sos.fire is within urn:service:sos.
bool is_within(std::string_view urn, std::string_view service);
inline bool is_emergency(std::string_view uri) { return is_within(uri, "urn:service:sos"); }  // RFC 5031

std::string_view without_brackets(std::string_view host);  // [::1] -> ::1, as pjsip keeps it
bool is_private_address(std::string_view host);  // a literal one that is reached by its own network alone
bool is_literal_address(std::string_view host);  // IPv4 or IPv6, brackets allowed

}  // namespace sidecar
