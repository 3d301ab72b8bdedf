#include "second_reading.hpp"

#include "stand_in.hpp"
#include "text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstring>
#include <optional>

namespace sidecar {
namespace {

constexpr char spoilt_letter = '~';  // allowed in a name, and in none that pjsip knows
constexpr int readings_max = 4;
constexpr std::size_t name_bytes_max = 128;

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_newline(char c) { return c == '\r' || c == '\n'; }

std::string_view without_newline(std::string_view line) {
    while (!line.empty() && is_newline(line.back())) line.remove_suffix(1);
    return line;
}

// A line with the lines that continue it and its end; an empty line where `rest` begins with one.
std::string_view take_line(std::string_view& rest) {
    std::size_t end = 0;
    for (bool more = true; more;) {
        const bool empty = end == 0;
        end = std::min(rest.find_first_of("\r\n", end), rest.size());
        const bool first_is_end = empty && end == 0;
        end += end == rest.size() ? 0 : rest.substr(end, 2) == "\r\n" ? 2 : 1;
        more = !first_is_end && end < rest.size() && is_blank(rest[end]);
    }
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end);
    return line;
}

std::string_view name_of(std::string_view line) {
    auto name = line.substr(0, std::min(line.find(':'), line.size()));
    if (name.size() == line.size()) return {};
    while (!name.empty() && is_blank(name.back())) name.remove_suffix(1);
    return is_token(name) ? name : std::string_view();
}

struct Known {
    std::string_view name, compact;
    std::optional<Part> part;  // none: this hop's, and of no use to it
};

// What is between us and this peer alone, or names the dialog: unreadable, it may not pass.
constexpr std::array<Known, 11> known_fields{{{"From", "f", Part::from},
                                              {"To", "t", Part::to},
                                              {"Call-ID", "i", Part::call_id},
                                              {"CSeq", "", Part::cseq},
                                              {"Max-Forwards", "", Part::max_forwards},
                                              {"Contact", "m", Part::contact},
                                              {"Record-Route", "", Part::record_route},
                                              {"Content-Type", "c", Part::content_type},
                                              {"Content-Length", "l", Part::content_length},
                                              {"Route", "", std::nullopt},
                                              {"Via", "v", std::nullopt}}};

const Known* known_field(std::string_view name) {
    const pj_str_t written = borrow(name);
    const auto found = std::find_if(known_fields.begin(), known_fields.end(), [&](const Known& one) {
        return same_text(written, one.name) || (!one.compact.empty() && same_text(written, one.compact));
    });
    return found == known_fields.end() ? nullptr : &*found;
}

// The source of a datagram is kept beside it, and the callback is not told where: the buffer that pjsip reads into is a
// member of its pjsip_rx_data.
const pjsip_rx_data* received_with(const pjsip_tp_dropped_data& dropped, std::string_view blank_lines) {
    const auto* data = static_cast<const char*>(dropped.data);
    const char* packet = data == blank_lines.data() + blank_lines.size() ? blank_lines.data() : data;
    const auto* with = reinterpret_cast<const pjsip_rx_data*>(packet - offsetof(pjsip_rx_data, pkt_info.packet));
    return with->tp_info.transport == dropped.tp && with->msg_info.msg_buf == data ? with : nullptr;
}

bool ends_something(std::string_view bytes) {  // by its first word
    return bytes.starts_with("BYE ") || bytes.starts_with("CANCEL ") || bytes.starts_with("ACK ");
}

}  // namespace

std::string_view SecondReading::to_be_heard(std::string_view bytes, int code) {
    if (code == 0) return bytes;
    const auto end = bytes.find("\r\n\r\n");
    const auto head = bytes.substr(0, end == std::string_view::npos ? bytes.rfind('\n') + 1 : end + 2);
    if (ends_something(bytes)) return head;
    if (!bytes.starts_with("SIP/2.0 ")) return {};
    const bool needs_body = bytes.substr(8, 1) == "2" && names_in(bytes).method == "INVITE";
    if (!needs_body) return head;
    // Its connection is given up: all that is there of it is its own.
    return code == PJSIP_SC_BAD_REQUEST ? bytes : std::string_view();
}

