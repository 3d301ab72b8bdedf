// Whether an answered call still has its two peers: what is heard of each, and OPTIONS in its dialog.
#pragma once

#include "deadline.hpp"
#include "event.hpp"
#include "terms.hpp"
#include "transaction.hpp"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace sidecar {

class Call;
class Leg;

// Whether a final response says that the peer is there. 481 and 408 end a dialog (RFC 3261 §12.2.1.2).
constexpr bool is_life(int code) { return code != PJSIP_SC_CALL_TSX_DOES_NOT_EXIST && code != PJSIP_SC_REQUEST_TIMEOUT; }

// Every options_interval_ms each peer is asked by OPTIONS, which Timer F bounds. Whatever is heard of it meanwhile, in any
// request or response of its dialog, is the answer. Many peers know no OPTIONS in a dialog: after 16*T1 it is asked once
// more, by what it is sure to know. Never by re-INVITE, with which it might begin to negotiate media. A connection that
// breaks ends no call: the next request opens another (§18.1.1). Only where that fails too is the transport lost.
//
// LivenessCheck of the leg: `any` is all of this; with `options` nothing but an answer to an OPTIONS counts; with `off` the
// peer is not asked.
//
// Owned by its call, whose legs it borrows from `start` to `stop`.
class Liveness {
public:
    Liveness(Context& context, Call& call);
    Liveness(const Liveness&) = delete;
    Liveness& operator=(const Liveness&) = delete;

    void answered(const pjsip_rx_data* answer);  // B's 2xx, which is held
    void start(Leg& a, Leg& b);               // our 2xx left on leg A
    void doubt(Leg& leg);                     // a request could not be sent to it: ask at once
    void heard(const Leg& leg, const pjsip_rx_data* message);  // of its dialog
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
        bool is_asked() const;  // at the interval
        bool is(const Leg& leg) const { return leg_ == &leg; }
        void heard(const pjsip_rx_data* message);  // and take it for a sign of life
        void note(const pjsip_rx_data* message);
        void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;

    private:
        void on_answer(int code, const pjsip_rx_data* answer);
        void ask_otherwise();
        void stop_asking();
        void gone();
        void not_sent();
        static void again_fired(void* self) { static_cast<Peer*>(self)->ask_otherwise(); }

        Liveness& owner_;
        Leg* leg_ = nullptr;
        Tsx options_{owner_.context_};
        Tsx second_{owner_.context_};
        Deadline again_{owner_.context_, this, &again_fired};
        std::vector<std::string> asked_;  // methods, since an OPTIONS left
        std::string heard_;               // the last message
        std::int64_t heard_ns_ = 0;
        bool in_doubt_ = false;  // the last request could not be sent
    };

    void tick();
    void ask_again_soon();
    void give_up(const Silence& silence);
    static void tick_fired(void* self) { static_cast<Liveness*>(self)->tick(); }

    Context& context_;
    Call& call_;
    std::array<Peer, 2> peers_;  // A, B
    bool running_ = false;
    int interval_ms_ = 0;  // of this call; 0: nobody is asked
    Deadline tick_{context_, this, &tick_fired};
};

}  // namespace sidecar
