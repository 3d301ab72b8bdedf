// Who may talk to us: named groups of addresses. Order counts: the first group that holds an address is its group.
#pragma once

#include "address.hpp"
#include "terms.hpp"

#include <pjlib.h>

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

class PeerTable {
public:
    static constexpr int unlisted = -1;
    static constexpr int no_authority = -1;
    static constexpr int node_authority = 0;  // of those groups that name none of their own

    // Throws std::invalid_argument naming the CIDR that is none.
    void add(std::string name, const std::vector<std::string>& cidrs, int port, std::vector<std::string> tls_names,
             int requests_per_s, LivenessCheck liveness, bool shared_dialogs, bool finds_nat,
             bool asserts_identity, int authority);

    // Index of the group, or `unlisted`. `shown`: over the connection; null: it is none of TLS, or not known. A group that asks
    // for names, or has an authority of its own, holds nobody who does not show such a certificate. One that leaves that to the
    // node holds whoever comes by UDP and TCP, and over TLS whom the node's authority vouches for.
    int find(const pj_sockaddr_t* address, const ShownCertificate* shown) const;
    // By the address alone: of a place that is called, whose certificate is looked at by itself.
    int find_called(const pj_sockaddr_t* address) const;
    int authority(int group) const { return group == unlisted ? no_authority : groups_.at(static_cast<std::size_t>(group)).authority; }
    // Of the groups that an address may be in, and of the node.
    std::vector<int> authorities_at(const pj_sockaddr_t* address) const;
    const std::vector<std::string>& tls_names(int group) const { return groups_.at(static_cast<std::size_t>(group)).tls_names; }
    const std::string& name(int group) const { return groups_.at(static_cast<std::size_t>(group)).name; }
    int named(std::string_view name) const;  // `unlisted`: there is none (any more)
    int requests_per_s(int group) const { return groups_.at(static_cast<std::size_t>(group)).requests_per_s; }
    bool finds_nat(int group) const { return groups_.at(static_cast<std::size_t>(group)).finds_nat; }
    bool asserts_identity(int group) const {
        return group != unlisted && groups_.at(static_cast<std::size_t>(group)).asserts_identity;
    }
    LivenessCheck liveness(int group) const { return groups_.at(static_cast<std::size_t>(group)).liveness; }
    bool shares_dialogs(int group) const { return groups_.at(static_cast<std::size_t>(group)).shared_dialogs; }
    bool lists(int group, const Address& address) const;  // whatever the port and the certificate; false: `unlisted`

private:
    struct Range {
        Address first;
        int bits;
    };
    struct Group {
        std::string name;
        int port;  // 0: any
        std::vector<Range> ranges;
        std::vector<std::string> tls_names;  // empty: none is asked for
        int requests_per_s;  // of each address; 0: no limit
        LivenessCheck liveness;
        bool shared_dialogs;  // each address may speak in the dialogs of all
        bool finds_nat;  // see Dialog::aim
        bool asserts_identity;
        int authority;

        bool admits(const ShownCertificate* shown) const;
    };
    bool holds(const Group& group, const Address& address, int port) const;
    static bool parse(std::string_view text, Range& out);
    static bool holds(const Range& range, const Address& address);

    std::vector<Group> groups_;
};

}  // namespace sidecar
