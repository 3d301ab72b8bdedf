#include "peer_table.hpp"

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

bool shares_name(const std::vector<std::string>& wanted, const std::vector<std::string>& given) {
    return std::find_first_of(given.begin(), given.end(), wanted.begin(), wanted.end()) != given.end();
}

}  // namespace

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
                    bool shared_dialogs, bool finds_nat, bool asserts_identity) {
    for (auto& tls_name : tls_names) {  // as TlsNames has them
        std::transform(tls_name.begin(), tls_name.end(), tls_name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    }
    Group group{std::move(name), port, {}, std::move(tls_names), requests_per_s, liveness, shared_dialogs,
                finds_nat, asserts_identity};
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

int PeerTable::find(const pj_sockaddr_t* socket_address, const std::vector<std::string>& tls_names) const {
    return find_if(socket_address, &tls_names);
}

int PeerTable::find_if(const pj_sockaddr_t* socket_address, const std::vector<std::string>* tls_names) const {
    const Address address = address_of(socket_address);
    const int port = pj_sockaddr_get_port(socket_address);
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        const Group& group = groups_[i];
        if (group.port != 0 && group.port != port) continue;
        if (tls_names != nullptr && !group.tls_names.empty() && !shares_name(group.tls_names, *tls_names)) continue;
        if (lists(static_cast<int>(i), address)) return static_cast<int>(i);
    }
    return unlisted;
}

}  // namespace sidecar
