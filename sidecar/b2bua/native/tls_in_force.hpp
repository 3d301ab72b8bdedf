// The TLS credentials that handshakes are made with, and how pjsip gets them.
//
// pjsip reads files: for each connection that it opens, and for each listener once, when the first connection comes in. It is
// given files of our own in memory, which hold what is in force and never what is half written on disk. A listener's context
// (SSL_CTX) is kept; after a renewal each handshake in it asks us for the certificate. Connections that stand are not touched.
#pragma once

#include "tls_credentials.hpp"

#include <memory>
#include <string>

namespace sidecar {

class TlsInForce {
public:
    // Before the listeners are made. Throws std::runtime_error where there is no memory for the files.
    explicit TlsInForce(std::shared_ptr<const TlsCredentials> first);
    ~TlsInForce();
    TlsInForce(const TlsInForce&) = delete;
    TlsInForce& operator=(const TlsInForce&) = delete;

    std::string certificate_file() const { return path_of(certificate_); }
    std::string key_file() const { return path_of(key_); }
    std::string authorities_file() const { return current_->authorities_text().empty() ? "" : path_of(authorities_); }

    // The rest in pjsua's worker thread. `next` names as many authorities as the first.
    const TlsCredentials& current() const { return *current_; }
    bool renew(std::shared_ptr<const TlsCredentials> next);  // false: out of memory, and all is as it was

private:
    static std::string path_of(int file) { return "/proc/self/fd/" + std::to_string(file); }
    static int show(SSL* ssl, void* self);
    void change(SSL_CTX* context);

    std::shared_ptr<const TlsCredentials> current_;
    int certificate_ = -1, key_ = -1, authorities_ = -1;  // files in memory
    unsigned generation_ = 0;
};

}  // namespace sidecar
