// Who may talk to us: named groups of addresses. Order counts: the first group that holds an address is its group.
#pragma once

#include <pjlib.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sidecar {

class PeerTable {
public:
    static constexpr int unlisted = -1;

    // Throws std::invalid_argument naming the CIDR that is none.
    void add(std::string name, const std::vector<std::string>& cidrs, int port, std::vector<std::string> tls_names);

    // Index of the group, or `unlisted`. `tls_names`: those in the verified certificate of the connection; a group that
    // asks for names holds nobody who has none of them.
    int find(const pj_sockaddr_t* address, const std::vector<std::string>& tls_names) const;
    const std::string& name(int group) const { return groups_.at(static_cast<std::size_t>(group)).name; }

private:
    using Address = std::array<std::uint8_t, 16>;  // IPv4 as ::ffff:a.b.c.d
    struct Range {
        Address first;
        int bits;
    };
    struct Group {
        std::string name;
        int port;  // 0: any
        std::vector<Range> ranges;
        std::vector<std::string> tls_names;  // empty: none is asked for
    };
    static bool parse(std::string_view text, Range& out);
    static bool holds(const Range& range, const Address& address);

    std::vector<Group> groups_;
};

}  // namespace sidecar
