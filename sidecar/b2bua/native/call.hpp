// One call: its two legs, what is held between them, and its deadlines.
#pragma once

#include "command.hpp"
#include "event.hpp"
#include "leg.hpp"
#include "liveness.hpp"
#include "relay.hpp"
#include "session_timer.hpp"
#include "translation.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sidecar {

// What a call takes in beside its commands.
namespace inputs {

struct Provisional {  // 101-199 of B
    CalleeLeg& leg;
    const pjsip_rx_data* response;
};
struct Answer {  // B's 2xx
    CalleeLeg& leg;
    const pjsip_rx_data* response;
};
struct Failure {  // the attempt ended without a 2xx
    CalleeLeg& leg;
    RouteFailure cause;
    const pjsip_rx_data* response;  // null: none came
};
struct Cancel {  // of A's INVITE; it was answered 200
    const pjsip_rx_data* cancel;
};
struct ByeOfA {
    pjsip_rx_data* bye;
};
struct ByeOfB {
    pjsip_rx_data* bye;
};
struct Ack {  // A's first to our 2xx
    const pjsip_rx_data* ack;
};
struct NoAck {};         // none came to our 2xx on leg A within 64*T1
struct NoAckOfRelay {};  // nor to the 2xx of a re-INVITE that passed
struct BrokenTransport {
    Side side;
};
struct HoldDeadline {};  // answer_hold_ms_max
struct RingDeadline {};
struct ExtendDeadline {};  // the grant will soon be used up
struct Limit {  // of an answered call: maximum, grant, or a peer that is gone
    DeadlineKind kind;
    const Reasons& reasons;
    const Silence* silence = nullptr;  // of a peer that is gone
};
struct Keep {};    // for the next start, where nothing of it is open
struct Life {  // a message inside the dialog of this leg
    Leg& leg;
    const pjsip_rx_data* message;
};
struct Request {  // likewise, to be passed on
    Leg& leg;
    pjsip_rx_data* request;
};
struct LegEnded {};  // the legs know which

}  // namespace inputs

// A call moves along its states, left to right, and never back but from `rerouting`. The names are those of core/call.Phase
// for what the core makes of it at that moment:
//
//   admitting ──> routing ──> answering ──> talking ──> ending
//                  │  ^                                   ^
//                  v  │                                   │ from each of them
//                rerouting                                │
//
//   admitting   A's INVITE is in; Route, Reject or the hold deadline are awaited
//   routing     an attempt is on its way on leg B
//   rerouting   it failed, and its failure is held; Route, RelayFailure, Release or the hold deadline are awaited
//   answering   B's 2xx is held; RelayAnswer, Release or the hold deadline are awaited
//   talking     our 2xx left on leg A
//   ending      the cause is known and told to both legs; their last transactions are awaited
//
// A call of an earlier boot begins `adopted`: its Release is awaited, or that a peer ends it. Then it is `ending`, too.
// Before a planned restart one that talks becomes `kept`: it does nothing more here, and what its peers say they say again to
// the next boot, where it begins `talking`.
//
// What each input does in each of them is one table at the top of call.cpp.
//
// Owns its legs, its relays and every held message. The bridge owns it, and frees it after both legs were reported.
class Call {
public:
    Call(Context& context, std::uint64_t id);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    std::uint64_t id() const { return id_; }
    // Which decision about it is awaited: whether it may begin, or whether its answer may pass.
    enum class Awaits { nothing, beginning, answer };
    Awaits awaits() const;
    PeerGroup::Id caller_group() const { return caller_group_; }
    // With what it claims of another call. False: it could not be answered, and is no call.
    bool start(pjsip_rx_data* invite, std::optional<Claim> claim);
    void announce(const pjsip_rx_data* invite);
    bool adopt(const commands::Adopt& saved);  // false: what was saved cannot be read
    bool is_kept() const { return state_ == State::kept; }

    template <typename I>
    void on(const I& input);  // a command or one of `inputs`

    Leg* other(const Leg& leg);
    // That of the current attempt which has these tags on this leg, if it is not the legs' own; null: none.
    EarlyDialog* early_dialog(Side side, std::string_view local_tag, std::string_view remote_tag) const;

    void on_ack(Leg& leg, const pjsip_rx_data* ack);  // to our 2xx, or to one that passed: the legs and relays know

    // From the relays.
    // A 2xx to a re-INVITE or UPDATE passed: targets may have moved (RFC 3261 §12.2, RFC 6141 §4.9).
    // `sent`: the body of the request, or null.
    void on_refreshed(Relay& relay, const pjsip_rx_data* response, const pjsip_msg_body* sent);
    void on_own_refresh(Leg& leg, const pjsip_rx_data* response);  // likewise, of the session timer's own
    void on_not_sent(Leg& to);
    bool negotiates() const;  // an INVITE that passed is open
    void remove(Relay& relay);
    int peer_cseq_of_invite(const Leg& from, int cseq) const;  // for RAck
    void note_refer(const Leg& from, int uas_cseq, int uac_cseq);
    // What the other leg calls the subscription that a REFER made, by its CSeq; none: there was no such REFER. Notified by
    // whom it was sent to, and asked for by its sender.
    std::optional<int> peer_cseq_of_refer(const Leg& from, bool notify, int cseq) const;

private:
    enum class State { admitting, routing, rerouting, answering, talking, ending, adopted, kept };
    static constexpr std::size_t states = 8;
    template <typename I>
    using Handler = void (Call::*)(const I&);

    template <typename E>
    void tell(const E& event);
    template <typename E>
    void tell(const E& event, Moment at);

