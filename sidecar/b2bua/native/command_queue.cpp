#include "command_queue.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace sidecar {

CommandQueue::CommandQueue(pjsip_endpoint* endpoint, Run run) : endpoint_(endpoint), run_(std::move(run)) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
        throw std::system_error(errno, std::generic_category(), "socketpair");
    }
    writing_end_ = ends[1];
    pool_ = pjsip_endpt_create_pool(endpoint_, "commands", 512, 512);
    pj_ioqueue_callback callbacks{};
    callbacks.on_read_complete = &on_read;
    const pj_status_t status =
        pj_ioqueue_register_sock(pool_, pjsip_endpt_get_ioqueue(endpoint_), ends[0], this, &callbacks, &key_);
    if (status != PJ_SUCCESS) {
        ::close(ends[0]);
        throw std::runtime_error("pj_ioqueue_register_sock");
    }
    pj_ioqueue_op_key_init(&op_, sizeof op_);
    pj_ssize_t size = sizeof wake_ups_;
    pj_ioqueue_recv(key_, &op_, wake_ups_, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
}

CommandQueue::~CommandQueue() { ::close(static_cast<int>(writing_end_)); }

void CommandQueue::close() {
    if (key_ == nullptr) return;
    pj_ioqueue_unregister(key_);
    key_ = nullptr;
}

void CommandQueue::post(std::vector<Command>&& commands) {
    if (commands.empty()) return;
    bool was_empty;
    {
        const std::lock_guard lock(mutex_);
        was_empty = commands_.empty();
        if (was_empty) {
            commands_ = std::move(commands);
        } else {
            for (auto& command : commands) commands_.push_back(std::move(command));
        }
    }
    if (was_empty) {
        const char byte = 1;
        [[maybe_unused]] const auto sent = ::send(static_cast<int>(writing_end_), &byte, 1, MSG_DONTWAIT);
    }
}

void CommandQueue::drain() {
    std::vector<Command> batch;
    {
        const std::lock_guard lock(mutex_);
        batch.swap(commands_);
    }
    if (!batch.empty()) run_(batch);
}

void CommandQueue::on_read(pj_ioqueue_key_t* key, pj_ioqueue_op_key_t* op, pj_ssize_t) {
    auto* self = static_cast<CommandQueue*>(pj_ioqueue_get_user_data(key));
    for (;;) {
        self->drain();
        if (self->key_ == nullptr) return;  // a command closed us
        pj_ssize_t size = sizeof self->wake_ups_;
        if (pj_ioqueue_recv(key, op, self->wake_ups_, &size, 0) != PJ_SUCCESS) return;  // pending: called again later
    }
}

}  // namespace sidecar
