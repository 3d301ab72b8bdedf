// After a stall of this thread (a process that was stopped, a machine that had no time) pjsip runs what its timers are late with
// before it reads what has come meanwhile. A deadline would win over the BYE that arrived before it, and who has answered in time
// would be given up. So the first timer that is late by much has all of it read first.
#pragma once

#include "counters.hpp"

#include <pjsip.h>

#include <cstdint>

namespace sidecar {

class Stall {
public:
    Stall(pjsip_endpoint* endpoint, Counters& counters) : endpoint_(endpoint), counters_(counters) {}

    // Ahead of a timer that was due then. Messages are taken meanwhile, commands wait until it is over.
    void before(std::int64_t due_ns);
    bool reading() const { return reading_; }
    static bool is_late(std::int64_t due_ns, std::int64_t now_ns) { return now_ns - due_ns >= late_ns; }

private:
    static constexpr std::int64_t late_ns = 250'000'000;
    static constexpr std::int64_t reading_ns_max = 1'000'000'000;

    pjsip_endpoint* endpoint_;
    Counters& counters_;
    bool reading_ = false;
    std::int64_t read_until_ns_ = 0;  // what arrived before has been read
};

}  // namespace sidecar
