// The gate at times of the test's own choice.
#include "admission_gate.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>

using namespace sidecar;

static void expect(bool right, const char* what) {
    if (right) return;
    std::printf("not so: %s\n", what);
    std::exit(1);
}

constexpr std::int64_t us = 1'000, ms = 1'000'000, s = 1'000'000'000;

struct Wait {
    std::int64_t longest_ns = 0;
    int taken = 0;
};

// Calls come every `every_ns` for so long, and are decided about one after the other.
static Wait offered(AdmissionGate& gate, std::int64_t from_ns, std::int64_t for_ns, std::int64_t every_ns,
                    std::int64_t decision_ns) {
    Wait wait;
    std::deque<std::int64_t> waiting;
    std::int64_t free_ns = from_ns;  // whoever decides
    std::size_t decided = 0;
    for (std::int64_t now = from_ns; now < from_ns + for_ns; now += every_ns) {
        while (!waiting.empty() && std::max(free_ns, waiting.front()) + decision_ns <= now) {
            free_ns = std::max(free_ns, waiting.front()) + decision_ns;
            wait.longest_ns = std::max(wait.longest_ns, free_ns - waiting.front());
            waiting.pop_front();
            ++decided;
        }
        const bool closed = gate.is_closed(now, waiting.size(), waiting.empty() ? 0 : waiting.front(), decided, now);
        decided = 0;
        if (closed) continue;
        waiting.push_back(now);
        ++wait.taken;
    }
    return wait;
}

int main() {
    const std::int64_t began = 1000 * s;
    {
        AdmissionGate gate(300 * ms);
        const Wait wait = offered(gate, began, 10 * s, 10 * ms, 8 * ms);
        expect(wait.taken == 1000, "what can be carried is taken");
        expect(!gate.is_closed(began + 10 * s, 31, began + 10 * s, 0, began + 10 * s), "a few may come at once");
    }
    {
        AdmissionGate gate(300 * ms);
        const Wait wait = offered(gate, began, 10 * s, 250 * us, ms);
        expect(wait.longest_ns <= 170 * ms, "with four times as many as can be carried nobody waits longer than half of what he may");
        expect(wait.taken >= 9800, "and what can be carried is taken");
    }
    {
        AdmissionGate gate(300 * ms);
        const Wait slow = offered(gate, began, 10 * s, 250 * us, 5 * ms);
        expect(slow.taken >= 1900, "where each takes longer, as many as can be carried");
        expect(gate.each_ns() > 4 * ms && gate.each_ns() < 6 * ms, "how long each takes is learnt");
        const Wait quick = offered(gate, began + 20 * s, 10 * s, 250 * us, 500 * us);
        expect(quick.taken >= 19'000, "and unlearnt");
        expect(quick.longest_ns <= 170 * ms, "without long waits");
    }
    {
        AdmissionGate gate(300 * ms);
        expect(!gate.is_closed(began + 300 * ms, 1, began, 0, began + 300 * ms), "the oldest may wait so long");
        expect(gate.is_closed(began + 301 * ms, 1, began, 0, began + 301 * ms), "and no longer");
        expect(!gate.is_closed(began + 302 * ms, 0, 0, 1, began + 302 * ms), "once it is decided about the next are taken");
    }
    {
        AdmissionGate gate(300 * ms);
        expect(!gate.is_closed(began, 50, began, 0, began + 90 * ms), "what came late has waited already");
        expect(gate.is_closed(began, 50, began, 0, began + 110 * ms), "and waits on, twice");
        expect(!gate.is_closed(began - 40 * s, 5, began, 0, began), "but a stall is no overload");
    }
    {
        AdmissionGate gate(300 * ms);
        for (std::int64_t now = began; now <= began + 300 * ms; now += 10 * ms)
            expect(!gate.is_closed(now - 40 * s, 5, now, 0, now), "what a stall has left is taken");
        const std::int64_t now = began + 301 * ms;
        expect(gate.is_closed(now - 151 * ms, 1, now, 0, now), "where all come late for long, the socket is the queue");
        expect(!gate.is_closed(now - 150 * ms, 1, now, 0, now), "one in time is taken");
        expect(!gate.is_closed(now - 151 * ms, 0, 0, 0, now), "and one where nobody waits");
        expect(gate.is_closed(now + 4 * s, 1, now + 5 * s, 0, now + 5 * s), "the next late one is of the same cause");
        expect(!gate.is_closed(now + 10 * s, 1, now + 11 * s, 0, now + 11 * s), "after a while it is another");
    }
    std::puts("all is so");
}
