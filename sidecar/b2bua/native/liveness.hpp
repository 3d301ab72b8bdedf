// Whether an answered call still has its two peers: OPTIONS in each dialog, and the session interval of RFC 4028.
#pragma once

#include "deadline.hpp"
#include "terms.hpp"
#include "transaction.hpp"

#include <array>
#include <string_view>

namespace sidecar {

class Call;
class Leg;

// Every options_interval_ms each peer is asked, by one OPTIONS at a time. Whatever it answers is a sign of life, but for
// the 481 and the 408 that end a dialog (RFC 3261 §12.2.1.2); an OPTIONS that nobody answers ends the call. A connection
// that breaks does not: the next request opens another (§18.1.1). Only where that fails too is the transport lost.
//
// Session timers are the peers' own, and their headers pass. The 2xx says what they agreed on, one interval for both
// legs; where nobody refreshes within it, and nobody says BYE either, we end the call (RFC 4028 §10).
//
// Owned by its call, whose legs it borrows from `start` to `stop`.
class Liveness {
public:
    Liveness(Context& context, Call& call);
    Liveness(const Liveness&) = delete;
    Liveness& operator=(const Liveness&) = delete;

    void agreed(const pjsip_msg* answer);     // B's 2xx, which is held
    void start(Leg& a, Leg& b);               // our 2xx left on leg A
    void refreshed(const pjsip_msg* answer);  // a 2xx to a re-INVITE or UPDATE passed
    void doubt(Leg& leg);                     // a request could not be sent to it: ask at once
    void stop();

private:
    class Peer final : public TsxUser {
    public:
        explicit Peer(Liveness& owner) : owner_(owner) {}
        void start(Leg& leg) { leg_ = &leg; }
        void stop();
        void ask();
        void doubt() { in_doubt_ = true; }
        bool in_doubt() const { return in_doubt_; }
        bool is(const Leg& leg) const { return leg_ == &leg; }
        void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;

    private:
        void not_sent();

        Liveness& owner_;
        Leg* leg_ = nullptr;
        Tsx options_{owner_.context_};
        bool in_doubt_ = false;  // the last request could not be sent
    };

    void tick();
    void ask_again_soon();
    void arm_session();
    void give_up(DeadlineKind kind, std::string_view detail);
    static void tick_fired(void* self) { static_cast<Liveness*>(self)->tick(); }
    static void session_fired(void* self);

    Context& context_;
    Call& call_;
    std::array<Peer, 2> peers_;  // A, B
    bool running_ = false;
    int session_s_ = 0;  // 0: no session timer
    Deadline tick_{context_, this, &tick_fired};
    Deadline session_{context_, this, &session_fired};
};

}  // namespace sidecar
