#include "message.hpp"

#include "body.hpp"

#include <sys/random.h>

#include <algorithm>
#include <span>
#include <stdexcept>

namespace sidecar {

PoolPtr new_pool(const Context& context, const char* name, std::size_t initial, std::size_t increment) {
    return PoolPtr(pjsip_endpt_create_pool(context.endpoint, name, initial, increment));
}

namespace header_policy {
namespace {

bool named(const pjsip_hdr* header, const char* name) { return same_text(header->name, name); }

// pjsip has a type for some of these, but not for one that it cannot read.
bool is_withheld(const pjsip_hdr* header, const Options& options) {
    const auto is_one_of = [&](std::initializer_list<const char*> names) {
        return std::any_of(names.begin(), names.end(), [&](const char* name) { return named(header, name); });
    };
    if (!options.body && is_one_of({"RSeq", "Require", "Content-Disposition", "Content-Type", "c"})) return true;
    if (!options.retry_after && named(header, "Retry-After")) return true;
    return !options.challenges && is_one_of({"WWW-Authenticate", "Proxy-Authenticate"});
}

bool kept_to_ourselves(const pjsip_hdr* header) {
    // Timestamp measures one hop. User-Agent and Server tell who we are, or nothing.
    static constexpr const char* names[] = {"Timestamp", "User-Agent", "Server", "Max-Breadth"};
    return is_translated(header) ||
           std::any_of(std::begin(names), std::end(names), [&](const char* name) { return named(header, name); });
}

}  // namespace

bool is_translated(const pjsip_hdr* header) {
    static constexpr const char* names[] = {"RAck", "Event", "o", "Replaces", "Join", "Target-Dialog", "Refer-To", "r"};
    return header->type == PJSIP_H_OTHER &&
           std::any_of(std::begin(names), std::end(names), [&](const char* name) { return named(header, name); });
}

bool passes(const pjsip_hdr* header, const Options& options) {
    if (options.withheld != nullptr) {
        const auto is_it = [&](const std::string& name) { return same_text(header->name, name); };
        if (std::any_of(options.withheld->begin(), options.withheld->end(), is_it)) return false;
    }
    if (!options.identity && is_identity(header)) return false;
    switch (header->type) {
        case PJSIP_H_VIA:
        case PJSIP_H_ROUTE:
        case PJSIP_H_RECORD_ROUTE:
        case PJSIP_H_CONTACT:
        case PJSIP_H_CALL_ID:
        case PJSIP_H_CSEQ:
        case PJSIP_H_FROM:
        case PJSIP_H_TO:
        case PJSIP_H_MAX_FORWARDS:
        case PJSIP_H_CONTENT_LENGTH:  // these two are printed from the body
        case PJSIP_H_CONTENT_TYPE:
            return false;
        case PJSIP_H_OTHER:
            return !is_withheld(header, options) && !kept_to_ourselves(header);
        default:
            return !is_withheld(header, options);
    }
}

void copy(const pjsip_hdr* list, pj_pool_t* pool, pjsip_msg* to, const Options& options, bool sender_trusted) {
    const Assertions assertions(list, sender_trusted, options.receiver);
    for (const pjsip_hdr* header = list->next; header != list; header = header->next) {
        if (!passes(header, options) || assertions.withheld(header)) continue;
        pjsip_msg_add_hdr(to, static_cast<pjsip_hdr*>(pjsip_hdr_clone(pool, header)));
    }
}

}  // namespace header_policy

HeldMessage::HeldMessage(Context& context, const pjsip_rx_data* rdata)
    : pool_(new_pool(context, "held", 2048, 2048)), sender_trusted_(context.trusts(rdata)) {
    pj_list_init(&headers_);
    const pjsip_msg* msg = rdata->msg_info.msg;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (header_policy::passes(header, {})) {
            pj_list_push_back(&headers_, pjsip_hdr_clone(pool_.get(), header));
        }
    }
    body_ = copy_body(pool_.get(), rdata);
    has_session_ = has_sdp(rdata, Sdp::session);
    if (msg->type == PJSIP_RESPONSE_MSG) {
        code_ = msg->line.status.code;
        phrase_ = copy(pool_.get(), view(msg->line.status.reason));
        if (code_ / 100 == 3) contacts_ = raw_values(context, rdata, "Contact", "m");
    }
}

