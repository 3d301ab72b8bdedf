// The way of events from the native thread to Python: bounded, drained in batches. The reader is woken by the first event
// after a drain that found nothing; after any other it comes again by itself, and nobody is woken for a single event.
#pragma once

#include "event.hpp"

#include <atomic>
#include <mutex>
#include <vector>

namespace sidecar {

// Policy when full: above half of `events_max` new calls are refused (nearly_full), above `events_max` the events that no
// record depends on are dropped and counted. The events that a record depends on are always taken: a call has at most a
// dozen of them and calls_max bounds the calls, so the queue is bounded by about 12 * calls_max beyond events_max.
class EventQueue {
public:
    explicit EventQueue(std::size_t events_max);
    ~EventQueue();
    EventQueue(const EventQueue&) = delete;
    EventQueue& operator=(const EventQueue&) = delete;

    void push(Event&& event);                   // native thread
    bool nearly_full() const;                   // native thread
    void drain(std::vector<Event>& out);        // Python thread; `out` is empty before
    int fd() const { return fd_; }              // readable: what was awaited since the last, empty drain is there

private:
    static bool essential(EventKind kind);

    const std::size_t events_max_;
    std::atomic<std::size_t> size_{0};
    std::mutex mutex_;
    std::vector<Event> events_;
    bool awaited_ = true;
    int fd_;
};

}  // namespace sidecar
