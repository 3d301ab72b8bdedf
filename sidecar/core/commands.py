"""What is to be done: imperative, frozen. Wire commands go to the bridge at once; store commands of one
decision are one transaction. No wire command waits for a store command: what must be durable first is asked
for in one decision, and the event that reports it (Admitted, AnswerRecorded) leads to the next. So the
promises can be read off `decide`, and tested without a disk.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from sidecar.core.audit import Change
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.events import KeptState, LegIdentity
from sidecar.core.rating import RatingTerms
from sidecar.core.tariff import Rate
from sidecar.core.terms import (
    DeadlineKind,
    LivenessCheck,
    Money,
    SavedLegState,
    TransportName,
    Word,
)


class Command(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    pass


# --- wire ---------------------------------------------------------------------------------------------------


class WireCommand(Command, frozen=True, kw_only=True):
    bridge_id: int


class Route(WireCommand, frozen=True, kw_only=True):
    """Send the INVITE to a gateway: attempt 1, or the next one while the failure of the last is held."""

    attempt: int
    gateway: str
    host: str  # a literal address, IPv4 or IPv6
    port: int
    transport: TransportName
    authority: str = ""  # host and port of the Request-URI, where it is a name; empty: those
    user: str  # the user part of the Request-URI on leg B
    urn: str = ""  # the Request-URI, and To, where it is one (RFC 5031)
    uri_parameters: str = ""  # of the Request-URI, each with its `;`
    to_parameters: str = ""  # of To, which is the same URI otherwise
    from_parameters: str = ""
    no_response_ms: int  # fail over when not even a 100 has come by then
    no_progress_ms: int = 0  # fail over when nothing but a 100 has come by then; 0: a 100 is enough
    from_user: str = ""  # the user part of From on leg B; empty: as received
    anonymous: bool = False  # From is anonymous (RFC 3323 §4.1.1.3)
    add_headers: tuple[tuple[str, str], ...] = ()  # to this INVITE
    withheld_headers: tuple[str, ...] = ()  # lower case; from every message to this gateway
    liveness: LivenessCheck = LivenessCheck.ANY
    large_by_udp: bool = False  # else TCP is tried first (RFC 3261 §18.1.1)
    single_branch: bool = False  # A is shown one dialog, and the gateway is asked not to fork
    keep_identity: bool = True  # False: From, To or the number is not what Identity signs (RFC 8224)


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that another one followed: a 2xx of it may come yet."""

    attempt: int
    gateway: str
    leg: LegIdentity


class Adopt(WireCommand, frozen=True, kw_only=True):
    """Take over a call of an earlier boot, as the journal has it: its dialogs are known again, and a BYE in
    them is answered. Nothing is sent before its Release, which ends what is left of it: BYE, or a final
    response on A and CANCEL on B. With `kept` it goes on as it was, and its deadlines are to be armed.
    `bridge_id` is of RECOVERED_IDS."""

    peer: str
    request_uri: str
    echoed: tuple[str, ...]
    b_token: str
    attempt: int  # 0: none
    gateway: str
    a_state: SavedLegState
    leg_a: LegIdentity
    b_state: SavedLegState
    leg_b: LegIdentity | None  # where B has answered
    route: Route | None  # where it has not, or the call goes on: what its INVITE was made of
    given_up: tuple[GivenUp, ...] = ()
    kept: KeptState | None = None


class RelayAnswer(WireCommand, frozen=True, kw_only=True):
    pass


class RelayFailure(WireCommand, frozen=True, kw_only=True):
    """Pass B's held final response to A. `sip_code` replaces its code where it is not 0."""

    sip_code: int = 0
    keep_retry_after: bool = False
    keep_contacts: bool = False  # of a 3xx: the caller is sent there


class Reject(WireCommand, frozen=True, kw_only=True):
    """Refuse an INVITE that was never routed."""

    sip_code: int
    q850_cause: int
    text: str  # the detail: a word of the closed set, never text of a person
    retry_after_s: int = 0


class Release(WireCommand, frozen=True, kw_only=True):
    """End an admitted call in whatever state it is: final response, CANCEL, or BYE on each leg that needs
    one."""

    sip_code: int
    q850_cause: int
    text: str


class ArmDeadline(WireCommand, frozen=True, kw_only=True):
    """Arm a native timer. RING counts from now, the others from our 2xx on leg A. MAX_DURATION and GRANT are
    one, the limit of the call: the later command replaces the earlier."""

    kind: DeadlineKind
    after_ms: int
    sip_code: int
    q850_cause: int
    text: str


class Capture(WireCommand, frozen=True, kw_only=True):
    """Copies of the call's messages, those that have come and those to come, go to the collector under this
    id; empty: none does. Before the first Route."""

    correlation_id: str


