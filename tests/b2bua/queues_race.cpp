// The native thread and Python's, with both queues between them as in the product: events one way, commands the other, each
// side waiting at a descriptor. Everything arrives once and in order; a third thread reads the counters.
#include "command_box.hpp"
#include "counters.hpp"
#include "event_queue.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

using namespace sidecar;

constexpr std::uint64_t count = 100'000;

static bool readable(int fd) {
    pollfd waiting{fd, POLLIN, 0};
    return poll(&waiting, 1, 5000) == 1;
}

// The ids of a batch of AckReceived, in order: each is the name, two clocks and the id.
static bool ids_follow(const std::string& batch, std::uint64_t& taken) {
    constexpr std::size_t head = 5, before_id = 1 + 1 + AckReceived::name.size() + 2 * 9;
    for (std::size_t at = head; at < batch.size();) {
        std::uint64_t id = static_cast<unsigned char>(batch[at += before_id]);
        if (id == 0xd3) {
            id = 0;
            for (int i = 0; i < 8; ++i) id = id << 8 | static_cast<unsigned char>(batch[++at]);
        }
        if (id != ++taken) return false;
        ++at;
    }
    return true;
}

static std::uint64_t take_events(EventQueue& queue) {
    std::uint64_t taken = 0;
    while (taken < count && readable(queue.fd())) {
        if (!ids_follow(queue.drain(), taken)) return 0;
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
            if (std::get<commands::Release>(command).bridge_id != ++taken) return 0;
        }
    }
    return taken;
}

int main() {
    Counters counters;
    EventQueue events(counters, 1000, 1, 1);
    CommandBox commands;
    std::atomic<bool> over = false;
    std::uint64_t events_taken = 0, commands_taken = 0;

    std::thread pushing([&] {
        for (std::uint64_t id = 1; id <= count; ++id) {
            events.push(id, Moment::now(), AckReceived{});
            if (events.nearly_full()) counters.add(Counter::refused_node_full);
        }
    });
    std::thread posting([&] {
        for (std::uint64_t id = 1; id <= count;) {
            std::vector<Command> batch;
            for (std::uint64_t size = id % 3 + 1; size > 0 && id <= count; --size, ++id) {
                batch.emplace_back(commands::Release{id, 503, 42, "text"});
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
