// The body of a received message: where it lies, how it passes on, and whether it holds an offer or an answer.
#pragma once

#include <pjsip.h>

#include <optional>
#include <string>
#include <string_view>

namespace sidecar {

// Where it lies. A datagram may hold more than Content-Length says: the rest is not ours.
std::string_view raw_body(const pjsip_rx_data* rdata);

// As it arrived, byte for byte, in `pool`. pjsip parses multipart bodies and would print its own version, and takes off
// one whose Content-Type is missing. Null: there is none.
pjsip_msg_body* copy_body(pj_pool_t* pool, const pjsip_rx_data* rdata);

void set_body(pjsip_tx_data* tdata, pjsip_msg_body* body);

// False where the datagram ends before its Content-Length does (RFC 3261 §18.3).
bool body_is_whole(const pjsip_rx_data* rdata);

// SDP (application/sdp), alone or anywhere inside of a multipart body. All other bodies, of ISUP or of a location, say
// nothing of the session: they pass, and change nothing here.
enum class Sdp {
    session,  // an offer or an answer: Content-Disposition is `session`, or is missing (RFC 3261 §20.11)
    media,    // that, or `early-session` (RFC 3959): the caller may hear something
};
bool has_sdp(const pjsip_rx_data* rdata, Sdp what);

// The offer or answer of a body by itself, if it has one; empty where it is encoded.
std::optional<std::string> sdp_in(const pjsip_msg_body* body);

// A body that is said to be SDP, alone and not encoded, and does not even consist of SDP's lines (RFC 8866 §9). What they
// say is the other leg's business, so that any codec and any attribute passes.
bool has_broken_sdp(const pjsip_rx_data* rdata);

}  // namespace sidecar
