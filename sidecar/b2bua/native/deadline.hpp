// One timer of a call, in pjsip's timer heap: it fires in the native thread, so on time while Python stalls.
#pragma once

#include "context.hpp"

#include <pjsip.h>

namespace sidecar {

// The owner must outlive it; its destruction takes it out of the heap.
class Deadline {
public:
    using Action = void (*)(void* owner);

    Deadline(Context& context, void* owner, Action action) : context_(context), owner_(owner), action_(action) {
        pj_timer_entry_init(&entry_, 0, this, &fired);
    }
    ~Deadline() { disarm(); }
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;

    void arm(long long milliseconds) {
        disarm();
        if (milliseconds < 0) milliseconds = 0;
        due_ns_ = Moment::now().mono_ns + milliseconds * 1'000'000;
        ++milliseconds;  // pj's clock counts whole milliseconds: without it a grant could end before its time
        const pj_time_val delay{static_cast<long>(milliseconds / 1000), static_cast<long>(milliseconds % 1000)};
        entry_.id = 1;
        if (pjsip_endpt_schedule_timer(context_.endpoint, &entry_, &delay) != PJ_SUCCESS) entry_.id = 0;
    }
    void disarm() {
        firing_ = false;
        if (entry_.id == 0) return;
        entry_.id = 0;
        pjsip_endpt_cancel_timer(context_.endpoint, &entry_);
    }
    // The last it was armed for, on the monotonic clock; it may have fired since.
    std::int64_t due_ns() const { return due_ns_; }
    bool was_due_by(std::int64_t mono_ns) const { return (entry_.id != 0 || firing_) && due_ns_ <= mono_ns; }
    void fire() {
        disarm();
        action_(owner_);
    }

private:
    static void fired(pj_timer_heap_t*, pj_timer_entry* entry) {
        auto* self = static_cast<Deadline*>(entry->user_data);
        entry->id = 0;
        self->firing_ = true;
        self->context_.enter_from_pjsip([&] {
            self->context_.stall.before(self->due_ns_);
            if (self->firing_) self->fire();  // what was read may have disarmed it
        });
    }

    pj_timer_entry entry_{};
    Context& context_;
    void* owner_;
    Action action_;
    std::int64_t due_ns_ = 0;
    bool firing_ = false;
};

}  // namespace sidecar
