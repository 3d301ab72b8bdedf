#include "tls_names.hpp"

#include "text.hpp"

#include <algorithm>
#include <exception>
#include <string_view>

namespace sidecar {
namespace {

constexpr std::size_t names_max = 16;

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    return out;
}

// RFC 5922 §7.1: the host of a sip: URI; none where it names a user, or is of another scheme.
std::string host_of(std::string_view uri) {
    if (lower(uri.substr(0, 4)) != "sip:") return {};
    const auto rest = uri.substr(4);
    if (rest.find('@') != std::string_view::npos) return {};
    return lower(rest.substr(0, rest.find_first_of(":;?/")));
}

std::vector<std::string> names_in(const pj_ssl_cert_info& certificate) {
    std::vector<std::string> found, addresses;
    bool has_domain = false;
    const auto& alternatives = certificate.subj_alt_name;
    for (unsigned i = 0; i < alternatives.cnt; ++i) {
        const auto type = alternatives.entry[i].type;
        const auto text = view(alternatives.entry[i].name);
        has_domain |= type == PJ_SSL_CERT_NAME_URI || type == PJ_SSL_CERT_NAME_DNS;
        if (type == PJ_SSL_CERT_NAME_URI) found.push_back(host_of(text));
        if (type == PJ_SSL_CERT_NAME_DNS) found.push_back(lower(text));
        if (type == PJ_SSL_CERT_NAME_IP) addresses.push_back(lower(text));
    }
    if (!has_domain) found.push_back(lower(view(certificate.subject.cn)));
    found.insert(found.end(), addresses.begin(), addresses.end());
    // §7.2: a wildcard stands for nobody.
    std::erase_if(found, [](const auto& name) { return name.empty() || name.find('*') != std::string::npos; });
    if (found.size() > names_max) found.resize(names_max);
    return found;
}

}  // namespace

void TlsNames::on_state(const pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info) {
    try {
        if (state == PJSIP_TP_STATE_CONNECTED && (transport->flag & PJSIP_TRANSPORT_SECURE) != 0 && info->ext_info != nullptr) {
            const auto* ssl = static_cast<const pjsip_tls_state_info*>(info->ext_info)->ssl_sock_info;
            // Whether it is the one that was called is not pjsip's to say: it takes the common name for one of several.
            const auto faults = ssl->verify_status & ~static_cast<pj_uint32_t>(PJ_SSL_CERT_EIDENTITY_NOT_MATCH);
            if (faults == 0 && ssl->remote_cert_info != nullptr) {
                names_[transport] = names_in(*ssl->remote_cert_info);
            }
        } else if (state == PJSIP_TP_STATE_DESTROY) {
            names_.erase(transport);
        }
    } catch (const std::exception&) {  // out of memory: a peer without names
        names_.erase(transport);
    }
}

bool TlsNames::has(const pjsip_transport* transport, std::string_view name) const {
    const auto& names = of(transport);
    return std::find(names.begin(), names.end(), lower(name)) != names.end();
}

const std::vector<std::string>& TlsNames::of(const pjsip_transport* transport) const {
    static const std::vector<std::string> none;
    const auto found = names_.find(transport);
    return found == names_.end() ? none : found->second;
}

}  // namespace sidecar
