// The two legs of a call: A, where the caller's INVITE came in, and B, an INVITE that we sent. Each is a dialog, the
// transaction of its INVITE, and the BYE that we may send.
#pragma once

#include "command.hpp"
#include "deadline.hpp"
#include "dialog.hpp"
#include "early_dialogs.hpp"
#include "event.hpp"
#include "message.hpp"
#include "transaction.hpp"

#include <bitset>
#include <memory>
#include <string>
#include <vector>

namespace sidecar {

class Call;

enum class LegState {
    inviting,   // no To tag yet
    early,      // a provisional response with a tag passed
    answered,   // a 2xx passed, its ACK did not
    confirmed,  // ACK passed
    leaving,    // our BYE is on its way
    ended,      // nothing more is expected of it
};

inline constexpr int invite_tries_max = 2;  // see Dialog::again
inline constexpr int branches_max = 8;  // 2xx of other branches of one INVITE that get ACK and BYE
void report_dropped(Context& context, std::uint64_t bridge_id, int attempt, int code, const Dialog& answered);

// Owns its dialog. Its transactions are pjsip's and borrowed (see Tsx). Owned by its call; a leg B that was given up for
// another attempt is handed to the bridge until its last transaction ends, and then has no call.
class Leg : public TsxUser {
public:
    Leg(Context& context, Call& call, Side side);
    virtual ~Leg();
    Leg(const Leg&) = delete;
    Leg& operator=(const Leg&) = delete;

    Dialog dialog;

    Call* call() const { return call_; }
    std::uint64_t bridge_id() const { return bridge_id_; }
    Side side() const { return side_; }
    LegState state() const { return state_; }
    bool ended() const { return state_ == LegState::ended; }
    bool alive() const { return alive_; }
    int last_code() const { return last_code_; }
    int bye_challenge() const { return bye_challenge_; }  // 401 or 407 to our BYE, which nobody answers; 0: none
    int invite_cseq() const { return invite_cseq_; }

    // BYE, with the headers of the peer's BYE where there is one.
    void hang_up(const std::vector<std::string>& reasons, const pjsip_rx_data* bye = nullptr);
    void peer_left(int code);  // its BYE was answered
    // ACK to a 2xx of the peer; `from` carries the body of the other leg's ACK, or is null where we end the call.
    void acknowledge(int cseq, const pjsip_rx_data* from);
    void on_repeated_answer(const pjsip_rx_data* answer);  // a 2xx without transaction: its ACK again, once there was one
    void learn_methods(const pjsip_msg* msg);  // of its Allow, where it has one
    bool allows_update() const { return allows_update_; }
    LivenessCheck liveness() const { return liveness_; }
    bool life_due(std::int64_t mono_ns);  // true at most once a second
    // Our re-INVITE to this peer is overtaken by a BYE: it is not repeated any more, and a 2xx to it gets its ACK all the same
    // (RFC 3261 §13.2.2.4).
    void overtake(Tsx& reinvite, int cseq);
    int overtaken_cseq() const { return overtaken_cseq_; }  // 0: none
    // That of its dialogs which has these tags, early ones of a call included; null: none.
    Dialog* dialog_between(std::string_view local_tag, std::string_view remote_tag);
    Dialog& dialog_meant(std::string_view local_tag, std::string_view remote_tag);  // else the leg's own
    virtual void let_go_of(const pjsip_transport* transport) { dialog.let_go_of(transport); }
    // What of a message of the other side may pass to this peer.
    header_policy::Options passing() const;
    KeptLeg kept() const;  // its `knows_timer` is the session timer's to say
    void let_identity_pass(bool whether) { identity_passes_ = whether; }

protected:
    void enter_table();
    void leave_table();
    void take(const KeptLeg& kept);
    // It was over before the bridge adopted it: known alone for what of it is repeated.
    void be_over();
    void finish(int code);
    bool on_ending_tsx(pjsip_transaction* tsx, pjsip_event& event);  // false: not about our BYE, nor what it overtook
    virtual void on_finished() = 0;

    Context& context_;
    Call* call_;
    const std::uint64_t bridge_id_;
    const Side side_;
    LegState state_ = LegState::inviting;
    Tsx invite_{context_};
    Tsx bye_{context_};
    int invite_cseq_ = 0;
    int last_code_ = 0;
    int bye_challenge_ = 0;
    bool alive_ = false;
    std::vector<std::string> withheld_;  // names of headers, lower case
    bool identity_passes_ = true;
    LivenessCheck liveness_ = LivenessCheck::any;

private:
    bool on_bye_tsx(pjsip_transaction* tsx, pjsip_event& event);
    bool on_overtaken_tsx(pjsip_transaction* tsx, pjsip_event& event);

    Tsx overtaken_{context_};
    int overtaken_cseq_ = 0;
    int bye_tries_ = 0;  // answers to challenges
    struct SentAck {  // made again where it must be repeated, with the same branch: no message is kept for it
        int cseq = -1;
        std::string branch;
        std::unique_ptr<HeldMessage> body;  // the answer of a delayed offer
    };
    void send_last_ack();

    bool in_table_ = false;
    bool allows_update_ = false;
    std::int64_t last_life_ns_ = 0;
    SentAck last_ack_;
};

class CallerLeg final : public Leg {
public:
    CallerLeg(Context& context, Call& call) : Leg(context, call, Side::a) {}

