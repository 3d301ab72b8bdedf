#include "arrival.hpp"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <pjsip/sip_transport_tcp.h>
#include <pjsip/sip_transport_udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

namespace sidecar {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t at_once_ns = 5 * ms;       // what is read so soon did not wait
constexpr std::int64_t wait_ns_max = 10'000 * ms;  // while this thread reads, however much there is
constexpr std::int64_t tcp_stalled_ns = 50 * ms;  // TCP_INFO counts jiffies: what is younger is stamped as it is read

Moment Arrival::of(pjsip_transport* transport) {
    const Moment now = Moment::now();
    const int kind = transport->key.type & ~PJSIP_TRANSPORT_IPV6;
    if (kind == PJSIP_TRANSPORT_UDP) {
        timespec stamp{};
        if (ioctl(static_cast<int>(pjsip_udp_transport_get_socket(transport)), SIOCGSTAMPNS, &stamp) != 0) return now;
        return stamped(stamp.tv_sec * 1'000'000'000LL + stamp.tv_nsec, now);
    }
    if (kind == PJSIP_TRANSPORT_TCP) {
        tcp_info info{};
        socklen_t size = sizeof info;
        const int fd = static_cast<int>(pjsip_tcp_transport_get_socket(transport));
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return now;
        const std::int64_t age_ns = info.tcpi_last_data_recv * ms;
        if (age_ns >= tcp_stalled_ns) return {now.mono_ns - age_ns, now.wall_ns - age_ns};
    }
    return now;
}

namespace {

// The kernel's own, whatever clock this process was given (libfaketime).
std::int64_t kernel_now_ns() {
    timespec t{};
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

}  // namespace

// The clock may have been set between the stamp and now, forward or back: of the two moments that the stamp can mean one is in
// the future or far in the past.
Moment Arrival::stamped(std::int64_t kernel_ns, Moment now) {
    const std::int64_t offset_ns = kernel_now_ns() - now.mono_ns;
    if (usual_offset_ns_ == 0) usual_offset_ns_ = offset_ns;
    std::int64_t mono_ns = 0;
    for (const std::int64_t of_clock : {offset_ns, usual_offset_ns_}) {
        if (kernel_ns - of_clock <= now.mono_ns) mono_ns = std::max(mono_ns, kernel_ns - of_clock);
    }
    const std::int64_t age_ns = now.mono_ns - mono_ns;
    if (mono_ns < awake_ns_ - wait_ns_max || mono_ns <= 0) return now;
    if (age_ns < at_once_ns) usual_offset_ns_ = offset_ns;
    return {mono_ns, now.wall_ns - age_ns};
}

}  // namespace sidecar
