// The session interval of RFC 4028: who has to refresh it, and what becomes of the call where nobody does.
#pragma once

#include "deadline.hpp"
#include "event.hpp"
#include "message.hpp"
#include "transaction.hpp"

#include <array>

namespace sidecar {

class Call;
class Leg;

// Session timers are the peers' own, and their headers pass. The 2xx says what they agreed on, one interval for both legs,
// and who refreshes. Where that side knows timers and does not refresh, nor says BYE, we end the call (§10). Where a side
// binds the other to refresh, and that one never said that it can, we refresh towards the side that insists (§7.4). Where
// it does not even insist, nobody has to refresh, and the call goes on.
//
// Owned by its call, whose legs it borrows from `start` to `stop`.
class SessionTimer final : public TsxUser {
public:
    SessionTimer(Context& context, Call& call) : context_(context), call_(call) {}
    SessionTimer(const SessionTimer&) = delete;
    SessionTimer& operator=(const SessionTimer&) = delete;

    void learn(Side side, const pjsip_msg* msg);  // whether that side knows timers, of any message of it
    void start(Leg& a, Leg& b);                   // our 2xx left on leg A
    // A 2xx to an INVITE or UPDATE of `asker` passed; the first of them before `start`.
    void agreed(Side asker, const pjsip_msg* answer);
    // SDP that this side has got, and taken. Only that of the side that we refresh towards is kept.
    void sent(Side side, const pjsip_msg_body* body);
    void sent(Side side, const pjsip_rx_data* message);
    bool asks() const { return static_cast<bool>(request_); }  // a request of ours is open
    void keep(KeptState& kept) const;
    void go_on(const KeptState& kept, Leg& a, Leg& b);  // instead of `start`
    bool invites() const { return invites_ && request_; }  // our re-INVITE is open
    void stop();

    void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;

private:
    void take(Side asker, const pjsip_msg* answer, bool insists);
    void take_sdp(std::string_view sdp);
    void arm();
    void refresh();
    void send(bool by_update);
    void on_answer(int code, const pjsip_rx_data* answer);
    void refresh_in(long long milliseconds);
    void give_up();
    static void over(void* self);
    static void due(void* self) { static_cast<SessionTimer*>(self)->refresh(); }

    Context& context_;
    Call& call_;
    std::array<Leg*, 2> legs_{};           // A, B; null: not started, or stopped
    std::array<bool, 2> knows_{};          // said `timer`
    int interval_s_ = 0;                   // 0: no session timer
    enum class Refresher { nobody, peer, us } refresher_ = Refresher::nobody;
    Side towards_ = Side::b;               // where it is us
    bool no_update_ = false;               // refused, whatever its Allow says
    PoolPtr sdp_pool_;
    pjsip_msg_body* sdp_ = nullptr;        // the last that `towards_` has got; null: not known
    Tsx request_{context_};
    Side asked_ = Side::b;                 // whom; `towards_` may be another by the time it answers
    bool invites_ = false;
    bool cancelled_ = false;
    int cseq_ = 0;
    int tries_ = 0;                        // answers to challenges
    Deadline over_{context_, this, &over};
    Deadline due_{context_, this, &due};
};

}  // namespace sidecar
