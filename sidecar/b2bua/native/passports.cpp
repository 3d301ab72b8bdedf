#include "passports.hpp"

#include "message.hpp"

#include <algorithm>
#include <string_view>

namespace sidecar {
namespace {

constexpr std::size_t passports_max = 4;
constexpr std::size_t payload_bytes_max = 2048;

// header.payload.signature, with parameters behind it; up to the comma before the next one.
std::string_view take_identity(std::string_view& rest) {
    std::size_t end = 0;
    for (bool quoted = false, bracketed = false; end < rest.size(); ++end) {
        const char c = rest[end];
        if (c == '"') quoted = !quoted;
        if (!quoted && (c == '<' || c == '>')) bracketed = c == '<';
        if (!quoted && !bracketed && c == ',') break;
    }
    const auto identity = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return identity;
}

std::string_view payload_of(std::string_view identity) {
    const auto token = identity.substr(0, identity.find(';'));
    const auto begin = std::min(token.find('.'), token.size());
    const auto payload = token.substr(std::min(begin + 1, token.size()));
    return payload.substr(0, payload.find('.'));  // empty in the compact form (RFC 8225 §7)
}

}  // namespace

std::vector<std::string> passports_of(Context& context, const pjsip_rx_data* invite) {
    std::vector<std::string> found;
    if (!has_identity(&invite->msg_info.msg->hdr)) return found;
    for (const auto& value : raw_values(context, invite, "Identity", "y")) {
        for (std::string_view rest = value; !rest.empty() && found.size() < passports_max;) {
            const auto payload = payload_of(take_identity(rest));
            if (!payload.empty() && payload.size() <= payload_bytes_max) found.emplace_back(payload);
        }
    }
    return found;
}

}  // namespace sidecar
