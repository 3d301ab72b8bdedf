// The closed sets of core/terms that native code has values of, in their order there.
#pragma once

#include "declared.hpp"

#include <array>

namespace sidecar {

enum class Side { a, b };  // core: LegName
enum class Transport { udp, tcp, tls };
enum class RouteFailure { final_response, no_response, unreachable, transaction_timeout };
enum class LivenessCheck { any, options, off };
enum class SavedLegState { over, early, answering, answered };
enum class DeadlineKind { ring = 1, max_duration, grant, hold, no_ack, dead_peer, session_timer, extend };

template <>
struct Words<Side> {
    static constexpr std::string_view name = "LegName";
    static constexpr std::array<std::string_view, 2> words{"a", "b"};
    static constexpr std::string_view said(Side value) { return words.at(static_cast<std::size_t>(value)); }
};

template <>
struct Words<Transport> {
    static constexpr std::string_view name = "TransportName";
    static constexpr std::array<std::string_view, 3> words{"udp", "tcp", "tls"};
    static constexpr std::string_view said(Transport value) { return words.at(static_cast<std::size_t>(value)); }
};

template <>
struct Words<RouteFailure> {
    static constexpr std::string_view name = "RouteFailure";
    static constexpr std::array<std::string_view, 4> words{"final_response", "no_response", "unreachable",
                                                           "transaction_timeout"};
    static constexpr std::string_view said(RouteFailure value) { return words.at(static_cast<std::size_t>(value)); }
};

template <>
struct Words<LivenessCheck> {
    static constexpr std::string_view name = "LivenessCheck";
    static constexpr std::array<std::string_view, 3> words{"any", "options", "off"};
    static constexpr std::string_view said(LivenessCheck value) { return words.at(static_cast<std::size_t>(value)); }
};

template <>
struct Words<SavedLegState> {
    static constexpr std::string_view name = "SavedLegState";
    static constexpr std::array<std::string_view, 4> words{"over", "early", "answering", "answered"};
    static constexpr std::string_view said(SavedLegState value) { return words.at(static_cast<std::size_t>(value)); }
};

template <>
struct Words<DeadlineKind> {  // an IntEnum, from 1
    static constexpr std::string_view name = "DeadlineKind";
    static constexpr std::array<std::string_view, 8> words{"ring",   "max_duration", "grant",         "hold",
                                                           "no_ack", "dead_peer",    "session_timer", "extend"};
    static constexpr int said(DeadlineKind value) { return static_cast<int>(value); }
};

}  // namespace sidecar
