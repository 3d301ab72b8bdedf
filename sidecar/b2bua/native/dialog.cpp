#include "dialog.hpp"

#include "body.hpp"
#include "messagepack.hpp"
#include "sent_by.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <tuple>

namespace sidecar {
namespace {

std::string_view raw_user(const pjsip_uri* uri) {  // pjsip escapes it when it prints
    if (PJSIP_URI_SCHEME_IS_SIP(uri) || PJSIP_URI_SCHEME_IS_SIPS(uri)) {
        return view(reinterpret_cast<const pjsip_sip_uri*>(uri)->user);
    }
    return PJSIP_URI_SCHEME_IS_TEL(uri) ? view(reinterpret_cast<const pjsip_tel_uri*>(uri)->number) : std::string_view();
}

// Where transfers pass, a transfer to our Contact is to reach whom the dialog is with on its other side.
std::string_view transferred_to(const Settings& settings, std::string_view user) {
    return settings.pass_refer ? user : std::string_view();
}

pjsip_contact_hdr* make_contact(const std::string& here, pj_pool_t* pool, Transport transport, std::string_view user) {
    std::string text = "<sip:" + here;
    if (transport == Transport::tcp) text += ";transport=tcp";
    if (transport == Transport::tls) text += ";transport=tls";
    text += '>';
    const pj_str_t name = borrow("Contact");
    pj_str_t value = copy(pool, text);
    auto* contact = pjsip_parse_hdr(pool, &name, value.ptr, static_cast<pj_size_t>(value.slen), nullptr);
    if (contact == nullptr) throw std::runtime_error("advertised address makes no Contact: " + text);
    auto* made = static_cast<pjsip_contact_hdr*>(contact);
    static_cast<pjsip_sip_uri*>(pjsip_uri_get_uri(made->uri))->user = copy(pool, user);
    return made;
}

pjsip_route_hdr* empty_routes(pj_pool_t* pool) {
    auto* head = PJ_POOL_ZALLOC_T(pool, pjsip_route_hdr);
    pj_list_init(head);
    return head;
}

const pjsip_uri* contact_uri(const pjsip_msg* msg) {
    const void* from = nullptr;
    for (;;) {
        auto* contact =
            static_cast<pjsip_contact_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, const_cast<void*>(from)));
        if (contact == nullptr) return nullptr;
        if (contact->uri != nullptr && !contact->star &&
            (PJSIP_URI_SCHEME_IS_SIP(contact->uri) || PJSIP_URI_SCHEME_IS_SIPS(contact->uri))) {
            return contact->uri;
        }
        from = contact->next;
        if (from == &msg->hdr) return nullptr;
    }
}

const pjsip_uri* read_uri(pj_pool_t* pool, const std::string& text) {
    pj_str_t uri = copy(pool, text);
    return pjsip_parse_uri(pool, uri.ptr, static_cast<pj_size_t>(uri.slen), 0);
}

std::string authority_of(const pjsip_sip_uri* uri) {
    const std::string host(view(uri->host));
    return uri->port == 0 ? host : host + ":" + std::to_string(uri->port);
}

// With parameters of a peer's making: where pjsip cannot read them, the URI goes without.
const pjsip_uri* read_uri(pj_pool_t* pool, const std::string& text, const std::string& parameters, const char* ours = "") {
    const pjsip_uri* with = parameters.empty() ? nullptr : read_uri(pool, text + parameters + ours);
    return with != nullptr ? with : read_uri(pool, text + ours);
}

}  // namespace

LegNames leg_b_names(std::string_view b_token, int attempt) {
    const std::size_t half = b_token.size() / 2;
    const std::string dialog(b_token.substr(0, half)), sender(b_token.substr(half)), number = std::to_string(attempt);
    const int cseq = static_cast<int>(std::strtol(sender.substr(0, 4).c_str(), nullptr, 16) & 0x7fff) + 1;
    return {dialog + "-" + number, sender + "-" + number, "z9hG4bK" + sender + number, cseq};
}

Dialog::~Dialog() {
    if (connection_ != nullptr) pjsip_transport_dec_ref(connection_);
}

void Dialog::set_target(const pjsip_uri* uri) {
    PoolPtr pool = new_pool(context_, "target", 256, 256);
    auto* target = static_cast<pjsip_uri*>(pjsip_uri_clone(pool.get(), pjsip_uri_get_uri(uri)));
    if (PJSIP_URI_SCHEME_IS_SIP(target) || PJSIP_URI_SCHEME_IS_SIPS(target)) {
        auto* sip = reinterpret_cast<pjsip_sip_uri*>(target);
        pj_list_init(&sip->header_param);  // §19.1.1: not allowed in a Request-URI, and a way to inject headers
    }
    target_ = target;
    party_.named(context_, target);
    target_text_ = printed(target, PJSIP_URI_IN_REQ_URI);
    target_pool_ = std::move(pool);
}

