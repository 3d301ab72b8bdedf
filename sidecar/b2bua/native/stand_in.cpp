#include "stand_in.hpp"

#include "text.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace sidecar::stand_in {

std::string_view tag_in(std::string_view value) {
    const auto bracket = value.rfind('>');
    if (bracket != std::string_view::npos) value.remove_prefix(bracket);
    constexpr std::string_view wanted = "tag=";
    for (auto at = value.find(';'); at != std::string_view::npos; at = value.find(';')) {
        value.remove_prefix(at + 1);
        value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
        if (value.size() < wanted.size() || pj_ansi_strnicmp(value.data(), wanted.data(), wanted.size()) != 0) continue;
        return value.substr(wanted.size(), value.find_first_of("; \t,\"<>", wanted.size()) - wanted.size());
    }
    return {};
}

namespace {

template <typename H>
struct StandIn : H {
    pj_str_t received;
};

void own(pj_pool_t*, pjsip_cid_hdr&) {}
void own(pj_pool_t* pool, pjsip_cseq_hdr& header) {
    const pjsip_method method = header.method;
    pjsip_method_copy(pool, &header.method, &method);
}
void own(pj_pool_t* pool, pjsip_fromto_hdr& header) {
    header.tag = copy(pool, view(header.tag));
    header.uri = static_cast<pjsip_uri*>(pjsip_uri_clone(pool, header.uri));
    pj_list_init(&header.other_param);
}
void own(pj_pool_t*, pjsip_via_hdr& header) { pj_list_init(&header.other_param); }

// A response of ours has a To tag, whether or not the request had one that can be read.
std::string_view tag_added(const pjsip_fromto_hdr& header, std::string_view received) {
    return header.type == PJSIP_H_TO && tag_in(received).empty() ? view(header.tag) : std::string_view();
}
template <typename H>
std::string_view tag_added(const H&, std::string_view) {
    return {};
}

template <typename H>
int print(void* header, char* buffer, pj_size_t size) {
    const auto& it = *static_cast<const StandIn<H>*>(header);
    const auto name = view(it.name), received = view(it.received);
    if (received.empty()) return 0;
    const auto tag = tag_added(static_cast<const H&>(it), received);
    constexpr std::string_view before_tag = ";tag=";
    const std::size_t length = name.size() + 2 + received.size() + (tag.empty() ? 0 : before_tag.size() + tag.size());
    if (size <= length) return -1;
    char* end = buffer;
    const auto add = [&](std::string_view text) { end = std::copy(text.begin(), text.end(), end); };
    add(name);
    add(": ");
    add(received);
    if (!tag.empty()) {
        add(before_tag);
        add(tag);
    }
    *end = '\0';
    return static_cast<int>(length);
}

template <typename H>
void* clone(pj_pool_t* pool, const void* header) {
    auto* made = static_cast<StandIn<H>*>(pj_pool_zalloc(pool, sizeof(StandIn<H>)));
    *made = *static_cast<const StandIn<H>*>(header);
    pj_list_init(made);
    made->received = copy(pool, view(made->received));
    own(pool, *made);
    return made;
}

template <typename H>
StandIn<H>* make(pj_pool_t* pool, H* (*init)(pj_pool_t*, void*), std::string_view received) {
    static pjsip_hdr_vptr functions{&clone<H>, &clone<H>, &print<H>};
    auto* made = static_cast<StandIn<H>*>(pj_pool_zalloc(pool, sizeof(StandIn<H>)));
    init(pool, made);
    made->vptr = &functions;
    made->received = borrow(received);
    return made;
}

pjsip_fromto_hdr* fromto(pj_pool_t* pool, pjsip_fromto_hdr* (*init)(pj_pool_t*, void*), std::string_view received) {
    auto* made = make<pjsip_fromto_hdr>(pool, init, received);
    auto* uri = pjsip_sip_uri_create(pool, PJ_FALSE);
    uri->host = borrow("invalid");
    auto* name = pjsip_name_addr_create(pool);
    name->uri = reinterpret_cast<pjsip_uri*>(uri);
    made->uri = reinterpret_cast<pjsip_uri*>(name);
    made->tag = borrow(tag_in(received));
    return made;
}

}  // namespace

pjsip_cid_hdr* call_id(pj_pool_t* pool, std::string_view received) {
    return make<pjsip_cid_hdr>(pool, &pjsip_cid_hdr_init, received);
}

pjsip_cseq_hdr* cseq(pj_pool_t* pool, std::string_view received, const pjsip_method& method) {
    auto* made = make<pjsip_cseq_hdr>(pool, &pjsip_cseq_hdr_init, received);
    int number = 0;
    const auto read = std::from_chars(received.data(), received.data() + received.size(), number);
    made->cseq = read.ec == std::errc() && number >= 0 ? number : std::numeric_limits<int>::max();
    made->method = method;
    return made;
}

pjsip_from_hdr* from(pj_pool_t* pool, std::string_view received) { return fromto(pool, &pjsip_from_hdr_init, received); }

pjsip_to_hdr* to(pj_pool_t* pool, std::string_view received) { return fromto(pool, &pjsip_to_hdr_init, received); }

pjsip_via_hdr* via(pj_pool_t* pool, std::string_view received) {
    return make<pjsip_via_hdr>(pool, &pjsip_via_hdr_init, received);
}

}  // namespace sidecar::stand_in
