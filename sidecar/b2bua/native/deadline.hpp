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
        ++milliseconds;  // pj's clock counts whole milliseconds: without it a grant could end before its time
        const pj_time_val delay{static_cast<long>(milliseconds / 1000), static_cast<long>(milliseconds % 1000)};
        entry_.id = 1;
        if (pjsip_endpt_schedule_timer(context_.endpoint, &entry_, &delay) != PJ_SUCCESS) entry_.id = 0;
    }
    void disarm() {
        if (entry_.id == 0) return;
        entry_.id = 0;
        pjsip_endpt_cancel_timer(context_.endpoint, &entry_);
    }
    bool armed() const { return entry_.id != 0; }

private:
    static void fired(pj_timer_heap_t*, pj_timer_entry* entry) {
        auto* self = static_cast<Deadline*>(entry->user_data);
        entry->id = 0;
        self->context_.enter_from_pjsip([&] { self->action_(self->owner_); });
    }

    pj_timer_entry entry_{};
    Context& context_;
    void* owner_;
    Action action_;
};

}  // namespace sidecar
