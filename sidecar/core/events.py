"""What happened: past tense, frozen. Three sources: the bridge (SIP), the store (durability), and the
operator.

Every event carries both clocks as they stood where it happened: `mono_ns` (CLOCK_MONOTONIC, durations) and
`wall_ns` (UTC since the epoch, stamps). Text from the network is decoded with `backslashreplace` before it
becomes an event, and is bounded by the bridge, so nothing behind this module has to distrust it as an
encoding.

Events, commands, calls and records are trees of values, never part of a cycle: `gc=False` keeps them from
the garbage collector, which would stop everything for a tenth of a second to walk those of 20,000 calls.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from sidecar.core.terms import DeadlineKind, Detail, LegName, Money, RouteFailure, TransportName


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True, tag=True):
    """The bridge's events come packed (b2bua/boundary), and decoding them into other structs first would
    double what they cost: so each is an array, its name before its fields. What the journal keeps too,
    InviteReceived and LegIdentity, goes by the names of its fields, and may grow."""

    mono_ns: int
    wall_ns: int


class LegIdentity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that names one dialog on the wire, and so all that is needed to end it after a crash (RFC 3261
    §12)."""

    sip_call_id: str
    local_tag: str
    remote_tag: str = ""
    local_uri: str
    remote_uri: str
    remote_target: str = ""
    route_set: tuple[str, ...] = ()
    local_cseq: int = 0
    remote_cseq: int = 0
    branch: str = ""  # of the INVITE that made the dialog: what a CANCEL must name (RFC 3261 §9.1)
    local_address: str
    remote_address: str
    transport: TransportName


# --- from the bridge ----------------------------------------------------------------------------------------


class BridgeEvent(Event, frozen=True, kw_only=True):
    bridge_id: int  # counts the calls of one boot; with the boot id it makes the call id


class InviteReceived(BridgeEvent, frozen=True, kw_only=True, array_like=False, tag=False):
    """An initial INVITE from a listed peer. Leg A has been answered 100; nothing has left on leg B."""

    leg: LegIdentity
    peer: str  # the name of the peer group that the source address belongs to
    request_uri: str
    request_user: str  # the user part of the Request-URI as received: escapes and parameters still in it
    from_user: str
    headers: tuple[tuple[str, str], ...] = ()  # those the profile asks for, names in lower case
    tls_name: str = ""
    b_token: str  # unguessable; leg B's Call-ID, From tag and branch of every attempt are derived from it
    # The peer group of the dialog that its Replaces or Join names: nobody else may be sent the name.
    claimed_peer: str | None = None
    # Of its Identity headers (RFC 8224): the payload of each PASSporT, not verified and still encoded.
    passports: tuple[str, ...] = ()
    # The lines that every response to it repeats, but for Call-ID: what a 500 after a crash is made of. Empty
    # once the call is answered.
    echoed: tuple[str, ...] = ()


class InviteRefused(Event, frozen=True, kw_only=True):
    """The bridge refused an initial INVITE by itself; a record is owed."""

    detail: Detail
    sip_code: int
    invite: InviteReceived


class ProvisionalReceived(BridgeEvent, frozen=True, kw_only=True):
    """The first 101-199 of each code in an attempt."""

    attempt: int
    sip_code: int


class Branch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A dialog that one To tag of B made, and the one that A has for it."""

    leg: LegIdentity
    caller: LegIdentity
    sip_code: int  # of the response that made it


class Forked(BridgeEvent, frozen=True, kw_only=True):
    """B's side has another To tag than before, or one of its early dialogs was refreshed: all that there
    are."""

    attempt: int
    branches: tuple[Branch, ...]


class AnswerHeld(BridgeEvent, frozen=True, kw_only=True):
    """B's 2xx arrived and is held: it reaches A only after RelayAnswer."""

    attempt: int
    sip_code: int
    leg: LegIdentity
    caller: LegIdentity | None = None  # A's dialog, where it is not what InviteReceived said


class AnswerRelayed(BridgeEvent, frozen=True, kw_only=True):
    """Our 2xx left on leg A: the call is answered."""


class AnswerDropped(BridgeEvent, frozen=True, kw_only=True):
    """A 2xx of an abandoned attempt, of a cancelled call or of a second branch: it got ACK and BYE at
    once."""

    attempt: int
    sip_code: int
    leg: LegIdentity


