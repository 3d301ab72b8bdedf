// The connections that others open to us. pjsip takes any number of them, each with 64 kB of buffer, and keeps one that
// says nothing for ever.
#pragma once

#include "address.hpp"
#include "context.hpp"

#include <pjsip.h>

#include <unordered_map>

namespace sidecar {

class Connections {
public:
    static constexpr int all_max = 4096;
    static constexpr int of_source_max = 256;
    static constexpr int of_strangers_max = 64;  // of addresses in no peer group: a gateway that is not listed may be one
    static constexpr int stranger_quiet_s = 10;  // by then a request of it has to have passed the gate

    explicit Connections(Context& context) : context_(context) {}
    void on_state(pjsip_transport* transport, pjsip_transport_state state);  // behind TlsNames, whose names it asks for
    void heard(const pjsip_transport* transport);                            // a request of it passed the gate
    void reconsider();                                                       // who is no stranger any more
    void close_overdue();                                                    // once a second

private:
    struct Connection {
        Address source;
        bool stranger;
        std::int64_t since_ns;
        bool heard = false;
    };
    void forget(const pjsip_transport* transport);
    bool takes(const pjsip_transport* transport);

    Context& context_;
    std::unordered_map<const pjsip_transport*, Connection> open_;  // an entry lives as long as its transport
    std::unordered_map<Address, int, AddressHash> of_source_;
    int strangers_ = 0;
};

}  // namespace sidecar