bool Dialog::refresh_target(const std::string& uri) {
    if (uri.empty() || uri == target_text_) return false;
    PoolPtr scratch = new_pool(context_, "uri", 512, 512);
    pj_str_t text = copy(scratch.get(), uri);
    const pjsip_uri* parsed = pjsip_parse_uri(scratch.get(), text.ptr, static_cast<pj_size_t>(text.slen), 0);
    if (parsed == nullptr) return false;
    set_target(parsed);
    return true;
}

void Dialog::start_uas(const pjsip_rx_data* invite) {
    is_uas_ = established_ = true;
    const pjsip_msg* msg = invite->msg_info.msg;
    pool_ = new_pool(context_, "dialog", 1024, 512);
    pj_pool_t* pool = pool_.get();
    local_ = static_cast<pjsip_from_hdr*>(pjsip_hdr_clone(pool, invite->msg_info.to));
    pjsip_fromto_hdr_set_from(local_);
    local_->tag = copy(pool, random_hex(8));
    remote_ = static_cast<pjsip_to_hdr*>(pjsip_hdr_clone(pool, invite->msg_info.from));
    pjsip_fromto_hdr_set_to(remote_);
    call_id_ = static_cast<pjsip_cid_hdr*>(pjsip_hdr_clone(pool, invite->msg_info.cid));
    routes_ = empty_routes(pool);
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (header->type != PJSIP_H_RECORD_ROUTE) continue;
        auto* route = static_cast<pjsip_route_hdr*>(pjsip_hdr_clone(pool, header));
        pjsip_routing_hdr_set_route(route);
        pj_list_push_back(routes_, route);
        ++route_count_;
    }
    party_.is_caller(context_, invite);
    for (auto* route = routes_->next; route != routes_; route = route->next) party_.named(context_, route->name_addr.uri);
    set_target(contact_uri(msg));
    local_cseq_ = static_cast<int>(pj_rand() & 0x7fff) + 1;
    remote_cseq_ = invite->msg_info.cseq->cseq;
    branch_ = sent_by::branch_of(invite->msg_info.via);

    pjsip_transport* transport = invite->tp_info.transport;
    transport_ = transport_of(transport->key.type);
    const auto* dialled = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(msg->line.req.uri));
    local_address_ = host_port(view(transport->local_name.host), transport->local_name.port);
    const std::string& advertised = context_.settings.advertised.at(static_cast<std::size_t>(transport_));
    const std::string& here = advertised.empty() ? local_address_ : advertised;  // its listener is about to be in the settings
    contact_ = make_contact(here, pool, transport_, transferred_to(context_.settings, raw_user(dialled)));
    remote_address_ = host_port(invite->pkt_info.src_name, invite->pkt_info.src_port);
    // The socket that the peer calls, or the connection it opened: behind NAT its Contact may not be reachable.
    hold_connection(transport);
}

void Dialog::hold_connection(pjsip_transport* transport) {
    if (transport == connection_) return;
    if (connection_ != nullptr) pjsip_transport_dec_ref(connection_);
    pjsip_transport_add_ref(transport);
    connection_ = transport;
}

void Dialog::let_go_of(const pjsip_transport* transport) {
    if (transport != connection_) return;
    pjsip_transport_dec_ref(connection_);
    connection_ = nullptr;
}

void Dialog::heard_on(pjsip_transport* transport) {
    if (transport_ != Transport::udp && transport_of(transport->key.type) == transport_) hold_connection(transport);
}