void HeldMessage::put_into(pjsip_tx_data* tdata, const header_policy::Options& options) const {
    header_policy::copy(&headers_, tdata->pool, tdata->msg, options, sender_trusted_);
    if (options.contacts) {
        for (const auto& contact : contacts_) add_header(tdata, "Contact", contact);
    }
    if (body_ != nullptr && options.body) set_body(tdata, pjsip_msg_body_clone(tdata->pool, body_));
}

void pass_through(const Context& context, const pjsip_rx_data* rdata, pjsip_tx_data* tdata, const header_policy::Options& options) {
    header_policy::copy(&rdata->msg_info.msg->hdr, tdata->pool, tdata->msg, options, context.trusts(rdata));
    if (options.body) set_body(tdata, copy_body(tdata->pool, rdata));
}

std::string random_hex(std::size_t bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    unsigned char buffer[32];
    if (bytes > sizeof buffer || getrandom(buffer, bytes, 0) != static_cast<ssize_t>(bytes)) {
        throw std::runtime_error("getrandom");
    }
    std::string out;
    for (const auto byte : std::span(buffer, bytes)) out.append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
    return out;
}

TxPtr new_message(const Context& context, pjsip_msg_type_e type) {
    pjsip_tx_data* tdata = nullptr;
    if (pjsip_endpt_create_tdata(context.endpoint, &tdata) != PJ_SUCCESS) return nullptr;
    pjsip_tx_data_add_ref(tdata);
    tdata->msg = pjsip_msg_create(tdata->pool, type);
    return TxPtr(tdata);
}

ResponseBase::ResponseBase(const Context& context, const pjsip_rx_data* rdata, std::string_view to_tag) {
    pjsip_tx_data* tdata = nullptr;
    if (pjsip_endpt_create_response(context.endpoint, rdata, 100, nullptr, &tdata) != PJ_SUCCESS) return;
    base_.reset(tdata);
    to_tag_ = copy(tdata->pool, to_tag);
}

TxPtr ResponseBase::trying() const {
    pjsip_tx_data_add_ref(base_.get());
    return TxPtr(base_.get());
}

TxPtr ResponseBase::make(const Context& context, int code, std::string_view phrase, std::string_view to_tag) const {
    if (!base_) return nullptr;
    TxPtr response = new_message(context, PJSIP_RESPONSE_MSG);
    if (!response) return nullptr;
    pjsip_msg* msg = response->msg;
    msg->line.status.code = code;
    msg->line.status.reason =
        phrase.empty() ? *pjsip_get_status_text(code) : copy(response->pool, phrase);
    const pjsip_hdr* head = &base_->msg->hdr;
    for (const pjsip_hdr* header = head->next; header != head; header = header->next) {
        auto* clone = static_cast<pjsip_hdr*>(pjsip_hdr_clone(response->pool, header));
        if (code > 100 && header->type == PJSIP_H_TO) {
            auto* to = reinterpret_cast<pjsip_to_hdr*>(clone);
            if (to->tag.slen == 0) to->tag = copy(response->pool, to_tag.empty() ? view(to_tag_) : to_tag);
        }
        pjsip_msg_add_hdr(msg, clone);
    }
    if (code > 100 && !context.settings.product.empty()) add_header(response.get(), "Server", context.settings.product);
    return response;
}

void add_header(pjsip_tx_data* tdata, std::string_view name, std::string_view value) {
    const pj_str_t header_name = copy(tdata->pool, name), text = copy(tdata->pool, value);
    auto* header = pjsip_generic_string_hdr_create(tdata->pool, &header_name, &text);
    pjsip_msg_add_hdr(tdata->msg, reinterpret_cast<pjsip_hdr*>(header));
}

void add_reasons(pjsip_tx_data* tdata, const std::vector<std::string>& values) {
    for (const auto& value : values) add_header(tdata, "Reason", value);
}

std::string our_reason(const Context& context, std::string_view detail) {
    return our_reason(context.settings.q850_causes.at(std::string(detail)), detail);
}

