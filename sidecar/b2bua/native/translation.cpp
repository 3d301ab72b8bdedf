#include "translation.hpp"

#include "call.hpp"
#include "leg.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace sidecar {
namespace {

constexpr std::string_view unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*";

bool same_name(std::string_view a, std::string_view b) { return same_text(borrow(a), b); }

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string_view take_until(std::string_view& rest, char end) {
    const auto part = rest.substr(0, rest.find(end));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    return part;
}

std::optional<int> number_in(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

int hex_digit(char c) {
    const auto place = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
    return place == std::string_view::npos || c < '0' ? -1 : static_cast<int>(place);
}

std::string decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool escaped = text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
        if (!escaped) {
            out += text[i];
            continue;
        }
        out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
        i += 2;
    }
    return out;
}

std::string encoded(std::string_view text) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (unreserved.find(c) != std::string_view::npos) {
            out += c;
        } else {
            out.append(1, '%').append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        }
    }
    return out;
}

// --- dialogs ---------------------------------------------------------------------------------------------------------

struct DialogName {
    std::string_view call_id;
    std::string_view there;  // the tag of whom the message is for
    std::string_view here;   // and of the other end
    std::string_view more;   // other parameters, from their `;` on
    bool targets = false;    // Target-Dialog has its own words for the tags
};

bool names_dialog(std::string_view header) {
    return same_name(header, "Replaces") || same_name(header, "Join") || same_name(header, "Target-Dialog");
}

// `kept` holds what the parameters that are not tags are put together from.
DialogName dialog_name_of(std::string_view header, std::string_view value, std::string& kept) {
    DialogName name;
    name.targets = same_name(header, "Target-Dialog");
    std::string_view rest = value;
    name.call_id = trimmed(take_until(rest, ';'));
    while (!rest.empty()) {
        const auto parameter = trimmed(take_until(rest, ';'));
        auto text = parameter;
        const auto key = trimmed(take_until(text, '='));
        if (same_name(key, name.targets ? "remote-tag" : "to-tag")) {
            name.there = trimmed(text);
        } else if (same_name(key, name.targets ? "local-tag" : "from-tag")) {
            name.here = trimmed(text);
        } else {
            kept.append(1, ';').append(parameter);
        }
    }
    name.more = kept;
    return name;
}

// One of a call of ours: of the leg itself, or an early one beside it.
struct Named {
    const Leg* leg = nullptr;
    const Dialog* dialog = nullptr;
    explicit operator bool() const { return dialog != nullptr; }
};

Named find_named(const Context& context, std::string_view call_id, std::string_view local_tag, std::string_view remote_tag) {
    Leg* leg = context.tables.find_leg(local_tag);
    if (leg == nullptr || leg->dialog.call_id() != call_id) return {};
    return {leg, leg->dialog_between(local_tag, remote_tag)};
}

// Its other end, if messages of it reach anybody.
Named far_end(const Named& near) {
    if (!near || near.leg->call() == nullptr) return {};
    Call& call = *near.leg->call();
    const auto talks = [](const Leg* leg) { return leg != nullptr && !leg->ended() && leg->state() != LegState::leaving; };
    const Leg* far = call.other(*near.leg);
    if (!talks(near.leg) || !talks(far)) return {};
    const Dialog* there = &far->dialog;
    if (near.dialog != &near.leg->dialog) {
        EarlyDialog* early = call.early_dialog(near.leg->side(), near.dialog->local_tag(), near.dialog->remote_tag());
        if (early == nullptr) return {};
        there = &early->of(far->side());
    }
    if (!near.dialog->established() || !there->established()) return {};
    return {far, there};
}

// The far end of the dialog that is named as its peer names it to us.
Named far_end_of(const Context& context, const DialogName& name) {
    return far_end(find_named(context, name.call_id, name.there, name.here));
}

std::string written_for(const Dialog& dialog, const DialogName& name) {
    const char* there = name.targets ? ";remote-tag=" : ";to-tag=";
    const char* here = name.targets ? ";local-tag=" : ";from-tag=";
    std::string value(dialog.call_id());
    const auto remote_tag = dialog.remote_tag().empty() ? std::string_view("0") : dialog.remote_tag();  // null: RFC 3891 §3
    value.append(there).append(remote_tag).append(here).append(dialog.local_tag());
    return value.append(name.more);
}

std::optional<std::string> with_far_dialog(const Context& context, std::string_view header, std::string_view value) {
    std::string kept;
    const DialogName name = dialog_name_of(header, value, kept);
    const Named far = far_end_of(context, name);
    if (!far) return std::nullopt;
    return written_for(*far.dialog, name);
}

// The URI keeps all but the dialogs among its headers; a display name in quotes may hold anything.
std::optional<std::string> refer_to_for_the_other_leg(const Context& context, std::string_view value) {
    std::size_t start = 0;
    if (!value.empty() && value.front() == '"') {
        for (start = 1; start < value.size() && value[start] != '"'; ++start) start += value[start] == '\\';
        if (start >= value.size()) return std::nullopt;
    }
    const auto bracket = value.find('<', start);
    const auto end = bracket == std::string_view::npos ? value.size() : value.find('>', bracket);
    if (end == std::string_view::npos || value.find('<', end) != std::string_view::npos) return std::nullopt;
    const auto question = value.find('?', bracket == std::string_view::npos ? 0 : bracket);
    if (question >= end) return std::string(value);

    std::string out(value.substr(0, question + 1));
    std::string_view rest = value.substr(question + 1, end - question - 1);
    while (!rest.empty()) {
        const auto piece = take_until(rest, '&');
        auto text = piece;
        const auto name = decoded(take_until(text, '='));
        if (!names_dialog(name)) {
            out += piece;
        } else {
            const auto named = with_far_dialog(context, name, decoded(text));
            if (!named) return std::nullopt;
            out.append(name).append(1, '=').append(encoded(*named));
        }
        if (!rest.empty()) out += '&';
    }
    return out.append(value.substr(end));
}

