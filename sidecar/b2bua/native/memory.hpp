// Memory is bounded from outside: by a limit of the process (ulimit -v), of its control group, or of the machine. pjsip does not
// survive an allocation that fails: it jumps to a handler that nobody has set. So new calls are refused while what can still be
// had is no more than those that are up may need until they have ended; and a reserve is kept for the case that this was too late.
#pragma once

#include <pjlib.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sidecar {

class Memory {
public:
    Memory() = default;
    ~Memory() { release(); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    // From now until release() what pjsip and we allocate falls back on the reserve. One per process.
    void guard(pj_pool_factory* pools);
    void release();  // before the factory is gone

    void look(std::size_t calls_up) noexcept;  // native thread; as often as it may run out
    bool is_short() const { return short_.load(std::memory_order_relaxed); }  // any thread
    bool reserve_is_spent() const { return is_short() && spent(); }

private:
    static bool spent();
    static std::int64_t available_bytes(const std::string& group);

    pj_pool_factory* pools_ = nullptr;
    std::atomic<bool> short_{false};
    std::string group_;  // folder of the process's control group; empty: none is seen
    int looks_ = 0;
    bool system_is_short_ = false;
};

}  // namespace sidecar
