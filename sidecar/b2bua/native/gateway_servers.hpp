// Where the gateways are whose host is a name: what Python was told by DNS last. Nothing is looked up here.
#pragma once

#include "address.hpp"

#include <pjlib.h>

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sidecar {

// The preferred one first; never changed, only replaced. Null: the gateway's host is an address.
using Servers = std::shared_ptr<const std::vector<pj_sockaddr>>;

bool holds(const Servers& servers, const Address& address);  // whatever the port

class GatewayServers {
public:
    void set(const std::string& gateway, const std::string& name, const std::vector<std::string>& addresses);
    Servers of(const std::string& gateway) const;
    Servers named(std::string_view host) const;  // of a gateway with this name, whatever its case
    std::vector<std::string> names_at(const Address& address) const;

private:
    struct Named {
        std::string name;
        Servers servers;
    };
    std::unordered_map<std::string, Named> by_gateway_;
};

}  // namespace sidecar
