// The way of events from the native thread to Python: packed, bounded, drained in batches.
#pragma once

#include "counters.hpp"
#include "event.hpp"
#include "messagepack.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

namespace sidecar {

// The reader sleeps at one descriptor, a timer: an urgent event makes it readable at once, a patient one after
// `patience_ms`, so that at low rates most of a call's events wake nobody of their own. To wake up and commit costs more
// than an event: after a batch of many, the next one waits for others too, 0.5 ms for each event of the last one and
// `batch_interval_ms` at most. So an INVITE that comes alone waits for nothing, and at 2000 events a second and more the
// batches are batch_interval_ms apart.
//
// Policy when full: above half of `events_max` new calls are refused (nearly_full), above `events_max` the events that no
// record depends on are dropped and counted. The events that a record depends on are always taken: a call has at most a
// dozen of them and calls_max bounds the calls, so the queue is bounded by about 12 * calls_max beyond events_max.
class EventQueue {
public:
    EventQueue(Counters& counters, std::size_t events_max, int patience_ms, int batch_interval_ms);
    ~EventQueue();
    EventQueue(const EventQueue&) = delete;
    EventQueue& operator=(const EventQueue&) = delete;

    // Native thread. `id`: of the call, where the event is of one.
    template <typename E>
    void push(std::uint64_t id, Moment at, const E& event);
    bool nearly_full() const;
    void set_max(std::size_t events_max) { events_max_ = events_max; }
    // Python thread: an array of all events since the last time; empty where there are none.
    std::string drain();
    int fd() const { return fd_; }

private:
    void add(bool is_urgent, bool is_droppable);
    void wake(std::int64_t at_ns, std::int64_t now_ns);

    Counters& counters_;
    std::size_t events_max_;
    const std::int64_t patience_ns_;
    const std::int64_t batch_interval_ns_;
    Packer packer_{counters_};  // of the native thread
    std::atomic<std::size_t> size_{0};
    std::mutex mutex_;
    std::string packed_;
    std::int64_t wakes_at_ns_;       // the timer's; `never` while nothing is in the queue
    std::int64_t not_before_ns_ = 0;  // the next batch
    int fd_;
};

template <typename E>
void EventQueue::push(std::uint64_t id, Moment at, const E& event) {
    packer_.clear();
    if constexpr (std::same_as<E, InviteReceived>) {
        packer_.array(2);
        packer_.word(E::name);
        packer_.pack(event);
    } else {
        packer_.array(3 + !of_node<E> + Packer::count_of_fields<E>());
        packer_.word(E::name);
        packer_.pack(at.mono_ns);
        packer_.pack(at.wall_ns);
        if (!of_node<E>) packer_.pack(id);
        packer_.pack_fields(event);
    }
    add(urgent<E>, droppable<E>);
}

}  // namespace sidecar
