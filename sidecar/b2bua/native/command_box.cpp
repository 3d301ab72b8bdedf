#include "command_box.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sidecar {

CommandBox::CommandBox() {
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_) != 0) {
        throw std::system_error(errno, std::generic_category(), "socketpair");
    }
}

CommandBox::~CommandBox() {
    if (ends_[0] >= 0) ::close(ends_[0]);
    ::close(ends_[1]);
}

void CommandBox::post(std::vector<Command>&& commands) {
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
        [[maybe_unused]] const auto sent = ::send(ends_[1], &byte, 1, MSG_DONTWAIT);  // EAGAIN: there are others
    }
}

std::vector<Command> CommandBox::take() {
    std::vector<Command> batch;
    const std::lock_guard lock(mutex_);
    batch.swap(commands_);
    return batch;
}

}  // namespace sidecar
