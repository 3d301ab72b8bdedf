#include "sent_by.hpp"

#include "text.hpp"

#include <string>

namespace sidecar::sent_by {
namespace {

constexpr char separator = '\x1f';  // in no host, port or number of a group: the last one is ours

int port_of(const pjsip_via_hdr* via) {
    if (via->sent_by.port != 0) return via->sent_by.port;
    return same_text(via->transport, "TLS") ? 5061 : 5060;  // RFC 3261 §18.1.1
}

}  // namespace

void put_into_branch(const pjsip_rx_data* request, std::uint64_t group) {
    pjsip_via_hdr* via = request->msg_info.via;
    const pj_str_t cookie = borrow(PJSIP_RFC3261_BRANCH_ID);
    if (pj_strnicmp(&via->branch_param, &cookie, cookie.slen) != 0) return;
    std::string whole(view(via->branch_param));
    whole.append(1, separator).append(view(via->sent_by.host)).append(1, ':').append(std::to_string(port_of(via)));
    whole.append(1, '/').append(std::to_string(group));
    via->branch_param = copy(request->tp_info.pool, whole);
}

std::string_view branch_of(const pjsip_via_hdr* via) {
    const auto whole = view(via->branch_param);
    return whole.substr(0, whole.rfind(separator));
}

void take_out_of_branch(pjsip_tx_data* response) {
    auto* via = static_cast<pjsip_via_hdr*>(pjsip_msg_find_hdr(response->msg, PJSIP_H_VIA, nullptr));
    if (via == nullptr) return;
    const auto length = static_cast<pj_ssize_t>(branch_of(via).size());
    auto* to = PJSIP_MSG_TO_HDR(response->msg);
    if (to != nullptr && view(to->tag) == view(via->branch_param)) to->tag.slen = length;  // pjsip makes one of it
    via->branch_param.slen = length;
}

}  // namespace sidecar::sent_by