// The caller's name and user, at our address. An anonymous host says nothing and stays (RFC 3323 §4.1.1.3).
bool Dialog::set_caller(const ShownCaller& caller, const std::string& here, std::string_view tag) {
    pj_pool_t* pool = pool_.get();
    const auto* received = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(caller.received->uri));
    const bool is_sip = PJSIP_URI_SCHEME_IS_SIP(received) || PJSIP_URI_SCHEME_IS_SIPS(received);
    const auto* sip = reinterpret_cast<const pjsip_sip_uri*>(received);
    auto* name = pjsip_name_addr_create(pool);
    auto* from = pjsip_sip_uri_create(pool, PJ_FALSE);
    const auto colon = here.rfind(':');
    from->host = copy(pool, without_brackets(std::string_view(here).substr(0, colon)));
    from->port = std::stoi(here.substr(colon + 1));
    if (caller.anonymous || (caller.user.empty() && is_sip && same_text(sip->host, "anonymous.invalid"))) {
        from->host = copy(pool, "anonymous.invalid");
        from->port = 0;
    }
    if (caller.anonymous) {
        name->display = copy(pool, "Anonymous");
        from->user = copy(pool, "anonymous");
    } else {
        // pjsip parses From so
        name->display = copy(pool, view(reinterpret_cast<const pjsip_name_addr*>(caller.received->uri)->display));
        from->user = copy(pool, raw_user(received));
    }
    const bool tel = !caller.anonymous && PJSIP_URI_SCHEME_IS_TEL(received);
    const auto user = caller.user.empty() && tel ? user_in(printed(received, PJSIP_URI_IN_REQ_URI)) : caller.user;
    if (!user.empty()) {
        const pjsip_uri* parsed = read_uri(pool, "sip:" + user + "@" + here);
        if (parsed == nullptr) return false;
        const auto* shown = static_cast<const pjsip_sip_uri*>(pjsip_uri_get_uri(parsed));
        if (pj_strcmp(&shown->host, &from->host) != 0) return false;  // the user held an @
        from->user = shown->user;
    }
    if (const pjsip_uri* with = caller.parameters.empty() ? nullptr : read_uri(pool, "sip:" + here + caller.parameters)) {
        const auto* given = static_cast<const pjsip_sip_uri*>(pjsip_uri_get_uri(with));
        from->user_param = given->user_param;
        pjsip_param_clone(pool, &from->other_param, &given->other_param);
    }
    name->uri = reinterpret_cast<pjsip_uri*>(from);
    local_ = pjsip_from_hdr_create(pool);
    local_->uri = reinterpret_cast<pjsip_uri*>(name);
    local_->tag = copy(pool, tag);
    return true;
}

bool Dialog::start_uac(const LegNames& names, const Destination& to, const ShownCaller& caller) {
    pool_ = new_pool(context_, "dialog", 1024, 512);
    pj_pool_t* pool = pool_.get();
    transport_ = to.transport;
    const std::string& here = context_.settings.advertised.at(static_cast<std::size_t>(transport_));
    if (here.empty()) return false;

    std::string uri = "sip:";
    if (!to.user.empty()) uri += to.user + "@";
    uri += to.authority.empty() ? host_port(to.host, to.port) : to.authority;
    static constexpr const char* transports[] = {"", ";transport=tcp", ";transport=tls"};
    const pjsip_uri* urn = to.urn.empty() ? nullptr : other_uri(pool, copy(pool, to.urn));
    const pjsip_uri* plain = urn != nullptr ? urn : read_uri(pool, uri, to.to_parameters);
    const pjsip_uri* full =
        urn != nullptr ? urn : read_uri(pool, uri, to.parameters, transports[static_cast<std::size_t>(transport_)]);
    if (plain == nullptr || full == nullptr) return false;
    if (urn == nullptr) {
        const auto* parsed = static_cast<const pjsip_sip_uri*>(pjsip_uri_get_uri(full));
        const bool is_there = to.authority.empty()
                                  ? view(parsed->host) == without_brackets(to.host) && parsed->port == to.port
                                  : authority_of(parsed) == to.authority;
        if (!is_there) return false;  // the user held an @
    }
    authority_ = to.authority;
    set_target(full);

    remote_ = pjsip_to_hdr_create(pool);
    auto* callee = pjsip_name_addr_create(pool);
    callee->uri = static_cast<pjsip_uri*>(pjsip_uri_clone(pool, plain));
    remote_->uri = reinterpret_cast<pjsip_uri*>(callee);

    if (!set_caller(caller, here, names.tag)) return false;

    call_id_ = pjsip_cid_hdr_create(pool);
    call_id_->id = copy(pool, names.call_id);
    const auto* shown = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(local_->uri));
    contact_ = make_contact(here, pool, transport_, transferred_to(context_.settings, raw_user(shown)));
    routes_ = empty_routes(pool);
    if (urn != nullptr) {  // RFC 3261 §8.1.2: nothing else says where it goes
        const std::string next = "sip:" + host_port(to.host, to.port) + transports[static_cast<std::size_t>(transport_)] + ";lr";
        auto* route = pjsip_route_hdr_create(pool);
        route->name_addr.uri = static_cast<pjsip_uri*>(pjsip_uri_get_uri(read_uri(pool, next)));
        pj_list_push_back(routes_, route);
        ++route_count_;
    }
    local_cseq_ = names.cseq;
    branch_ = names.branch;
    local_address_ = here;
    return set_peer(to);
}

