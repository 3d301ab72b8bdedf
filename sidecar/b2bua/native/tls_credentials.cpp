#include "tls_credentials.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace sidecar {
namespace {

constexpr std::size_t file_bytes_max = 4 << 20;  // all of Mozilla's authorities are 0.2 MB

using BioPtr = std::unique_ptr<BIO, OpenSslDeleter<&BIO_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, OpenSslDeleter<&SSL_CTX_free>>;
using CheckPtr = std::unique_ptr<X509_STORE_CTX, OpenSslDeleter<&X509_STORE_CTX_free>>;

[[noreturn]] void refuse(const std::string& file, const std::string& why) { throw std::invalid_argument(file + ": " + why); }

std::string reason() {  // OpenSSL's, of its last error; which is forgotten
    const char* text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text != nullptr ? text : "no reason is given";
}

std::string read(const std::string& file) {
    errno = 0;
    std::ifstream stream(file, std::ios::binary);
    std::ostringstream text;
    if (!stream || !(text << stream.rdbuf())) {
        refuse(file, std::string("cannot be read: ") + (errno != 0 ? std::strerror(errno) : "it is empty"));
    }
    std::string whole = text.str();
    if (whole.size() > file_bytes_max) refuse(file, "is larger than 4 MB");
    return whole;
}

BioPtr over(const std::string& text) {
    BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!bio) throw std::bad_alloc();
    return bio;
}

std::vector<CertificatePtr> certificates_in(const std::string& file, const std::string& text) {
    std::vector<CertificatePtr> found;
    const BioPtr bio = over(text);
    while (CertificatePtr one{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) found.push_back(std::move(one));
    const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    const auto why = reason();
    if (!at_end) refuse(file, "certificate " + std::to_string(found.size() + 1) + " cannot be read: " + why);
    if (found.empty()) refuse(file, "holds no certificate in PEM");
    return found;
}

KeyPtr key_in(const std::string& file, const std::string& text) {
    const BioPtr bio = over(text);
    const auto no_password = [](char*, int, int, void*) { return -1; };  // else OpenSSL asks at the terminal
    KeyPtr key{PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr)};
    const auto why = reason();
    if (!key) refuse(file, "holds no private key in PEM that needs no password (" + why + ")");
    return key;
}

stack_st_X509* as_stack(const std::vector<CertificatePtr>& certificates, std::size_t from) {  // borrows them
    auto* stack = sk_X509_new_null();
    for (std::size_t i = from; i < certificates.size(); ++i) sk_X509_push(stack, certificates[i].get());
    return stack;
}

std::int64_t end_of(const X509* certificate) {
    std::tm at{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &at) != 1) return 0;
    return timegm(&at);
}

}  // namespace

TlsCredentials::TlsCredentials(const std::string& certificate_file, const std::string& key_file,
                               const std::vector<std::string>& authority_files)
    : certificate_text_(read(certificate_file)), key_text_(read(key_file)) {
    ERR_clear_error();
    chain_ = certificates_in(certificate_file, certificate_text_);
    key_ = key_in(key_file, key_text_);
    if (X509_check_private_key(chain_.front().get(), key_.get()) != 1) {
        ERR_clear_error();
        refuse(key_file, "is not the key of the first certificate in " + certificate_file);
    }
    const ContextPtr trial(SSL_CTX_new(TLS_method()));
    if (!trial || SSL_CTX_use_certificate(trial.get(), chain_.front().get()) != 1) {
        refuse(certificate_file, "OpenSSL does not take it: " + reason());
    }
    note_end(certificate_file, chain_);
    for (const auto& file : authority_files) {
        authorities_.emplace_back();
        if (file.empty()) continue;
        const auto text = read(file);
        const auto certificates = certificates_in(file, text);
        StorePtr store(X509_STORE_new());
        if (!store) throw std::bad_alloc();
        // What the file holds is trusted, be it the root or one below it, as with the connections that pjsip makes.
        X509_STORE_set_flags(store.get(), X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
        for (const auto& one : certificates) X509_STORE_add_cert(store.get(), one.get());
        ERR_clear_error();
        authorities_.back() = std::move(store);
        authorities_text_ += text + "\n";
        note_end(file, certificates);
    }
}

void TlsCredentials::note_end(const std::string& file, const std::vector<CertificatePtr>& certificates) {
    const auto is_it = [&](const auto& known) { return known.first == file; };
    if (std::any_of(ends_.begin(), ends_.end(), is_it)) return;
    std::int64_t first = end_of(certificates.front().get());
    for (const auto& one : certificates) first = std::min(first, end_of(one.get()));
    ends_.emplace_back(file, first);
}

bool TlsCredentials::show(SSL* ssl) const {
    SSL_certs_clear(ssl);  // one of another kind of key would stay beside it
    auto* others = as_stack(chain_, 1);
    const bool shown = SSL_use_cert_and_key(ssl, chain_.front().get(), key_.get(), others, 1) == 1;
    sk_X509_free(others);
    ERR_clear_error();
    return shown;
}

bool TlsCredentials::vouches(int authority, SSL* ssl) const {
    const auto index = static_cast<std::size_t>(authority);
    if (authority < 0 || index >= authorities_.size() || !authorities_[index]) return false;
    const CertificatePtr shown(SSL_get1_peer_certificate(ssl));
    const CheckPtr check(X509_STORE_CTX_new());
    if (!shown || !check) return false;
    auto* chain = SSL_get_peer_cert_chain(ssl);
    const char* purpose = SSL_is_server(ssl) == 1 ? "ssl_client" : "ssl_server";
    const bool good = X509_STORE_CTX_init(check.get(), authorities_[index].get(), shown.get(), chain) == 1 &&
                      X509_STORE_CTX_set_default(check.get(), purpose) == 1 && X509_verify_cert(check.get()) == 1;
    ERR_clear_error();
    return good;
}

}  // namespace sidecar
