// Header fields that nobody can read, in the place of those that pjsip cannot do without.
#pragma once

#include <pjsip.h>

#include <string_view>

namespace sidecar::stand_in {

// Of the value of a From or To that pjsip cannot read whole; empty: it has none.
std::string_view tag_in(std::string_view value);

// Each prints what was received, byte for byte, so that a response can be matched by whoever wrote it; and nothing where
// `received` is empty: there was no such header field. Each borrows its texts; its clones own theirs.
pjsip_cid_hdr* call_id(pj_pool_t* pool, std::string_view received);
// The number as far as it is one, else more than any; the method is that of the request.
pjsip_cseq_hdr* cseq(pj_pool_t* pool, std::string_view received, const pjsip_method& method);
// With its tag, if that can be read; its URI names nobody.
pjsip_from_hdr* from(pj_pool_t* pool, std::string_view received);
pjsip_to_hdr* to(pj_pool_t* pool, std::string_view received);
pjsip_via_hdr* via(pj_pool_t* pool, std::string_view received);  // not the topmost

}  // namespace sidecar::stand_in
