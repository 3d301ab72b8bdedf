#include "tls_in_force.hpp"

#include <openssl/err.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <vector>

namespace sidecar {
namespace {

// Every context of the process with the thread that made it: those of pjsua's worker are pjsip's. OpenSSL tells of each when it
// is made and when it is freed, which may be while the process ends; so this outlives everything.
struct Contexts {
    std::mutex mutex;
    std::unordered_map<SSL_CTX*, std::thread::id> makers;
};

Contexts& contexts() {
    static auto& all = *new Contexts;
    return all;
}

void on_made(void* context, void*, CRYPTO_EX_DATA*, int, long, void*) {
    const std::lock_guard lock(contexts().mutex);
    try {
        contexts().makers.emplace(static_cast<SSL_CTX*>(context), std::this_thread::get_id());
    } catch (const std::bad_alloc&) {  // it shows its first certificate for ever
    }
}

void on_freed(void* context, void*, CRYPTO_EX_DATA*, int, long, void*) {
    const std::lock_guard lock(contexts().mutex);
    contexts().makers.erase(static_cast<SSL_CTX*>(context));
}

std::vector<SSL_CTX*> contexts_of_this_thread() {
    std::vector<SSL_CTX*> found;
    const std::lock_guard lock(contexts().mutex);
    for (const auto& [context, maker] : contexts().makers) {
        if (maker == std::this_thread::get_id()) found.push_back(context);
    }
    return found;
}

int in_memory(const std::string& text) {  // -1: it cannot be made
    const int file = memfd_create("tls", MFD_CLOEXEC);
    if (file < 0) return -1;
    if (write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size())) return file;
    close(file);
    return -1;
}

}  // namespace

TlsInForce::TlsInForce(std::shared_ptr<const TlsCredentials> first) : current_(std::move(first)) {
    static const int watched = SSL_CTX_get_ex_new_index(0, nullptr, &on_made, nullptr, &on_freed);
    certificate_ = in_memory(current_->certificate_text());
    key_ = in_memory(current_->key_text());
    authorities_ = in_memory(current_->authorities_text());
    if (watched < 0 || certificate_ < 0 || key_ < 0 || authorities_ < 0) {
        throw std::runtime_error("no memory for the TLS credentials");
    }
}

TlsInForce::~TlsInForce() {
    for (const int file : {certificate_, key_, authorities_}) {
        if (file >= 0) close(file);
    }
}

bool TlsInForce::renew(std::shared_ptr<const TlsCredentials> next) {
    const std::array<int, 3> fresh{in_memory(next->certificate_text()), in_memory(next->key_text()),
                                   in_memory(next->authorities_text())};
    const std::array<int, 3> old{certificate_, key_, authorities_};
    bool made = true;
    for (const int file : fresh) made = made && file >= 0;
    for (std::size_t i = 0; i < fresh.size(); ++i) {
        if (made) dup3(fresh[i], old[i], O_CLOEXEC);  // under the same name
        if (fresh[i] >= 0) close(fresh[i]);
    }
    if (!made) return false;
    current_ = std::move(next);
    ++generation_;
    for (SSL_CTX* context : contexts_of_this_thread()) change(context);
    return true;
}

void TlsInForce::change(SSL_CTX* context) {
    SSL_CTX_set_cert_cb(context, &TlsInForce::show, this);
    // Sessions of another name are not resumed: what a certificate proved that is no longer in force, it proves no more.
    const auto name = "sidecar " + std::to_string(generation_);
    SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(name.data()), static_cast<unsigned>(name.size()));
    if (!current_->authorities_text().empty()) {
        if (auto* names = SSL_load_client_CA_file(authorities_file().c_str())) SSL_CTX_set_client_CA_list(context, names);
    }
    ERR_clear_error();
}

int TlsInForce::show(SSL* ssl, void* self) {
    if (SSL_is_server(ssl) == 0) return 1;  // a connection that we open has a context of its own, which read the files
    return static_cast<TlsInForce*>(self)->current_->show(ssl) ? 1 : 0;
}

}  // namespace sidecar
