// Commands from Python to the native thread, and the wake-up that goes with them: what of CommandQueue needs no pjsip.
#pragma once

#include "command.hpp"

#include <mutex>
#include <vector>

namespace sidecar {

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
