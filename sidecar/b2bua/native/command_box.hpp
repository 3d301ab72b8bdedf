// Commands from Python to the native thread, and the wake-up that goes with them: what of CommandQueue needs no pjsip.
#pragma once

#include <cstdint>
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

// A socket pair: whoever waits at the reading end finds a byte there after every post to an empty box, and takes all that
// is in the box. Unbounded, but its writer is our own process.
class CommandBox {
public:
    CommandBox();
    ~CommandBox();
    CommandBox(const CommandBox&) = delete;
    CommandBox& operator=(const CommandBox&) = delete;

    void post(std::vector<Command>&& commands);      // any thread; one wake-up for the batch
    std::vector<Command> take();                     // the reading thread
    int reading_end() const { return ends_[0]; }
    void reading_end_is_closed() { ends_[0] = -1; }  // by somebody else

private:
    int ends_[2];  // owned: to read, to write
    std::mutex mutex_;
    std::vector<Command> commands_;
};

}  // namespace sidecar
