// One call: its two legs, what is held between them, and its deadlines.
#pragma once

#include "command_queue.hpp"
#include "leg.hpp"
#include "liveness.hpp"
#include "relay.hpp"
#include "translation.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sidecar {

// The states of a call, and what ends each:
//
//   deciding   A's INVITE is in; Route, Reject or the hold deadline are awaited
//   calling    an attempt is on its way on leg B
//   failed     the attempt failed; Route, RelayFailure, Release or the hold deadline are awaited
//   holding    B's 2xx is held; RelayAnswer, Release or the hold deadline are awaited
//   answered   our 2xx left on leg A
//   ending     the cause is known and told to both legs; their last transactions are awaited
//
// Owns its legs, its relays and every held message. The bridge owns it, and frees it after both legs were reported.
class Call {
public:
    explicit Call(std::uint64_t id);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    std::uint64_t id() const { return id_; }
    bool undecided() const { return state_ == State::deciding; }
    // With what it claims of another call. False: it could not be answered, and is no call.
    bool start(pjsip_rx_data* invite, std::optional<Claim> claim);
    void announce(const pjsip_rx_data* invite);

    void run(const commands::Route& command);
    void run(const commands::RelayAnswer& command);
    void run(const commands::RelayFailure& command);
    void run(const commands::Reject& command);
    void run(const commands::Release& command);
    void run(const commands::ArmDeadline& command);
    Leg* other(const Leg& leg);

    // From the legs.
    void on_provisional(CalleeLeg& leg, const pjsip_rx_data* response, bool other_branch);
    void on_answer(CalleeLeg& leg, const pjsip_rx_data* response);
    void on_failed(CalleeLeg& leg, RouteFailure cause, const pjsip_rx_data* response);
    void on_cancel(const pjsip_rx_data* cancel);
    void on_not_acknowledged();
    void on_transport_failed(Side side);
    void settle();  // reports the legs that ended, and retires the call after the last

    // From the bridge: requests inside a dialog.
    void on_ack(Leg& leg, const pjsip_rx_data* ack);
    void on_bye(Leg& leg, pjsip_rx_data* bye);
    void on_request(Leg& leg, pjsip_rx_data* request);
    void heard(Leg& leg);

    // From the relays.
    // A 2xx to a re-INVITE or UPDATE passed: targets may have moved (RFC 3261 §12.2, RFC 6141 §4.9).
    void on_refreshed(Relay& relay, const std::string& target_of_answer, const pjsip_rx_data* response);
    void on_relay_not_acknowledged();
    void on_relay_not_sent(Leg& to);
    void remove(Relay& relay);
    int peer_cseq_of_invite(const Leg& from, int cseq) const;  // for RAck
    void note_refer(const Leg& from, int uas_cseq, int uac_cseq);
    // What the other leg calls the subscription that a REFER made, by its CSeq; none: there was no such REFER. Notified by
    // whom it was sent to, and asked for by its sender.
    std::optional<int> peer_cseq_of_refer(const Leg& from, bool notify, int cseq) const;

    // From the liveness.
    void on_dead_peer();
    void on_session_expired();

    template <typename E>
    void tell(const E& event);

private:
    enum class State { deciding, calling, failed, holding, answered, ending };

    void end_both(int sip_code, const std::vector<std::string>& reasons, int retry_after_s = 0);
    void begin_ending();
    void close_relays();
    bool refused_in_dialog(Leg& leg, pjsip_rx_data* request);
    void give_up_attempt();
    bool waiting() const { return state_ != State::answered && state_ != State::ending; }

    void on_hold_deadline();
    void on_ring_deadline();
    void on_limit_deadline(DeadlineKind kind, const std::vector<std::string>& reasons);
    static void hold_fired(void* self) { static_cast<Call*>(self)->on_hold_deadline(); }
    static void ring_fired(void* self) { static_cast<Call*>(self)->on_ring_deadline(); }
    static void duration_fired(void* self);
    static void grant_fired(void* self);

    const std::uint64_t id_;
    const std::string b_token_;
    State state_ = State::deciding;
    CallerLeg a_;
    std::unique_ptr<CalleeLeg> b_;  // the current attempt
    std::unique_ptr<HeldMessage> invite_;   // until the call is answered: every attempt needs it
    std::unique_ptr<HeldMessage> answer_;   // B's 2xx while holding
    std::unique_ptr<HeldMessage> failure_;  // B's final response while failed; null where none arrived
    int max_forwards_ = 70;
    bool early_media_relayed_ = false;
    std::vector<std::unique_ptr<Relay>> relays_;
    struct Referral {
        Side from;
        int uas_cseq;
        int uac_cseq;
    };
    std::vector<Referral> referrals_;  // the last of the call
    std::optional<Claim> claim_;       // what leg B's INVITE says of another call

    bool a_reported_ = false;
    bool b_existed_ = false;
    bool b_reported_ = false;
    int b_code_ = 0;  // of the last attempt
    bool b_alive_ = false;
    std::vector<std::string> b_reasons_;
    int no_answer_code_ = 0;  // for A where an attempt failed without a response

    std::int64_t answered_ns_ = 0;
    long long duration_ms_ = -1;
    long long grant_ms_ = -1;
    std::vector<std::string> duration_reasons_;
    std::vector<std::string> grant_reasons_;
    Deadline hold_{this, &hold_fired};
    Deadline ring_{this, &ring_fired};
    Deadline duration_{this, &duration_fired};
    Deadline grant_{this, &grant_fired};
    Liveness liveness_{*this};
};

}  // namespace sidecar