    template <typename I>
    void ignored(const I&) {}
    template <typename I>
    void late(const I&);  // a command that comes too late, or too early
    template <typename I>
    void unknown(const I&);  // a row that nobody thought of: a defect, and counted as one

    void route(const commands::Route& command);
    void relay_answer(const commands::RelayAnswer&);
    void relay_failure(const commands::RelayFailure& command);
    void reject(const commands::Reject& command);
    void release(const commands::Release& command);
    void arm_before_answer(const commands::ArmDeadline& command);
    void arm_in_call(const commands::ArmDeadline& command);

    EarlyDialog* early_dialog_of(CalleeLeg& leg, const pjsip_rx_data* response);
    void stand_in_for_prack(EarlyDialog& early, const pjsip_rx_data* response);
    EarlyDialog* early_dialog_of(const Leg& leg, const pjsip_rx_data* request) const;
    void make_own(EarlyDialog& answered);
    void tell_of_branches();
    bool limit_came_first();
    bool left_one_branch(pjsip_rx_data* bye);
    void pass_provisional(const inputs::Provisional& input);
    void hold_answer(const inputs::Answer& input);
    void hold_failure(const inputs::Failure& input);
    void cancelled(const inputs::Cancel& input);
    void left_by_a_before_answer(const inputs::ByeOfA& input);
    void left_by_a(const inputs::ByeOfA& input);
    void bye_of_a_crossed(const inputs::ByeOfA& input);
    void bye_of_b_too_early(const inputs::ByeOfB& input);
    void left_by_b_while_held(const inputs::ByeOfB& input);
    void left_by_b(const inputs::ByeOfB& input);
    void bye_of_b_crossed(const inputs::ByeOfB& input);
    void acknowledged(const inputs::Ack& input);
    void acknowledged_late(const inputs::Ack&);
    void not_acknowledged(const inputs::NoAck&);
    void never_acknowledged(const inputs::NoAck&);
    void relay_not_acknowledged(const inputs::NoAckOfRelay&);
    void transport_broken(const inputs::BrokenTransport& input);
    void transport_broken_late(const inputs::BrokenTransport& input);
    void held_too_long(const inputs::HoldDeadline&);
    void rang_too_long(const inputs::RingDeadline&);
    void limit_reached(const inputs::Limit& input);
    void slice_ending(const inputs::ExtendDeadline&);
    void show_life(const inputs::Life& input);
    void keep(const inputs::Keep&);
    void left_by_a_adopted(const inputs::ByeOfA& input);
    void left_by_b_adopted(const inputs::ByeOfB& input);
    void refuse_adopted(const inputs::Request& input);
    void relay_before_answer(const inputs::Request& input);
    void relay_in_call(const inputs::Request& input);
    void refuse_late(const inputs::Request& input);
    void report_ended_legs(const inputs::LegEnded&);

    bool is_quiet() const;  // no transaction is open, nor an ACK owed
    bool go_on(const commands::Adopt& saved);

    // `reasons` in a final response or a BYE, whichever the leg needs.
    void end_a(int sip_code, const Reasons& reasons, int retry_after_s = 0);
    void end_both(int sip_code, const Reasons& reasons, int retry_after_s = 0);
    void begin_ending();
    void close_relays();
    bool take_bye(Leg& leg, pjsip_rx_data* bye);  // false: it could not be answered
    bool refused_in_dialog(Leg& leg, pjsip_rx_data* request);
    bool refused_overlapping(Leg& leg, pjsip_rx_data* request);
    bool refuse_in_dialog(Leg& leg, pjsip_rx_data* request, Counter counter, int code, int retry_after_s = 0);
    void pass_request(Leg& leg, pjsip_rx_data* request);
    void refresh_target(Leg& leg, const std::string& target);
    void give_up_attempt();

    static void hold_fired(void* self);
    static void ring_fired(void* self);
    static void limit_fired(void* self);
    static void extend_fired(void* self);

    Context& context_;
    const std::uint64_t id_;
    const std::string b_token_;
    State state_ = State::admitting;
    CallerLeg a_;
    std::unique_ptr<CalleeLeg> b_;  // the current attempt
    std::unique_ptr<HeldMessage> invite_;   // until the call is answered: every attempt needs it
    std::unique_ptr<HeldMessage> answer_;   // B's 2xx while answering
    std::unique_ptr<HeldMessage> failure_;  // B's final response while rerouting; null where none arrived
    int max_forwards_ = 70;
    bool early_media_relayed_ = false;
    bool renegotiated_early_ = false;  // B has had other SDP than that of the INVITE
    bool own_dialog_used_ = false;     // leg A's own, by an attempt
    bool caller_changed_ = false;      // leg A's dialog is not what it was at the INVITE
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
    int b_bye_challenge_ = 0;
    std::vector<std::string> b_reasons_;
    int no_answer_code_ = 0;  // for A where an attempt failed without a response

    Moment answered_at_{};
    PeerGroup::Id caller_group_ = 0;
    DeadlineKind limit_kind_ = DeadlineKind::max_duration;  // or grant: the one that comes first
    long long limit_ms_ = -1;
    std::vector<std::string> limit_reasons_;
    long long extend_ms_ = -1;
    Deadline hold_{context_, this, &hold_fired};
    Deadline ring_{context_, this, &ring_fired};
    Deadline limit_{context_, this, &limit_fired};
    Deadline extend_{context_, this, &extend_fired};
    Liveness liveness_{context_, *this};
    SessionTimer session_{context_, *this};
};

// All that the INVITE itself says; without `leg`. It borrows from it.
InviteReceived invite_of(Context& context, const pjsip_rx_data* invite, std::uint64_t id, Moment at);

}  // namespace sidecar