bool Dialog::set_peer(const Destination& to) {
    remote_address_ = host_port(to.host, to.port);
    const pj_str_t text = borrow(to.host);
    const int family = to.host.find(':') == std::string::npos ? pj_AF_INET() : pj_AF_INET6();
    pj_sockaddr address;
    if (!is_literal_address(to.host) ||
        pj_sockaddr_init(family, &address, &text, static_cast<pj_uint16_t>(to.port)) != PJ_SUCCESS) {
        return false;
    }
    party_.is_called(context_, address, transport_ == Transport::tls, to.gateway);
    return true;
}

bool Dialog::start_alone(const LegNames& names, const Destination& to, const std::string& target,
                         const std::string& local, const std::string& remote, int cseq) {
    alone_ = true;
    pool_ = new_pool(context_, "alone", 1024, 512);
    pj_pool_t* pool = pool_.get();
    transport_ = to.transport;
    const std::string& here = context_.settings.advertised.at(static_cast<std::size_t>(transport_));
    if (here.empty()) return false;
    const auto parsed = [&](const std::string& uri) {
        pj_str_t text = copy(pool, uri);
        return pjsip_parse_uri(pool, text.ptr, static_cast<pj_size_t>(text.slen), PJSIP_PARSE_URI_AS_NAMEADDR);
    };
    local_ = pjsip_from_hdr_create(pool);
    local_->uri = parsed(local.empty() ? "sip:" + here : local);
    local_->tag = copy(pool, names.tag);
    remote_ = pjsip_to_hdr_create(pool);
    remote_->uri = parsed(remote);
    const pjsip_uri* request_uri = parsed(target);
    if (local_->uri == nullptr || remote_->uri == nullptr || request_uri == nullptr) return false;
    set_target(request_uri);
    call_id_ = pjsip_cid_hdr_create(pool);
    call_id_->id = copy(pool, names.call_id);
    contact_ = make_contact(here, pool, transport_, to.user);
    routes_ = empty_routes(pool);
    local_cseq_ = cseq;
    return set_peer(to);
}

void Dialog::clone(const Dialog& original) {
    pool_ = new_pool(context_, "dialog", 1024, 512);
    pj_pool_t* pool = pool_.get();
    local_ = static_cast<pjsip_from_hdr*>(pjsip_hdr_clone(pool, original.local_));
    remote_ = static_cast<pjsip_to_hdr*>(pjsip_hdr_clone(pool, original.remote_));
    call_id_ = static_cast<pjsip_cid_hdr*>(pjsip_hdr_clone(pool, original.call_id_));
    contact_ = static_cast<pjsip_contact_hdr*>(pjsip_hdr_clone(pool, original.contact_));
    routes_ = empty_routes(pool);
    set_target(original.target_);
    local_cseq_ = original.local_cseq_;
    branch_ = original.branch_;
    digest_ = original.digest_;
    local_address_ = original.local_address_;
    remote_address_ = original.remote_address_;
    transport_ = original.transport_;
    authority_ = original.authority_;
    udp_only_ = original.udp_only_;
    is_uas_ = original.is_uas_;
    saved_ = original.saved_;
}

void Dialog::start_fork(const Dialog& original, const pjsip_rx_data* response) {
    clone(original);
    party_ = {};  // what another has named is not its own
    party_.is_called(context_, original.party_.address(), transport_ == Transport::tls, original.party_.gateway());
    remote_->tag.slen = 0;
    learn(response);
}

void Dialog::start_as_branch(const Dialog& original, int invite_cseq) {
    clone(original);
    established_ = true;
    party_ = original.party_;
    local_->tag = copy(pool_.get(), random_hex(8));
    for (auto* route = original.routes_->next; route != original.routes_; route = route->next) {
        pj_list_push_back(routes_, pjsip_hdr_clone(pool_.get(), route));
    }
    route_count_ = original.route_count_;
    remote_cseq_ = invite_cseq;
    if (original.connection_ != nullptr) hold_connection(original.connection_);
}

void Dialog::swap(Dialog& other) {
    const auto all_of = [](Dialog& dialog) {
        return std::tie(dialog.pool_, dialog.target_pool_, dialog.local_, dialog.remote_, dialog.call_id_, dialog.contact_,
                        dialog.target_, dialog.target_text_, dialog.routes_, dialog.route_count_, dialog.local_cseq_,
                        dialog.remote_cseq_, dialog.branch_, dialog.digest_, dialog.local_address_, dialog.remote_address_,
                        dialog.transport_, dialog.party_, dialog.authority_, dialog.alone_, dialog.udp_only_,
                        dialog.is_uas_, dialog.established_, dialog.saved_, dialog.connection_);
    };
    auto ours = all_of(*this), theirs = all_of(other);
    ours.swap(theirs);
}

