#include "tls_names.hpp"

#include "text.hpp"

#include <unordered_map>

namespace sidecar::tls_names {
namespace {

constexpr std::size_t names_max = 16;

pjsip_tp_state_callback passed_on_to = nullptr;
std::unordered_map<const pjsip_transport*, std::vector<std::string>> names;  // an entry lives as long as its transport

std::vector<std::string> names_in(const pj_ssl_cert_info& certificate) {
    std::vector<std::string> found;
    const auto& alternatives = certificate.subj_alt_name;
    for (unsigned i = 0; i < alternatives.cnt && found.size() < names_max; ++i) {
        found.emplace_back(view(alternatives.entry[i].name));
    }
    if (certificate.subject.cn.slen > 0) found.emplace_back(view(certificate.subject.cn));
    return found;
}

void on_state(pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info) {
    try {
        if (state == PJSIP_TP_STATE_CONNECTED && (transport->flag & PJSIP_TRANSPORT_SECURE) != 0 && info->ext_info != nullptr) {
            const auto* ssl = static_cast<const pjsip_tls_state_info*>(info->ext_info)->ssl_sock_info;
            if (ssl->verify_status == 0 && ssl->remote_cert_info != nullptr) {
                names[transport] = names_in(*ssl->remote_cert_info);
            }
        } else if (state == PJSIP_TP_STATE_DESTROY) {
            names.erase(transport);
        }
    } catch (const std::exception&) {  // out of memory: a peer without names
        names.erase(transport);
    }
    if (passed_on_to != nullptr) passed_on_to(transport, state, info);
}

}  // namespace

void watch(pjsip_endpoint* endpoint) {
    pjsip_tpmgr* manager = pjsip_endpt_get_tpmgr(endpoint);
    passed_on_to = pjsip_tpmgr_get_state_cb(manager);
    pjsip_tpmgr_set_state_cb(manager, &on_state);
}

void unwatch(pjsip_endpoint* endpoint) {
    pjsip_tpmgr_set_state_cb(pjsip_endpt_get_tpmgr(endpoint), passed_on_to);
    names.clear();
}

const std::vector<std::string>& of(const pjsip_transport* transport) {
    static const std::vector<std::string> none;
    const auto found = names.find(transport);
    return found == names.end() ? none : found->second;
}

}  // namespace sidecar::tls_names