    bool accept(pjsip_rx_data* invite);  // takes the INVITE up; its 100 comes in `trying_ms` at the latest
    void trying();  // 100, unless it has had one
    // As an earlier boot left it; `invite`: as it came then, where it may have no final response, or null.
    bool resume(const commands::Adopt& saved, pjsip_rx_data* invite);
    bool go_on(const commands::Adopt& saved, const KeptLeg& kept);  // with the call
    void provisional(const pjsip_rx_data* from_b, const header_policy::Options& options, const Dialog& in);
    bool answer(const HeldMessage& held);
    void refuse(int code, const std::vector<std::string>& reasons, const HeldMessage* held = nullptr,
                const header_policy::Options& options = {}, int retry_after_s = 0);
    // An earlier boot may have answered it, and nobody knows: what does not fit means nothing to the peer.
    void refuse_and_leave(int code, const std::vector<std::string>& reasons);
    bool may_be_answered() const { return may_be_answered_; }
    enum class Ack { first, repeated, of_another };  // of_another: of a re-INVITE of this dialog
    Ack acknowledged(const pjsip_rx_data* ack);

    // RFC 3261 §15: no BYE before our 2xx was acknowledged or given up.
    void leave(const std::vector<std::string>& reasons, const pjsip_rx_data* bye = nullptr);

    void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;
    void on_cancel(pjsip_rx_data* cancel) override;
    const RemoteParty* asked_by() const override { return &dialog.party(); }

private:
    void end_invite(int code, const std::vector<std::string>& reasons, const HeldMessage* held,
                    const header_policy::Options& options, int retry_after_s, bool leaves);
    void on_finished() override;

    static void trying_fired(void* self) { static_cast<CallerLeg*>(self)->trying(); }

    ResponseBase responses_;
    Deadline trying_{context_, this, &trying_fired};
    bool tried_ = false;
    bool bye_is_due_ = false;
    std::vector<std::string> due_reasons_;
    bool may_be_answered_ = false;  // by an earlier boot
};

class CalleeLeg final : public Leg {
public:
    CalleeLeg(Context& context, Call& call, int attempt);
    ~CalleeLeg();

    bool start(const commands::Route& route, const HeldMessage& invite, const pjsip_fromto_hdr* caller, int max_forwards,
               std::string_view b_token, const NamedHeader* claim);
    // As an earlier boot left it: answered, or its INVITE unanswered.
    bool resume(const commands::Adopt& saved);
    bool go_on(const commands::Adopt& saved, const KeptLeg& kept);  // with the call; it has a route
    bool resume_invite(const commands::Adopt& saved, const pjsip_fromto_hdr* caller);
    void on_late_answer(const pjsip_rx_data* answer);     // to the INVITE of an earlier boot
    void on_late_failure(const pjsip_rx_data* response);  // likewise

    void cancel(const std::vector<std::string>& reasons);
    void confirm(const pjsip_rx_data* from_a);  // ACK to its 2xx
    // Ends it whatever its state: CANCEL, or ACK (where it is owed) and BYE.
    void leave(const std::vector<std::string>& reasons, const pjsip_rx_data* bye = nullptr);
    void give_up();  // another attempt follows, or A got its failure: no more news of it reaches the call
    void on_branch_answer(const pjsip_rx_data* answer);  // a 2xx with another To tag than ours

    int attempt() const { return attempt_; }
    int heard_code() const { return heard_code_; }
    bool was_answered() const { return was_answered_; }
    bool single_branch() const { return single_branch_; }
    EarlyDialogs& early_dialogs() { return early_dialogs_; }
    // The leg's own dialog: made by a response with this code; 0: by none. Open until the caller leaves it.
    int own_code = 0;
    bool own_open = false;
    std::size_t dialogs_open() const { return early_dialogs_.open_count() + (own_open ? 1 : 0); }
    const std::vector<std::string>& last_reasons() const { return last_reasons_; }  // of the final response to a cancelled INVITE
    bool first_of_its_code(int code);
    void let_go_of(const pjsip_transport* transport) override;

    void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;

private:
    void follow(const commands::Route& route);  // what holds for every message to its gateway
    static void silent(void* self);
    void await_response();
    void await_progress();
    void on_provisional(const pjsip_rx_data* response);
    void on_answer(const pjsip_rx_data* response);
    bool tried_again(const pjsip_rx_data* challenge);
    void on_failure(RouteFailure cause, const pjsip_rx_data* response);
    void send_cancel();
    void cancel_saved();
    bool is_of_saved_invite(int cseq) const;
    void on_finished() override;

    const int attempt_;
    int heard_code_ = 0;
    bool was_answered_ = false;
    bool cancel_wanted_ = false;
    bool cancel_sent_ = false;
    bool by_udp_ = false;
    std::vector<std::string> cancel_reasons_;
    std::bitset<100> codes_seen_;
    bool single_branch_ = false;
    EarlyDialogs early_dialogs_;  // but for the leg's own
    std::vector<std::string> branches_dropped_;  // remote tags of other branches that got ACK and BYE; bounded
    Deadline silence_{context_, this, &silent};  // of the gateway: first of all, then of whoever is behind its 100
    int no_response_ms_ = 0;
    int no_progress_ms_ = 0;  // 0: a 100 is enough
    std::int64_t sent_ns_ = 0;
    std::vector<std::string> last_reasons_;
    int invite_tries_ = 0;  // answers to challenges
    TxPtr saved_invite_;    // as an earlier boot has sent it; it has no transaction here
};

}  // namespace sidecar