bool Dialog::start_saved(const SavedLeg& leg, Side side, std::string_view peer, const std::string& gateway, pjsip_transport* transport) {
    constexpr int cseq_step = 1'000'000;
    saved_ = established_ = true;
    is_uas_ = side == Side::a;
    pool_ = new_pool(context_, "dialog", 1024, 512);
    pj_pool_t* pool = pool_.get();
    const auto parsed = [&](const std::string& uri) {
        pj_str_t text = copy(pool, uri);
        return pjsip_parse_uri(pool, text.ptr, static_cast<pj_size_t>(text.slen), PJSIP_PARSE_URI_AS_NAMEADDR);
    };
    local_ = pjsip_from_hdr_create(pool);
    local_->uri = parsed(leg.local_uri);
    local_->tag = copy(pool, leg.local_tag);
    remote_ = pjsip_to_hdr_create(pool);
    remote_->uri = parsed(leg.remote_uri);
    remote_->tag = copy(pool, leg.remote_tag);
    call_id_ = pjsip_cid_hdr_create(pool);
    call_id_->id = copy(pool, leg.sip_call_id);
    const pjsip_uri* target = read_uri(pool, leg.remote_target);
    const pj_str_t there = borrow(leg.remote_address);
    pj_sockaddr address;
    if (local_->uri == nullptr || remote_->uri == nullptr || target == nullptr ||
        pj_sockaddr_parse(pj_AF_UNSPEC(), 0, &there, &address) != PJ_SUCCESS) {
        return false;
    }
    transport_ = leg.transport;
    const bool secure = transport_ == Transport::tls;
    if (side == Side::a) {
        party_.was_caller(context_, address, peer, secure);
    } else {
        party_.is_called(context_, address, secure, gateway);
    }
    routes_ = empty_routes(pool);
    for (const auto& value : leg.route_set) {
        const pj_str_t name = borrow("Route");
        pj_str_t text = copy(pool, value);
        auto* route = static_cast<pjsip_route_hdr*>(
            pjsip_parse_hdr(pool, &name, text.ptr, static_cast<pj_size_t>(text.slen), nullptr));
        if (route == nullptr) return false;
        pj_list_push_back(routes_, route);
        ++route_count_;
        party_.named(context_, route->name_addr.uri);
    }
    set_target(target);
    contact_ = make_contact(context_.settings.advertised.at(static_cast<std::size_t>(transport_)), pool, transport_, {});
    local_cseq_ = std::min(leg.local_cseq, INT32_MAX - 2 * cseq_step) + cseq_step;
    remote_cseq_ = leg.remote_cseq;
    branch_ = leg.branch;
    local_address_ = leg.local_address;
    remote_address_ = leg.remote_address;
    if (transport != nullptr) hold_connection(transport);
    return true;
}

// `shown`: whose user a Contact of ours has.
bool Dialog::go_on(const SavedLeg& leg, const pjsip_uri* shown) {
    if (shown == nullptr) return false;
    local_cseq_ = leg.local_cseq;
    const std::string& here = context_.settings.advertised.at(static_cast<std::size_t>(transport_));
    const auto* uri = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(shown));
    contact_ = make_contact(here.empty() ? local_address_ : here, pool_.get(), transport_,
                            transferred_to(context_.settings, raw_user(uri)));
    return true;
}

bool Dialog::go_on_to_caller(const SavedLeg& leg, const std::string& dialled) {
    return go_on(leg, read_uri(pool_.get(), dialled));
}

bool Dialog::go_on_to(const Destination& to, const SavedLeg& leg) {
    authority_ = to.authority;
    const bool known = set_peer(to);
    remote_address_ = leg.remote_address;  // where it answered from
    return known && go_on(leg, local_->uri);
}

bool Dialog::start_late(const pjsip_rx_data* answer, int invite_cseq, const RemoteParty& party) {
    party_ = party;
    if (!hears(answer)) return false;
    pool_ = new_pool(context_, "dialog", 1024, 512);
    pj_pool_t* pool = pool_.get();
    const auto& info = answer->msg_info;
    local_ = static_cast<pjsip_from_hdr*>(pjsip_hdr_clone(pool, info.from));
    remote_ = static_cast<pjsip_to_hdr*>(pjsip_hdr_clone(pool, info.to));
    call_id_ = static_cast<pjsip_cid_hdr*>(pjsip_hdr_clone(pool, info.cid));
    routes_ = empty_routes(pool);
    set_target(static_cast<const pjsip_uri*>(pjsip_uri_get_uri(info.to->uri)));  // unless it has a Contact
    local_cseq_ = invite_cseq + 1;
    branch_ = view(info.via->branch_param);
    learn(answer);
    return true;
}

