#include "tls_names.hpp"

#include "text.hpp"

#include <algorithm>
#include <exception>
#include <string_view>

namespace sidecar {
namespace {

constexpr std::size_t names_max = 16;

// RFC 5922 §7.1: the host of a sip: URI; none where it names a user, or is of another scheme.
std::string host_of(std::string_view uri) {
    if (lower(uri.substr(0, 4)) != "sip:") return {};
    const auto rest = uri.substr(4);
    if (rest.find('@') != std::string_view::npos) return {};
    return lower(rest.substr(0, rest.find_first_of(":;?/")));
}

std::vector<std::string> names_in(const pj_ssl_cert_info& certificate) {
    std::vector<std::string> found, addresses;
    bool has_domain = false;
    const auto& alternatives = certificate.subj_alt_name;
    for (unsigned i = 0; i < alternatives.cnt; ++i) {
        const auto type = alternatives.entry[i].type;
        const auto text = view(alternatives.entry[i].name);
        has_domain |= type == PJ_SSL_CERT_NAME_URI || type == PJ_SSL_CERT_NAME_DNS;
        if (type == PJ_SSL_CERT_NAME_URI) found.push_back(host_of(text));
        if (type == PJ_SSL_CERT_NAME_DNS) found.push_back(lower(text));
        if (type == PJ_SSL_CERT_NAME_IP) addresses.push_back(lower(text));
    }
    if (!has_domain) found.push_back(lower(view(certificate.subject.cn)));
    found.insert(found.end(), addresses.begin(), addresses.end());
    // §7.2: a wildcard stands for nobody.
    std::erase_if(found, [](const auto& name) { return name.empty() || name.find('*') != std::string::npos; });
    if (found.size() > names_max) found.resize(names_max);
    return found;
}

}  // namespace

int authority_called(const Settings& settings, const std::string& host, const pj_sockaddr_t* address) {
    const auto gateway = settings.gateway_tls.find(host);
    if (gateway != settings.gateway_tls.end() && gateway->second.authority > PeerTable::node_authority) {
        return gateway->second.authority;
    }
    const PeerGroup& group = settings.peers->find_called(address);
    if (group.is_listed()) return group.authority;
    return settings.verify_tls ? PeerTable::node_authority : PeerTable::no_authority;
}

void TlsNames::on_state(const pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info) {
    try {
        const bool secure = (transport->flag & PJSIP_TRANSPORT_SECURE) != 0;
        if (state == PJSIP_TP_STATE_CONNECTED && secure && info->ext_info != nullptr && settings_.tls) {
            const auto* ssl_info = static_cast<const pjsip_tls_state_info*>(info->ext_info)->ssl_sock_info;
            auto* ssl = static_cast<SSL*>(ssl_info->native_ssl);
            const auto* address = &transport->key.rem_addr;
            auto asked = settings_.peers->authorities_at(address);
            if (transport->dir == PJSIP_TP_DIR_OUTGOING) {
                const auto host = lower(without_brackets(view(transport->remote_name.host)));
                asked.push_back(authority_called(settings_, host, address));
            }
            Connection connection;
            if (ssl_info->remote_cert_info != nullptr) connection.names = names_in(*ssl_info->remote_cert_info);
            SSL_up_ref(ssl);
            connection.ssl.reset(ssl);
            ask(connection, asked);
            shown_[transport] = std::move(connection);
        } else if (state == PJSIP_TP_STATE_DESTROY) {
            shown_.erase(transport);
        }
    } catch (const std::exception&) {  // out of memory: a peer that has shown nothing
        shown_.erase(transport);
    }
}

void TlsNames::ask(Connection& connection, const std::vector<int>& authorities) const {
    ShownCertificate& shown = connection.shown;
    for (const int authority : authorities) {
        const bool is_new = !shown.is_by(authority);
        if (is_new && settings_.tls->current().vouches(authority, connection.ssl.get())) shown.authorities.push_back(authority);
    }
    if (!shown.authorities.empty()) shown.names = connection.names;
}

void TlsNames::reconsider() {
    for (auto& [transport, connection] : shown_) ask(connection, settings_.peers->authorities_at(&transport->key.rem_addr));
}

std::string_view TlsNames::name_of(const PeerGroup& group, const pjsip_transport* transport) const {
    const ShownCertificate* shown = of(transport);
    if (shown == nullptr || shown->names.empty()) return {};
    const auto& listed = group.tls_names;
    const bool by_own_authority = group.authority > PeerTable::node_authority;
    if (listed.empty()) return by_own_authority ? std::string_view() : shown->names.front();
    const auto found = std::find_first_of(shown->names.begin(), shown->names.end(), listed.begin(), listed.end());
    return found == shown->names.end() ? std::string_view() : *found;
}

const ShownCertificate* TlsNames::of(const pjsip_transport* transport) const {
    if ((transport->flag & PJSIP_TRANSPORT_SECURE) == 0) return nullptr;
    static const ShownCertificate nothing;
    const auto found = shown_.find(transport);
    return found == shown_.end() ? &nothing : &found->second.shown;
}

}  // namespace sidecar
