#include "gateway_servers.hpp"

#include "peer_table.hpp"
#include "text.hpp"

#include <algorithm>
#include <strings.h>

namespace sidecar {

bool holds(const Servers& servers, const Address& address) {
    return servers != nullptr && std::any_of(servers->begin(), servers->end(),
                                             [&](const pj_sockaddr& server) { return address_of(&server) == address; });
}

void GatewayServers::set(const std::string& gateway, const std::string& name, const std::vector<std::string>& addresses) {
    if (name.empty()) {  // there is no such gateway any more, or its host is an address
        by_gateway_.erase(gateway);
        return;
    }
    auto servers = std::make_shared<std::vector<pj_sockaddr>>();
    for (const auto& text : addresses) {
        pj_sockaddr address;
        const pj_str_t written = borrow(text);
        if (pj_sockaddr_parse(pj_AF_UNSPEC(), 0, &written, &address) == PJ_SUCCESS) servers->push_back(address);
    }
    by_gateway_[gateway] = {name, std::move(servers)};
}

Servers GatewayServers::of(const std::string& gateway) const {
    const auto found = by_gateway_.find(gateway);
    return found == by_gateway_.end() ? nullptr : found->second.servers;
}

Servers GatewayServers::named(std::string_view host) const {
    if (host.ends_with('.')) host.remove_suffix(1);
    for (const auto& [gateway, named] : by_gateway_) {
        const bool same = host.size() == named.name.size() && strncasecmp(host.data(), named.name.data(), host.size()) == 0;
        if (same && !named.servers->empty()) return named.servers;
    }
    return nullptr;
}

std::vector<std::string> GatewayServers::names_at(const Address& address) const {
    std::vector<std::string> names;
    for (const auto& [gateway, named] : by_gateway_) {
        if (holds(named.servers, address)) names.push_back(named.name);
    }
    return names;
}

}  // namespace sidecar