void Dialog::learn(const pjsip_rx_data* response) {
    const pjsip_msg* msg = response->msg_info.msg;
    const auto tag = view(response->msg_info.to->tag);
    const bool final = msg->line.status.code >= 200;
    if (!final && !remote_tag().empty()) return;  // early dialogs after the first change nothing
    established_ = true;
    if (tag != remote_tag()) remote_->tag = copy(pool_.get(), tag);
    if (const pjsip_uri* uri = contact_uri(msg)) {
        if (printed(static_cast<const pjsip_uri*>(pjsip_uri_get_uri(uri)), PJSIP_URI_IN_REQ_URI) != target_text_) {
            set_target(uri);
        }
    }
    // §12.1.2: in reverse order; §13.2.2.4: computed again from the 2xx, for peers that put none into a 1xx.
    pj_list_init(routes_);
    route_count_ = 0;
    for (const pjsip_hdr* header = msg->hdr.prev; header != &msg->hdr; header = header->prev) {
        if (header->type != PJSIP_H_RECORD_ROUTE || !leads_by_sip(header)) continue;
        auto* route = static_cast<pjsip_route_hdr*>(pjsip_hdr_clone(pool_.get(), header));
        pjsip_routing_hdr_set_route(route);
        pj_list_push_back(routes_, route);
        ++route_count_;
        party_.named(context_, route->name_addr.uri);
    }
    party_.answered(response);
    pjsip_transport* transport = response->tp_info.transport;
    local_address_ = host_port(view(transport->local_name.host), transport->local_name.port);
    remote_address_ = host_port(response->pkt_info.src_name, response->pkt_info.src_port);
    transport_ = transport_of(transport->key.type);
    hold_connection(transport);
}

TxPtr Dialog::make(const pjsip_method& method, int cseq) {
    TxPtr tdata = new_message(context_, PJSIP_REQUEST_MSG);
    if (!tdata) return nullptr;
    pj_pool_t* pool = tdata->pool;
    pjsip_msg* msg = tdata->msg;
    pjsip_method_copy(pool, &msg->line.req.method, &method);
    msg->line.req.uri = static_cast<pjsip_uri*>(pjsip_uri_clone(pool, target_));

    const auto add = [&](void* header) { pjsip_msg_add_hdr(msg, static_cast<pjsip_hdr*>(header)); };
    auto* via = pjsip_via_hdr_create(pool);
    via->rport_param = 0;
    add(via);
    for (auto* route = routes_->next; route != routes_; route = route->next) add(pjsip_hdr_clone(pool, route));
    add(pjsip_max_fwd_hdr_create(pool, 70));
    add(pjsip_hdr_clone(pool, local_));
    add(pjsip_hdr_clone(pool, remote_));
    add(pjsip_hdr_clone(pool, call_id_));
    auto* number = pjsip_cseq_hdr_create(pool);
    number->cseq = cseq;
    pjsip_method_copy(pool, &number->method, &method);
    add(number);
    if (!context_.settings.product.empty()) add_header(tdata.get(), "User-Agent", context_.settings.product);
    // Target refresh requests carry it (RFC 3311 §5.1), and SUBSCRIBE makes a dialog of its own.
    const auto name = view(method.name);
    if (method.id == PJSIP_INVITE_METHOD || name == "UPDATE" || name == "SUBSCRIBE" || name == "NOTIFY" ||
        name == "REFER") {
        add(pjsip_hdr_clone(pool, contact_));
    }
    aim(tdata.get());
    return tdata;
}

