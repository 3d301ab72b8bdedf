// Refuses a new call that would wait for us too long.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sidecar {

// The age of the oldest that waits tells too late: where four times as many come as are decided about, those behind it will wait
// three times as long. So what a new one will wait is foretold: how many wait, times how long each decision has taken lately
// while many waited; and what it has waited in the socket. Whatever is slow shows there: Python, the journal, or the whole
// starved process. All of it counts twice, as a call waits twice: to begin, and with its callee's answer.
class AdmissionGate {
public:
    explicit AdmissionGate(std::int64_t wait_ns_max) : wait_ns_max_(wait_ns_max) {}

    // For one that came then. `waiting` are calls that wait for a decision, to begin or to be answered, the first of them since
    // `oldest_ns`; so many were decided about since this was asked last.
    bool is_closed(std::int64_t came_ns, std::size_t waiting, std::int64_t oldest_ns, std::size_t decided, std::int64_t now_ns);
    void set_wait_max(std::int64_t ns) { wait_ns_max_ = ns; }
    std::int64_t each_ns() const { return each_ns_; }

private:
    void learn(std::size_t waiting, std::size_t decided, std::int64_t now_ns);
    // A stall of the process makes all late that came in it, once, and is no overload: it has to last.
    bool late_for_long(bool is_late, std::int64_t now_ns);

    // So many may always wait: a burst says nothing, and from them it is learnt that decisions are fast again.
    static constexpr std::size_t always = 32;
    static constexpr std::size_t many = 8;  // that wait all the time while a measure is taken
    static constexpr std::size_t decisions_of_measure = 64;
    static constexpr std::int64_t measure_ns_max = 200'000'000;

    static constexpr std::int64_t late_apart_ns_max = 5'000'000'000;  // late ones further apart are of two causes

    std::int64_t wait_ns_max_;
    std::int64_t each_ns_ = 1'000'000;  // until it is measured: a burst at a node that has done nothing yet is no overload
    std::int64_t since_ns_ = 0;
    std::size_t decided_ = 0;  // since then
    std::int64_t late_since_ns_ = 0;
    std::int64_t late_ns_ = -late_apart_ns_max;  // the last that came late
};

}  // namespace sidecar
