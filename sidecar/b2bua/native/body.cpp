#include "body.hpp"

#include "text.hpp"

#include <algorithm>
#include <cstring>

namespace sidecar {
namespace {

constexpr int depth_max = 8;  // of multipart bodies in one another

constexpr std::string_view blanks = " \t\r\n";  // a folded value holds its line breaks

bool same(std::string_view a, std::string_view b) { return same_text(borrow(a), b); }

std::string_view stripped(std::string_view text) {
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// One line without its end: CR LF, LF or CR, as pjsip reads them.
std::string_view take_line(std::string_view& rest) {
    const std::size_t end = std::min(rest.find_first_of("\r\n"), rest.size());
    const auto line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + (rest.substr(end, 2) == "\r\n" ? 2 : 1), rest.size()));
    return line;
}

struct Fields {  // of a message or of a part
    std::string_view type, disposition, encoding;
};

// Reads the header, and leaves in `rest` what follows its empty line.
Fields take_fields(std::string_view& rest) {
    Fields found;
    while (!rest.empty()) {
        const char* start = rest.data();
        const auto line = take_line(rest);
        if (line.empty()) break;
        std::string_view last = line;
        while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) last = take_line(rest);
        const std::string_view field(start, static_cast<std::size_t>(last.data() + last.size() - start));
        const auto colon = std::min(field.find(':'), field.size());
        const auto name = stripped(field.substr(0, colon)), value = stripped(field.substr(std::min(colon + 1, field.size())));
        if (same(name, "Content-Type") || same(name, "c")) found.type = value;
        if (same(name, "Content-Disposition")) found.disposition = value;
        if (same(name, "Content-Encoding") || same(name, "e")) found.encoding = value;
    }
    return found;
}

// The header, but for its first line.
std::string_view header_of(const pjsip_rx_data* rdata) {
    std::string_view rest(rdata->msg_info.msg_buf, static_cast<std::size_t>(rdata->msg_info.len));
    rest.remove_prefix(std::min(rest.find_first_not_of("\r\n"), rest.size()));
    take_line(rest);
    return rest;
}

// All behind the header, whatever Content-Length says.
std::string_view behind_header(const pjsip_rx_data* rdata) {
    auto rest = header_of(rdata);
    while (!rest.empty() && !take_line(rest).empty()) {
    }
    return rest;
}

Fields fields_of(const pjsip_rx_data* rdata) {
    auto rest = header_of(rdata);
    return take_fields(rest);
}

// What is before the next `;` outside of quotes.
std::string_view take_parameter(std::string_view& rest) {
    std::size_t end = 0;
    for (bool quoted = false; end < rest.size() && (quoted || rest[end] != ';'); ++end) {
        if (rest[end] == '"') quoted = !quoted;
        if (quoted && rest[end] == '\\') ++end;
    }
    end = std::min(end, rest.size());
    const auto parameter = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return stripped(parameter);
}

std::string_view unquoted(std::string_view text) {
    const bool quoted = text.size() > 1 && text.front() == '"' && text.back() == '"';
    return quoted ? text.substr(1, text.size() - 2) : text;
}

struct MediaType {
    std::string_view type, subtype, boundary;
};

MediaType media_type_of(std::string_view value) {
    auto parameters = value;
    const auto name = take_parameter(parameters);
    const auto slash = std::min(name.find('/'), name.size());
    MediaType found{stripped(name.substr(0, slash)), stripped(name.substr(std::min(slash + 1, name.size()))), {}};
    while (!parameters.empty() && found.boundary.empty()) {
        const auto parameter = take_parameter(parameters);
        const auto equals = parameter.find('=');
        if (equals == std::string_view::npos || !same(stripped(parameter.substr(0, equals)), "boundary")) continue;
        found.boundary = unquoted(stripped(parameter.substr(equals + 1)));
    }
    return found;
}

bool is_sdp(const MediaType& type) { return same(type.type, "application") && same(type.subtype, "sdp"); }

bool is_of(Sdp what, std::string_view disposition) {
    const auto word = take_parameter(disposition);
    return word.empty() || same(word, "session") || (what == Sdp::media && same(word, "early-session"));
}

enum class Line { text, delimiter, end };

Line kind_of(std::string_view line, std::string_view boundary) {  // RFC 2046 §5.1.1
    if (!line.starts_with("--") || !line.substr(2).starts_with(boundary)) return Line::text;
    line = stripped(line.substr(2 + boundary.size()));
    return line.empty() ? Line::delimiter : line == "--" ? Line::end : Line::text;
}

// The SDP in such a body, or nothing.
std::string_view find_sdp(Sdp what, const MediaType& type, std::string_view disposition, std::string_view bytes, int depth);

std::string_view find_in_part(Sdp what, std::string_view part, int depth) {
    const Fields fields = take_fields(part);
    return find_sdp(what, media_type_of(fields.type), fields.disposition, part, depth);
}