std::string SecondReading::ending_in(std::string_view bytes) {
    std::string_view rest = bytes;
    const auto first = without_newline(take_line(rest));
    const auto behind_first = rest;
    const bool is_request = is_token(first.substr(0, first.find(' '))) && first.ends_with(" SIP/2.0");
    if (first.starts_with("SIP/2.0 ") || (is_request && std::count(first.begin(), first.end(), ' ') == 2)) return {};
    while (!rest.empty() && !is_newline(rest.front())) {
        const auto from = rest;
        const auto line = without_newline(take_line(rest));
        if (ends_something(line) && line.ends_with(" SIP/2.0")) return std::string(from);
    }
    const auto method = names_in("SIP/2.0\r\n" + std::string(behind_first)).method;
    if (!ends_something(method + " ")) return {};
    return method + " sip:invalid SIP/2.0\r\n" + std::string(behind_first);
}

SecondReading::Names SecondReading::names_in(std::string_view bytes) {
    const auto first = without_newline(take_line(bytes));
    std::string_view method = first.substr(0, std::min(first.find(' '), first.size())), call_id;
    while (!bytes.empty() && !is_newline(bytes.front())) {
        const auto line = without_newline(take_line(bytes));
        const Known* known = known_field(name_of(line));
        if (known == nullptr) continue;
        auto value = line.substr(line.find(':') + 1);
        value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
        if (known->part == Part::call_id) call_id = value;
        if (known->part == Part::cseq && first.starts_with("SIP/")) method = value.substr(value.find_last_of(" \t") + 1);
    }
    return {std::string(method.substr(0, name_bytes_max)), std::string(call_id.substr(0, name_bytes_max))};
}

void SecondReading::skip(const pjsip_tp_dropped_data& blank_lines) {
    blank_lines_ = {static_cast<const char*>(blank_lines.data), blank_lines.len};
}

std::string_view SecondReading::hear(const pjsip_tp_dropped_data& dropped, std::string_view bytes) {
    const PoolPtr pool = new_pool(context_, "again", 4096, 4096);
    pool_ = pool.get();
    defects_ = {};
    const auto reason = read(dropped, bytes);
    if (!reason.empty()) return reason;
    pj_bzero(&message_->endpt_info, sizeof message_->endpt_info);
    message_->endpt_info.mod_data[context_.user->id] = &defects_;
    pjsip_endpt_process_rx_data(context_.endpoint, message_.get(), nullptr, nullptr);
    return {};
}

std::string_view SecondReading::read(const pjsip_tp_dropped_data& dropped, std::string_view bytes) {
    if (!take_source(dropped)) return "source";
    if (const auto reason = lay_out(bytes); !reason.empty()) return reason;
    if (const auto reason = parse(); !reason.empty()) return reason;
    return mend();
}

bool SecondReading::take_source(const pjsip_tp_dropped_data& dropped) {
    message_->tp_info.pool = pool_;
    message_->tp_info.transport = dropped.tp;
    auto& packet = message_->pkt_info;
    if ((dropped.tp->flag & PJSIP_TRANSPORT_DATAGRAM) != 0) {
        const pjsip_rx_data* with = received_with(dropped, blank_lines_);
        if (with == nullptr) return false;
        packet.timestamp = with->pkt_info.timestamp;
        pj_sockaddr_cp(&packet.src_addr, &with->pkt_info.src_addr);
        packet.src_addr_len = with->pkt_info.src_addr_len;
    } else {
        pj_gettimeofday(&packet.timestamp);
        pj_sockaddr_cp(&packet.src_addr, &dropped.tp->key.rem_addr);
        packet.src_addr_len = dropped.tp->addr_len;
    }
    pj_sockaddr_print(&packet.src_addr, packet.src_name, sizeof packet.src_name, 0);
    packet.src_port = pj_sockaddr_get_port(&packet.src_addr);
    return true;
}

