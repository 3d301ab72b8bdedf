#include "event_queue.hpp"

#include "counters.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

namespace sidecar {

Fields& Fields::number(std::int64_t value) {
    packed_ += 'n';
    packed_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
}

Fields& Fields::text(std::string_view value) {
    if (value.size() > text_bytes_max) {
        value = value.substr(0, text_bytes_max);
        counters.add(Counter::texts_cut);
    }
    const auto size = static_cast<std::uint32_t>(value.size());
    packed_ += 't';
    packed_.append(reinterpret_cast<const char*>(&size), sizeof size);
    packed_.append(value);
    return *this;
}

Fields& Fields::list(std::size_t count) {
    const auto size = static_cast<std::uint32_t>(count);
    packed_ += 'l';
    packed_.append(reinterpret_cast<const char*>(&size), sizeof size);
    return *this;
}

static std::int64_t nanoseconds(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

Moment Moment::now() { return {nanoseconds(CLOCK_MONOTONIC), nanoseconds(CLOCK_REALTIME)}; }

EventQueue::EventQueue(std::size_t events_max) : events_max_(events_max), fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

EventQueue::~EventQueue() { close(fd_); }

bool EventQueue::essential(EventKind kind) {
    switch (kind) {
        case EventKind::life:
        case EventKind::session_refreshed:
        case EventKind::provisional_received:
        case EventKind::invite_refused:
            return false;
        default:
            return true;
    }
}

void EventQueue::push(Event&& event) {
    bool wake;
    {
        const std::lock_guard lock(mutex_);
        if (events_.size() >= events_max_ && !essential(event.kind)) {
            counters.add(Counter::events_dropped);
            return;
        }
        wake = std::exchange(awaited_, false);
        events_.push_back(std::move(event));
        size_.store(events_.size(), std::memory_order_relaxed);
    }
    if (wake) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = write(fd_, &one, sizeof one);
    }
}

bool EventQueue::nearly_full() const { return size_.load(std::memory_order_relaxed) > events_max_ / 2; }

void EventQueue::drain(std::vector<Event>& out) {
    std::uint64_t ignored;
    [[maybe_unused]] const auto got = read(fd_, &ignored, sizeof ignored);  // before the swap: a push after it may wake
    const std::lock_guard lock(mutex_);
    out.swap(events_);
    events_.reserve(out.size());
    size_.store(0, std::memory_order_relaxed);
    awaited_ = out.empty();
}

}  // namespace sidecar
