#include "command_queue.hpp"

#include <stdexcept>

namespace sidecar {

CommandQueue::CommandQueue(pjsip_endpoint* endpoint, Run run) : endpoint_(endpoint), run_(std::move(run)) {
    pool_ = pjsip_endpt_create_pool(endpoint_, "commands", 512, 512);
    pj_ioqueue_callback callbacks{};
    callbacks.on_read_complete = &on_read;
    const pj_status_t status =
        pj_ioqueue_register_sock(pool_, pjsip_endpt_get_ioqueue(endpoint_), box_.reading_end(), this, &callbacks, &key_);
    if (status != PJ_SUCCESS) throw std::runtime_error("pj_ioqueue_register_sock");
    pj_ioqueue_op_key_init(&op_, sizeof op_);
    pj_ssize_t size = sizeof wake_ups_;
    pj_ioqueue_recv(key_, &op_, wake_ups_, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
}

void CommandQueue::close() {
    if (key_ == nullptr) return;
    pj_ioqueue_unregister(key_);  // closes the reading end
    box_.reading_end_is_closed();
    key_ = nullptr;
}

void CommandQueue::drain() {
    std::vector<Command> batch = box_.take();
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