void Dialog::aim(pjsip_tx_data* tdata) {
    pjsip_host_info next{};
    const bool known = pjsip_get_request_dest(tdata, &next) == PJ_SUCCESS;
    const bool behind_nat = known && is_behind_nat(next);
    const bool out_of_reach = known && is_out_of_reach(next);
    if (alone_ || behind_nat || out_of_reach || !known || !is_literal_address(view(next.addr.host))) {
        // A name. pjsip would ask the resolver of libc and block every call meanwhile.
        const bool named = known && !alone_ && !behind_nat && !out_of_reach;
        if (out_of_reach && !alone_ && !behind_nat) context_.counters.add(Counter::unresolved_targets);
        const pj_sockaddr& address = named ? place_of(view(next.addr.host)) : party_.address();
        auto& destination = tdata->dest_info;
        destination.addr.count = 1;
        auto& entry = destination.addr.entry[0];
        entry.priority = 0;
        entry.weight = 0;
        int type = transport_ == Transport::udp   ? PJSIP_TRANSPORT_UDP
                   : transport_ == Transport::tcp ? PJSIP_TRANSPORT_TCP
                                                  : PJSIP_TRANSPORT_TLS;
        if (address.addr.sa_family == pj_AF_INET6()) type |= PJSIP_TRANSPORT_IPV6;
        entry.type = static_cast<pjsip_transport_type_e>(type);
        pj_sockaddr_cp(&entry.addr, &address);
        if (named && next.addr.port != 0) pj_sockaddr_set_port(&entry.addr, static_cast<pj_uint16_t>(next.addr.port));
        entry.addr_len = static_cast<int>(pj_sockaddr_get_len(&address));
        destination.name = copy(tdata->pool, view(next.addr.host));
    } else if (saved_ && connection_ == nullptr && transport_ != Transport::udp && transport_of(next.type) == Transport::udp) {
        reconnect(tdata, next);
    }
    if (connection_ != nullptr && !connection_->is_shutdown && !connection_->is_destroying) {
        const bool fits = !known || next.type == PJSIP_TRANSPORT_UNSPECIFIED ||
                          (next.type | PJSIP_TRANSPORT_IPV6) == (connection_->key.type | PJSIP_TRANSPORT_IPV6);
        if (fits) choose(tdata, connection_);
    } else if (udp_only_) {
        const pj_sockaddr& there = party_.address();
        const int ipv6 = there.addr.sa_family == pj_AF_INET6() ? PJSIP_TRANSPORT_IPV6 : 0;
        pjsip_transport* udp = nullptr;
        const auto type = static_cast<pjsip_transport_type_e>(PJSIP_TRANSPORT_UDP | ipv6);
        const int length = static_cast<int>(pj_sockaddr_get_len(&there));
        if (pjsip_endpt_acquire_transport(context_.endpoint, type, &there, length, nullptr, &udp) == PJ_SUCCESS) {
            choose(tdata, udp);
            pjsip_transport_dec_ref(udp);
        }
    }
}

// A peer that was spoken to on its connection need not name the transport in its Contact, and none is left of it.
void Dialog::reconnect(pjsip_tx_data* tdata, const pjsip_host_info& next) const {
    auto& destination = tdata->dest_info;
    auto& entry = destination.addr.entry[0];
    entry = {};
    const pj_str_t host = borrow(without_brackets(view(next.addr.host)));
    const int family = view(next.addr.host).find(':') == std::string_view::npos ? pj_AF_INET() : pj_AF_INET6();
    const int port = next.addr.port != 0 ? next.addr.port : transport_ == Transport::tls ? 5061 : 5060;
    if (pj_sockaddr_init(family, &entry.addr, &host, static_cast<pj_uint16_t>(port)) != PJ_SUCCESS) return;
    int type = transport_ == Transport::tcp ? PJSIP_TRANSPORT_TCP : PJSIP_TRANSPORT_TLS;
    if (family == pj_AF_INET6()) type |= PJSIP_TRANSPORT_IPV6;
    entry.type = static_cast<pjsip_transport_type_e>(type);
    entry.addr_len = static_cast<int>(pj_sockaddr_get_len(&entry.addr));
    destination.addr.count = 1;
    destination.name = copy(tdata->pool, view(next.addr.host));
}

// The peer's own where it speaks from one that the name has: a call stays with its server.
const pj_sockaddr& Dialog::place_of(std::string_view name) {
    const pj_sockaddr& peer = party_.address();
    const auto own = std::string_view(authority_).substr(0, authority_.find(':'));
    if (!own.empty() && same_text(borrow(name), own)) return peer;
    const Servers servers = context_.servers.named(name);
    if (servers != nullptr) return holds(servers, address_of(&peer)) ? peer : servers->front();
    context_.counters.add(Counter::unresolved_targets);
    return peer;
}

void Dialog::choose(pjsip_tx_data* tdata, pjsip_transport* transport) const {
    pjsip_tpselector here{};
    here.type = PJSIP_TPSELECTOR_TRANSPORT;
    here.u.transport = transport;
    pjsip_tx_data_set_transport(tdata, &here);
}

// A caller whose Contact is an address of its own network alone, and who called from another: behind NAT it is reached where
// its INVITE came from, as its responses are (RFC 3581).
bool Dialog::is_behind_nat(const pjsip_host_info& next) const {
    if (!is_uas_ || transport_ != Transport::udp || route_count_ > 0) return false;
    if (!group().finds_nat || !is_private_address(view(next.addr.host))) return false;
    pj_sockaddr target;
    const pj_str_t host = borrow(without_brackets(view(next.addr.host)));
    const pj_sockaddr& source = party_.address();
    const bool same_family = pj_sockaddr_init(source.addr.sa_family, &target, &host, 0) == PJ_SUCCESS;
    return !same_family || address_of(&target) != address_of(&source);
}

