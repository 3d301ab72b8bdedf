#include "tls_names.hpp"

#include "text.hpp"

namespace sidecar {
namespace {

constexpr std::size_t names_max = 16;

std::vector<std::string> names_in(const pj_ssl_cert_info& certificate) {
    std::vector<std::string> found;
    const auto& alternatives = certificate.subj_alt_name;
    for (unsigned i = 0; i < alternatives.cnt && found.size() < names_max; ++i) {
        found.emplace_back(view(alternatives.entry[i].name));
    }
    if (certificate.subject.cn.slen > 0) found.emplace_back(view(certificate.subject.cn));
    return found;
}

}  // namespace

void TlsNames::on_state(const pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info) {
    try {
        if (state == PJSIP_TP_STATE_CONNECTED && (transport->flag & PJSIP_TRANSPORT_SECURE) != 0 && info->ext_info != nullptr) {
            const auto* ssl = static_cast<const pjsip_tls_state_info*>(info->ext_info)->ssl_sock_info;
            if (ssl->verify_status == 0 && ssl->remote_cert_info != nullptr) {
                names_[transport] = names_in(*ssl->remote_cert_info);
            }
        } else if (state == PJSIP_TP_STATE_DESTROY) {
            names_.erase(transport);
        }
    } catch (const std::exception&) {  // out of memory: a peer without names
        names_.erase(transport);
    }
}

const std::vector<std::string>& TlsNames::of(const pjsip_transport* transport) const {
    static const std::vector<std::string> none;
    const auto found = names_.find(transport);
    return found == names_.end() ? none : found->second;
}

}  // namespace sidecar
