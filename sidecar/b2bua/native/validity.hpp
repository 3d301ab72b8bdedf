// What pjsip's parser lets through and RFC 4475 calls invalid (§3.1.2, §3.3): two readers could take one message for two
// different ones, and the second reader is the gateway.
#pragma once

#include <pjsip.h>

namespace sidecar::validity {

// Of any request: which message it is, or whose, is not certain.
bool is_ambiguous(const pjsip_rx_data* request);

// Of a request outside any dialog, where refusing costs no call that is up.
bool is_malformed(const pjsip_rx_data* request);

// A body that is said to be SDP and does not even consist of SDP's lines (RFC 8866 §9). What they say is the other leg's
// business, so that any codec and any attribute passes.
bool has_broken_sdp(const pjsip_rx_data* message);

}  // namespace sidecar::validity
