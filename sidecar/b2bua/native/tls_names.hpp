// The names in the certificates of the peers that are connected to us over TLS.
#pragma once

#include <pjsip.h>

#include <string>
#include <unordered_map>
#include <vector>

namespace sidecar {

class TlsNames {
public:
    void on_state(const pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info);

    // Subject alternative names and common name, of a certificate that was verified against our CA file; else none.
    const std::vector<std::string>& of(const pjsip_transport* transport) const;

private:
    std::unordered_map<const pjsip_transport*, std::vector<std::string>> names_;  // an entry lives as long as its transport
};

}  // namespace sidecar
