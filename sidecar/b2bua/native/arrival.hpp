// When the message that is being read arrived at the kernel, on both clocks: this thread may have stood still since.
#pragma once

#include "event.hpp"

#include <pjsip.h>

#include <cstdint>

namespace sidecar {

// By transport:
//
//   UDP   the kernel's own stamp of the datagram that was read last (SIOCGSTAMPNS, socket(7)), exact
//   TCP   when the last bytes came that are there to be read (TCP_INFO), to some milliseconds: a message that others have
//         followed meanwhile is stamped like the last of them
//   TLS   when it is read: pjsip does not show its socket
//
// One system call for each message, less than a microsecond.
class Arrival {
public:
    // Of what was read last on this transport; `now` where the kernel cannot tell.
    Moment of(pjsip_transport* transport);
    // All that had come some seconds before has been read: what seems older is stamped by a clock that is not ours.
    void awake() { awake_ns_ = Moment::now().mono_ns; }

private:
    Moment stamped(std::int64_t kernel_ns, Moment now);

    // Between the two clocks, while nothing waited to be read: the kernel stamps by the wall clock alone, and that may have
    // been set since.
    std::int64_t usual_offset_ns_ = 0;
    std::int64_t awake_ns_ = 0;
};

}  // namespace sidecar
