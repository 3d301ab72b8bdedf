#include "peer_table.hpp"

#include "text.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <functional>
#include <stdexcept>

namespace sidecar {
namespace {

constexpr int ipv4_offset_bits = 96;

Address mapped(const in_addr& address) {
    Address out{};
    out[10] = out[11] = 0xff;
    std::memcpy(&out[12], &address, 4);
    return out;
}

bool parse(std::string_view text, AddressRange& out) {
    const auto slash = text.find('/');
    const std::string host(text.substr(0, slash));
    in_addr v4;
    int offset = 0;
    if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
        out.first = mapped(v4);
        offset = ipv4_offset_bits;
    } else if (inet_pton(AF_INET6, host.c_str(), out.first.data()) != 1) {
        return false;
    }
    out.bits = 128;
    if (slash != std::string_view::npos) {
        const auto digits = text.substr(slash + 1);
        int bits = -1;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
        if (error != std::errc() || end != digits.data() + digits.size() || bits < 0 || bits > 128 - offset) return false;
        out.bits = bits + offset;
    }
    return true;
}

bool has_place(const PeerGroup& group, const Address& address, int port) {
    return (group.port == 0 || group.port == port) && group.lists(address);
}

}  // namespace

const PeerGroup PeerTable::unlisted{};

bool ShownCertificate::is_by(int authority) const {
    return std::find(authorities.begin(), authorities.end(), authority) != authorities.end();
}

bool ShownCertificate::bears_one_of(const std::vector<std::string>& wanted) const {
    return std::find_first_of(names.begin(), names.end(), wanted.begin(), wanted.end()) != names.end();
}

Address address_of(const pj_sockaddr_t* socket_address) {
    if (static_cast<const pj_sockaddr*>(socket_address)->addr.sa_family == pj_AF_INET6()) {
        Address address;
        std::memcpy(address.data(), pj_sockaddr_get_addr(socket_address), address.size());
        return address;
    }
    in_addr v4;
    std::memcpy(&v4, pj_sockaddr_get_addr(socket_address), 4);
    return mapped(v4);
}

bool AddressRange::holds(const Address& address) const {
    const int whole = bits / 8;
    if (std::memcmp(first.data(), address.data(), static_cast<std::size_t>(whole)) != 0) return false;
    const int rest = bits % 8;
    if (rest == 0) return true;
    const int mask = 0xff << (8 - rest);
    return ((first[static_cast<std::size_t>(whole)] ^ address[static_cast<std::size_t>(whole)]) & mask) == 0;
}

PeerGroup::Id PeerGroup::id() const { return is_listed() ? std::hash<std::string>()(name) : 0; }

bool PeerGroup::lists(const Address& address) const {
    return std::any_of(ranges.begin(), ranges.end(), [&](const AddressRange& range) { return range.holds(address); });
}

bool PeerGroup::admits(const ShownCertificate* shown) const {
    const bool by_certificate = authority > node_authority || !tls_names.empty();
    if (shown == nullptr) return !by_certificate;
    return (authority == no_authority || shown->is_by(authority)) && (tls_names.empty() || shown->bears_one_of(tls_names));
}

void PeerTable::add(PeerGroup group, const std::vector<std::string>& cidrs) {
    for (auto& tls_name : group.tls_names) tls_name = lower(tls_name);
    for (const auto& text : cidrs) {
        AddressRange range{};
        if (!parse(text, range)) throw std::invalid_argument("peer group " + group.name + ": not a CIDR: " + text);
        group.ranges.push_back(range);
    }
    groups_.push_back(std::move(group));
}

const PeerGroup& PeerTable::named(std::string_view name) const {
    const auto found = std::find_if(groups_.begin(), groups_.end(), [&](const PeerGroup& group) { return group.name == name; });
    return found == groups_.end() ? unlisted : *found;
}

const PeerGroup& PeerTable::find(const pj_sockaddr_t* socket_address, const ShownCertificate* shown) const {
    const Address address = address_of(socket_address);
    const int port = pj_sockaddr_get_port(socket_address);
    for (const PeerGroup& group : groups_) {
        if (group.admits(shown) && has_place(group, address, port)) return group;
    }
    return unlisted;
}

const PeerGroup& PeerTable::find_called(const pj_sockaddr_t* socket_address) const {
    const Address address = address_of(socket_address);
    const int port = pj_sockaddr_get_port(socket_address);
    for (const PeerGroup& group : groups_) {
        if (has_place(group, address, port)) return group;
    }
    return unlisted;
}

std::vector<int> PeerTable::authorities_at(const pj_sockaddr_t* socket_address) const {
    const Address address = address_of(socket_address);
    std::vector<int> found{node_authority};
    for (const PeerGroup& group : groups_) {
        if (group.authority > node_authority && group.lists(address)) found.push_back(group.authority);
    }
    return found;
}

}  // namespace sidecar
