// Whose branch it is. RFC 3261 §17.2.3 has a request belong to a server transaction where branch, sent-by and method are the
// same; pjsip looks at branch and method alone, and so takes the INVITE of one host for a repeat of another's.
#pragma once

#include <pjsip.h>

#include <cstdint>

#include <string_view>

namespace sidecar::sent_by {

// Makes the branch of a request hold its sent-by and its peer group too, for pjsip's keys. Not where it has none of RFC 3261:
// pjsip's key holds the sent-by then, and From, Call-ID and CSeq besides.
void put_into_branch(const pjsip_rx_data* request, std::uint64_t group);

std::string_view branch_of(const pjsip_via_hdr* via);  // as it was received

void take_out_of_branch(pjsip_tx_data* response);  // before it is printed

}  // namespace sidecar::sent_by
