// What TLS needs of files: our certificate chain with its key, and the authorities whose certificates peers have to show.
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sidecar {

template <auto Release>
struct OpenSslDeleter {
    template <typename T>
    void operator()(T* held) const {
        Release(held);
    }
};
using CertificatePtr = std::unique_ptr<X509, OpenSslDeleter<&X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpenSslDeleter<&EVP_PKEY_free>>;
using StorePtr = std::unique_ptr<X509_STORE, OpenSslDeleter<&X509_STORE_free>>;

// Read and found good as a whole, or not made at all; never changed afterwards. Made in any thread.
class TlsCredentials {
public:
    // The first authority is the node's, with an empty name where it has none. Throws std::invalid_argument, which names the
    // file and says what is wrong with it.
    TlsCredentials(const std::string& certificate_file, const std::string& key_file,
                   const std::vector<std::string>& authority_files);

    const std::string& certificate_text() const { return certificate_text_; }  // PEM, as the file held it
    const std::string& key_text() const { return key_text_; }
    const std::string& authorities_text() const { return authorities_text_; }  // of all of them; empty: there is none

    // Shows our certificate in the handshake of `ssl`, whatever it would have shown.
    bool show(SSL* ssl) const;
    // Does the certificate that the other side has shown go back to this authority, and is it in force now?
    bool vouches(int authority, SSL* ssl) const;
    // When the first certificate of a file ends, seconds since 1970; a file that is named twice is there once.
    const std::vector<std::pair<std::string, std::int64_t>>& ends() const { return ends_; }

private:
    void note_end(const std::string& file, const std::vector<CertificatePtr>& certificates);

    std::string certificate_text_, key_text_, authorities_text_;
    std::vector<CertificatePtr> chain_;  // ours first
    KeyPtr key_;
    std::vector<StorePtr> authorities_;  // null: the node's, where it has none
    std::vector<std::pair<std::string, std::int64_t>> ends_;
};

}  // namespace sidecar
