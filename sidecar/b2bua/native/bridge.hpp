// The bridge: pjsip modules that take every message before pjsua's own layers see it, the table of calls, and the two
// queues to Python.
#pragma once

#include "admission_gate.hpp"
#include "broken_streams.hpp"
#include "call.hpp"
#include "certificate_check.hpp"
#include "command_queue.hpp"
#include "connections.hpp"
#include "ended_dialogs.hpp"
#include "gateway_request.hpp"
#include "leg.hpp"
#include "refused_before.hpp"
#include "second_reading.hpp"
#include "source_limit.hpp"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sidecar {

// Three modules of ours stand in pjsip's chain:
//
//   capture  behind all that print: what leaves is copied as it leaves
//   gate    ahead of the transaction layer: drops what may not be heard (source check), whatever its tags or branch
//   bridge  behind the transaction layer, ahead of dialogs, pjsua and everything else: takes every request, and is the
//           user of every transaction of ours
//
// All of it runs in pjsua's one worker thread; only post(), drain() and the counters are for others. Owns the calls, the
// abandoned attempts and both queues.
class Bridge final : private Tables {
public:
    explicit Bridge(Settings settings);
    ~Bridge();
    Bridge(const Bridge&) = delete;
    Bridge& operator=(const Bridge&) = delete;

    // Python thread (registered with pj).
    void start();
    // Returns when no call is held any more; nothing is sent to any peer. The worker may still be on its way out of our
    // code: the endpoint is destroyed next, which waits for it, and the bridge last.
    void stop();
    int event_fd() const { return context_.events.fd(); }
    std::string drain() { return context_.events.drain(); }
    const Counters& counters() const { return context_.counters; }
    void post(std::vector<Command>&& commands);
    std::size_t live_calls() const { return live_calls_.load(std::memory_order_relaxed); }
    std::size_t abandoned_legs() const { return abandoned_legs_.load(std::memory_order_relaxed); }
    std::size_t transactions() const { return transactions_.load(std::memory_order_relaxed); }  // a second old at most
    bool memory_is_short() const { return context_.memory.is_short(); }
    std::size_t pools() const { return pools_.load(std::memory_order_relaxed); }                // likewise

    // Native thread.
    template <typename F>
    void enter_from_pjsip(F&& body, bool with_message = false) noexcept {
        context_.enter_from_pjsip(body, with_message);
    }
    template <typename F>
    void read_from_pjsip(pjsip_transport* transport, F&& body) noexcept {
        context_.read_from_pjsip(transport, body);
    }
    bool gate_request(pjsip_rx_data* rdata);         // true: dropped
    bool gate_response(pjsip_rx_data* rdata);        // true: dropped
    void on_request(pjsip_rx_data* rdata);
    void on_response(pjsip_rx_data* rdata);
    void on_dropped(const pjsip_tp_dropped_data& dropped);
    bool hears(const pjsip_transport* transport) const { return !broken_streams_.holds(transport); }
    void on_sending(pjsip_tx_data* tdata);
    void on_sent(const pjsip_tx_data* tdata) { context_.capture.sent(tdata); }
    void on_transport_state(pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info);

private:
    void enter(Leg& leg) override;
    void leave(Leg& leg) override;
    void enter(Leg& caller, const Dialog& early) override;
    void leave(const Dialog& early) override;
    Leg* find_leg(std::string_view local_tag) const override { return find(local_tag); }
    Leg* find_dialog(std::string_view call_id, std::string_view local_tag, std::string_view remote_tag) const override;
    void abandon(std::unique_ptr<CalleeLeg> abandoned) override;
    void await_ack(pjsip_transaction* refused_invite, PeerGroup::Id group) override { unacknowledged_.take(refused_invite, group); }
    void awaits(const Call& call) override;
    void retire(Call& call) override;
    void retire(std::unique_ptr<Relay> relay) override;
    void forget(CalleeLeg& abandoned) override;
    void forget(GatewayRequest& ended) override;
    void sweep() noexcept override;

