#include "connections.hpp"

#include <new>
#include <vector>

namespace sidecar {

void Connections::forget(const pjsip_transport* transport) {
    const auto found = open_.find(transport);
    if (found == open_.end()) return;
    const auto count = of_source_.find(found->second.source);
    if (--count->second == 0) of_source_.erase(count);
    strangers_ -= found->second.stranger;
    open_.erase(found);
}

bool Connections::takes(const pjsip_transport* transport) {
    const Address source = as_source(address_of(&transport->key.rem_addr));
    const bool stranger = !context_.group_of(&transport->key.rem_addr, transport).is_listed();
    if (open_.size() >= all_max || (stranger && strangers_ >= of_strangers_max)) return false;
    const auto known = of_source_.find(source);
    if (known != of_source_.end() && known->second >= of_source_max) return false;
    open_.emplace(transport, Connection{source, stranger, Moment::now().mono_ns});
    ++of_source_[source];
    strangers_ += stranger;
    return true;
}

void Connections::on_state(pjsip_transport* transport, pjsip_transport_state state) {
    if (state == PJSIP_TP_STATE_DESTROY) return forget(transport);
    if (state != PJSIP_TP_STATE_CONNECTED || transport->dir != PJSIP_TP_DIR_INCOMING) return;
    bool taken = false;
    try {
        taken = takes(transport);
    } catch (const std::bad_alloc&) {
        context_.counters.add(Counter::exceptions);
    }
    if (taken) return;
    context_.counters.add(Counter::refused_connections);
    pjsip_transport_shutdown(transport);
}

// One that has become a stranger keeps its connection: it may have calls on it.
void Connections::reconsider() {
    for (auto& [transport, one] : open_) {
        if (!one.stranger || !context_.group_of(&transport->key.rem_addr, transport).is_listed()) continue;
        one.stranger = false;
        --strangers_;
    }
}

void Connections::heard(const pjsip_transport* transport) {
    if (strangers_ == 0) return;
    const auto found = open_.find(transport);
    if (found != open_.end()) found->second.heard = true;
}

void Connections::close_overdue() {
    if (strangers_ == 0) return;
    const std::int64_t since_ns = Moment::now().mono_ns - stranger_quiet_s * 1'000'000'000LL;
    std::vector<pjsip_transport*> overdue;  // closing one takes it out of the table
    for (const auto& [transport, one] : open_) {
        if (one.stranger && !one.heard && one.since_ns < since_ns) overdue.push_back(const_cast<pjsip_transport*>(transport));
    }
    for (pjsip_transport* transport : overdue) {
        context_.counters.add(Counter::refused_connections);
        pjsip_transport_shutdown(transport);
    }
}

}  // namespace sidecar
