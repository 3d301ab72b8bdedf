#include "source_limit.hpp"

#include <algorithm>

namespace sidecar {

constexpr std::int64_t second_ns = 1'000'000'000;

bool SourceLimit::allows(const Address& source, int per_s, std::int64_t mono_ns) {
    auto found = full_at_ns_.find(source);
    if (found == full_at_ns_.end()) {
        if (full_at_ns_.size() >= sources_max && !makes_room(mono_ns)) return false;
        found = full_at_ns_.emplace(source, mono_ns).first;
    }
    const std::int64_t full_at_ns = std::max(found->second, mono_ns) + second_ns / per_s;
    if (full_at_ns - mono_ns > second_ns) return false;
    found->second = full_at_ns;
    return true;
}

// A look at every source, so at most once a second: a flood from made-up sources must not buy one with each datagram.
bool SourceLimit::makes_room(std::int64_t mono_ns) {
    if (mono_ns - swept_ns_ < second_ns) return false;
    swept_ns_ = mono_ns;
    std::erase_if(full_at_ns_, [&](const auto& one) { return one.second <= mono_ns; });
    return full_at_ns_.size() < sources_max;
}

}  // namespace sidecar