std::string our_reason(int q850_cause, std::string_view text) {
    return "Q.850;cause=" + std::to_string(q850_cause) + ";text=\"" + std::string(text) + "\"";
}

const pjsip_hdr* find_header(const pjsip_msg* msg, const char* name) {
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (same_text(header->name, name)) return header;
    }
    return nullptr;
}

bool lists(const pjsip_msg* msg, const char* name, std::string_view token) {
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (!same_text(header->name, name)) continue;
        const std::string value = header_value(header, 2048);
        for (std::size_t start = 0; start <= value.size();) {
            const auto end = std::min(value.find(',', start), value.size());
            pj_str_t one = borrow(std::string_view(value).substr(start, end - start));
            pj_strtrim(&one);
            if (same_text(one, token)) return true;
            start = end + 1;
        }
    }
    return false;
}

namespace {

constexpr std::size_t value_bytes_max = 512;
constexpr std::size_t values_max = 16;

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

}  // namespace

std::vector<std::string> raw_values(Context& context, const pjsip_rx_data* rdata, std::string_view name,
                                    std::string_view short_name) {
    std::string_view rest(rdata->msg_info.msg_buf, static_cast<std::size_t>(rdata->msg_info.len));
    const auto line_of = [&] {
        const auto end = rest.find('\n');
        auto line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        return line;
    };
    std::vector<std::string> values;
    line_of();
    for (auto line = line_of(); !line.empty();) {
        const auto colon = line.find(':');
        const pj_str_t field = borrow(trimmed(line.substr(0, colon)));
        const bool wanted = colon != std::string_view::npos &&
                            (same_text(field, name) || (!short_name.empty() && same_text(field, short_name)));
        std::string value(wanted ? trimmed(line.substr(colon + 1)) : std::string_view());
        for (line = line_of(); !line.empty() && is_blank(line.front()); line = line_of()) {
            if (wanted) value.append(1, ' ').append(trimmed(line));
        }
        if (!wanted) continue;
        if (values.size() == values_max) {
            context.counters.add(Counter::texts_cut);
            break;
        }
        values.push_back(std::move(value));
    }
    return values;
}

bool leads_by_sip(const pjsip_hdr* record_route) {
    const auto* uri = reinterpret_cast<const pjsip_rr_hdr*>(record_route)->name_addr.uri;
    return uri != nullptr && (PJSIP_URI_SCHEME_IS_SIP(uri) || PJSIP_URI_SCHEME_IS_SIPS(uri));
}

std::string contact_of(const pjsip_msg* msg) {
    const auto* contact = static_cast<const pjsip_contact_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, nullptr));
    if (contact == nullptr || contact->star || contact->uri == nullptr) return {};
    if (!PJSIP_URI_SCHEME_IS_SIP(contact->uri) && !PJSIP_URI_SCHEME_IS_SIPS(contact->uri)) return {};
    return printed(static_cast<const pjsip_uri*>(pjsip_uri_get_uri(contact->uri)), PJSIP_URI_IN_REQ_URI);
}

Reasons reasons_of(Context& context, const pjsip_msg* msg) {
    Reasons values;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (header->type != PJSIP_H_OTHER || !same_text(header->name, "Reason")) continue;
        if (values.size() == values_max) {
            context.counters.add(Counter::texts_cut);
            break;
        }
        values.push_back(header_value(header, value_bytes_max));
    }
    return values;
}

Headers wanted_headers_of(Context& context, const pjsip_msg* msg) {
    Headers found;
    if (context.settings.wanted_headers.empty()) return found;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        for (const auto& name : context.settings.wanted_headers) {
            if (!same_text(header->name, name)) continue;
            if (found.size() == values_max) {
                context.counters.add(Counter::texts_cut);
                return found;
            }
            found.emplace_back(name, header_value(header, value_bytes_max));
        }
    }
    return found;
}

std::vector<std::string> echoed_lines(Context& context, const pjsip_rx_data* request) {
    std::vector<std::string> lines;
    static constexpr std::pair<std::string_view, std::string_view> fields[] = {
        {"Via", "v"}, {"From", "f"}, {"To", "t"}, {"CSeq", {}}};
    for (const auto& [name, short_name] : fields) {
        for (auto& value : raw_values(context, request, name, short_name)) {
            lines.push_back(std::string(name).append(": ").append(value));
        }
    }
    return lines;
}