    void run(std::vector<Command>& commands);
    bool leaves_refusals(PeerGroup::Id group) const;
    bool is_quiet(PeerGroup::Id group) const;
    bool is_emergency_call(const pjsip_rx_data* invite) const;
    bool is_over_rate(const pjsip_rx_data* rdata, int per_s);
    void complete(pjsip_rx_data* rdata, const Dialog& dialog) const;
    bool refused_for_defects(pjsip_rx_data* rdata);
    void tell_dropped(const pjsip_rx_data* rdata, std::string_view bytes, std::string_view reason);
    void on_initial_invite(pjsip_rx_data* rdata);
    void on_in_dialog(pjsip_rx_data* rdata);
    void on_cancel(pjsip_rx_data* rdata);
    void on_other(pjsip_rx_data* rdata);
    bool refused_as_malformed(pjsip_rx_data* rdata);
    std::string_view refusing() const;  // the detail that a new call would be refused with; empty: it would be taken
    bool refused_for_claim(pjsip_rx_data* rdata, const std::optional<Claim>& claim);
    bool refused_for_load(pjsip_rx_data* rdata);
    bool decisions_are_late(PeerGroup::Id group);
    void report_refused(const pjsip_rx_data* rdata, int code, std::string_view detail);
    void refuse_with_record(pjsip_rx_data* rdata, int code, std::string_view detail, int retry_after_s = 0);
    void snapshot();
    void adopt(const commands::Adopt& saved);
    void tell_stray(const pjsip_rx_data* bye);
    void ask_gateway(const commands::AskGateway& asked);
    void renew_tls(const commands::RenewTls& to);
    void reconfigure(const commands::Reconfigure& to);
    void recognise(pjsip_rx_data* request, const PeerGroup& sender) const;
    const PeerGroup* begun_before(pjsip_rx_data* request) const;
    void stop_here();
    void count_holdings() noexcept;
    void give_memory_back() noexcept;
    static void ticked(void* self);
    static void awake(void* self);

    Leg* find(std::string_view local_tag) const;
    const Dialog* asker(std::string_view local_tag, std::string_view remote_tag) const;  // whose request a response is to

    // Transactions point to them until the endpoint is gone, and the bridge goes after it.
    pjsip_module gate_module_;
    pjsip_module bridge_module_;
    pjsip_module capture_module_;
    Context context_;
    std::unique_ptr<CommandQueue> commands_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Call>> calls_;
    // In the order in which they began to wait; the first waits for a decision, of the others some do.
    struct Waiting {
        std::uint64_t id;
        Call::Awaits what;
        std::int64_t since_ns;
        PeerGroup::Id group;
    };
    std::deque<Waiting> waiting_;
    RefusedBefore refused_before_;
    AdmissionGate admission_gate_{context_.settings.admission_wait_ms_max * 1'000'000LL};
    std::unordered_map<std::string_view, Leg*> legs_;  // by local tag; the key lives in the leg's dialog
    std::unordered_map<CalleeLeg*, std::unique_ptr<CalleeLeg>> abandoned_;
    std::vector<std::unique_ptr<Call>> retired_calls_;
    std::vector<std::unique_ptr<CalleeLeg>> retired_legs_;
    std::vector<std::unique_ptr<Relay>> retired_relays_;
    static constexpr std::size_t gateway_requests_max = 1000;
    std::unordered_map<std::string_view, std::unique_ptr<GatewayRequest>> gateway_requests_;  // by local tag, as legs_
    std::vector<std::unique_ptr<GatewayRequest>> retired_requests_;
    std::atomic<std::size_t> live_calls_{0};
    std::atomic<std::size_t> abandoned_legs_{0};
    // Whoever reads the statistics may be a thread that pj does not know.
    std::atomic<std::size_t> transactions_{0};
    std::atomic<std::size_t> pools_{0};  // in use, not those that are kept for the next call
    std::size_t most_pools_ = 0;           // since memory was last given back
    BrokenStreams broken_streams_{context_};
    SecondReading second_reading_{context_};
    Connections connections_{context_};
    CertificateCheck certificates_{context_};
    Unacknowledged unacknowledged_;
    pjsip_tp_state_callback pjsuas_on_state_ = nullptr;
    PrintedMessage printed_;
    Deadline tick_{context_, this, &ticked};
    Deadline wakefulness_{context_, this, &awake};  // so that a stall is seen ahead of what pjsip itself is late with
    std::vector<Command> postponed_;                // until what came in a stall has been read
    SourceLimit peers_limit_;
    SourceLimit strangers_limit_;  // of its own: no stranger may crowd a peer out
    std::uint64_t next_id_ = 1;
    std::string not_accepting_;  // the detail of the refusal; empty: accepting

    EndedDialogs ended_{context_};

    bool captured_ = false;  // the message that was read last
    bool hears_ = false;  // until the calls of an earlier boot are known, their BYEs would get 481; what is lost is repeated
    bool registered_ = false;
    bool peers_have_changed_ = false;  // since the start
    std::mutex stop_mutex_;
    std::condition_variable stop_condition_;
    bool stopped_ = false;
};

}  // namespace sidecar
