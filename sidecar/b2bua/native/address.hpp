// Addresses of both families as one kind of value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sidecar {

using Address = std::array<std::uint8_t, 16>;  // IPv4 as ::ffff:a.b.c.d

struct AddressHash {
    std::size_t operator()(const Address& address) const {
        std::uint64_t halves[2];
        std::memcpy(halves, address.data(), sizeof halves);
        return static_cast<std::size_t>((halves[0] * 0x9e3779b97f4a7c15 ^ halves[1]) * 0xff51afd7ed558ccd >> 16);
    }
};

// Whom a limit is for: an IPv4 address, or the /64 that one IPv6 customer has to himself.
inline Address as_source(Address address) {
    static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (std::memcmp(address.data(), mapped, sizeof mapped) != 0) std::memset(&address[8], 0, 8);
    return address;
}

}  // namespace sidecar
