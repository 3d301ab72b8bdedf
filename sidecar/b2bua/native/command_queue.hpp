// The way of commands from Python to the native thread, which runs them between two turns of pjsip's event loop.
#pragma once

#include <pjsip.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace sidecar {

enum class CommandKind : int {
    route = 1,
    relay_answer,
    relay_failure,
    reject,
    release,
    arm_deadline,
    snapshot,
    set_accepting,
    ask_gateway,
    stop,
};

struct Request {  // of our own, to a gateway
    std::string target;    // Request-URI
    std::string identity;  // From, and To of a REGISTER: a URI; empty: our address
    std::string call_id;   // empty: a new one
    int cseq = 0;          // its first; answers to challenges take the next ones
    int expires_s = -1;    // of a REGISTER; -1: an OPTIONS
};

struct Command {  // each kind uses some of these; hook.py fills them
    CommandKind kind;
    std::uint64_t bridge_id = 0;
    int attempt = 0;
    int port = 0;
    int transport = 0;
    int milliseconds = 0;  // route: no_response_ms; arm_deadline: after_ms
    int no_progress_ms = 0;  // route
    int sip_code = 0;
    int q850_cause = 0;
    int deadline = 0;
    int retry_after_s = 0;
    bool keep_retry_after = false;
    bool keep_contacts = false;
    std::string host;
    std::string user;
    std::string text;
    std::string gateway;  // whose credentials it takes
    std::unique_ptr<Request> request;  // ask_gateway
    std::string from_user;  // of From on leg B; empty: as received
    bool anonymous = false;
    std::vector<std::pair<std::string, std::string>> add_headers;
    std::vector<std::string> withheld_headers;  // lower case
};

// A socket pair whose reading end is registered in pjsip's ioqueue: the worker sleeps in one place only, and commands
// run in its thread, so nothing else of the bridge needs a lock. Unbounded, but its writer is our own process. To be
// closed while the endpoint lives, and destroyed when the worker is gone: it runs in a callback of this object.
class CommandQueue {
public:
    using Run = std::function<void(std::vector<Command>&)>;

    CommandQueue(pjsip_endpoint* endpoint, Run run);
    ~CommandQueue();
    CommandQueue(const CommandQueue&) = delete;
    CommandQueue& operator=(const CommandQueue&) = delete;

    void post(std::vector<Command>&& commands);  // any thread; one wake-up for the batch
    void close();                                // native thread; nothing is run any more when the callback returns

private:
    static void on_read(pj_ioqueue_key_t* key, pj_ioqueue_op_key_t* op, pj_ssize_t bytes);
    void drain();

    pjsip_endpoint* endpoint_;
    Run run_;
    pj_pool_t* pool_ = nullptr;  // the endpoint's: it goes with it, because the closed key may still be read there
    pj_ioqueue_key_t* key_ = nullptr;  // owned until close(), which closes the reading end
    pj_ioqueue_op_key_t op_{};
    pj_sock_t writing_end_ = -1;  // owned
    char wake_ups_[64];
    std::mutex mutex_;
    std::vector<Command> commands_;
};

}  // namespace sidecar
