// Who may talk to us: named groups of addresses. Order counts: the first group that holds an address is its group.
#pragma once

#include "address.hpp"
#include "terms.hpp"

#include <pjlib.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sidecar {

Address address_of(const pj_sockaddr_t* socket_address);

// What the other side of a TLS connection has proved: by no certificate at all, nothing.
struct ShownCertificate {
    std::vector<std::string> names;  // in lower case; see TlsNames
    std::vector<int> authorities;    // that it goes back to, of those that were asked for

    bool is_by(int authority) const;
    bool bears_one_of(const std::vector<std::string>& wanted) const;
};

struct AddressRange {
    Address first;
    int bits;

    bool holds(const Address& address) const;
};

class PeerGroup {
public:
    using Id = std::uint64_t;
    static constexpr int no_authority = -1;
    static constexpr int node_authority = 0;  // of those groups that name none of their own

    std::string name;  // empty: of all who are in no group
    std::vector<std::string> tls_names{};  // lower case, of which its certificate has to bear one; empty: none is asked for
    int port = 0;                          // 0: any
    int requests_per_s = 0;                // of each address; 0: no limit
    LivenessCheck liveness = LivenessCheck::any;
    bool shares_dialogs = false;  // each address may speak in the dialogs of all
    bool finds_nat = false;       // see Dialog::aim
    bool asserts_identity = false;
    int authority = no_authority;
    std::vector<AddressRange> ranges{};

    bool is_listed() const { return !name.empty(); }
    // The same under all settings, as long as the name is.
    Id id() const;
    bool lists(const Address& address) const;  // whatever the port and the certificate
    // One that asks for names, or has an authority of its own, admits nobody who does not show such a certificate. One that
    // leaves that to the node admits whoever comes by UDP and TCP, and over TLS whom the node's authority vouches for.
    bool admits(const ShownCertificate* shown) const;
};

// Never changed once it is in force. Dialogs hold the one that they began with: a call that runs is heard as it was when it
// began, whatever has become of its peers.
class PeerTable {
public:
    static constexpr int no_authority = PeerGroup::no_authority;
    static constexpr int node_authority = PeerGroup::node_authority;
    static const PeerGroup unlisted;

    // Throws std::invalid_argument naming the CIDR that is none.
    void add(PeerGroup group, const std::vector<std::string>& cidrs);

    // `shown`: over the connection; null: it is none of TLS, or not known.
    const PeerGroup& find(const pj_sockaddr_t* address, const ShownCertificate* shown) const;
    // By the address alone: of a place that is called, whose certificate is looked at by itself.
    const PeerGroup& find_called(const pj_sockaddr_t* address) const;
    const PeerGroup& named(std::string_view name) const;  // `unlisted`: there is none (any more)
    // Of the groups that an address may be in, and of the node.
    std::vector<int> authorities_at(const pj_sockaddr_t* address) const;

private:
    std::vector<PeerGroup> groups_;
};

}  // namespace sidecar
