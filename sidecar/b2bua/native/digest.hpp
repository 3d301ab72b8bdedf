// Our answer to a gateway that challenges us: RFC 3261 §22, RFC 7616, RFC 8760.
#pragma once

#include "settings.hpp"

#include <pjsip.h>

#include <array>
#include <string>
#include <string_view>

namespace sidecar {

// What one dialog knows of its gateway's challenges. Once it has answered one, every request of the dialog carries
// credentials unasked (§22.3). Own pools and pjsip's sessions are not needed: the header is a line of text.
class Digest {
public:
    explicit Digest(const Credentials& credentials) : credentials_(credentials) {}

    // Takes in a 401 or 407 to `sent`. False where the same request must not be sent again: no challenge of those we can
    // answer, or it has our answer to this very nonce, or to a fresh one: the password is wrong.
    bool learn(const pjsip_rx_data* challenge, const pjsip_msg* sent);

    void sign(pjsip_tx_data* request, std::string_view uri);
    void sign_ack(pjsip_tx_data* ack) const;  // §22.1: it cannot be challenged, and carries those of its INVITE

    static bool is_challenge(int code) {
        return code == PJSIP_SC_UNAUTHORIZED || code == PJSIP_SC_PROXY_AUTHENTICATION_REQUIRED;
    }
    static bool is_credentials(const pjsip_hdr* header);

private:
    struct Challenge {
        std::string realm, nonce, opaque, algorithm;  // empty: none was given
        pjsip_auth_algorithm_type type = PJSIP_AUTH_ALGORITHM_NOT_SET;  // not set: never challenged
        bool qop = false;
        unsigned count = 0;      // of requests with this nonce
        std::string of_invite;   // the header's value in the last INVITE
    };

    bool read(const pjsip_www_authenticate_hdr* header, Challenge& challenge) const;
    std::string value(Challenge& challenge, std::string_view method, std::string_view uri) const;

    const Credentials credentials_;
    std::array<Challenge, 2> challenges_;  // of a UAS (Authorization), of a proxy (Proxy-Authorization)
};

}  // namespace sidecar