class AckReceived(BridgeEvent, frozen=True, kw_only=True):
    """A acknowledged our 2xx."""


class CancelReceived(BridgeEvent, frozen=True, kw_only=True):
    """CANCEL on A before our final response: A has got 487, B its CANCEL (or ACK and BYE)."""

    reasons: tuple[str, ...] = ()  # values of its Reason header fields
    headers: tuple[tuple[str, str], ...] = ()


class ByeReceived(BridgeEvent, frozen=True, kw_only=True):
    """BYE on one leg: it was answered 200, and the other leg has got its own BYE."""

    leg_name: LegName
    reasons: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Contact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A SIP address that a 3xx names."""

    user: str  # escapes and parameters still in it
    host: str  # as written; IPv6 without brackets
    port: int = 0  # 0: none is given
    transport: str = ""  # of its `transport` parameter, `tls` for sips:; empty: none is given
    q_thousandths: int = 1_000


class RouteFailed(BridgeEvent, frozen=True, kw_only=True):
    """The current attempt ended without a 2xx. Its failure is held until Route, RelayFailure or Release."""

    attempt: int
    cause: RouteFailure
    sip_code: int  # the final response as received; 0 where none arrived
    phrase: str = ""
    reasons: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    early_media_relayed: bool = False  # an 18x with SDP or RSeq went to A: no other gateway can be tried
    heard_code: int = 0  # the highest provisional of the attempt, 100 included
    contacts: tuple[Contact, ...] = ()  # of a 3xx, as they stand there


class LegTerminated(BridgeEvent, frozen=True, kw_only=True):
    """No more events of this leg will come: not after a single attempt, but after the last. `alive`: its peer
    answered our BYE with a 2xx. `sip_code`: the final response to the INVITE, 0 where none came; `reasons`:
    the values of its Reason header fields where we had cancelled it."""

    leg_name: LegName
    sip_code: int = 0
    alive: bool = False
    reasons: tuple[str, ...] = ()
    bye_challenge: int = 0  # 401 or 407 to our BYE, where we have no password that would do


class TransportFailed(BridgeEvent, frozen=True, kw_only=True):
    leg_name: LegName


class Silence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of a side that was given up."""

    leg_name: LegName
    asked: tuple[str, ...]  # the methods that nobody answered, or the one that a 408 or 481 answered
    heard: str  # the last message in its dialog, as `INFO` or `200 OPTIONS`
    heard_ago_ms: int | None = None


class DeadlineReached(BridgeEvent, frozen=True, kw_only=True):
    """A native timer ran out. HOLD: A has got its 500, and B ACK and BYE or CANCEL. RING: nothing was sent
    yet, the call waits for Release. All others: both legs have got their BYE."""

    kind: DeadlineKind
    heard_code: int = 0  # RING only: the highest provisional heard from B, 100 included; 0 where B was silent
    silence: Silence | None = None  # DEAD_PEER only


class TargetRefreshed(BridgeEvent, frozen=True, kw_only=True):
    leg_name: LegName
    remote_target: str
    local_cseq: int
    remote_cseq: int


class SessionRefreshed(BridgeEvent, frozen=True, kw_only=True):
    leg_name: LegName


class Life(BridgeEvent, frozen=True, kw_only=True):
    """An in-dialog message arrived; at most one a second and leg is reported."""

    leg_name: LegName


