// The native thread and Python's, with both queues between them as in the product: events one way, commands the other, each
// side waiting at a descriptor. Everything arrives once and in order; a third thread reads the counters.
#include "command_box.hpp"
#include "counters.hpp"
#include "event_queue.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdio>
#include <thread>

using namespace sidecar;

constexpr std::uint64_t count = 100'000;

static bool readable(int fd) {
    pollfd waiting{fd, POLLIN, 0};
    return poll(&waiting, 1, 5000) == 1;
}

static std::uint64_t take_events(EventQueue& queue) {
    std::uint64_t taken = 0;
    std::vector<Event> out;
    while (taken < count && readable(queue.fd())) {
        do {  // only a drain that found nothing asks to be woken
            out.clear();
            queue.drain(out);
            for (const Event& event : out) {
                if (event.bridge_id != ++taken) return 0;
            }
        } while (!out.empty());
    }
    return taken;
}

static std::uint64_t take_commands(CommandBox& box) {
    std::uint64_t taken = 0;
    char wake_ups[64];
    while (taken < count && readable(box.reading_end())) {
        while (recv(box.reading_end(), wake_ups, sizeof wake_ups, 0) > 0) {
        }
        for (const Command& command : box.take()) {
            if (command.bridge_id != ++taken) return 0;
        }
    }
    return taken;
}

int main() {
    EventQueue events(1000);
    CommandBox commands;
    std::atomic<bool> over = false;
    std::uint64_t events_taken = 0, commands_taken = 0;

    std::thread pushing([&] {
        for (std::uint64_t id = 1; id <= count; ++id) {
            Event event{EventKind::bye_received, Side::a, 0, id, Moment::now(), {}};
            event.fields.text("text").number(static_cast<std::int64_t>(id));
            events.push(std::move(event));
            if (events.nearly_full()) counters.add(Counter::refused_node_full);
        }
    });
    std::thread posting([&] {
        for (std::uint64_t id = 1; id <= count;) {
            std::vector<Command> batch;
            for (std::uint64_t size = id % 3 + 1; size > 0 && id <= count; --size, ++id) {
                batch.push_back({CommandKind::release, id});
                batch.back().text = "text";
            }
            commands.post(std::move(batch));
        }
    });
    std::thread scraping([&] {
        while (!over) counters.get(static_cast<std::size_t>(Counter::refused_node_full));
    });
    std::thread reading([&] { commands_taken = take_commands(commands); });
    events_taken = take_events(events);
    pushing.join();
    posting.join();
    reading.join();
    over = true;
    scraping.join();
    std::printf("%llu events, %llu commands\n", static_cast<unsigned long long>(events_taken),
                static_cast<unsigned long long>(commands_taken));
    return events_taken == count && commands_taken == count ? 0 : 1;
}
