// The certificates of the peers that are connected to us over TLS: their names, and the authorities behind them.
#pragma once

#include "settings.hpp"

#include <pjsip.h>

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sidecar {

class TlsNames {
public:
    explicit TlsNames(const Settings& settings) : settings_(settings) {}
    // Under other settings: those who have proved more than they were asked for need not connect again.
    void reconsider();
    void on_state(const pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info);

    // Null where the transport is none of TLS. The names are in lower case, as RFC 5922 §7.1 finds them: SIP domains among the
    // subject's alternative names, with addresses after them; the common name where there is no domain. Of a certificate that
    // no authority of those concerned vouches for: none.
    const ShownCertificate* of(const pjsip_transport* transport) const;

    // What one of this group is known by, and its account found by. An authority that vouches for one group vouches for no other
    // names than those that the group lists. Empty: it has shown none.
    std::string_view name_of(const PeerGroup& group, const pjsip_transport* transport) const;

private:
    const Settings& settings_;
    struct Connection {
        ShownCertificate shown;
        std::vector<std::string> names;  // of its certificate, whoever vouches for it
        std::unique_ptr<SSL, OpenSslDeleter<&SSL_free>> ssl;
    };
    void ask(Connection& connection, const std::vector<int>& authorities) const;

    std::unordered_map<const pjsip_transport*, Connection> shown_;  // an entry lives as long as its transport
};

// The authority that whoever is called at `host` has to go back to: that of the gateway, else of the peer group of its address.
int authority_called(const Settings& settings, const std::string& host, const pj_sockaddr_t* address);

}  // namespace sidecar
