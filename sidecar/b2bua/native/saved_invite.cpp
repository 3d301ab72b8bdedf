#include "saved_invite.hpp"

#include "sent_by.hpp"
#include "text.hpp"
#include "transaction.hpp"

#include <algorithm>
#include <string>

namespace sidecar {

SavedInvite::SavedInvite(Context& context, const commands::Adopt& saved) : pool_(new_pool(context, "saved", 4096, 4096)) {
    const SavedLeg& leg = saved.leg_a;
    std::string text = "INVITE " + saved.request_uri + " SIP/2.0\r\n";
    for (const auto& line : saved.echoed) text += line + "\r\n";
    text += "Call-ID: " + leg.sip_call_id + "\r\nMax-Forwards: 70\r\nContact: <" + leg.remote_target + ">\r\n";
    text += "Content-Length: 0\r\n\r\n";
    if (saved.echoed.empty() || text.size() >= sizeof message_->pkt_info.packet || !take_source(leg)) return;
    std::copy(text.begin(), text.end(), message_->pkt_info.packet);
    message_->pkt_info.len = static_cast<pj_ssize_t>(text.size());
    auto& info = message_->msg_info;
    pj_list_init(&info.parse_err);
    info.msg_buf = message_->pkt_info.packet;
    info.len = static_cast<int>(text.size());
    const pjsip_msg* msg = pjsip_parse_rdata(message_->pkt_info.packet, text.size(), message_.get());
    if (msg == nullptr || !pj_list_empty(&info.parse_err)) return;
    if (info.via == nullptr || info.from == nullptr || info.to == nullptr || info.cseq == nullptr) return;
    if (msg->line.req.method.id != PJSIP_INVITE_METHOD || info.cseq->method.id != PJSIP_INVITE_METHOD) return;
    if (!take_transport(context, leg)) return;
    info.via->recvd_param = copy(pool_.get(), message_->pkt_info.src_name);  // as pjsip does
    if (info.via->rport_param == 0) info.via->rport_param = message_->pkt_info.src_port;
    sent_by::put_into_branch(message_.get(), context.settings.peers->named(saved.peer).id());
    readable_ = true;
}

SavedInvite::~SavedInvite() {
    if (acquired_ != nullptr) pjsip_transport_dec_ref(acquired_);
}

bool SavedInvite::take_source(const SavedLeg& leg) {
    message_->tp_info.pool = pool_.get();
    auto& packet = message_->pkt_info;
    pj_gettimeofday(&packet.timestamp);
    const pj_str_t there = borrow(leg.remote_address);
    if (pj_sockaddr_parse(pj_AF_UNSPEC(), 0, &there, &packet.src_addr) != PJ_SUCCESS) return false;
    packet.src_addr_len = static_cast<int>(pj_sockaddr_get_len(&packet.src_addr));
    pj_sockaddr_print(&packet.src_addr, packet.src_name, sizeof packet.src_name, 0);
    packet.src_port = pj_sockaddr_get_port(&packet.src_addr);
    return true;
}

bool SavedInvite::take_transport(Context& context, const SavedLeg& leg) {
    auto& transport = message_->tp_info.transport;
    if (leg.transport == Transport::udp) {
        transport = udp_transport_at(leg);
        return transport != nullptr;
    }
    // RFC 3261 §18.2.2: its connection is gone, so another to where the request came from, at the port of the sent-by.
    const bool secure = leg.transport == Transport::tls;
    int type = secure ? PJSIP_TRANSPORT_TLS : PJSIP_TRANSPORT_TCP;
    pj_sockaddr there;
    pj_sockaddr_cp(&there, &message_->pkt_info.src_addr);
    if (there.addr.sa_family == pj_AF_INET6()) type |= PJSIP_TRANSPORT_IPV6;
    const int port = message_->msg_info.via->sent_by.port;
    pj_sockaddr_set_port(&there, static_cast<pj_uint16_t>(port != 0 ? port : secure ? 5061 : 5060));
    const int length = static_cast<int>(pj_sockaddr_get_len(&there));
    if (pjsip_endpt_acquire_transport(context.endpoint, static_cast<pjsip_transport_type_e>(type), &there, length, nullptr,
                                      &acquired_) != PJ_SUCCESS) {
        return false;
    }
    transport = acquired_;
    return true;
}

}  // namespace sidecar
