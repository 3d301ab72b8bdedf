#include "transaction.hpp"

#include "text.hpp"

#include <pjsua-lib/pjsua.h>
#include <pjsua-lib/pjsua_internal.h>

#include <cstring>
#include <utility>

namespace sidecar {
namespace {

void*& user_slot(pjsip_transaction* tsx) { return tsx->mod_data[tsx->tsx_user->id]; }

// Sends with a new transaction. Its user is set afterwards: what fails at once is told by the return value, not by a
// callback in the middle of the caller.
pjsip_transaction* start(Context& context, TxPtr request, TsxUser* user) {
    pjsip_transaction* tsx = nullptr;
    if (pjsip_tsx_create_uac2(context.user, request.get(), nullptr, &tsx) != PJ_SUCCESS) {
        context.counters.add(Counter::send_failures);
        return nullptr;
    }
    pjsip_tsx_set_transport(tsx, &request->tp_sel);
    if (pjsip_tsx_send_msg(tsx, request.get()) != PJ_SUCCESS) {
        context.counters.add(Counter::send_failures);
        Tsx::end(tsx, PJSIP_SC_TSX_TRANSPORT_ERROR);
        return nullptr;
    }
    request.release();  // pjsip_tsx_send_msg took the reference
    user_slot(tsx) = user;
    return tsx;
}

}  // namespace

TsxUser* TsxUser::of(const pjsip_transaction* tsx) { return static_cast<TsxUser*>(tsx->mod_data[tsx->tsx_user->id]); }

Transport transport_of(int pjsip_type) {
    switch (pjsip_type & ~PJSIP_TRANSPORT_IPV6) {
        case PJSIP_TRANSPORT_TCP: return Transport::tcp;
        case PJSIP_TRANSPORT_TLS: return Transport::tls;
        default: return Transport::udp;
    }
}

pjsip_transport* udp_transport_at(const SavedLeg& leg) {
    if (leg.transport != Transport::udp) return nullptr;
    const bool ipv6 = leg.local_address.starts_with('[');
    pjsip_transport* other = nullptr;
    for (const auto& slot : pjsua_var.tpdata) {  // pjsip itself finds a socket by where it sends to alone
        if (slot.data.ptr == nullptr || (slot.type & ~PJSIP_TRANSPORT_IPV6) != PJSIP_TRANSPORT_UDP) continue;
        pjsip_transport* transport = slot.data.tp;
        if (host_port(view(transport->local_name.host), transport->local_name.port) == leg.local_address) return transport;
        if (((slot.type & PJSIP_TRANSPORT_IPV6) != 0) == ipv6) other = transport;
    }
    return other;
}

void fit_buffer(pjsip_tx_data* tdata, PrintedMessage& scratch) {
    constexpr std::size_t slack = 512;
    if (tdata->buf.start != nullptr) return;  // sent before
    const pj_ssize_t size = pjsip_msg_print(tdata->msg, scratch.data(), scratch.size());
    if (size <= 0) return;  // too long: pjsip will say so
    const std::size_t length = static_cast<std::size_t>(size);
    tdata->buf.start = static_cast<char*>(pj_pool_alloc(tdata->pool, length + slack + 1));
    std::memcpy(tdata->buf.start, scratch.data(), length);
    tdata->buf.cur = tdata->buf.start + length;
    *tdata->buf.cur = '\0';
    tdata->buf.end = tdata->buf.start + length + slack;
}

void Tsx::end(pjsip_transaction* tsx, int code) {
    if (tsx->state < PJSIP_TSX_STATE_TERMINATED) pjsip_tsx_terminate(tsx, code);
}

bool Tsx::accept(pjsip_rx_data* rdata, TsxUser* user) {
    pjsip_transaction* tsx = nullptr;
    if (pjsip_tsx_create_uas2(context_.user, rdata, nullptr, &tsx) != PJ_SUCCESS) return false;
    if (transport_of(rdata->tp_info.transport->key.type) == Transport::udp) {
        pjsip_tpselector from_here{};  // answer from the socket that was asked, where several listen
        from_here.type = PJSIP_TPSELECTOR_TRANSPORT;
        from_here.u.transport = rdata->tp_info.transport;
        pjsip_tsx_set_transport(tsx, &from_here);
    }
    pjsip_tsx_recv_msg(tsx, rdata);
    tsx_ = tsx;
    user_slot(tsx) = user;
    return true;
}

bool Tsx::send(TxPtr request, TsxUser* user) {
    let_go();
    tsx_ = start(context_, std::move(request), user);
    return tsx_ != nullptr;
}

bool Tsx::respond(TxPtr response) {
    if (tsx_ == nullptr) return false;
    pjsip_transaction* tsx = tsx_;
    if (pjsip_tsx_send_msg(tsx, response.get()) == PJ_SUCCESS) {
        response.release();
        return true;
    }
    // pjsip leaves the transaction without any timer then: it would stay for ever.
    context_.counters.add(Counter::send_failures);
    let_go();
    end(tsx, PJSIP_SC_TSX_TRANSPORT_ERROR);
    return false;
}

void Tsx::retire() {
    if (tsx_ == nullptr) return;
    pjsip_transaction* tsx = tsx_;
    let_go();
    if (tsx->state >= PJSIP_TSX_STATE_TERMINATED) return;
    if (tsx->method.id == PJSIP_INVITE_METHOD) pjsip_tsx_stop_retransmit(tsx);
    pjsip_tsx_terminate_async2(tsx, tsx->status_code >= 200 ? tsx->status_code : 500, nullptr, context_.settings.t4_ms());
}

void Tsx::wait_for_ack(PeerGroup::Id group) {
    if (tsx_ == nullptr) return;
    pjsip_transaction* tsx = tsx_;
    let_go();
    if (tsx->state < PJSIP_TSX_STATE_CONFIRMED) context_.tables.await_ack(tsx, group);
}

void Unacknowledged::take(pjsip_transaction* invite, PeerGroup::Id group) {
    if (groups_.emplace(invite, group).second) ++counts_[group];
    user_slot(invite) = this;
}

std::size_t Unacknowledged::count_of(PeerGroup::Id group) const {
    const auto found = counts_.find(group);
    return found == counts_.end() ? 0 : found->second;
}

void Unacknowledged::on_tsx(pjsip_transaction* invite, pjsip_event&) {
    if (invite->state < PJSIP_TSX_STATE_CONFIRMED) return;
    user_slot(invite) = nullptr;
    const auto found = groups_.find(invite);
    if (found == groups_.end()) return;
    if (--counts_[found->second] == 0) counts_.erase(found->second);
    groups_.erase(found);
}

void Tsx::take_over(Tsx& other, TsxUser* user) {
    let_go();
    tsx_ = std::exchange(other.tsx_, nullptr);
    if (tsx_ != nullptr) user_slot(tsx_) = user;
}

void Tsx::let_go() {
    if (tsx_ == nullptr) return;
    user_slot(tsx_) = nullptr;
    tsx_ = nullptr;
}

bool send_unattended(Context& context, TxPtr request) { return start(context, std::move(request), nullptr) != nullptr; }

// RFC 3261 §18.1.1: a large one tries TCP first. Without a callback pjsip would leave it at that, where no connection is taken.
static void on_ack_sent(pjsip_send_state* state, pj_ssize_t sent, pj_bool_t* tries_next) {
    if (sent <= 0 && !*tries_next) static_cast<Context*>(state->token)->counters.add(Counter::send_failures);
}

void send_ack(Context& context, TxPtr ack) {
    if (pjsip_endpt_send_request_stateless(context.endpoint, ack.get(), &context, &on_ack_sent) == PJ_SUCCESS) {
        ack.release();
    } else {
        context.counters.add(Counter::send_failures);
    }
}

}  // namespace sidecar
