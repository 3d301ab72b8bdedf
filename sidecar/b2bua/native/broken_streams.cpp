#include "broken_streams.hpp"

#include "message.hpp"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>

namespace sidecar {
namespace {

// As far as whole lines of it are there. pjsip gives up a message whose last header is broken, so another is put there.
std::string head_of(std::string_view message) {
    const auto end = message.find("\r\n\r\n");
    const auto last = end != std::string_view::npos ? end : message.rfind("\r\n");
    if (last == std::string_view::npos) return {};
    return std::string(message.substr(0, last)) + "\r\nContent-Length: 0\r\n\r\n";
}

// Null where the head is that of no request, or of one that gets no response.
TxPtr answer_to(const Context& context, std::string_view message, int code) {
    std::string head = head_of(message);
    const PoolPtr pool = new_pool(context, "head", 4096, 4096);
    pjsip_parser_err_report errors;
    pj_list_init(&errors);
    const pjsip_msg* request = head.empty() ? nullptr : pjsip_parse_msg(pool.get(), head.data(), head.size(), &errors);
    if (request == nullptr || request->type != PJSIP_REQUEST_MSG) return nullptr;
    if (request->line.req.method.id == PJSIP_ACK_METHOD) return nullptr;
    TxPtr response = new_message(context, PJSIP_RESPONSE_MSG);
    if (!response) return nullptr;
    response->msg->line.status.code = code;
    response->msg->line.status.reason = *pjsip_get_status_text(code);
    int singles = 0, vias = 0;
    for (const pjsip_hdr* header = request->hdr.next; header != &request->hdr; header = header->next) {
        const bool single = header->type == PJSIP_H_FROM || header->type == PJSIP_H_TO ||
                            header->type == PJSIP_H_CALL_ID || header->type == PJSIP_H_CSEQ;
        if (!single && header->type != PJSIP_H_VIA) continue;
        singles += single;
        vias += !single;
        auto* clone = static_cast<pjsip_hdr*>(pjsip_hdr_clone(response->pool, header));
        if (header->type == PJSIP_H_TO) {
            auto* to = reinterpret_cast<pjsip_to_hdr*>(clone);
            if (to->tag.slen == 0) to->tag = copy(response->pool, random_hex(8));
        }
        pjsip_msg_add_hdr(response->msg, clone);
    }
    return singles == 4 && vias > 0 ? std::move(response) : nullptr;
}

// pjsip closes a connection when nobody refers to it any more, which may be a transaction of another call, 64*T1 from
// now. It keeps the descriptor to itself; this is rare enough to look for it.
void finish_sending(const pjsip_transport* transport) {
    const auto is = [](const sockaddr_storage& address, const pj_sockaddr& wanted) {
        return pj_sockaddr_cmp(reinterpret_cast<const pj_sockaddr_t*>(&address), &wanted) == 0;
    };
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    const int end = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 16));
    for (int fd = 0; fd < end; ++fd) {
        sockaddr_storage local{}, remote{};
        socklen_t local_size = sizeof local, remote_size = sizeof remote;
        if (getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &remote_size) != 0 ||
            getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_size) != 0) {
            continue;
        }
        if (remote.ss_family != AF_INET && remote.ss_family != AF_INET6) continue;
        if (!is(remote, transport->key.rem_addr) || !is(local, transport->local_addr)) continue;
        ::shutdown(fd, SHUT_WR);
        return;
    }
}

}  // namespace

// What pjsip says of the length of what it dropped is the sum that the message itself announced.
std::string_view BrokenStreams::received(const pjsip_tp_dropped_data& dropped) {
    const auto length = std::min<std::size_t>(dropped.len, PJSIP_MAX_PKT_LEN);
    return {static_cast<const char*>(dropped.data), length};
}

int BrokenStreams::code_for(const pjsip_tp_dropped_data& dropped) {
    if (dropped.status == PJ_EIGNORED || (dropped.tp->flag & PJSIP_TRANSPORT_DATAGRAM) != 0) return 0;
    const auto bytes = received(dropped);
    std::size_t ignored = 0;
    switch (pjsip_find_msg(bytes.data(), bytes.size(), PJ_FALSE, &ignored)) {
        case PJ_SUCCESS: return 0;  // its end is known: the next message begins there
        case PJSIP_EMISSINGHDR: return PJSIP_SC_BAD_REQUEST;
        default: return PJSIP_SC_MESSAGE_TOO_LARGE;  // it fits no buffer, or its length no number
    }
}

void BrokenStreams::give_up(const pjsip_tp_dropped_data& dropped, int code, bool listed) {
    pjsip_transport* transport = dropped.tp;
    if (holds(transport)) return;
    streams_.push_back({transport, false});
    pjsip_transport_add_ref(transport);
    if (TxPtr response = listed && code != 0 ? answer_to(context_, received(dropped), code) : nullptr) {
        pjsip_transport_send(transport, response.get(), &transport->key.rem_addr, transport->addr_len, nullptr, nullptr);
    }
    pjsip_transport_shutdown2(transport, PJ_TRUE);  // its transactions end as they do where a connection breaks
    if (listed) finish_sending(transport);
}

bool BrokenStreams::holds(const pjsip_transport* transport) const {
    return std::any_of(streams_.begin(), streams_.end(), [&](const Stream& one) { return one.transport == transport; });
}

void BrokenStreams::tick() {
    std::vector<Stream> due;
    for (Stream& one : streams_) {
        if (one.aged) due.push_back(one);
        one.aged = true;
    }
    std::erase_if(streams_, [&](const Stream& one) {
        return std::any_of(due.begin(), due.end(), [&](const Stream& two) { return one.transport == two.transport; });
    });
    for (const Stream& one : due) pjsip_transport_dec_ref(one.transport);
}

void BrokenStreams::clear() {
    for (const Stream& one : streams_) pjsip_transport_dec_ref(one.transport);
    streams_.clear();
}

}  // namespace sidecar