// An address of the other family, where we listen on none of it: a peer of both networks that speaks to us in one of them.
bool Dialog::is_out_of_reach(const pjsip_host_info& next) const {
    const auto host = view(next.addr.host);
    if (transport_ != Transport::udp || !is_literal_address(host)) return false;
    const int family = host.find(':') == std::string_view::npos ? pj_AF_INET() : pj_AF_INET6();
    if (family == party_.address().addr.sa_family) return false;
    pj_sockaddr there;
    const pj_str_t text = borrow(without_brackets(host));
    if (pj_sockaddr_init(family, &there, &text, 5060) != PJ_SUCCESS) return false;
    const auto type = static_cast<pjsip_transport_type_e>(PJSIP_TRANSPORT_UDP |
                                                          (family == pj_AF_INET6() ? PJSIP_TRANSPORT_IPV6 : 0));
    pjsip_transport* udp = nullptr;
    const int length = static_cast<int>(pj_sockaddr_get_len(&there));
    if (pjsip_endpt_acquire_transport(context_.endpoint, type, &there, length, nullptr, &udp) != PJ_SUCCESS) return true;
    pjsip_transport_dec_ref(udp);
    return false;
}

TxPtr Dialog::request(const pjsip_method& method) {
    TxPtr tdata = make(method, local_cseq_++);
    if (tdata && digest_) digest_->sign(tdata.get(), target_text_);
    return tdata;
}

void Dialog::answer_challenges_of(const std::string& gateway) {
    const auto found = context_.settings.credentials.find(gateway);
    if (found != context_.settings.credentials.end()) digest_ = std::make_shared<Digest>(found->second);
}

TxPtr Dialog::again(const pjsip_tx_data* sent, const pjsip_rx_data* response, int& tries) {
    constexpr int tries_max = 2;  // a proxy and the peer behind it, or a nonce that has become stale
    const bool challenged = digest_ && Digest::is_challenge(response->msg_info.msg->line.status.code);
    if (!challenged || tries == tries_max || !digest_->learn(response, sent->msg)) return nullptr;
    ++tries;
    TxPtr tdata = request(sent->msg->line.req.method);
    if (!tdata) return nullptr;
    for (const pjsip_hdr* header = sent->msg->hdr.next; header != &sent->msg->hdr; header = header->next) {
        const bool passes = header_policy::passes(header, {}) || header_policy::is_translated(header);
        if (!passes || Digest::is_credentials(header)) continue;
        pjsip_msg_add_hdr(tdata->msg, static_cast<pjsip_hdr*>(pjsip_hdr_clone(tdata->pool, header)));
    }
    const auto hops = [](const pjsip_msg* msg) {
        return static_cast<pjsip_max_fwd_hdr*>(pjsip_msg_find_hdr(msg, PJSIP_H_MAX_FORWARDS, nullptr));
    };
    hops(tdata->msg)->ivalue = hops(sent->msg)->ivalue;
    if (sent->msg->body != nullptr) set_body(tdata.get(), pjsip_msg_body_clone(tdata->pool, sent->msg->body));
    return tdata;
}

TxPtr Dialog::ack(int cseq, std::string_view branch) {
    TxPtr tdata = make(pjsip_ack_method, cseq);
    if (!tdata) return nullptr;
    auto* via = static_cast<pjsip_via_hdr*>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_VIA, nullptr));
    via->branch_param = copy(tdata->pool, branch);
    if (digest_) digest_->sign_ack(tdata.get());
    return tdata;
}

void Dialog::add_contact(pjsip_tx_data* tdata) const {
    pjsip_msg_add_hdr(tdata->msg, static_cast<pjsip_hdr*>(pjsip_hdr_clone(tdata->pool, contact_)));
}

LegIdentity Dialog::identity() const {
    std::vector<std::string> routes;
    routes.reserve(route_count_);
    for (auto* route = routes_->next; route != routes_; route = route->next) {
        routes.push_back(header_value(reinterpret_cast<const pjsip_hdr*>(route), Packer::text_bytes_max));
    }
    return {
        .sip_call_id = call_id(),
        .local_tag = local_tag(),
        .remote_tag = remote_tag(),
        .local_uri = printed(local_->uri, PJSIP_URI_IN_FROMTO_HDR),
        .remote_uri = printed(remote_->uri, PJSIP_URI_IN_FROMTO_HDR),
        .remote_target = target_text_,
        .route_set = std::move(routes),
        .local_cseq = local_cseq_,
        .remote_cseq = remote_cseq_,
        .branch = branch_,
        .local_address = local_address_,
        .remote_address = remote_address_,
        .transport = transport_,
    };
}

}  // namespace sidecar
