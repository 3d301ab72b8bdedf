// How often one source may come: a token bucket for each, kept as the time at which it is full again (GCRA).
#pragma once

#include "address.hpp"

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace sidecar {

// Bounded: of more than `sources_max` sources that come at one time, those that came last get nothing until others have
// been silent for a second. A bucket holds what one second brings.
class SourceLimit {
public:
    static constexpr std::size_t sources_max = 4096;

    // Takes a token. False: there is none. `per_s` is above 0.
    bool allows(const Address& source, int per_s, std::int64_t mono_ns);
    std::size_t size() const { return full_at_ns_.size(); }

private:
    bool makes_room(std::int64_t mono_ns);

    std::unordered_map<Address, std::int64_t, AddressHash> full_at_ns_;
    std::int64_t swept_ns_ = 0;
};

}  // namespace sidecar
