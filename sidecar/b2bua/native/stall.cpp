#include "stall.hpp"

#include "event.hpp"

#include <algorithm>

namespace sidecar {

void Stall::before(std::int64_t due_ns) {
    const std::int64_t now_ns = Moment::now().mono_ns;
    if (reading_ || due_ns <= read_until_ns_ || !is_late(due_ns, now_ns)) return;
    counters_.add(Counter::stalls);
    reading_ = true;
    read_until_ns_ = now_ns;
    // A flood must not keep the timers from running: a quarter of the time that they are late is for reading.
    const std::int64_t end_ns = now_ns + std::min((now_ns - due_ns) / 4, reading_ns_max);
    pj_ioqueue_t* queue = pjsip_endpt_get_ioqueue(endpoint_);
    for (const pj_time_val at_once{0, 0}; Moment::now().mono_ns < end_ns && pj_ioqueue_poll(queue, &at_once) > 0;) {
    }
    reading_ = false;
}

}  // namespace sidecar
