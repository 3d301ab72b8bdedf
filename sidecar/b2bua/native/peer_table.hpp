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

class PeerTable {
public:
    static constexpr int unlisted = -1;

    // Throws std::invalid_argument naming the CIDR that is none.
    void add(std::string name, const std::vector<std::string>& cidrs, int port, std::vector<std::string> tls_names,
             int requests_per_s, LivenessCheck liveness, bool shared_dialogs, bool finds_nat,
             bool asserts_identity);

    // Index of the group, or `unlisted`. `tls_names`: those in the verified certificate of the connection; a group that
    // asks for names holds nobody who has none of them.
    int find(const pj_sockaddr_t* address, const std::vector<std::string>& tls_names) const;
    // Of a place that is called, whose certificate is looked at by itself: its group asks for names of those who call us.
    int find_called(const pj_sockaddr_t* address) const { return find_if(address, nullptr); }
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
    };
    int find_if(const pj_sockaddr_t* address, const std::vector<std::string>* tls_names) const;
    static bool parse(std::string_view text, Range& out);
    static bool holds(const Range& range, const Address& address);

    std::vector<Group> groups_;
};

}  // namespace sidecar