std::string_view find_sdp(Sdp what, const MediaType& type, std::string_view disposition, std::string_view bytes, int depth) {
    if (is_sdp(type)) return !stripped(bytes).empty() && is_of(what, disposition) ? bytes : std::string_view();
    if (!same(type.type, "multipart") || depth == depth_max) return {};
    std::string_view rest = bytes, boundary = type.boundary;
    const char* part = nullptr;
    const auto found_up_to = [&](const char* end) {
        if (part == nullptr) return std::string_view();
        return find_in_part(what, {part, static_cast<std::size_t>(end - part)}, depth + 1);
    };
    while (!rest.empty()) {
        const auto line = take_line(rest);
        // Some leave the boundary out of Content-Type: it is that of the first line that can be one.
        if (boundary.empty() && line.size() > 2 && line.starts_with("--")) boundary = stripped(line.substr(2));
        const Line kind = boundary.empty() ? Line::text : kind_of(line, boundary);
        if (kind == Line::text) continue;
        const auto found = found_up_to(line.data());
        if (!found.empty() || kind == Line::end) return found;
        part = rest.data();
    }
    return found_up_to(bytes.data() + bytes.size());  // it lacks its end, which whoever reads it may overlook
}

}  // namespace

std::string_view raw_body(const pjsip_rx_data* rdata) {
    const auto body = behind_header(rdata);
    const auto* length = rdata->msg_info.clen;
    return length != nullptr && length->len >= 0 ? body.substr(0, static_cast<std::size_t>(length->len)) : body;
}

pjsip_msg_body* copy_body(pj_pool_t* pool, const pjsip_rx_data* rdata) {
    const auto bytes = raw_body(rdata);
    if (bytes.empty()) return nullptr;
    auto* body = PJ_POOL_ZALLOC_T(pool, pjsip_msg_body);
    if (const auto* type = rdata->msg_info.ctype) {
        pjsip_media_type_cp(pool, &body->content_type, &type->media);
    } else {
        pj_list_init(&body->content_type.param);  // and no type: none is printed
    }
    body->data = pj_pool_alloc(pool, bytes.size());
    std::memcpy(body->data, bytes.data(), bytes.size());
    body->len = static_cast<unsigned>(bytes.size());
    body->print_body = &pjsip_print_text_body;
    body->clone_data = &pjsip_clone_text_data;
    return body;
}

void set_body(pjsip_tx_data* tdata, pjsip_msg_body* body) {
    tdata->msg->body = body;
    if (body == nullptr || body->content_type.type.slen != 0) return;
    auto* length = pjsip_clen_hdr_create(tdata->pool);  // pjsip prints it beside a type alone
    length->len = static_cast<int>(body->len);
    pjsip_msg_add_hdr(tdata->msg, reinterpret_cast<pjsip_hdr*>(length));
}

bool body_is_whole(const pjsip_rx_data* rdata) {
    const auto* length = rdata->msg_info.clen;
    return length == nullptr || length->len <= 0 || behind_header(rdata).size() >= static_cast<std::size_t>(length->len);
}

bool has_sdp(const pjsip_rx_data* rdata, Sdp what) {
    const auto bytes = raw_body(rdata);
    if (bytes.empty()) return false;
    const Fields fields = fields_of(rdata);
    return !find_sdp(what, media_type_of(fields.type), fields.disposition, bytes, 0).empty();
}

std::optional<std::string> sdp_in(const pjsip_msg_body* body) {
    MediaType type{view(body->content_type.type), view(body->content_type.subtype), {}};
    const pj_str_t name = borrow("boundary");
    if (const auto* boundary = pjsip_param_find(&body->content_type.param, &name)) type.boundary = unquoted(view(boundary->value));
    std::string sdp(find_sdp(Sdp::session, type, {}, {static_cast<const char*>(body->data), body->len}, 0));
    if (sdp.empty()) return std::nullopt;
    if (is_sdp(type)) return sdp;
    if (!sdp.starts_with("v=")) return std::string();
    // RFC 2046 §5.1.1: the last line break is the delimiter's. Whoever takes it for the SDP's own has none of its own there.
    if (sdp.ends_with("\r\n\r\n")) sdp.resize(sdp.size() - 2);
    return sdp;
}

bool has_broken_sdp(const pjsip_rx_data* rdata) {
    const Fields fields = fields_of(rdata);
    const bool encoded = !fields.encoding.empty() && !same(fields.encoding, "identity");
    if (encoded || !is_sdp(media_type_of(fields.type))) return false;
    auto rest = raw_body(rdata);
    if (rest.empty()) return false;
    if (!rest.starts_with("v=") || rest.find('\0') != std::string_view::npos) return true;
    while (!rest.empty()) {
        const auto line = take_line(rest);
        if (!line.empty() && (line.size() < 2 || line[0] < 'a' || line[0] > 'z' || line[1] != '=')) return true;
    }
    return false;
}

}  // namespace sidecar
