// What happened, on its way to Python: the events of core/events that come from the bridge, and the values in them. Most
// texts are borrowed: they are packed before the function that tells of the event returns.
#pragma once

#include "declared.hpp"
#include "terms.hpp"

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace sidecar {

struct Moment {
    std::int64_t mono_ns;
    std::int64_t wall_ns;
    static Moment now();
};

template <typename E, typename... Kinds>
inline constexpr bool is_one_of = (std::same_as<E, Kinds> || ...);

// --- values: packed by name ------------------------------------------------------------------------------------------

template <typename Text>
struct LegIdentityOf {
    Text sip_call_id, local_tag, remote_tag;
    std::string local_uri, remote_uri;
    Text remote_target;
    std::vector<std::string> route_set;
    int local_cseq, remote_cseq;
    Text branch;
    std::string local_address, remote_address;
    Transport transport;
    SIDECAR_DECLARES(LegIdentity, sip_call_id, local_tag, remote_tag, local_uri, remote_uri, remote_target, route_set,
                     local_cseq, remote_cseq, branch, local_address, remote_address, transport)
};
using LegIdentity = LegIdentityOf<std::string_view>;
using SavedLeg = LegIdentityOf<std::string>;  // comes back from the journal

struct Contact {
    std::string user;
    std::string_view host;
    int port;
    std::string_view transport;
    int q_thousandths;
    SIDECAR_DECLARES(Contact, user, host, port, transport, q_thousandths)
};

struct Silence {
    Side leg_name;
    std::vector<std::string> asked;
    std::string heard;
    std::optional<int> heard_ago_ms;
    SIDECAR_DECLARES(Silence, leg_name, asked, heard, heard_ago_ms)
};

// What the next start has to know of a call that goes on there, beside its dialogs. See CallKept.
struct KeptLeg {
    int invite_cseq;
    bool allows_update, knows_timer;
    int ack_cseq;  // of our last ACK to this peer; -1: there was none
    std::string ack_branch;
    SIDECAR_DECLARES(KeptLeg, invite_cseq, allows_update, knows_timer, ack_cseq, ack_branch)
};

struct KeptReferral {
    Side sender;
    int uas_cseq, uac_cseq;
    SIDECAR_DECLARES(KeptReferral, sender, uas_cseq, uac_cseq)
};

struct KeptState {
    std::int64_t answered_mono_ns, answered_wall_ns;
    KeptLeg a, b;
    int session_s;
    bool peer_refreshes, we_refresh;
    Side refreshed;  // whom we refresh towards
    bool no_update;
    std::int64_t refresh_due_mono_ns;
    std::vector<std::string> sdp;  // in hexadecimal, in pieces: it may be any bytes, and longer than a text
    std::vector<KeptReferral> referrals;
    SIDECAR_DECLARES(KeptState, answered_mono_ns, answered_wall_ns, a, b, session_s, peer_refreshes, we_refresh, refreshed,
                     no_update, refresh_due_mono_ns, sdp, referrals)
};

using Headers = std::vector<std::pair<std::string, std::string>>;  // names in lower case, and values
using Reasons = std::vector<std::string>;                          // values of Reason header fields

struct Branch {
    LegIdentity leg, caller;
    int sip_code;
    SIDECAR_DECLARES(Branch, leg, caller, sip_code)
};

// --- events ----------------------------------------------------------------------------------------------------------
//
// An event is packed as an array: its name, `mono_ns`, `wall_ns`, then `bridge_id` where it is of a call, then its fields.

struct InviteReceived {  // a value too, of InviteRefused; kept in the journal by name, and so packed by name
    std::int64_t mono_ns, wall_ns;
    std::uint64_t bridge_id;
    LegIdentity leg;
    std::string_view peer, request_uri;
    std::string request_user, from_user;
    Headers headers;
    std::string_view tls_name, b_token;
    std::optional<std::string> claimed_peer;
    std::vector<std::string> passports;  // of its Identity headers (RFC 8225): what each says, encoded as it came; bounded
    std::vector<std::string> echoed;     // the lines that every response to it repeats, but for Call-ID
    SIDECAR_DECLARES(InviteReceived, mono_ns, wall_ns, bridge_id, leg, peer, request_uri, request_user, from_user, headers,
                     tls_name, b_token, claimed_peer, passports, echoed)
};

struct InviteRefused {
    Detail detail;
    int sip_code;
    InviteReceived invite;
    SIDECAR_DECLARES(InviteRefused, detail, sip_code, invite)
};

struct ProvisionalReceived {
    int attempt, sip_code;
    SIDECAR_DECLARES(ProvisionalReceived, attempt, sip_code)
};

struct Forked {
    int attempt;
    std::vector<Branch> branches;
    SIDECAR_DECLARES(Forked, attempt, branches)
};

struct AnswerHeld {
    int attempt, sip_code;
    LegIdentity leg;
    std::optional<LegIdentity> caller;
    SIDECAR_DECLARES(AnswerHeld, attempt, sip_code, leg, caller)
};

struct AnswerRelayed {
    SIDECAR_DECLARES(AnswerRelayed)
};

struct AnswerDropped {
    int attempt, sip_code;
    LegIdentity leg;
    SIDECAR_DECLARES(AnswerDropped, attempt, sip_code, leg)
};

struct AckReceived {
    SIDECAR_DECLARES(AckReceived)
};

struct CancelReceived {
    Reasons reasons;
    Headers headers;
    SIDECAR_DECLARES(CancelReceived, reasons, headers)
};

struct ByeReceived {
    Side leg_name;
    Reasons reasons;
    Headers headers;
    SIDECAR_DECLARES(ByeReceived, leg_name, reasons, headers)
};

struct RouteFailed {
    int attempt;
    RouteFailure cause;
    int sip_code;
    std::string_view phrase;
    Reasons reasons;
    Headers headers;
    bool early_media_relayed;
    int heard_code;
    std::vector<Contact> contacts;
    SIDECAR_DECLARES(RouteFailed, attempt, cause, sip_code, phrase, reasons, headers, early_media_relayed, heard_code,
                     contacts)
};

struct LegTerminated {
    Side leg_name;
    int sip_code;
    bool alive;
    Reasons reasons;
    int bye_challenge;
    SIDECAR_DECLARES(LegTerminated, leg_name, sip_code, alive, reasons, bye_challenge)
};

struct TransportFailed {
    Side leg_name;
    SIDECAR_DECLARES(TransportFailed, leg_name)
};

struct DeadlineReached {
    DeadlineKind kind;
    int heard_code;
    std::optional<Silence> silence;
    SIDECAR_DECLARES(DeadlineReached, kind, heard_code, silence)
};

struct TargetRefreshed {
    Side leg_name;
    std::string_view remote_target;
    int local_cseq, remote_cseq;
    SIDECAR_DECLARES(TargetRefreshed, leg_name, remote_target, local_cseq, remote_cseq)
};

struct SessionRefreshed {
    Side leg_name;
    SIDECAR_DECLARES(SessionRefreshed, leg_name)
};

struct Life {
    Side leg_name;
    SIDECAR_DECLARES(Life, leg_name)
};

struct CallKept {  // to Keep: nothing of the call happens here any more
    LegIdentity leg_a, leg_b;
    KeptState kept;
    SIDECAR_DECLARES(CallKept, leg_a, leg_b, kept)
};

struct SnapshotTaken {
    IdSet bridge_ids, given_up_ids;
    SIDECAR_DECLARES(SnapshotTaken, bridge_ids, given_up_ids)
};

struct RequestEnded {
    std::uint64_t request_id;
    RouteFailure cause;
    int sip_code;
    std::int64_t sent_mono_ns;
    std::optional<int> granted_s, min_expires_s, retry_after_s;
    SIDECAR_DECLARES(RequestEnded, request_id, cause, sip_code, sent_mono_ns, granted_s, min_expires_s, retry_after_s)
};

struct MessageDropped {
    std::string_view peer;
    std::string source, method, sip_call_id;
    std::string_view reason;
    SIDECAR_DECLARES(MessageDropped, peer, source, method, sip_call_id, reason)
};

struct StrayBye {
    std::string_view peer;
    std::string sip_call_id, local_tag, remote_tag;
    Reasons reasons;
    Headers headers;
    SIDECAR_DECLARES(StrayBye, peer, sip_call_id, local_tag, remote_tag, reasons, headers)
};

using Events =
    std::tuple<InviteReceived, InviteRefused, ProvisionalReceived, Forked, AnswerHeld, AnswerRelayed, AnswerDropped, AckReceived,
               CancelReceived, ByeReceived, RouteFailed, LegTerminated, TransportFailed, DeadlineReached, TargetRefreshed,
               SessionRefreshed, Life, CallKept, SnapshotTaken, RequestEnded, MessageDropped, StrayBye>;
// The calls are none of these events'.
template <typename E>
inline constexpr bool of_node = is_one_of<E, InviteRefused, SnapshotTaken, RequestEnded, MessageDropped, StrayBye>;

// Somebody waits for what Python says to it (at the ring deadline for Release): the event loop is woken at once. All others
// are patient, see EventQueue.
template <typename E>
inline constexpr bool urgent = is_one_of<E, InviteReceived, AnswerHeld, RouteFailed, DeadlineReached, CallKept>;

// No record depends on it: it is dropped where the queue is full.
template <typename E>
inline constexpr bool droppable = is_one_of<E, InviteRefused, ProvisionalReceived, SessionRefreshed, Life, MessageDropped, StrayBye>;

using Values = std::tuple<LegIdentity, Contact, Silence, Branch, KeptLeg, KeptReferral, KeptState>;

}  // namespace sidecar