// Without the lines of the head that are no header fields: pjsip could not name them.
std::string_view SecondReading::lay_out(std::string_view bytes) {
    constexpr std::size_t added_max = 3;  // an empty line where there is none, and the end
    if (slack + bytes.size() + added_max > sizeof message_->pkt_info.packet) return "length";
    char* const begin = message_->pkt_info.packet + slack;
    end_ = begin;
    const auto add = [&](std::string_view text) { end_ = std::copy(text.begin(), text.end(), end_); };
    const auto first = bytes.substr(0, std::min(bytes.find_first_of("\r\n"), bytes.size()));
    add(first);
    first_line_ = {begin, first.size()};
    bytes.remove_prefix(first.size());
    if (bytes.empty()) return "first line";
    method_ = first.substr(0, std::min(first.find_first_of(" \t"), first.size()));
    if (method_.size() >= 4 && pj_ansi_strnicmp(method_.data(), "SIP/", 4) == 0) {
        method_.clear();
    } else if (!is_token(method_) || method_.size() == first.size()) {
        return "first line";
    }

    const auto newline = bytes.substr(0, bytes.starts_with("\r\n") ? 2 : 1);
    add(newline);
    bytes.remove_prefix(newline.size());
    while (!bytes.empty() && !is_newline(bytes.front())) {
        const auto line = take_line(bytes);
        const auto name = name_of(line);
        if (!name.empty() && line.find('\0') == std::string_view::npos && is_newline(line.back())) {
            add(line);
            continue;
        }
        const Known* known = known_field(name);
        defects_.add(known != nullptr && known->part ? *known->part : Part::line);
    }
    const auto empty_line = bytes.substr(0, bytes.starts_with("\r\n") ? 2 : 1);
    add("\r\n");
    bytes.remove_prefix(empty_line.size());
    has_body_ = !bytes.empty();
    add(bytes);
    *end_ = '\0';
    message_->pkt_info.len = end_ - begin;
    return {};
}

std::string_view SecondReading::parse() {
    auto& info = message_->msg_info;
    spoilt_.clear();
    replaced_.clear();
    std::string_view reason = "header fields";
    for (int reading = 0; reading < readings_max; ++reading) {
        pj_bzero(&info, sizeof info);
        pj_list_init(&info.parse_err);
        char* const begin = const_cast<char*>(first_line_.data()) - (replaced_.empty() ? 0 : slack);
        char* const at = std::find_if_not(begin, end_, [](char c) { return c == '\n'; });
        const pjsip_msg* msg = pjsip_parse_rdata(at, static_cast<pj_size_t>(end_ - at), message_.get());
        if (msg != nullptr && pj_list_empty(&info.parse_err)) {
            reason = {};
            break;
        }
        if (pj_list_empty(&info.parse_err)) break;
        if (const auto why = spoil_names(); !why.empty()) {
            reason = why;
            break;
        }
    }
    put_right();
    info.msg_buf = const_cast<char*>(first_line_.data());
    info.len = static_cast<int>(end_ - first_line_.data());
    return reason;
}

// Of what pjsip complained of; else why nothing more can be done about it.
std::string_view SecondReading::spoil_names() {
    const auto& errors = message_->msg_info.parse_err;
    for (const auto* error = errors.next; error != &errors; error = error->next) {
        char* const name = error->hname.ptr;
        const bool is_in_head = error->hname.slen > 0 && name > first_line_.data() && name < end_;
        if (!is_in_head) {
            if (!replace_request_line()) return "first line";
            continue;
        }
        if (*name == spoilt_letter) return "header fields";
        spoilt_.emplace_back(name, *name);
        *name = spoilt_letter;
    }
    return {};
}

// By one that pjsip can read, which ends where the received one does and begins before it.
bool SecondReading::replace_request_line() {
    if (method_.empty() || !replaced_.empty()) return false;
    char* const begin = const_cast<char*>(first_line_.data()) - slack;
    char* const end = const_cast<char*>(first_line_.data() + first_line_.size());
    replaced_.assign(begin, end);
    const std::string line = method_ + " sip:invalid SIP/2.0";
    std::fill(begin, end, '\n');
    std::copy(line.begin(), line.end(), end - line.size());
    return true;
}

