#include "digest.hpp"

#include "message.hpp"
#include "text.hpp"

#include <algorithm>
#include <cstdio>

namespace sidecar {
namespace {

constexpr std::array<const char*, 2> header_names{"Authorization", "Proxy-Authorization"};
constexpr std::size_t value_bytes_max = 512;

bool may_be_quoted(std::string_view value) {  // it goes out again as it came, between quotes
    return value.size() <= value_bytes_max &&
           std::none_of(value.begin(), value.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

bool offers_auth(std::string_view qop) {  // "auth,auth-int"
    for (;;) {
        const auto comma = qop.find(',');
        auto word = qop.substr(0, comma);
        while (word.starts_with(' ')) word.remove_prefix(1);
        while (word.ends_with(' ')) word.remove_suffix(1);
        if (same_text(borrow(word), "auth")) return true;
        if (comma == std::string_view::npos) return false;
        qop.remove_prefix(comma + 1);
    }
}

std::string eight_digits(unsigned count) {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", count);
    return text;
}

}  // namespace

bool Digest::is_credentials(const pjsip_hdr* header) {
    return std::any_of(header_names.begin(), header_names.end(),
                       [&](const char* name) { return same_text(header->name, name); });
}

bool Digest::read(const pjsip_www_authenticate_hdr* header, Challenge& challenge) const {
    if (!same_text(header->scheme, "Digest")) return false;
    const auto& digest = header->challenge.digest;
    const auto realm = view(digest.realm), nonce = view(digest.nonce), opaque = view(digest.opaque);
    if (nonce.empty() || !may_be_quoted(realm) || !may_be_quoted(nonce) || !may_be_quoted(opaque)) return false;
    if (!credentials_.realm.empty() && credentials_.realm != realm) return false;
    pjsip_auth_algorithm_type type = PJSIP_AUTH_ALGORITHM_MD5;  // RFC 7616 §3.3: what no algorithm means
    if (digest.algorithm.slen > 0) {
        const auto* algorithm = pjsip_auth_get_algorithm_by_iana_name(&digest.algorithm);
        if (algorithm == nullptr || algorithm->algorithm_type > PJSIP_AUTH_ALGORITHM_SHA512_256) return false;
        type = algorithm->algorithm_type;
    }
    if (digest.qop.slen > 0 && !offers_auth(view(digest.qop))) return false;
    challenge = {std::string(realm), std::string(nonce), std::string(opaque), std::string(view(digest.algorithm)),
                 type,               digest.qop.slen > 0, 0,                  {}};
    return true;
}

bool Digest::learn(const pjsip_rx_data* response, const pjsip_msg* sent) {
    const pjsip_msg* msg = response->msg_info.msg;
    const bool of_proxy = msg->line.status.code == PJSIP_SC_PROXY_AUTHENTICATION_REQUIRED;
    const pjsip_hdr_e wanted = of_proxy ? PJSIP_H_PROXY_AUTHENTICATE : PJSIP_H_WWW_AUTHENTICATE;
    Challenge& known = challenges_[of_proxy];
    // RFC 8760 §2.4: the topmost of those that we can answer.
    for (const pjsip_hdr* header = msg->hdr.next; header != &msg->hdr; header = header->next) {
        if (header->type != wanted) continue;
        const auto* challenge = reinterpret_cast<const pjsip_www_authenticate_hdr*>(header);
        Challenge fresh;
        if (!read(challenge, fresh)) continue;
        const bool was_signed = known.type != PJSIP_AUTH_ALGORITHM_NOT_SET;  // else it has those of the caller, if any
        const pjsip_hdr* answered = was_signed ? find_header(sent, header_names[of_proxy]) : nullptr;
        if (answered != nullptr) {
            const std::string value = header_value(answered, 4 * value_bytes_max);
            const bool same_nonce = value.find("nonce=\"" + fresh.nonce + "\"") != std::string::npos;
            const bool was_fresh = value.find("nc=00000001") != std::string::npos;
            if (same_nonce || (was_fresh && !challenge->challenge.digest.stale)) return false;
        }
        if (fresh.nonce == known.nonce) fresh.count = known.count;
        known = std::move(fresh);
        return true;
    }
    return false;
}

std::string Digest::value(Challenge& challenge, std::string_view method, std::string_view uri) const {
    const std::string count = eight_digits(++challenge.count), ours = random_hex(16);
    pjsip_cred_info who{};
    who.username = borrow(credentials_.username);
    who.data_type = PJSIP_CRED_DATA_PLAIN_PASSWD;
    who.data = borrow(credentials_.password);
    char buffer[PJSIP_AUTH_MAX_DIGEST_BUFFER_LENGTH];
    pj_str_t response{buffer, sizeof buffer};
    const pj_str_t nonce = borrow(challenge.nonce), realm = borrow(challenge.realm), request_uri = borrow(uri),
                   verb = borrow(method), nc = borrow(count), cnonce = borrow(ours), qop = borrow("auth");
    const bool with_qop = challenge.qop;
    if (pjsip_auth_create_digest2(&response, &nonce, with_qop ? &nc : nullptr, with_qop ? &cnonce : nullptr,
                                  with_qop ? &qop : nullptr, &request_uri, &realm, &who, &verb,
                                  challenge.type) != PJ_SUCCESS) {
        return {};  // an algorithm that this OpenSSL does not have
    }
    std::string text = "Digest username=\"" + credentials_.username + "\", realm=\"" + challenge.realm + "\", nonce=\"" +
                       challenge.nonce + "\", uri=\"" + std::string(uri) + "\", response=\"" + std::string(view(response)) + "\"";
    if (!challenge.algorithm.empty()) text += ", algorithm=" + challenge.algorithm;
    if (!challenge.opaque.empty()) text += ", opaque=\"" + challenge.opaque + "\"";
    if (with_qop) text += ", qop=auth, nc=" + count + ", cnonce=\"" + ours + "\"";
    return text;
}

void Digest::sign(pjsip_tx_data* request, std::string_view uri) {
    const pjsip_method& method = request->msg->line.req.method;
    for (std::size_t i = 0; i < challenges_.size(); ++i) {
        Challenge& challenge = challenges_[i];
        if (challenge.type == PJSIP_AUTH_ALGORITHM_NOT_SET) continue;
        std::string text = value(challenge, view(method.name), uri);
        if (text.empty()) continue;
        add_header(request, header_names[i], text);
        if (method.id == PJSIP_INVITE_METHOD) challenge.of_invite = std::move(text);
    }
}

void Digest::sign_ack(pjsip_tx_data* ack) const {
    for (std::size_t i = 0; i < challenges_.size(); ++i) {
        if (!challenges_[i].of_invite.empty()) add_header(ack, header_names[i], challenges_[i].of_invite);
    }
}

}  // namespace sidecar
