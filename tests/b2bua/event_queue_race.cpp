// Two threads as in the product: one pushes, one waits for the descriptor, then drains until it finds nothing. Every event arrives once, in order.
#include "event_queue.hpp"
#include "counters.hpp"
#include <poll.h>
#include <cstdio>
#include <thread>
int main() {
    using namespace sidecar;
    constexpr std::uint64_t events = 200'000;
    EventQueue queue(1000);
    std::thread native([&] {
        for (std::uint64_t id = 1; id <= events; ++id) {
            Event event{EventKind::bye_received, Side::a, 0, id, Moment::now(), {}};
            event.fields.text("text").number(static_cast<std::int64_t>(id));
            queue.push(std::move(event));
            queue.nearly_full();
        }
    });
    std::uint64_t expected = 1;
    std::vector<Event> out;
    while (expected <= events) {
        pollfd waiting{queue.fd(), POLLIN, 0};
        if (poll(&waiting, 1, 5000) != 1) break;
        do {
            out.clear();
            queue.drain(out);
            for (const Event& event : out) {
                if (event.bridge_id != expected++) return 1;
            }
        } while (!out.empty());
    }
    native.join();
    std::printf("%llu events\n", static_cast<unsigned long long>(expected - 1));
    return expected == events + 1 ? 0 : 1;
}
