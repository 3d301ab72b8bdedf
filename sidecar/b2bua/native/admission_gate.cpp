#include "admission_gate.hpp"

namespace sidecar {

bool AdmissionGate::is_closed(std::int64_t came_ns, std::size_t waiting, std::int64_t oldest_ns, std::size_t decided, std::int64_t now_ns) {
    learn(waiting, decided, now_ns);
    const std::int64_t in_socket_ns = 2 * (now_ns - came_ns);
    const bool has_been_late = late_for_long(in_socket_ns > wait_ns_max_, now_ns);
    if (waiting == 0) return false;
    if (now_ns - oldest_ns > wait_ns_max_ || has_been_late) return true;
    if (waiting < always) return false;
    return in_socket_ns + 2 * static_cast<std::int64_t>(waiting) * each_ns_ > wait_ns_max_;
}

bool AdmissionGate::late_for_long(bool is_late, std::int64_t now_ns) {
    if (!is_late) return false;
    if (now_ns - late_ns_ > late_apart_ns_max) late_since_ns_ = now_ns;
    late_ns_ = now_ns;
    return now_ns - late_since_ns_ > wait_ns_max_;
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
