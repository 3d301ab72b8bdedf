// What is to be done: the commands of core/commands that go to the bridge, read from Python's objects field by field.
#pragma once

#include "declared.hpp"
#include "event.hpp"
#include "terms.hpp"
#include "tls_credentials.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace sidecar {
struct Settings;
}

namespace sidecar::commands {

struct Route {
    std::uint64_t bridge_id;
    int attempt;
    std::string gateway;  // whose credentials it takes
    std::string host;
    int port;
    Transport transport;
    std::string authority;  // host and port of the Request-URI; empty: `host` and `port`
    std::string user;
    std::string urn;  // in the place of a SIP URI
    std::string uri_parameters;  // of the Request-URI, each with its `;`
    std::string to_parameters, from_parameters;
    int no_response_ms;
    int no_progress_ms;
    std::string from_user;  // of From on leg B; empty: as received
    bool anonymous;
    std::vector<std::pair<std::string, std::string>> add_headers;
    std::vector<std::string> withheld_headers;  // lower case
    LivenessCheck liveness;
    bool large_by_udp;
    bool single_branch;  // the caller is shown one dialog, and we ask not to fork
    bool keep_identity;
    SIDECAR_DECLARES(Route, bridge_id, attempt, gateway, host, port, transport, authority, user, urn, uri_parameters,
                     to_parameters, from_parameters, no_response_ms, no_progress_ms, from_user, anonymous, add_headers, withheld_headers,
                     liveness, large_by_udp, single_branch, keep_identity)
};

struct GivenUp {  // an attempt that another one followed
    int attempt;
    std::string gateway;
    SavedLeg leg;
    SIDECAR_DECLARES(GivenUp, attempt, gateway, leg)
};
using Values = std::tuple<GivenUp>;

// A call of an earlier boot: whatever of its legs was left in the network is known again, and answered from what was saved.
// Nothing is sent before its Release. With `kept` it goes on as it was.
struct Adopt {
    std::uint64_t bridge_id;
    std::string peer;  // the group that A called from
    std::string request_uri;
    std::vector<std::string> echoed;  // see InviteReceived; where A may have no final response
    std::string b_token;
    int attempt;  // 0: none
    std::string gateway;
    SavedLegState a_state;
    SavedLeg leg_a;
    SavedLegState b_state;
    std::optional<SavedLeg> leg_b;  // where B has answered
    std::optional<Route> route;     // where it has not, or the call goes on: what its INVITE was made of
    std::vector<GivenUp> given_up;  // a 2xx of theirs gets ACK and BYE
    std::optional<KeptState> kept;
    SIDECAR_DECLARES(Adopt, bridge_id, peer, request_uri, echoed, b_token, attempt, gateway, a_state, leg_a, b_state, leg_b,
                     route, given_up, kept)
};

struct RelayAnswer {
    std::uint64_t bridge_id;
    SIDECAR_DECLARES(RelayAnswer, bridge_id)
};

struct RelayFailure {
    std::uint64_t bridge_id;
    int sip_code;
    bool keep_retry_after;
    bool keep_contacts;
    SIDECAR_DECLARES(RelayFailure, bridge_id, sip_code, keep_retry_after, keep_contacts)
};

struct Reject {
    std::uint64_t bridge_id;
    int sip_code;
    int q850_cause;
    std::string text;
    int retry_after_s;
    SIDECAR_DECLARES(Reject, bridge_id, sip_code, q850_cause, text, retry_after_s)
};

struct Release {
    std::uint64_t bridge_id;
    int sip_code;
    int q850_cause;
    std::string text;
    SIDECAR_DECLARES(Release, bridge_id, sip_code, q850_cause, text)
};

struct ArmDeadline {
    std::uint64_t bridge_id;
    DeadlineKind kind;
    int after_ms;
    int sip_code;
    int q850_cause;
    std::string text;
    SIDECAR_DECLARES(ArmDeadline, bridge_id, kind, after_ms, sip_code, q850_cause, text)
};

struct Capture {  // of its messages; see capture.hpp
    std::uint64_t bridge_id;
    std::string correlation_id;
    SIDECAR_DECLARES(Capture, bridge_id, correlation_id)
};

struct Snapshot {
    SIDECAR_DECLARES(Snapshot)
};

struct AskGateway {
    std::uint64_t request_id;
    std::string gateway;
    std::string host;
    int port;
    Transport transport;
    int timeout_ms;
    std::string target;    // Request-URI
    std::string identity;  // From, and To of a REGISTER: a URI; empty: our address
    std::string contact_user;
    std::string call_id;  // empty: a new one
    int cseq;             // its first; answers to challenges take the next ones
    std::optional<int> expires_s;  // of a REGISTER; none: an OPTIONS
    SIDECAR_DECLARES(AskGateway, request_id, gateway, host, port, transport, timeout_ms, target, identity, contact_user,
                     call_id, cseq, expires_s)
};

struct SetServers {
    std::string gateway;
    std::string host_name;
    std::vector<std::string> addresses;  // with their ports
    SIDECAR_DECLARES(SetServers, gateway, host_name, addresses)
};

// These are no values of the core's.
struct SetAccepting {
    std::string detail;  // of the refusals; empty: accepting
};
struct Keep {};  // each call that nothing is open of, for the next start
struct Hear {};  // what peers say; before it, nothing is heard
struct RenewTls {
    std::shared_ptr<const TlsCredentials> credentials;
};
struct Reconfigure {
    std::shared_ptr<Settings> settings;  // never null; taken out of it
    std::shared_ptr<const TlsCredentials> credentials;  // null: there is no TLS, or it is new with these settings
};
struct Stop {};

using All =
    std::tuple<Route, Adopt, RelayAnswer, RelayFailure, Reject, Release, ArmDeadline, Capture, Snapshot, AskGateway, SetServers>;

}  // namespace sidecar::commands

namespace sidecar {

using Command =
    std::variant<commands::Route, commands::Adopt, commands::RelayAnswer, commands::RelayFailure, commands::Reject, commands::Release,
                 commands::ArmDeadline, commands::Capture, commands::Snapshot, commands::AskGateway, commands::SetServers, commands::SetAccepting,
                 commands::RenewTls, commands::Reconfigure, commands::Keep, commands::Hear, commands::Stop>;

template <typename... F>
struct Overloaded : F... {
    using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace sidecar
