// Who may be at the other end of a TLS connection: known by its certificate before anything is sent or heard on it.
#pragma once

#include "context.hpp"

#include <pjsip.h>

#include <string>

namespace sidecar {

class CertificateCheck {
public:
    explicit CertificateCheck(const Context& context) : context_(context) {}

    bool is_right(const pjsip_transport* transport) const;  // true where it is none of TLS

private:
    bool may_call(const pjsip_transport* transport, const ShownCertificate& shown) const;
    bool is_who_was_called(const pjsip_transport* transport, const ShownCertificate& shown) const;
    bool is_called(const std::string& host, const pjsip_transport* transport, const ShownCertificate& shown) const;

    const Context& context_;
};

}  // namespace sidecar