void SecondReading::put_right() {
    for (const auto& [letter, was] : spoilt_) *letter = was;
    std::sort(spoilt_.begin(), spoilt_.end());
    if (replaced_.empty()) return;
    std::copy(replaced_.begin(), replaced_.end(), const_cast<char*>(first_line_.data()) - slack);
    pjsip_msg* msg = message_->msg_info.msg;
    if (msg == nullptr) return;
    auto& line = msg->line.req;
    const pj_str_t method = borrow(first_line_.substr(0, method_.size()));
    pjsip_method_init_np(&line.method, const_cast<pj_str_t*>(&method));
    const bool ends_well = first_line_.ends_with(" SIP/2.0");
    pjsip_uri* uri = ends_well ? other_uri(pool_, borrow(request_uri_in(first_line_))) : nullptr;
    if (uri != nullptr) {
        line.uri = uri;
    } else {
        defects_.add(Part::request_uri);
    }
}

std::string_view SecondReading::mend() {
    auto& info = message_->msg_info;
    pjsip_hdr& head = info.msg->hdr;
    bool below_via = false;
    for (pjsip_hdr *field = head.next, *next = nullptr; field != &head; field = next) {
        next = field->next;
        below_via = below_via || field->type == PJSIP_H_VIA;
        if (!was_spoilt(field)) continue;
        const auto reason = mend_field(reinterpret_cast<pjsip_generic_string_hdr*>(field), below_via);
        if (!reason.empty()) return reason;
    }
    if (info.via == nullptr) return "Via";
    if (method_.empty()) {
        const int code = info.msg->line.status.code;
        if (code < 100 || code > 699) return "status code";
        if (info.cid == nullptr || info.from == nullptr || info.to == nullptr || info.cseq == nullptr) {
            return "From, To, Call-ID or CSeq";
        }
        return {};
    }
    stand_in_for_missing();
    info.via->recvd_param = copy(pool_, message_->pkt_info.src_name);
    if (info.via->rport_param == 0) info.via->rport_param = message_->pkt_info.src_port;
    return {};
}

bool SecondReading::was_spoilt(const pjsip_hdr* field) const {
    return field->type == PJSIP_H_OTHER && std::binary_search(spoilt_.begin(), spoilt_.end(), std::pair(field->name.ptr, '\0'),
                                                              [](const auto& a, const auto& b) { return a.first < b.first; });
}

template <typename H>
void SecondReading::stand_in(pjsip_generic_string_hdr* field, H*& known, H* instead) {
    if (known == nullptr) {
        known = instead;
        pj_list_insert_before(field, instead);
    }
}

std::string_view SecondReading::mend_field(pjsip_generic_string_hdr* field, bool below_via) {
    auto& info = message_->msg_info;
    const auto value = view(field->hvalue);
    const Known* known = known_field(view(field->name));
    if (known == nullptr) return {};  // it passes as it came
    if (known->part == Part::content_type) {
        if (info.ctype == nullptr && has_body_) {  // and passes with its body
            defects_.add(Part::content_type);
            return {};
        }
    } else if (known->part) {
        defects_.add(*known->part);
    }
    if (known->name == "Via") {
        if (!below_via) return "Via";
        pj_list_insert_before(field, stand_in::via(pool_, value));
    }
    switch (known->part.value_or(Part::count_)) {
        case Part::from: stand_in(field, info.from, stand_in::from(pool_, value)); break;
        case Part::to: stand_in(field, info.to, stand_in::to(pool_, value)); break;
        case Part::call_id: stand_in(field, info.cid, stand_in::call_id(pool_, value)); break;
        case Part::cseq:
            if (!method_.empty()) stand_in(field, info.cseq, stand_in::cseq(pool_, value, info.msg->line.req.method));
            break;
        default: break;
    }
    pj_list_erase(field);
    return {};
}

void SecondReading::stand_in_for_missing() {
    auto& info = message_->msg_info;
    const auto add = [&](auto*& known, auto* instead, Part part) {
        if (known != nullptr) return;
        known = instead;
        defects_.add(part);
        pjsip_msg_add_hdr(info.msg, reinterpret_cast<pjsip_hdr*>(instead));
    };
    add(info.from, stand_in::from(pool_, {}), Part::from);
    add(info.to, stand_in::to(pool_, {}), Part::to);
    add(info.cid, stand_in::call_id(pool_, {}), Part::call_id);
    add(info.cseq, stand_in::cseq(pool_, {}, info.msg->line.req.method), Part::cseq);
}

}  // namespace sidecar