void ask_for_one_callee(pjsip_tx_data* invite) {
    static constexpr std::string_view about_forks[] = {"fork", "no-fork", "parallel", "sequential"};
    std::string directives = "no-fork";
    pjsip_hdr* head = &invite->msg->hdr;
    for (pjsip_hdr *header = head->next, *next; header != head; header = next) {
        next = header->next;
        if (!same_text(header->name, "Request-Disposition") && !same_text(header->name, "d")) continue;
        const std::string value = header_value(header, value_bytes_max);
        for (std::string_view rest = value; !rest.empty();) {
            const auto directive = trimmed(rest.substr(0, rest.find(',')));
            rest.remove_prefix(std::min(rest.find(','), rest.size() - 1) + 1);
            const auto is_it = [&](std::string_view word) { return same_text(borrow(directive), word); };
            if (directive.empty() || std::any_of(std::begin(about_forks), std::end(about_forks), is_it)) continue;
            directives.append(", ").append(directive);
        }
        pj_list_erase(header);
    }
    add_header(invite, "Request-Disposition", directives);
}

namespace {

// What pjsip prints otherwise than it came: a number that fits none, parameters in another order, credentials that lack a
// part of theirs. Not the challenges, which Digest reads.
bool is_printed_otherwise(const pjsip_hdr* header) {
    switch (header->type) {
        case PJSIP_H_AUTHORIZATION:
        case PJSIP_H_PROXY_AUTHORIZATION:
        case PJSIP_H_EXPIRES:
        case PJSIP_H_MIN_EXPIRES:
        case PJSIP_H_RETRY_AFTER:
            return true;
        case PJSIP_H_OTHER:
            return same_text(header->name, "Session-Expires") || same_text(header->name, "Min-SE") ||
                   same_text(header->name, "Subscription-State");
        default:
            return false;
    }
}

}  // namespace

void keep_as_received(Context& context, pjsip_rx_data* rdata) {
    pjsip_hdr* head = &rdata->msg_info.msg->hdr;
    std::string_view name;
    std::vector<std::string> values;
    std::size_t at = 0;
    for (pjsip_hdr *header = head->next, *next = nullptr; header != head; header = next) {
        next = header->next;
        if (!is_printed_otherwise(header)) continue;
        if (!same_text(header->name, name)) {
            name = view(header->name);
            values = raw_values(context, rdata, name, same_text(header->name, "Session-Expires") ? "x" : "");
            at = 0;
        }
        if (at == values.size()) continue;
        pj_pool_t* pool = rdata->tp_info.pool;
        const pj_str_t value = copy(pool, values[at++]);
        auto* kept = pjsip_generic_string_hdr_create(pool, &header->name, &value);
        pj_list_insert_before(header, kept);
        pj_list_erase(header);
    }
}

TxPtr cancel_of(const Context& context, const pjsip_tx_data* invite) {
    TxPtr cancel = new_message(context, PJSIP_REQUEST_MSG);
    if (!cancel) return nullptr;
    pj_pool_t* pool = cancel->pool;
    pjsip_msg* msg = cancel->msg;
    msg->line.req.method = pjsip_cancel_method;
    msg->line.req.uri = static_cast<pjsip_uri*>(pjsip_uri_clone(pool, invite->msg->line.req.uri));
    bool top_via = true;
    const pjsip_hdr* head = &invite->msg->hdr;
    for (const pjsip_hdr* header = head->next; header != head; header = header->next) {
        switch (header->type) {
            case PJSIP_H_VIA:
                if (!top_via) break;
                top_via = false;
                [[fallthrough]];
            case PJSIP_H_ROUTE:
            case PJSIP_H_FROM:
            case PJSIP_H_TO:
            case PJSIP_H_CALL_ID:
            case PJSIP_H_MAX_FORWARDS:
                pjsip_msg_add_hdr(msg, static_cast<pjsip_hdr*>(pjsip_hdr_clone(pool, header)));
                break;
            case PJSIP_H_CSEQ: {
                auto* cseq = static_cast<pjsip_cseq_hdr*>(pjsip_hdr_clone(pool, header));
                cseq->method = pjsip_cancel_method;
                pjsip_msg_add_hdr(msg, reinterpret_cast<pjsip_hdr*>(cseq));
                break;
            }
            default:
                break;
        }
    }
    cancel->dest_info = invite->dest_info;  // to the very address that has the INVITE
    cancel->dest_info.name = copy(pool, view(invite->dest_info.name));
    return cancel;
}

