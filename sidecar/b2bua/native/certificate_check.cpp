#include "certificate_check.hpp"

#include "remote_party.hpp"
#include "text.hpp"

#include <algorithm>
#include <exception>
#include <string>
#include <vector>

namespace sidecar {

bool CertificateCheck::is_right(const pjsip_transport* transport) const {
    const ShownCertificate* shown = context_.tls_names.of(transport);
    if (shown == nullptr) return true;
    try {
        return transport->dir == PJSIP_TP_DIR_OUTGOING ? is_who_was_called(transport, *shown) : may_call(transport, *shown);
    } catch (const std::exception&) {  // out of memory
        return false;
    }
}

// Whoever is listed by the address alone lacks the certificate that its group asks for.
bool CertificateCheck::may_call(const pjsip_transport* transport, const ShownCertificate& shown) const {
    const Settings& settings = context_.settings;
    const auto* address = &transport->key.rem_addr;
    if (settings.peers->find(address, &shown).is_listed()) return true;
    const bool stranger = !settings.peers->find_called(address).is_listed();
    return stranger && (!settings.verify_tls || shown.is_by(PeerTable::node_authority));
}

// RFC 5922 §7.3. A gateway bears its host or one of its names. Who else is called, in a dialog, bears the host that it named,
// or is of a peer group by its certificate as it is by its address.
bool CertificateCheck::is_who_was_called(const pjsip_transport* transport, const ShownCertificate& shown) const {
    const auto host = lower(without_brackets(view(transport->remote_name.host)));
    // In a call to a name its server's Contact is an address: it is to bear the name all the same.
    std::vector<std::string> names;
    if (is_literal_address(host) && !context_.settings.gateway_tls.contains(host)) {
        names = context_.servers.names_at(address_of(&transport->key.rem_addr));
    }
    if (names.empty()) names.push_back(host);
    return std::any_of(names.begin(), names.end(), [&](const auto& name) { return is_called(name, transport, shown); });
}

bool CertificateCheck::is_called(const std::string& host, const pjsip_transport* transport, const ShownCertificate& shown) const {
    const Settings& settings = context_.settings;
    const auto* address = &transport->key.rem_addr;
    const int authority = authority_called(settings, host, address);
    if (authority == PeerTable::no_authority) return true;
    if (!shown.is_by(authority)) return false;
    if (shown.bears_one_of({host})) return true;
    const auto gateway = settings.gateway_tls.find(host);
    if (gateway != settings.gateway_tls.end()) return shown.bears_one_of(gateway->second.names);
    return !shown.names.empty() && settings.peers->find(address, &shown).is_listed();
}

}  // namespace sidecar