// --- CSeqs -----------------------------------------------------------------------------------------------------------

// RAck: <RSeq> <CSeq number> <method>. The RSeq is the callee's own and passes.
std::string rack_for(const Call& call, const Leg& from, std::string_view value) {
    std::string_view rest = value;
    const auto rseq = take_until(rest, ' ');
    const auto cseq = number_in(take_until(rest, ' '));
    if (!cseq) return std::string(value);
    return std::string(rseq) + ' ' + std::to_string(call.peer_cseq_of_invite(from, *cseq)) + ' ' + std::string(rest);
}

std::optional<std::string> event_for(const Call& call, const Leg& from, bool notify, std::string_view value) {
    std::string_view rest = value;
    std::string out(trimmed(take_until(rest, ';')));
    const bool refer = same_name(out, "refer");
    while (!rest.empty()) {
        const auto parameter = trimmed(take_until(rest, ';'));
        auto text = parameter;
        if (!refer || !same_name(trimmed(take_until(text, '=')), "id")) {
            out.append(1, ';').append(parameter);
            continue;
        }
        const auto id = number_in(trimmed(text));
        const auto peer_id = id ? call.peer_cseq_of_refer(from, notify, *id) : std::nullopt;
        if (!peer_id) return std::nullopt;
        out.append(";id=").append(std::to_string(*peer_id));
    }
    return out;
}

}  // namespace

Translation translate(Context& context, const Call& call, const Leg& from, const pjsip_rx_data* request) {
    const auto method = view(request->msg_info.msg->line.req.method.name);
    const bool refers = method == "REFER";
    Translation result;
    const auto refuse = [&](int code) {
        result.refused = code;
        return result;
    };
    if (const pjsip_hdr* rack = find_header(request->msg_info.msg, "RAck")) {
        result.headers.push_back({"RAck", rack_for(call, from, header_value(rack, 64))});
    }
    const auto events = raw_values(context, request, "Event", "o");
    const auto targets = raw_values(context, request, "Refer-To", "r");
    // In a request of another kind they say nothing: what of them cannot be translated is left out, and nobody misses it.
    const bool subscribes = method == "SUBSCRIBE" || method == "NOTIFY";
    if ((subscribes && events.size() > 1) || (refers && targets.size() != 1)) return refuse(PJSIP_SC_BAD_REQUEST);
    if (events.size() == 1) {
        auto event = event_for(call, from, method == "NOTIFY", events.front());
        if (!event && subscribes) return refuse(PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);  // no such subscription
        if (event) result.headers.push_back({"Event", std::move(*event)});
    }
    if (targets.size() == 1) {
        auto target = refer_to_for_the_other_leg(context, targets.front());
        if (!target && refers) return refuse(PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
        if (target) result.headers.push_back({"Refer-To", std::move(*target)});
    }
    if (!refers) return result;
    // RFC 3891 §3, RFC 3911 §4: in an INVITE and nowhere else.
    if (find_header(request->msg_info.msg, "Replaces") != nullptr || find_header(request->msg_info.msg, "Join") != nullptr) {
        return refuse(PJSIP_SC_BAD_REQUEST);
    }
    for (const auto& value : raw_values(context, request, "Target-Dialog", {})) {
        auto named = with_far_dialog(context, "Target-Dialog", value);
        if (!named) return refuse(PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
        result.headers.push_back({"Target-Dialog", std::move(*named)});
    }
    return result;
}

std::optional<Claim> claim_of(Context& context, const pjsip_rx_data* invite) {
    const auto replaces = raw_values(context, invite, "Replaces", {}), joins = raw_values(context, invite, "Join", {});
    if (replaces.empty() && joins.empty()) return std::nullopt;
    Claim claim;
    if (replaces.size() + joins.size() > 1) {  // RFC 3891 §3, RFC 3911 §4
        claim.refused = PJSIP_SC_BAD_REQUEST;
        return claim;
    }
    claim.refused = PJSIP_SC_CALL_TSX_DOES_NOT_EXIST;
    if (!context.settings.pass_refer) return claim;
    claim.header.name = replaces.empty() ? "Join" : "Replaces";
    const std::string& value = replaces.empty() ? joins.front() : replaces.front();
    std::string kept;
    const DialogName name = dialog_name_of(claim.header.name, value, kept);
    Named far = far_end_of(context, name);
    if (!far) {
        // As a Refer-To that we have translated says it: in the names of the peer that it is to reach.
        const Named said = find_named(context, name.call_id, name.here, name.there);
        if (far_end(said)) far = said;
    }
    if (!far || !far.dialog->group().is_listed()) return claim;
    claim.refused = 0;
    claim.header.value = written_for(*far.dialog, name);
    claim.peer = far.dialog->group().name;
    return claim;
}

}  // namespace sidecar
