// The connections that others open to us. pjsip takes any number of them, each with 64 kB of buffer, and keeps one that
// says nothing for ever.
#pragma once

#include <pjsip.h>

namespace sidecar::connections {

constexpr int all_max = 4096;
constexpr int of_source_max = 256;
constexpr int of_strangers_max = 64;   // of addresses in no peer group: a gateway that is not listed may be one
constexpr int stranger_quiet_s = 10;   // by then a request of it has to have passed the gate

// Listens to the transports' states, ahead of whoever did before. `watch` after tls_names::watch, whose names it asks for.
void watch(pjsip_endpoint* endpoint);
void unwatch(pjsip_endpoint* endpoint);

void heard(const pjsip_transport* transport);  // a request of it passed the gate
void close_overdue();                          // once a second

}  // namespace sidecar::connections
