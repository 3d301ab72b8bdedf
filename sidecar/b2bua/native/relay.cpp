#include "relay.hpp"

#include "call.hpp"
#include "leg.hpp"

namespace sidecar {
namespace {

bool is_response(const pjsip_event& event) { return event.body.tsx_state.type == PJSIP_EVENT_RX_MSG; }

}  // namespace

Dialog& Relay::from_dialog() const { return in_ != nullptr ? in_->of(from_.side()) : from_.dialog; }

Dialog& Relay::to_dialog() const { return in_ != nullptr ? in_->of(to_.side()) : to_.dialog; }

void Relay::swapped(EarlyDialog& early) {
    if (in_ == nullptr) {
        in_ = &early;
    } else if (in_ == &early) {
        in_ = nullptr;
    }
}

bool Relay::start(pjsip_rx_data* request, const std::vector<NamedHeader>& translated) {
    const pjsip_msg* msg = request->msg_info.msg;
    const pjsip_method& method = msg->line.req.method;
    is_invite_ = method.id == PJSIP_INVITE_METHOD;
    is_update_ = view(method.name) == "UPDATE";
    is_refer_ = view(method.name) == "REFER";
    uas_cseq_ = request->msg_info.cseq->cseq;
    if (refreshes()) new_target_ = contact_of(msg);
    if (!uas_.accept(request, this)) return false;
    responses_ = ResponseBase(context_, request, from_dialog().local_tag());
    if (!responses_) return false;
    if (is_invite_) uas_.respond(responses_.trying());

    TxPtr passed = to_dialog().request(method);
    uac_cseq_ = to_dialog().local_cseq() - 1;
    const auto passing = to_.passing();
    pass_through(context_, request, passed.get(), passing);
    if (!passing.identity && has_identity(&msg->hdr)) context_.counters.add(Counter::identities_removed);
    if (request->msg_info.max_fwd != nullptr) {
        auto* hops = static_cast<pjsip_max_fwd_hdr*>(pjsip_msg_find_hdr(passed->msg, PJSIP_H_MAX_FORWARDS, nullptr));
        hops->ivalue = request->msg_info.max_fwd->ivalue - 1;
    }
    for (const auto& header : translated) add_header(passed.get(), header.name, header.value);
    if (uac_.send(std::move(passed), this)) {
        note_refer();
        context_.counters.add(Counter::requests_relayed);
        return true;
    }
    uas_.respond(responses_.make(context_, PJSIP_SC_INTERNAL_SERVER_ERROR));
    uas_.retire();
    call_.on_not_sent(to_);
    return false;
}

void Relay::on_tsx(pjsip_transaction* tsx, pjsip_event& event) {
    const int code = tsx->status_code;
    if (uac_.is(tsx)) {
        if (is_response(event)) {
            if (is_life(code)) call_.on(inputs::Life{to_, event.body.tsx_state.src.rdata});
            heard_ = true;
            if (tried_again(tsx, event.body.tsx_state.src.rdata)) return;
            // That the gateway does not believe us is no question to the other side, whose credentials are not at issue.
            const bool refused = Digest::is_challenge(code) && to_dialog().answers_challenges();
            if (refused) return answer(PJSIP_SC_INTERNAL_SERVER_ERROR, nullptr);
            if (code >= 200) return answer(code, event.body.tsx_state.src.rdata);
            if (cancel_wanted_) send_cancel();
            if (code > 100) answer(code, event.body.tsx_state.src.rdata);
            return;
        }
        if (tsx->state != PJSIP_TSX_STATE_TERMINATED) return;
        // RFC 4320 §4.2: no 408 to anything but INVITE, its sender has given up by then.
        answer(is_invite_ ? PJSIP_SC_REQUEST_TIMEOUT : PJSIP_SC_SERVER_TIMEOUT, nullptr);
        if (event.body.tsx_state.type == PJSIP_EVENT_TRANSPORT_ERROR) call_.on_not_sent(to_);
        return;
    }
    if (!uas_.is(tsx) || tsx->state != PJSIP_TSX_STATE_TERMINATED) return;
    uas_.let_go();
    if (answered_) {
        answered_ = false;
        to_.acknowledge(uac_cseq_, nullptr);
        return call_.on(inputs::NoAckOfRelay{});
    }
    call_.remove(*this);
}

bool Relay::tried_again(const pjsip_transaction* tsx, const pjsip_rx_data* challenge) {
    if (cancel_wanted_) return false;
    TxPtr again = to_dialog().again(tsx->last_tx, challenge, tries_);
    if (!again || !uac_.send(std::move(again), this)) return false;
    uac_cseq_ = to_dialog().local_cseq() - 1;
    heard_ = false;  // of this one: a CANCEL waits for it
    note_refer();
    return true;
}

void Relay::note_refer() const {
    if (is_refer_) call_.note_refer(from_, uas_cseq_, uac_cseq_);
}

void Relay::answer(int code, const pjsip_rx_data* response) {
    const auto phrase = response != nullptr ? view(response->msg_info.msg->line.status.reason) : std::string_view();
    TxPtr answer = responses_.make(context_, code, phrase);
    if (answer) {
        if (refreshes() && code > 100 && code < 300) from_dialog().add_contact(answer.get());
        if (response != nullptr) pass_through(context_, response, answer.get(), from_.passing());
        uas_.respond(std::move(answer));
    }
    if (code < 200) return;
    final_sent_ = true;
    const pjsip_msg_body* sent = uac_ && uac_.get()->last_tx != nullptr ? uac_.get()->last_tx->msg->body : nullptr;
    uac_.let_go();
    const bool success = code < 300;
    answered_ = success && is_invite_ && uas_;
    if (!is_invite_) {
        uas_.retire();
    } else if (!success) {
        uas_.let_go();  // it repeats the response and takes the ACK by itself
    }
    if (success && refreshes() && response != nullptr) call_.on_refreshed(*this, response, sent);
    if (!answered_) call_.remove(*this);
}

void Relay::on_ack(const pjsip_rx_data* ack) {
    answered_ = false;
    uas_.retire();
    to_.acknowledge(uac_cseq_, ack);
    call_.remove(*this);
}

void Relay::on_cancel(pjsip_rx_data* cancel) {
    if (!from_dialog().hears(cancel)) return drop_foreign(context_, cancel);
    answer_request(context_, cancel, PJSIP_SC_OK, from_dialog().local_tag());
    if (!open() || cancel_wanted_) return;
    cancel_wanted_ = true;
    cancel_reasons_ = reasons_of(context_, cancel->msg_info.msg);
    if (heard_) send_cancel();
}

void Relay::send_cancel() {
    if (cancel_sent_ || !uac_) return;
    cancel_sent_ = true;
    if (TxPtr cancel = cancel_of(context_, uac_.get()->last_tx)) {
        add_reasons(cancel.get(), cancel_reasons_);
        send_unattended(context_, std::move(cancel));
    }
    pjsip_tsx_set_timeout(uac_.get(), context_.settings.timeout_ms());
}

void Relay::close() {
    if (is_invite_) to_.overtake(uac_, uac_cseq_);
    uac_.let_go();
    if (answered_) {
        answered_ = false;
        to_.acknowledge(uac_cseq_, nullptr);
    } else if (open()) {
        final_sent_ = true;
        uas_.respond(responses_.make(context_, is_invite_ ? PJSIP_SC_REQUEST_TERMINATED : PJSIP_SC_CALL_TSX_DOES_NOT_EXIST));
        if (is_invite_) uas_.let_go();
    }
    uas_.retire();
}

}  // namespace sidecar
