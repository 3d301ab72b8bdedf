// Headers that name a dialog, or a CSeq of one. Each leg is a dialog of its own, so what they say of this leg means
// nothing on the other until it is said in that one's names.
//
//   RAck, Event: refer;id=         a CSeq of this leg (RFC 3262 §7.2, RFC 3515 §2.4.6)
//   Replaces, Join, Target-Dialog  a dialog (RFC 3891, RFC 3911, RFC 4538); inside a Refer-To too
#pragma once

#include "message.hpp"

#include <pjsip.h>

#include <optional>
#include <string>
#include <vector>

namespace sidecar {

class Call;
class Leg;

struct Translation {
    int refused = 0;  // the code, where a name is that of no dialog of ours
    std::vector<NamedHeader> headers;
};

// Of a request inside the dialog of `from`, for the other leg: all of its headers that header_policy keeps back for this.
Translation translate(Context& context, const Call& call, const Leg& from, const pjsip_rx_data* request);

// Of an INVITE that wants a place in a call of ours: what it says to the peer whose dialog it is, and that peer's group.
struct Claim {
    int refused = 0;  // the code, where there is no such dialog
    NamedHeader header{};
    std::string peer{};
};
std::optional<Claim> claim_of(Context& context, const pjsip_rx_data* invite);  // none: it names no dialog

}  // namespace sidecar
