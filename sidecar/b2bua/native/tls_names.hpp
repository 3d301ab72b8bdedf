// The names in the certificates of the peers that are connected to us over TLS.
#pragma once

#include <pjsip.h>

#include <string>
#include <vector>

namespace sidecar::tls_names {

// Listens to the transports' states, and passes them on to whom pjsua had put there.
void watch(pjsip_endpoint* endpoint);
void unwatch(pjsip_endpoint* endpoint);

// Subject alternative names and common name, of a certificate that was verified against our CA file; else none.
const std::vector<std::string>& of(const pjsip_transport* transport);

}  // namespace sidecar::tls_names
