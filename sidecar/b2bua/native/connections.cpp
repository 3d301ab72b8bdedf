#include "connections.hpp"

#include "address.hpp"
#include "counters.hpp"
#include "event.hpp"
#include "stack.hpp"
#include "tls_names.hpp"

#include <new>
#include <unordered_map>
#include <vector>

namespace sidecar::connections {
namespace {

struct Connection {
    Address source;
    bool stranger;
    std::int64_t since_ns;
    bool heard = false;
};

pjsip_tp_state_callback passed_on_to = nullptr;
std::unordered_map<const pjsip_transport*, Connection> open;  // an entry lives as long as its transport
std::unordered_map<Address, int, AddressHash> of_source;
int strangers = 0;

void forget(const pjsip_transport* transport) {
    const auto found = open.find(transport);
    if (found == open.end()) return;
    const auto count = of_source.find(found->second.source);
    if (--count->second == 0) of_source.erase(count);
    strangers -= found->second.stranger;
    open.erase(found);
}

bool takes(const pjsip_transport* transport) {
    const Address source = as_source(address_of(&transport->key.rem_addr));
    const bool stranger =
        stack.settings.peers.find(&transport->key.rem_addr, tls_names::of(transport)) == PeerTable::unlisted;
    if (open.size() >= all_max || (stranger && strangers >= of_strangers_max)) return false;
    const auto known = of_source.find(source);
    if (known != of_source.end() && known->second >= of_source_max) return false;
    open.emplace(transport, Connection{source, stranger, Moment::now().mono_ns});
    ++of_source[source];
    strangers += stranger;
    return true;
}

void on_state(pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info) {
    if (passed_on_to != nullptr) passed_on_to(transport, state, info);
    if (state == PJSIP_TP_STATE_DESTROY) return forget(transport);
    if (state != PJSIP_TP_STATE_CONNECTED || transport->dir != PJSIP_TP_DIR_INCOMING) return;
    bool taken = false;
    try {
        taken = takes(transport);
    } catch (const std::bad_alloc&) {
        counters.add(Counter::exceptions);
    }
    if (taken) return;
    counters.add(Counter::refused_connections);
    pjsip_transport_shutdown(transport);
}

}  // namespace

void watch(pjsip_endpoint* endpoint) {
    pjsip_tpmgr* manager = pjsip_endpt_get_tpmgr(endpoint);
    passed_on_to = pjsip_tpmgr_get_state_cb(manager);
    pjsip_tpmgr_set_state_cb(manager, &on_state);
}

void unwatch(pjsip_endpoint* endpoint) {
    pjsip_tpmgr_set_state_cb(pjsip_endpt_get_tpmgr(endpoint), passed_on_to);
    open.clear();
    of_source.clear();
    strangers = 0;
}

void heard(const pjsip_transport* transport) {
    if (strangers == 0) return;
    const auto found = open.find(transport);
    if (found != open.end()) found->second.heard = true;
}

void close_overdue() {
    if (strangers == 0) return;
    const std::int64_t since_ns = Moment::now().mono_ns - stranger_quiet_s * 1'000'000'000LL;
    std::vector<pjsip_transport*> overdue;  // closing one takes it out of the table
    for (const auto& [transport, one] : open) {
        if (one.stranger && !one.heard && one.since_ns < since_ns) overdue.push_back(const_cast<pjsip_transport*>(transport));
    }
    for (pjsip_transport* transport : overdue) {
        counters.add(Counter::refused_connections);
        pjsip_transport_shutdown(transport);
    }
}

}  // namespace sidecar::connections
