// Whose word of who speaks passes to whom (RFC 3325 §5 and §7, RFC 3323): one rule for both directions and every message.
// The trust domain are the groups with `asserts_identity`. What comes from outside asserts nothing. What goes outside is
// taken off where its own Privacy asks for it, kept where that says `none`, and without Privacy it is as `pai_outside` says.
#pragma once

#include <pjsip.h>

namespace sidecar {

struct Receiver {
    bool trusted = false;       // is in the trust domain
    bool keep_outside = false;  // pai_outside
};

class Assertions {
public:
    Assertions(const pjsip_hdr* headers_of_message, bool sender_trusted, Receiver receiver);
    bool withheld(const pjsip_hdr* header) const;

private:
    bool may_go(const pjsip_hdr* header) const;

    const bool sender_trusted_;
    const Receiver receiver_;
    bool hidden_ = false;  // Privacy asks for any of its services
    bool shown_ = false;   // it says `none`
};

// Of RFC 8224.
bool is_identity(const pjsip_hdr* header);
bool has_identity(const pjsip_hdr* headers_of_message);

}  // namespace sidecar
