#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <new>
#include <utility>

namespace sidecar {
namespace {

constexpr std::size_t reserve_bytes = 16 << 20;
constexpr std::size_t least_bytes = 48 << 20;      // for Python, the journal and what is in no call
constexpr std::size_t bytes_of_a_call = 24 << 10;  // what ending it takes, with its transactions until 64*T1 after it
constexpr int looks_for_each_at_the_system = 10;
constexpr int waits_max = 500;
constexpr useconds_t wait_us = 10'000;

// Of the process: what allocates is not told for whom.
std::atomic<void*> reserve{nullptr};
std::atomic<bool> guarded{false};
using Block = void* (*)(pj_pool_factory*, pj_size_t);
Block usual_block = nullptr;
std::new_handler usual_handler = nullptr;

void* mapped(std::size_t bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

bool spend_reserve() noexcept {
    void* held = reserve.exchange(nullptr);
    return held != nullptr && munmap(held, reserve_bytes) == 0;
}

// Others may give some back meanwhile. To wait is better than what pjsip would do, and to end better than to wait for ever: the
// next start ends the calls.
[[maybe_unused]] void* block(pj_pool_factory* pools, pj_size_t size) {
    for (int waits = 0; waits < waits_max; ++waits) {
        if (void* at = usual_block(pools, size)) return at;
        if (!spend_reserve()) usleep(wait_us);
    }
    constexpr char line[] = "sidecar: no memory is left for the calls that are up; the process ends\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, line, sizeof line - 1);
    std::abort();
}

void on_failed_new() {
    if (!spend_reserve()) throw std::bad_alloc();
}

void set_block([[maybe_unused]] pj_pool_factory* pools, [[maybe_unused]] Block allocates) {
#if !PJ_POOL_DEBUG  // the sanitizer build has no such pool
    usual_block = std::exchange(pools->policy.block_alloc, allocates);
#endif
}

std::int64_t number_in(const std::string& file, const std::string& field) {
    std::ifstream in(file);
    for (std::string word; in >> word;) {
        if (field.empty() || word == field) {
            std::int64_t number = -1;
            if (field.empty()) return std::isdigit(static_cast<unsigned char>(word[0])) ? std::stoll(word) : -1;
            return in >> number ? number : -1;
        }
    }
    return -1;
}

std::string control_group() {
    std::ifstream in("/proc/self/cgroup");
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("0::/")) return "/sys/fs/cgroup" + line.substr(3);
    }
    return {};
}

}  // namespace

void Memory::guard(pj_pool_factory* pools) {
    group_ = control_group();
    pools_ = pools;
    reserve = mapped(reserve_bytes);
    usual_handler = std::set_new_handler(&on_failed_new);
    set_block(pools, &block);
    guarded = true;
}

void Memory::release() {
    if (pools_ == nullptr) return;
    set_block(pools_, usual_block);
    pools_ = nullptr;
    guarded = false;
    std::set_new_handler(usual_handler);
    spend_reserve();
}

bool Memory::spent() { return guarded && reserve.load() == nullptr; }

// What the machine and the control group would still give, less what they would have to take from the page cache last.
std::int64_t Memory::available_bytes(const std::string& group) {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    const std::int64_t machine_kb = number_in("/proc/meminfo", "MemAvailable:");
    if (machine_kb >= 0) least = machine_kb * 1024;
    if (group.empty()) return least;
    const std::int64_t limit = number_in(group + "/memory.max", "");
    const std::int64_t used = number_in(group + "/memory.current", "");
    const std::int64_t cached = std::max<std::int64_t>(0, number_in(group + "/memory.stat", "file"));
    return limit < 0 || used < 0 ? least : std::min(least, limit - used + cached);
}

void Memory::look(std::size_t calls_up) noexcept {
    const std::size_t needed = least_bytes + calls_up * bytes_of_a_call;
    try {
        if (looks_++ % looks_for_each_at_the_system == 0) {
            system_is_short_ = available_bytes(group_) < static_cast<std::int64_t>(needed);
        }
    } catch (...) {  // no memory to ask for it
        system_is_short_ = true;
    }
    void* probe = mapped(needed);
    if (probe != nullptr) munmap(probe, needed);
    if (probe != nullptr && spent()) reserve = mapped(reserve_bytes);
    short_.store(probe == nullptr || system_is_short_ || spent(), std::memory_order_relaxed);
}

}  // namespace sidecar