class KeptLeg(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the bridge knows of a leg beside its dialog."""

    invite_cseq: int  # of the INVITE that made the dialog
    allows_update: bool
    knows_timer: bool  # RFC 4028
    ack_cseq: int  # of our last ACK to its peer, which a repeated 2xx gets again; -1: there was none
    ack_branch: str


class KeptReferral(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A REFER that passed, by its CSeq on both legs."""

    sender: LegName
    uas_cseq: int
    uac_cseq: int


class KeptState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    answered_mono_ns: int
    answered_wall_ns: int
    a: KeptLeg
    b: KeptLeg
    session_s: int  # the session interval; 0: there is none
    peer_refreshes: bool
    we_refresh: bool
    refreshed: LegName  # whom, where it is we
    no_update: bool  # that peer takes none
    refresh_due_mono_ns: int
    sdp: tuple[str, ...]  # that it is refreshed with, in hexadecimal
    referrals: tuple[KeptReferral, ...]


class CallKept(BridgeEvent, frozen=True, kw_only=True):
    """Nothing was open of the call, and the bridge does nothing more with it: the next start takes it up as
    told here."""

    leg_a: LegIdentity
    leg_b: LegIdentity
    kept: KeptState


class SnapshotTaken(Event, frozen=True, kw_only=True):
    """The calls that the bridge holds, for the watchdog."""

    bridge_ids: frozenset[int]
    given_up_ids: frozenset[int] = (
        frozenset()
    )  # of which it holds attempts that were given up, and may yet be answered


class RequestEnded(Event, frozen=True, kw_only=True):
    """Our OPTIONS or REGISTER to a gateway got its final response, or none. Seconds are None where the
    response does not tell them."""

    request_id: int
    cause: RouteFailure  # FINAL_RESPONSE, NO_RESPONSE or UNREACHABLE
    sip_code: int = 0  # 0: there was no response
    sent_mono_ns: int = 0
    granted_s: int | None = None  # how long the registrar keeps our binding
    min_expires_s: int | None = None
    retry_after_s: int | None = None


class MessageDropped(Event, frozen=True, kw_only=True):
    """A message had no effect, because what it is, or whose, cannot be read, or because its sender may not
    speak there. Ten are told of a second; all are counted."""

    peer: str  # the peer group; empty: it is in none
    source: str
    method: str  # of a response: that in its CSeq
    sip_call_id: str
    reason: str  # the part that cannot be read, or `source`


class StrayBye(Event, frozen=True, kw_only=True):
    """A BYE of no call that the bridge knows got its 481: it may be of another node's. Told where the bridge
    is asked to, 500 of a second at the most."""

    peer: str  # the peer group
    sip_call_id: str
    local_tag: str
    remote_tag: str
    reasons: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


# --- from the store -----------------------------------------------------------------------------------------


class CallEvent(Event, frozen=True, kw_only=True):
    call_id: UUID


class Admitted(CallEvent, frozen=True, kw_only=True):
    """The admitted entry is on disk, with the reservation of an account that has a bound."""

    granted_s: int | None = None
    reserved: Money | None = None
    rule: str | None = None  # what bounds the grant, where it is not the balance


class CreditRefused(CallEvent, frozen=True, kw_only=True):
    """The account's terms refuse the call, as NO_CREDIT where its balance does not pay for one second;
    nothing was written."""

    detail: Detail = Detail.NO_CREDIT
    rule: str | None = None


class AnswerRecorded(CallEvent, frozen=True, kw_only=True):
    """The answered entry is on disk."""


class GrantExtended(CallEvent, frozen=True, kw_only=True):
    """What the books grant the call in all, after an Extend; as much as before where they refuse. `final`:
    the balance affords no more than this."""

    granted_s: int
    reserved: Money
    final: bool = False
    rule: str | None = None  # what bounds it, where it is not the balance


class StepFailed(CallEvent, frozen=True, kw_only=True):
    """The admitted or answered entry, or the extension of a grant, could not be written. (An end that cannot
    be written is kept and tried again.)"""


# --- from people and from the start -------------------------------------------------------------------------


class ReleaseRequested(CallEvent, frozen=True, kw_only=True):
    """A person, or a rule, ends a live call."""

    detail: Detail  # OPERATOR, DRAIN, or one of server/policy
    operator: str | None = None  # who; None: no person did
    text: str = ""  # and why
    rule: str | None = None  # the rule that it broke, as records name it


class WaitElapsed(CallEvent, frozen=True, kw_only=True):
    """An ending call has waited long enough for its legs, or a challenged caller has not come back."""


class CallLost(CallEvent, frozen=True, kw_only=True):
    """The watchdog found that the bridge no longer holds the call, or a broken promise of our own code ended
    it."""

    text: str = ""


class CallFoundOpen(CallEvent, frozen=True, kw_only=True):
    """At start: the journal has no end for this call. The stamps are those of the node's last heartbeat."""

    shift_ns: int = 0  # see recovery.clock_shift
    now_mono_ns: int = 0
    now_wall_ns: int = 0


class ReleaseDue(CallEvent, frozen=True, kw_only=True):
    """It is the turn of a call of an earlier boot to be ended: not all are at once."""
