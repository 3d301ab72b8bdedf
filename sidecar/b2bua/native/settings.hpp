// What Python has set: what is in force for whatever begins now.
#pragma once

#include "peer_table.hpp"
#include "terms.hpp"
#include "tls_in_force.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sidecar {

// The words of core/terms.Detail that are said here before Python knows; Settings has a cause for each.
inline constexpr std::array<std::string_view, 7> own_details{"source_not_allowed", "node_full", "journal",      "transport_lost",
                                                             "no_ack",             "dead_peer", "session_timer"};

struct Credentials {  // of one gateway, as its profile says
    std::string username;
    std::string password;
    std::string realm;  // the only one that gets the password; empty: any
};

struct GatewayTls {  // of those at one host
    std::vector<std::string> names;  // of its certificate, beside the host itself
    int authority = PeerTable::no_authority;  // its own; else that of its peer group
};

struct Collector {  // of copies of messages, by HEP
    std::string host;  // a literal address; empty: there is none
    int port = 0;
    std::uint32_t capture_id = 0;  // by which it knows this node
    std::string key;  // it may ask for one
};

// Every value is given by Python (module.cpp): none has a default here.
struct Settings {
    std::array<std::string, 3> advertised;  // host:port for Contact, by Transport; empty: not listening
    std::size_t calls_max{};
    std::size_t emergency_places{};  // beside them, for emergency calls alone
    std::size_t events_max{};
    int patience_ms{};
    int batch_interval_ms{};  // see EventQueue
    int answer_hold_ms_max{};
    int trying_ms{};  // after which A gets its 100, though nothing is decided
    int admission_wait_ms_max{};  // a new call that would wait longer for its first decision is refused
    int retry_after_s{};
    int options_interval_ms{};  // in-dialog OPTIONS for each leg; 0: none
    unsigned t1_ms{};  // RFC 3261 §17.1.1.1; T2, T4 and 64*T1 follow it
    bool keep_assertions_outside{};  // of who speaks, without Privacy, for those outside the trust domain
    bool pass_refer{};  // REFER, and INVITEs that take a place in a call; else refused
    bool refuse_unlisted{};  // 403 and InviteRefused; else dropped in silence
    int unlisted_refused_per_s{};  // of one source; the rest is dropped in silence
    std::vector<std::string> wanted_headers;  // lower case
    bool tells_stray_byes{};
    std::string product;
    std::vector<std::string> carried_urns;  // lower case; each with the services within it
    std::vector<std::string> emergency_users;  // users of Request-URIs, exactly; urn:service:sos besides
    std::shared_ptr<const PeerTable> peers;  // never null
    std::shared_ptr<TlsInForce> tls;  // null: there is no TLS
    Collector collector;
    bool verify_tls{};  // the node has an authority
    std::unordered_map<std::string, GatewayTls> gateway_tls;  // by host
    std::unordered_map<std::string, Credentials> credentials;  // by gateway
    std::unordered_map<std::string, int> q850_causes;          // core/hangup.TABLE of the server's causes, by detail

    unsigned t4_ms() const { return 10 * t1_ms; }       // how long a repeat may still arrive
    unsigned timeout_ms() const { return 64 * t1_ms; }  // Timers B, F, H, J
};

}  // namespace sidecar