bool answer_request(Context& context, pjsip_rx_data* rdata, int code, std::string_view to_tag, int retry_after_s) {
    Tsx tsx(context);
    if (!tsx.accept(rdata, nullptr)) return false;
    pjsip_tx_data* tdata = nullptr;
    pjsip_endpt_create_response(context.endpoint, rdata, code, nullptr, &tdata);
    TxPtr response(tdata);
    if (response && rdata->msg_info.to->tag.slen == 0) PJSIP_MSG_TO_HDR(tdata->msg)->tag = copy(tdata->pool, to_tag);
    if (response && !context.settings.product.empty()) add_header(tdata, "Server", context.settings.product);
    if (response && retry_after_s > 0) add_header(response.get(), "Retry-After", std::to_string(retry_after_s));
    if (response && tsx.respond(std::move(response)) && rdata->msg_info.msg->line.req.method.id != PJSIP_INVITE_METHOD) {
        tsx.retire();  // INVITE: it repeats the response until its ACK
    }
    return true;
}

void tell_dropped(Context& context, const pjsip_rx_data* rdata, std::string method, std::string call_id, std::string_view reason) {
    constexpr int told_per_s_max = 10;
    if (context.drops_told == told_per_s_max) return;
    ++context.drops_told;
    const auto& packet = rdata->pkt_info;
    context.events.push(0, Moment::now(),
                        MessageDropped{context.sender_of(rdata).name, host_port(packet.src_name, packet.src_port), std::move(method), std::move(call_id), reason});
}

void drop_foreign(Context& context, const pjsip_rx_data* rdata) {
    context.counters.add(Counter::dropped_foreign);
    tell_dropped(context, rdata, std::string(view(rdata->msg_info.cseq->method.name)), std::string(view(rdata->msg_info.cid->id)),
                 "source");
}

void respond_stateless(Context& context, pjsip_rx_data* rdata, int code, int retry_after_s, const std::string& reason) {
    pjsip_hdr extra;
    pj_list_init(&extra);
    pj_pool_t* pool = rdata->tp_info.pool;
    if (retry_after_s > 0) pj_list_push_back(&extra, pjsip_retry_after_hdr_create(pool, retry_after_s));
    if (!reason.empty()) {
        const pj_str_t name = borrow("Reason"), value = copy(pool, reason);
        pj_list_push_back(&extra, pjsip_generic_string_hdr_create(pool, &name, &value));
    }
    if (code == PJSIP_SC_OK || code == PJSIP_SC_METHOD_NOT_ALLOWED) {  // RFC 3261 §8.2.1, §11.2
        const pj_str_t name = borrow("Allow"), methods = borrow("INVITE, ACK, CANCEL, BYE, OPTIONS");
        pj_list_push_back(&extra, pjsip_generic_string_hdr_create(pool, &name, &methods));
    }
    if (pjsip_endpt_respond_stateless(context.endpoint, rdata, code, nullptr, &extra, nullptr) != PJ_SUCCESS) {
        context.counters.add(Counter::send_failures);
    }
}

void respond_unsupported(Context& context, pjsip_rx_data* rdata, std::string_view extensions) {
    pjsip_hdr extra;
    pj_list_init(&extra);
    pj_pool_t* pool = rdata->tp_info.pool;
    const pj_str_t name = borrow("Unsupported"), value = copy(pool, extensions);
    pj_list_push_back(&extra, pjsip_generic_string_hdr_create(pool, &name, &value));
    if (pjsip_endpt_respond_stateless(context.endpoint, rdata, PJSIP_SC_BAD_EXTENSION, nullptr, &extra, nullptr) !=
        PJ_SUCCESS) {
        context.counters.add(Counter::send_failures);
    }
}

}  // namespace sidecar
