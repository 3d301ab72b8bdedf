// One in-dialog request on its way from one leg to the other, and its responses on their way back.
#pragma once

#include "dialog.hpp"
#include "event.hpp"
#include "message.hpp"
#include "transaction.hpp"

#include <string>
#include <vector>

namespace sidecar {

class Call;
class EarlyDialog;
class Leg;

// Borrows its call and both legs: the call owns it and frees it before them. It owns the base of its responses.
class Relay final : public TsxUser {
public:
    Relay(Context& context, Call& call, Leg& from, Leg& to, EarlyDialog* in)
        : context_(context), call_(call), from_(from), to_(to), in_(in) {}
    Relay(const Relay&) = delete;
    Relay& operator=(const Relay&) = delete;

    // With the headers that were translated for it. False: it was answered at once, and is done.
    bool start(pjsip_rx_data* request, const std::vector<NamedHeader>& translated);

    bool is_invite() const { return is_invite_; }
    bool open() const { return static_cast<bool>(uas_) && !final_sent_; }  // a final response is still owed
    bool awaits_any_ack(const Leg& leg) const { return &from_ == &leg && answered_; }
    bool awaits_ack(const Leg& leg, int cseq) const { return awaits_any_ack(leg) && uas_cseq_ == cseq; }
    Leg& from() const { return from_; }
    Leg& to() const { return to_; }
    const EarlyDialog* in() const { return in_; }  // null: the legs' own dialogs
    Dialog& from_dialog() const;
    Dialog& to_dialog() const;
    void swapped(EarlyDialog& early);  // with the legs' own
    int uas_cseq() const { return uas_cseq_; }
    int uac_cseq() const { return uac_cseq_; }
    bool refreshes() const { return is_invite_ || is_update_; }
    const std::string& new_target() const { return new_target_; }

    void on_ack(const pjsip_rx_data* ack);
    void close();  // the call ends: answers what is still open

    void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;
    void on_cancel(pjsip_rx_data* cancel) override;

private:
    bool tried_again(const pjsip_transaction* tsx, const pjsip_rx_data* challenge);
    void note_refer() const;
    void answer(int code, const pjsip_rx_data* response);
    void send_cancel();

    Context& context_;
    Call& call_;
    Leg& from_;
    Leg& to_;
    EarlyDialog* in_;
    Tsx uas_{context_};
    Tsx uac_{context_};
    ResponseBase responses_;
    bool is_invite_ = false;
    bool is_update_ = false;
    bool is_refer_ = false;
    bool answered_ = false;  // 2xx to a re-INVITE: its ACK is awaited
    bool final_sent_ = false;
    bool heard_ = false;
    bool cancel_wanted_ = false;
    bool cancel_sent_ = false;
    std::vector<std::string> cancel_reasons_;
    int tries_ = 0;  // answers to challenges
    int uas_cseq_ = 0;
    int uac_cseq_ = 0;
    std::string new_target_;  // Contact of a target refresh request
};

}  // namespace sidecar
