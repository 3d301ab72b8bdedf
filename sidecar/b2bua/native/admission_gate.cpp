#include "admission_gate.hpp"

namespace sidecar {

bool AdmissionGate::is_closed(std::int64_t came_ns, std::size_t waiting, std::int64_t oldest_ns, std::size_t decided, std::int64_t now_ns) {
    learn(waiting, decided, now_ns);
    if (waiting == 0) return false;
    if (now_ns - oldest_ns > wait_ns_max_) return true;
    if (waiting < always) return false;
    return now_ns - came_ns + static_cast<std::int64_t>(waiting) * each_ns_ > wait_ns_max_;
}

void AdmissionGate::learn(std::size_t waiting, std::size_t decided, std::int64_t now_ns) {
    if (waiting < many) {  // who has nothing to do is not slow
        since_ns_ = now_ns;
        decided_ = 0;
        return;
    }
    decided_ += decided;
    const std::int64_t took_ns = now_ns - since_ns_;
    if (decided_ == 0 || (decided_ < decisions_of_measure && took_ns < measure_ns_max)) return;
    const std::int64_t measured_ns = took_ns / static_cast<std::int64_t>(decided_);
    each_ns_ = (each_ns_ + measured_ns) / 2;
    since_ns_ = now_ns;
    decided_ = 0;
}

}  // namespace sidecar
