// The names in the certificates of the peers that are connected to us over TLS.
#pragma once

#include <pjsip.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sidecar {

class TlsNames {
public:
    void on_state(const pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info);

    // In lower case, as RFC 5922 §7.1 finds them: SIP domains among the subject's alternative names, with addresses after them;
    // the common name where there is no domain. Of a certificate that was verified against our CA file; else none.
    const std::vector<std::string>& of(const pjsip_transport* transport) const;
    bool has(const pjsip_transport* transport, std::string_view name) const;

private:
    std::unordered_map<const pjsip_transport*, std::vector<std::string>> names_;  // an entry lives as long as its transport
};

}  // namespace sidecar
