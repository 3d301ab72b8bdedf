// What happened, on its way to Python. hook.py knows the order of the fields of each kind.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sidecar {

enum class EventKind : std::uint8_t {
    invite_received = 1,
    invite_refused,
    provisional_received,
    answer_held,
    answer_relayed,
    answer_dropped,
    ack_received,
    cancel_received,
    bye_received,
    route_failed,
    leg_terminated,
    transport_failed,
    deadline_reached,
    target_refreshed,
    session_refreshed,
    life,
    snapshot_taken,
    request_ended,
};

enum class Side : std::uint8_t { a = 0, b = 1 };

// The fields of one event packed into one string: one allocation for each event, and none for the short ones.
// n: int64; t: bytes; l: a list, its count and then its items.
class Fields {
public:
    static constexpr std::size_t text_bytes_max = 2048;  // a longer text is cut and counted

    Fields& number(std::int64_t value);
    Fields& text(std::string_view value);
    Fields& list(std::size_t count);  // the next `count` fields belong to it

    const std::string& packed() const { return packed_; }

private:
    std::string packed_;
};

struct Moment {
    std::int64_t mono_ns;
    std::int64_t wall_ns;
    static Moment now();
};

struct Event {
    EventKind kind;
    Side side = Side::a;
    int code = 0;
    std::uint64_t bridge_id = 0;
    Moment at;
    Fields fields;
};

}  // namespace sidecar
