// What every object here needs: the settings, pjsip's handles, and what it counts, tells and looks up in. The bridge makes it,
// and gives it by reference to all that lives under the bridge. In pjsua's worker thread only, but for `counters` and `events`.
#pragma once

#include "arrival.hpp"
#include "capture.hpp"
#include "counters.hpp"
#include "event_queue.hpp"
#include "gateway_servers.hpp"
#include "memory.hpp"
#include "settings.hpp"
#include "stall.hpp"
#include "tls_names.hpp"

#include <pjsip.h>

#include <memory>
#include <string_view>

namespace sidecar {

class Call;
class CalleeLeg;
class Dialog;
class GatewayRequest;
class Leg;
class Relay;

// The bridge as those under it see it, which it owns or keeps a table of.
class Tables {
public:
    virtual void enter(Leg& leg) = 0;
    virtual void leave(Leg& leg) = 0;
    virtual void enter(Leg& caller, const Dialog& early) = 0;  // another of its dialogs
    virtual void leave(const Dialog& early) = 0;
    virtual Leg* find_leg(std::string_view local_tag) const = 0;
    virtual Leg* find_dialog(std::string_view call_id, std::string_view local_tag, std::string_view remote_tag) const = 0;
    virtual void abandon(std::unique_ptr<CalleeLeg> abandoned) = 0;  // an attempt whose call goes on without it
    virtual void await_ack(pjsip_transaction* refused_invite, PeerGroup::Id group) = 0;
    virtual void awaits(const Call& call) = 0;  // a decision, from now on
    // Freed when the current callback returns, by sweep().
    virtual void retire(Call& call) = 0;
    virtual void retire(std::unique_ptr<Relay> relay) = 0;
    virtual void forget(CalleeLeg& abandoned) = 0;
    virtual void forget(GatewayRequest& ended) = 0;
    virtual void sweep() noexcept = 0;

protected:
    ~Tables() = default;
};

struct Context {
    Settings settings;  // replaced whole, between two messages (Reconfigure)
    Tables& tables;
    pjsip_endpoint* const endpoint;
    pjsip_module* const user;  // the bridge's module: transaction user of every transaction of ours
    const pjsip_module* const gate;  // that has noted in each message who sent it
    Counters counters{};
    EventQueue events{counters, settings.events_max, settings.patience_ms, settings.batch_interval_ms};
    TlsNames tls_names{settings};
    GatewayServers servers{};
    int drops_told = 0;  // since the last tick, to Python's log
    int strays_told = 0;
    int depth = 0;  // of callbacks of pjsip within callbacks
    Arrival arrival{};
    Stall stall{endpoint, counters};
    Memory memory{};
    Capture capture{counters};
    Moment arrived{};      // the message that was read last
    bool is_read = false;  // and it is what we are here for

    // When what happens now happened: a message when it arrived, all else now.
    Moment moment() const { return is_read ? arrived : Moment::now(); }

    const PeerGroup& group_of(const pj_sockaddr_t* address, const pjsip_transport* transport) const {
        return settings.peers->find(address, tls_names.of(transport));
    }

    const PeerGroup& sender_of(const pjsip_rx_data* message) const {
        const void* noted = message->endpt_info.mod_data[gate->id];
        if (noted != nullptr) return *static_cast<const PeerGroup*>(noted);
        return group_of(&message->pkt_info.src_addr, message->tp_info.transport);
    }

    // While this message is dealt with: pjsip forgets it afterwards.
    void note_sender(pjsip_rx_data* message, const PeerGroup& sender) const {
        message->endpt_info.mod_data[gate->id] = const_cast<PeerGroup*>(&sender);
    }

    // Is it from the trust domain (RFC 3325)? Its words of who speaks are believed then.
    bool trusts(const pjsip_rx_data* message) const { return sender_of(message).asserts_identity; }

    // Every way from pjsip into our code goes through here: no exception gets out, and what was retired is freed last,
    // when nothing of it is on the stack any more.
    template <typename F>
    void enter_from_pjsip(F&& body, bool with_message = false) noexcept {
        const bool outer = is_read;
        is_read = with_message || (depth > 0 && outer);
        ++depth;
        try {
            body();
        } catch (...) {  // out of memory, or a broken promise of ours: this message is lost, not the node
            counters.add(Counter::exceptions);
        }
        is_read = outer;
        if (--depth == 0) tables.sweep();
    }

    // With the next message of this transport, ahead of all else that is done with it.
    template <typename F>
    void read_from_pjsip(pjsip_transport* transport, F&& body) noexcept {
        arrived = arrival.of(transport);
        enter_from_pjsip(body, true);
    }
};

}  // namespace sidecar
