// What pjsip's parser lets through and RFC 4475 calls invalid (§3.1.2, §3.3): two readers could take one message for two
// different ones, and the second reader is the gateway.
#pragma once

#include <pjsip.h>

namespace sidecar::validity {

// Of what may be in a message once and is there again, the first counts, where such a message is heard at all: pjsip keeps
// the last, and who adds to a message adds at its end. The method of what ends something is that of its first line.
void take_first(pjsip_rx_data* message);
void read_bare_tags(pjsip_rx_data* message);  // of From and To

// Of any request: which message it is, or whose, is not certain.
bool is_ambiguous(const pjsip_rx_data* request);

// Of a request outside any dialog, where refusing costs no call that is up.
bool is_malformed(const pjsip_rx_data* request);

}  // namespace sidecar::validity
