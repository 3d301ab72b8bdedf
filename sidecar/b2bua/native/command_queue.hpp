// The way of commands from Python to the native thread, which runs them between two turns of pjsip's event loop.
#pragma once

#include "command_box.hpp"

#include <pjsip.h>

#include <functional>
#include <vector>

namespace sidecar {

// A box whose reading end is registered in pjsip's ioqueue: the worker sleeps in one place only, and commands run in its
// thread, so nothing else of the bridge needs a lock. To be closed while the endpoint lives, and destroyed when the worker is
// gone: it runs in a callback of this object.
class CommandQueue {
public:
    using Run = std::function<void(std::vector<Command>&)>;

    CommandQueue(pjsip_endpoint* endpoint, Run run);
    CommandQueue(const CommandQueue&) = delete;
    CommandQueue& operator=(const CommandQueue&) = delete;

    void post(std::vector<Command>&& commands) { box_.post(std::move(commands)); }  // any thread
    void close();  // native thread; nothing is run any more when the callback returns

private:
    static void on_read(pj_ioqueue_key_t* key, pj_ioqueue_op_key_t* op, pj_ssize_t bytes);
    void drain();

    pjsip_endpoint* endpoint_;
    Run run_;
    pj_pool_t* pool_ = nullptr;  // the endpoint's: it goes with it, because the closed key may still be read there
    pj_ioqueue_key_t* key_ = nullptr;  // owned until close(), which closes the reading end
    pj_ioqueue_op_key_t op_{};
    char wake_ups_[64];
    CommandBox box_;
};

}  // namespace sidecar
