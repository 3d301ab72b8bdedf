#include "event_queue.hpp"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <system_error>

namespace sidecar {
namespace {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t pause_ns_of_event = ms / 2;
constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

std::int64_t nanoseconds(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

}  // namespace

Moment Moment::now() { return {nanoseconds(CLOCK_MONOTONIC), nanoseconds(CLOCK_REALTIME)}; }

EventQueue::EventQueue(Counters& counters, std::size_t events_max, int patience_ms, int batch_interval_ms)
    : counters_(counters),
      events_max_(events_max),
      patience_ns_(patience_ms * ms),
      batch_interval_ns_(batch_interval_ms * ms),
      wakes_at_ns_(never),
      fd_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "timerfd_create");
}

EventQueue::~EventQueue() { close(fd_); }

// Relative: libfaketime would move a moment of any clock with the wall clock.
void EventQueue::wake(std::int64_t at_ns, std::int64_t now_ns) {
    wakes_at_ns_ = at_ns;
    const std::int64_t after_ns = std::max<std::int64_t>(1, at_ns - now_ns);  // 0 would be never
    const itimerspec timer{{0, 0}, {after_ns / 1'000'000'000, after_ns % 1'000'000'000}};
    timerfd_settime(fd_, 0, &timer, nullptr);
}

void EventQueue::add(bool is_urgent, bool is_droppable) {
    const std::int64_t now_ns = nanoseconds(CLOCK_MONOTONIC);
    const std::lock_guard lock(mutex_);
    const std::size_t size = size_.load(std::memory_order_relaxed);
    if (is_droppable && size >= events_max_) return counters_.add(Counter::events_dropped);
    packed_ += packer_.packed();
    size_.store(size + 1, std::memory_order_relaxed);
    const std::int64_t due_ns = std::max(not_before_ns_, is_urgent ? now_ns : now_ns + patience_ns_);
    if (due_ns < wakes_at_ns_) wake(due_ns, now_ns);
}

bool EventQueue::nearly_full() const { return size_.load(std::memory_order_relaxed) > events_max_ / 2; }

std::string EventQueue::drain() {
    std::uint64_t ignored;
    [[maybe_unused]] const auto got = read(fd_, &ignored, sizeof ignored);  // before the rest: a push after it may wake
    std::string events;
    std::size_t count;
    {
        const std::lock_guard lock(mutex_);
        events.swap(packed_);
        count = size_.exchange(0, std::memory_order_relaxed);
        wakes_at_ns_ = never;
        const std::int64_t pause_ns = std::min(static_cast<std::int64_t>(count) * pause_ns_of_event, batch_interval_ns_);
        not_before_ns_ = nanoseconds(CLOCK_MONOTONIC) + pause_ns;
    }
    if (count == 0) return {};
    const auto size = static_cast<std::uint32_t>(count);
    std::string batch{'\xdd', static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8),
                      static_cast<char>(size)};  // an array of so many
    return batch += events;
}

}  // namespace sidecar
