// Connections that cannot be read on, because nobody knows where their next message begins.
#pragma once

#include "context.hpp"

#include <pjsip.h>

#include <string_view>
#include <vector>

namespace sidecar {

// A message that fits no buffer, or whose Content-Length is missing or no number (RFC 3261 §18.3). What follows on its
// connection would be read from the middle of a body, where a third party may have put messages of its own. So the
// request is answered from its head alone, and the connection is closed: we send no more on it, and throw away what still
// comes for a second or two, lest the peer's own system throws our answer away with the connection.
//
// Holds a reference to each transport until it lets go of it.
class BrokenStreams {
public:
    explicit BrokenStreams(const Context& context) : context_(context) {}
    ~BrokenStreams() { clear(); }
    // The answer to what pjsip dropped, where that leaves the stream without a beginning of the next message; else 0.
    static int code_for(const pjsip_tp_dropped_data& dropped);
    static std::string_view received(const pjsip_tp_dropped_data& dropped);
    // `listed`: whoever is not gets no answer. `code` 0: the request has its answer.
    void give_up(const pjsip_tp_dropped_data& dropped, int code, bool listed);
    bool holds(const pjsip_transport* transport) const;
    void tick();  // each second
    void clear();

private:
    struct Stream {
        pjsip_transport* transport;
        bool aged;
    };
    const Context& context_;
    std::vector<Stream> streams_;
};

}  // namespace sidecar
