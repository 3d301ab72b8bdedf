#include "peer_table.hpp"

#include "text.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>
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

}  // namespace

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

bool PeerTable::parse(std::string_view text, Range& out) {
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

bool PeerTable::holds(const Range& range, const Address& address) {
    const int whole = range.bits / 8;
    if (std::memcmp(range.first.data(), address.data(), static_cast<std::size_t>(whole)) != 0) return false;
    const int rest = range.bits % 8;
    if (rest == 0) return true;
    const int mask = 0xff << (8 - rest);
    return ((range.first[static_cast<std::size_t>(whole)] ^ address[static_cast<std::size_t>(whole)]) & mask) == 0;
}

void PeerTable::add(std::string name, const std::vector<std::string>& cidrs, int port,
                    std::vector<std::string> tls_names, int requests_per_s, LivenessCheck liveness,
                    bool shared_dialogs, bool finds_nat, bool asserts_identity, int authority) {
    for (auto& tls_name : tls_names) tls_name = lower(tls_name);
    Group group{std::move(name), port, {}, std::move(tls_names), requests_per_s, liveness, shared_dialogs,
                finds_nat, asserts_identity, authority};
    for (const auto& text : cidrs) {
        Range range{};
        if (!parse(text, range)) throw std::invalid_argument("peer group " + group.name + ": not a CIDR: " + text);
        group.ranges.push_back(range);
    }
    groups_.push_back(std::move(group));
}

bool PeerTable::lists(int group, const Address& address) const {
    if (group == unlisted) return false;
    const auto& ranges = groups_.at(static_cast<std::size_t>(group)).ranges;
    return std::any_of(ranges.begin(), ranges.end(), [&](const Range& range) { return holds(range, address); });
}

int PeerTable::named(std::string_view name) const {
    const auto found = std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) { return group.name == name; });
    return found == groups_.end() ? unlisted : static_cast<int>(found - groups_.begin());
}

bool PeerTable::Group::admits(const ShownCertificate* shown) const {
    const bool by_certificate = authority > node_authority || !tls_names.empty();
    if (shown == nullptr) return !by_certificate;
    return (authority == no_authority || shown->is_by(authority)) && (tls_names.empty() || shown->bears_one_of(tls_names));
}

bool PeerTable::holds(const Group& group, const Address& address, int port) const {
    if (group.port != 0 && group.port != port) return false;
    return std::any_of(group.ranges.begin(), group.ranges.end(), [&](const Range& range) { return holds(range, address); });
}

int PeerTable::find(const pj_sockaddr_t* socket_address, const ShownCertificate* shown) const {
    const Address address = address_of(socket_address);
    const int port = pj_sockaddr_get_port(socket_address);
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (groups_[i].admits(shown) && holds(groups_[i], address, port)) return static_cast<int>(i);
    }
    return unlisted;
}

int PeerTable::find_called(const pj_sockaddr_t* socket_address) const {
    const Address address = address_of(socket_address);
    const int port = pj_sockaddr_get_port(socket_address);
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (holds(groups_[i], address, port)) return static_cast<int>(i);
    }
    return unlisted;
}

std::vector<int> PeerTable::authorities_at(const pj_sockaddr_t* socket_address) const {
    const Address address = address_of(socket_address);
    std::vector<int> found{node_authority};
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (groups_[i].authority > node_authority && lists(static_cast<int>(i), address)) found.push_back(groups_[i].authority);
    }
    return found;
}

}  // namespace sidecar
