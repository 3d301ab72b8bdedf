// What pjsip's parser lets through and RFC 4475 calls invalid (§3.1.2, §3.3): two readers could take one message for two
// different ones, and the second reader is the gateway.
#pragma once

#include <pjsip.h>

namespace sidecar::validity {

// Of any request: which message it is, or whose, is not certain.
bool is_ambiguous(const pjsip_rx_data* request);

// Of a request outside any dialog, where refusing costs no call that is up.
bool is_malformed(const pjsip_rx_data* request);

}  // namespace sidecar::validity
