// A copy of every message of both legs of a call to a collector, by HEP version 3 (the sipcapture project's protocol: Homer,
// heplify-server, sngrep), as datagrams that nobody waits for.
#pragma once

#include "counters.hpp"
#include "event.hpp"
#include "settings.hpp"

#include <pjsip.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sidecar {

// A message belongs to the call that its Call-ID is of, on whichever leg; what no call came of is not captured. Python decides
// which calls are: until then the messages of a call are kept, within bounds. After its end a call is known for as long as
// somebody may repeat something.
//
// Costs a send() that does not wait for each message; where the socket takes none, or the collector is away, the copy is
// dropped and counted. In the native thread only.
class Capture {
public:
    explicit Capture(Counters& counters) : counters_(counters) {}
    ~Capture();
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

    void set(const Collector& to);
    bool is_on() const { return !collector_.host.empty(); }

    void join(std::uint64_t bridge_id, std::string_view sip_call_id, bool begins);  // a leg
    void decide(std::uint64_t bridge_id, const std::string& correlation_id);        // empty: it is not captured
    void leave(std::uint64_t bridge_id, unsigned repeats_ms);                       // the call has ended
    void tick();

    bool received(const pjsip_rx_data* message, const Moment& at);  // false: of no call that is known
    void sent(const pjsip_tx_data* message);

private:
    struct Captured {
        std::string correlation_id;  // empty: nobody has decided
        std::vector<std::string> sip_call_ids;
        std::vector<std::string> held;  // packets that only want the correlation id
    };

    Captured* of(std::string_view sip_call_id);
    void take(Captured& call, std::string_view text, const pj_sockaddr& from, const pj_sockaddr& to, bool udp, std::int64_t wall_ns);
    void pack(std::string_view text, const pj_sockaddr& from, const pj_sockaddr& to, bool udp, std::int64_t wall_ns);
    void send(std::string& packet, const std::string& correlation_id);
    void forget(std::uint64_t bridge_id);
    void open();
    void close();

    Counters& counters_;
    Collector collector_;
    int socket_ = -1;
    std::unordered_map<std::uint64_t, Captured> calls_;
    std::unordered_map<std::string, std::uint64_t> bridge_ids_;  // by Call-ID
    std::deque<std::pair<std::int64_t, std::uint64_t>> ended_;   // until when they are known
    std::size_t held_bytes_ = 0;
    std::string packet_;  // its room is used again
};

}  // namespace sidecar