class Snapshot(Command, frozen=True, kw_only=True):
    """Ask the bridge which calls it holds."""


class AskGateway(Command, frozen=True, kw_only=True):
    """Send a request of our own to a gateway, outside any dialog: OPTIONS, or REGISTER where `expires_s` is
    given. Its challenges are answered with the gateway's credentials. RequestEnded follows, once."""

    request_id: int  # of the caller's choice
    gateway: str
    host: str  # a literal address, IPv4 or IPv6: where it is sent to, whatever `target` is
    port: int
    transport: TransportName
    timeout_ms: int  # for all of it; at most 64*T1 for each try (Timer F)
    target: str  # the Request-URI
    identity: str = ""  # From, and To of a REGISTER: the address of record; empty: our address
    contact_user: str = ""
    call_id: str = ""  # empty: a new one
    cseq: int = 1  # answers to challenges, two at most, take the next ones
    expires_s: int | None = None  # 0 takes a registration back


class SetServers(Command, frozen=True, kw_only=True):
    """These are the addresses of a gateway now, by a name: each may speak in its calls, as those may that it
    had when the call began."""

    gateway: str
    host_name: str  # the host of a Contact or a Route that means it
    addresses: tuple[str, ...]  # `192.0.2.1:5060`, `[2001:db8::1]:5060`: the preferred one first


# --- store --------------------------------------------------------------------------------------------------


class EntryKind(Word):
    """Kinds of journal entries. Each but the last two holds the whole call as it stood after the step, so
    that recovery reads one entry and replays nothing; `ended` and `suppressed` hold the CDR."""

    ADMITTED = "admitted"
    ATTEMPT = "attempt"
    ANSWERED = "answered"
    ESTABLISHED = "established"  # our 2xx left and A acknowledged it; nobody waits for this entry
    REFRESHED = "refreshed"
    KEPT = "kept"  # for the next start; on disk before this one ends
    ADOPTED = "adopted"  # by a start that goes on with it; on disk before that hears anything
    ENDING = "ending"  # the first cause is known; nobody waits for this entry
    ENDED = "ended"
    SUPPRESSED = "suppressed"


WAITING = (EntryKind.ADMITTED, EntryKind.ANSWERED)  # entries whose call goes on when they are written


class StoreCommand(Command, frozen=True, kw_only=True):
    pass


class Reserve(StoreCommand, frozen=True, kw_only=True):
    """Reserve the first slice of a call that is admitted by the same step: `total_s` seconds, or as many as
    the balance affords. `books.post` asks `credit.grant` inside the transaction, against the balance that is
    locked; a refusal drops the whole step and is reported as CreditRefused."""

    call_id: UUID
    account: str
    rate: Rate
    terms: RatingTerms
    total_s: int


class Extend(StoreCommand, frozen=True, kw_only=True):
    """Price the whole call up to `total_s` and reserve what that is more than it holds: a step of its own,
    reported as GrantExtended. Repeated, it moves nothing."""

    call_id: UUID
    account: str
    rate: Rate
    terms: RatingTerms
    total_s: int


class Extended(StoreCommand, frozen=True, kw_only=True):
    """The node has extended a grant itself (core/away): it is written as it is. A step of its own, which
    nobody waits for any more."""

    call_id: UUID
    granted_s: int
    reserved: Money  # for all of it


class Append(StoreCommand, frozen=True, kw_only=True):
    kind: EntryKind
    call: Call
    decided: bool = False  # by the node itself (core/away), and told: it is written as it is


class Settle(StoreCommand, frozen=True, kw_only=True):
    """Post what a call costs and return the rest of its reservation. `total` is the charge of the highest
    revision: the ledger posts the difference to what it posted before, so a repeated step moves nothing."""

    call_id: UUID
    account: str
    total: Money | None  # None: nothing is charged; a reservation is returned whole


class NoteRefusal(Command, frozen=True, kw_only=True):
    """An INVITE was refused: publish this record, or count it where its source has had too many this
    second."""

    cdr: Cdr


class Publish(StoreCommand, frozen=True, kw_only=True):
    """Close the call with its record: the ended entry, the CDR with the next sequence number, its outbox
    row."""

    cdr: Cdr


class Suppress(StoreCommand, frozen=True, kw_only=True):
    """Close the call with a journal entry alone: no CDR leaves, no sequence number is taken."""

    cdr: Cdr


class Audit(StoreCommand, frozen=True, kw_only=True):
    """Note who changed something, together with the rest of the step: where that is dropped, nothing was
    changed and nothing is noted."""

    change: Change
