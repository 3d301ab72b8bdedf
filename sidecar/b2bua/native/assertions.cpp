#include "assertions.hpp"

#include "text.hpp"

#include <algorithm>
#include <string>

namespace sidecar {
namespace {

constexpr std::size_t value_bytes_max = 2048;

bool named(const pjsip_hdr* header, std::string_view name) { return same_text(header->name, name); }

// In small letters, without blanks; empty where it is too long to be read.
std::string plain_value(const pjsip_hdr* header) {
    std::string value = lower(header_value(header, value_bytes_max));
    std::erase_if(value, [](char c) { return c == ' ' || c == '\t' || c == '"'; });
    return value;
}

// Remote-Party-ID has a mark of its own. Wherever it stands: a display name or a user may hold another in front of it.
bool is_marked_private(const pjsip_hdr* header) {
    constexpr std::string_view mark = ";privacy=";
    const std::string value = plain_value(header);
    if (value.empty()) return true;
    for (auto at = value.find(mark); at != std::string::npos; at = value.find(mark, at)) {
        at += mark.size();
        if (value.substr(at, value.find_first_of(";,", at) - at) != "off") return true;
    }
    return false;
}

}  // namespace

Assertions::Assertions(const pjsip_hdr* headers_of_message, bool sender_trusted, Receiver receiver)
    : sender_trusted_(sender_trusted), receiver_(receiver) {
    if (receiver_.trusted) return;
    for (const pjsip_hdr* header = headers_of_message->next; header != headers_of_message; header = header->next) {
        if (!named(header, "Privacy")) continue;
        const std::string value = plain_value(header);
        hidden_ = hidden_ || value.empty();
        for (std::string_view rest = value; !rest.empty();) {
            const auto word = rest.substr(0, rest.find_first_of(";,"));
            rest.remove_prefix(std::min(word.size() + 1, rest.size()));
            if (word == "none") {
                shown_ = true;
            } else if (!word.empty() && word != "critical") {
                hidden_ = true;
            }
        }
    }
}

bool Assertions::withheld(const pjsip_hdr* header) const {
    const bool party = named(header, "Remote-Party-ID");
    if (party || named(header, "P-Asserted-Identity")) return !sender_trusted_ || !may_go(header);
    if (named(header, "P-Preferred-Identity")) return !may_go(header);
    return is_identity(header) && !receiver_.trusted && hidden_;  // it names the caller that Privacy hides
}

bool Assertions::may_go(const pjsip_hdr* header) const {
    if (receiver_.trusted) return true;
    if (hidden_ || (named(header, "Remote-Party-ID") && is_marked_private(header))) return false;
    return shown_ || receiver_.keep_outside;
}

bool is_identity(const pjsip_hdr* header) { return named(header, "Identity") || named(header, "y"); }

bool has_identity(const pjsip_hdr* headers_of_message) {
    const pjsip_hdr* header = headers_of_message->next;
    while (header != headers_of_message && !is_identity(header)) header = header->next;
    return header != headers_of_message;
}

}  // namespace sidecar
