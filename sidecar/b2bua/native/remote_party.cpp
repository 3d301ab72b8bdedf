#include "remote_party.hpp"

#include "text.hpp"

#include <algorithm>

namespace sidecar {
namespace {

bool over_tls(const pjsip_rx_data* message) { return (message->tp_info.transport->flag & PJSIP_TRANSPORT_SECURE) != 0; }

}  // namespace

void RemoteParty::add(const Address& address) {
    if (is_own(address)) return;
    if (own_.size() == addresses_max) own_.erase(own_.begin() + 1);
    own_.push_back(address);
}

void RemoteParty::add_host(std::string_view host) {
    if (!is_literal_address(host)) return;
    const pj_str_t text = borrow(without_brackets(host));
    const int family = host.find(':') == std::string_view::npos ? pj_AF_INET() : pj_AF_INET6();
    pj_sockaddr address;
    if (pj_sockaddr_init(family, &address, &text, 0) == PJ_SUCCESS) add(address_of(&address));
}

bool RemoteParty::is_own(const Address& address) const {
    return std::find(own_.begin(), own_.end(), address) != own_.end();
}

bool RemoteParty::is_server(const Context& context, const Address& address) const {
    return holds(servers_, address) || (!gateway_.empty() && holds(context.servers.of(gateway_), address));
}

void RemoteParty::is_caller(const Context& context, const pjsip_rx_data* invite) {
    caller_ = true;
    secure_ = over_tls(invite);
    pj_sockaddr_cp(&address_, &invite->pkt_info.src_addr);
    peers_ = context.settings.peers;
    group_ = &context.sender_of(invite);
    trusted_ = group_->asserts_identity;
    add(address_of(&address_));
    const pjsip_msg* msg = invite->msg_info.msg;
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (header->type != PJSIP_H_VIA) continue;
        const auto* via = reinterpret_cast<const pjsip_via_hdr*>(header);
        add_host(view(via->sent_by.host));
        add_host(view(via->recvd_param));
    }
}

void RemoteParty::was_caller(const Context& context, const pj_sockaddr& address, std::string_view peer, bool secure) {
    caller_ = true;
    secure_ = secure;
    pj_sockaddr_cp(&address_, &address);
    peers_ = context.settings.peers;
    group_ = &peers_->named(peer);
    trusted_ = group_->asserts_identity;
    add(address_of(&address_));
}

void RemoteParty::is_called(const Context& context, const pj_sockaddr& address, bool secure, const std::string& gateway) {
    gateway_ = gateway;
    servers_ = context.servers.of(gateway);
    secure_ = secure;
    pj_sockaddr_cp(&address_, &address);
    peers_ = context.settings.peers;
    group_ = &peers_->find(&address_, nullptr);
    trusted_ = peers_->find_called(&address_).asserts_identity;
    own_.insert(own_.begin(), address_of(&address_));
}

void RemoteParty::named(const Context& context, const pjsip_uri* uri) {
    const auto* at = static_cast<const pjsip_uri*>(pjsip_uri_get_uri(uri));
    if (!PJSIP_URI_SCHEME_IS_SIP(at) && !PJSIP_URI_SCHEME_IS_SIPS(at)) return;
    const auto host = view(reinterpret_cast<const pjsip_sip_uri*>(at)->host);
    add_host(host);
    const Servers servers = context.servers.named(host);
    for (std::size_t i = 0; servers != nullptr && i < servers->size() && i < addresses_max / 2; ++i) {
        add(address_of(&(*servers)[i]));
    }
}

void RemoteParty::answered(const pjsip_rx_data* response) { add(address_of(&response->pkt_info.src_addr)); }

const PeerGroup& RemoteParty::sender(const Context& context, const pjsip_rx_data* message) const {
    if (peers_ == context.settings.peers) return context.sender_of(message);
    return peers_->find(&message->pkt_info.src_addr, context.tls_names.of(message->tp_info.transport));
}

bool RemoteParty::speaks_in(const Context& context, const pjsip_rx_data* message) const {
    if (!peers_) return false;
    const Address from = address_of(&message->pkt_info.src_addr);
    const PeerGroup& group = sender(context, message);
    // A gateway's certificate is known by now, and was not when it was called.
    const PeerGroup& expected = caller_ ? *group_ : peers_->find(&address_, context.tls_names.of(message->tp_info.transport));
    const bool server = is_server(context, from);
    if (group.is_listed() && &group == &expected) return is_own(from) || server || group.shares_dialogs;
    if (group.is_listed() && expected.is_listed() && !server) return false;
    // In no group. It may be what the party has named; but not one of its group whose port or certificate is another.
    if (caller_ && group_->lists(from)) return false;
    return (is_own(from) || server) && (over_tls(message) || !secure_);
}

}  // namespace sidecar
