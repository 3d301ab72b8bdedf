"""The narrow doors between the runtime and the outside: what an adapter must offer, and no more.

Adapters implement these without importing each other; `wiring` chooses them. Several small ones rather
than one wide: a call-detail hook of another softswitch, say, can be a Watch without being a Control.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from sidecar.core import chain, found_by, takeover
from sidecar.core.account_import import Imported
from sidecar.core.account_terms import AccountTerms
from sidecar.core.alarms import AlarmKind, LowBalance
from sidecar.core.audit import Change, Operator
from sidecar.core.books import MovementKind
from sidecar.core.call import Call, Phase
from sidecar.core.cdr import Cdr
from sidecar.core.commands import AskGateway, SetServers, Snapshot, StoreCommand, WireCommand
from sidecar.core.deck_history import Activation, Import
from sidecar.core.events import CallEvent, CallFoundOpen, Event, StrayBye
from sidecar.core.fraud_told import FraudCounts, FraudHold
from sidecar.core.gateway_health import Health
from sidecar.core.registration import RegistrationState
from sidecar.core.servers import Answer, NameState, Question, Server, ServerAt
from sidecar.core.stored import StoredEntry
from sidecar.core.sums import Part, part_of
from sidecar.core.suspense import Suspended, SuspenseDecision
from sidecar.core.tariff import Deck
from sidecar.core.terms import ChargeSide, Detail, HangupOrigin, Money, RatingStatus, ServerReason
from sidecar.core.totals import destination_of
from sidecar.core.users import User


class Clock(Protocol):
    def mono_ns(self) -> int: ...
    def wall_ns(self) -> int: ...


class ClockStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the wall clock can be believed."""

    synchronised: bool | None = None  # None: this machine does not tell
    steps: int = 0
    behind_s: float = 0.0  # behind the last moment that the journal knows; 0: it is not


class Watch(Protocol):
    """The events of a hook, in the order in which they happened, in batches."""

    def on_events(self, deliver: Callable[[Sequence[Event]], None]) -> None: ...


class Control(Protocol):
    """The commands of a hook. `send` never blocks; commands for a call that is gone are ignored and
    counted."""

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None: ...
    def set_accepting(self, detail: str) -> None:
        """An empty detail accepts calls; `drain` or `journal` refuses new ones with it."""


class GatewayDoor(Protocol):
    """Requests of our own to gateways. `ask` never blocks; RequestEnded follows for each."""

    def ask(self, requests: Sequence[AskGateway]) -> None: ...


class ServersDoor(Protocol):
    """To whoever must know a gateway by its addresses. `set_servers` never blocks."""

    def set_servers(self, servers: SetServers) -> None: ...


class NoAnswerError(Exception):
    """No resolver answered in time, or none with what can be used; the message says what they did."""


class Resolver(Protocol):
    """DNS. It makes one attempt when asked; whoever asks tries again."""

    def ask(self, question: Question) -> Awaitable[Answer]:
        """CNAMEs are followed; the TTL is the least of the chain. Raises NoAnswerError."""


class NameStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a gateway whose host is a name."""

    gateway: str
    name: str
    state: NameState = NameState.UNRESOLVED
    servers: tuple[Server, ...] = ()
    rounds: int = 0  # of questions
    rounds_failed: int = 0  # in which an answer did not come


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a gateway that is probed, or that we register at."""

    gateway: str
    health: Health = Health.UNKNOWN
    servers: Mapping[ServerAt, Health] = {}  # of each address that is probed
    since_wall_ns: int | None = None  # None: it never changed
    is_probed: bool = False
    answer: str = ""  # to the last probe: its code, `no_response` or `unreachable`; empty: none is over
    probe_ms: float | None = None  # the last that was answered well: from OPTIONS to the final response
    probes: int = 0
    probes_failed: int = 0
    registration: RegistrationState | None = None  # None: it wants none
    register_answer: str = ""
    registered_until_wall_ns: int | None = None


class CertificateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The TLS files that are in force, by the setting that names them."""

    ends_at: Mapping[str, int] = {}  # when the first certificate in it ends, in seconds since 1970
    renewals: int = 0
    refusals: int = 0
    refused: str = ""  # what is wrong with the files as they are now; empty: nothing was found


class Store(Protocol):
    """The journal, the ledger and the outbox of one node: one writer, one transaction per step, many steps
    per commit.

    `submit` never blocks and never raises: its outcome comes back through `on_outcome` as Admitted,
    CreditRefused, AnswerRecorded or StepFailed, on the event loop, after the commit. A step that ends a call
    is kept and tried again until it is written. Several nodes may one day share one store, so nobody may
    cache a balance.
    """

    def submit(self, step: Sequence[StoreCommand]) -> None: ...
    def on_outcome(self, deliver: Callable[[Sequence[CallEvent]], None]) -> None: ...
    def found_open(self) -> Sequence[tuple[Call, CallFoundOpen]]: ...
    def on_failing(self, notify: Callable[[bool], None]) -> None:
        """Called on the event loop when `refusing` begins (True) and when it is over (False)."""

    def found_refusals(self) -> Sequence[Cdr]:
        """The aggregates of refusals that earlier boots left unwritten, as `keep_refusals` was given them."""

    def keep_refusals(self, aggregates: Sequence[Cdr]) -> None:
        """Keep them for the next start, each until a step publishes it: a crash is to lose no count. While
        the disk fails they are dropped."""

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """See that the store says, on disk, that this node lives: `found_open` will date its calls by it."""

    def written(self) -> Awaitable[None]:
        """Until all that was submitted before is on disk, and its rows are told; while the disk fails it
        waits."""

    @property
    def failing(self) -> bool:
        """Nothing can be written at present; what must be is kept."""

    @property
    def refusing(self) -> bool:
        """And no new call is let go: what decides of calls meanwhile (core/away) is not there, or the disk
        takes nothing."""

    @property
    def epoch(self) -> str: ...


class UnavailableError(Exception):
    """The store can be neither written nor, perhaps, read at present; nothing was changed."""


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    seq: int
    topic: str
    payload: bytes
    message_id: str
    content_version: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A row that the broker will never take, kept for people to see and to try again."""

    seq: int
    reason_code: int
    reason_name: str
    died_wall_ns: int
    payload: bytes


class Outbox(Protocol):
    """Rows that wait for the broker, in the order of `seq`."""

    def pending(self, after_seq: int, rows_max: int) -> Awaitable[Sequence[OutboxRow]]: ...
    def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> Awaitable[None]:
        """Take delivered rows out; move dead ones, with their reason code, to the dead letters. Returns when
        that is on disk; while the disk fails it waits."""

    def on_rows(self, notify: Callable[[], None]) -> None:
        """Called on the event loop after a commit that added rows."""


class DeadLetters(Protocol):
    def dead_letters(self, after_seq: int = 0, rows_max: int = 100) -> Awaitable[Sequence[DeadLetter]]: ...
    def retry_dead(self, seqs: Sequence[int] | None = None, change: Change | None = None) -> Awaitable[int]:
        """Put them (None: all) back into the outbox under their old numbers, which lie below the reader's
        cursor: it finds them when it next reads from 0. Returns how many; `change` is noted, with that
        number, where there are any."""

    def drop_dead(self, seqs: Sequence[int], change: Change | None = None) -> Awaitable[int]:
        """Forget that they are to be sent; their records stay. Returns how many, and notes `change`, as
        `retry_dead` does."""


class AccountError(Exception):
    """The account is not known, or not on these terms; the message says what to do."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One movement; entries are never changed."""

    entry: int
    booked_wall_ns: int
    kind: str  # a word of books.MovementKind
    amount: Money  # what it added to the balance
    balance: Money  # after it
    call_id: str | None = None
    revision: int | None = None  # of the CDR that was charged
    reference: str | None = None  # of what a person booked
    operator: str | None = None  # who did, as claimed
    text: str | None = None  # and why


class Accounts(Protocol):
    """Terms and balances, for the command line; every movement is a ledger entry. All raise AccountError."""

    def create(
        self,
        terms: AccountTerms,
        change: Change | None = None,
        addresses: Sequence[tuple[str, Change]] = (),
    ) -> Awaitable[None]:
        """May be repeated on the same terms. `change`, where a person asked for it, is noted if there was no
        such account. With its `addresses`, each a canonical block and what is noted where it is new: all of
        it, or nothing."""

    def take_over(
        self, wanted: Sequence[tuple[AccountTerms, Change | None]], *, suspect: bool = False
    ) -> Awaitable[None]:
        """What the settings say, in one transaction: each account is made, or gets these terms, but for
        `disabled_by_command`, which it keeps; `change` is noted where that changes anything. `suspect`: one
        that is made may have been there, with a balance that a damaged journal no longer tells
        (core/suspense)."""

    def change_terms(
        self, name: str, fields: Mapping[str, object], change: Change
    ) -> Awaitable[AccountTerms]:
        """Some of its terms, in view of the others as they stand then; returns all of them."""

    def bring(self, rows: Sequence[Imported], change: Change) -> Awaitable[tuple[int, int]]:
        """Make all of these accounts and book their opening balances, or nothing; how many were new, and how
        many balances. `change` is noted where anything was."""

    def add_address(self, name: str, block: str, change: Change) -> Awaitable[None]:
        """May be repeated. A block has one account."""

    def remove_address(self, name: str, block: str, change: Change) -> Awaitable[None]: ...
    def addresses(self, name: str | None = None) -> Awaitable[Sequence[tuple[str, str]]]:
        """(block, account) of one account, or of all."""

    def book(
        self, kind: MovementKind, name: str, amount: Money, reference: str, change: Change | None = None
    ) -> Awaitable[Money]:
        """See account_books.book. Returns the balance after it."""

    def top_up(
        self, name: str, amount: Money, reference: str, change: Change | None = None
    ) -> Awaitable[Money]:
        """The movement of that kind."""

    def stored(self, name: str | None = None) -> Awaitable[Sequence[AccountTerms]]:
        """The one of that name, or all; made by the settings and by command alike."""

    def balance(self, name: str) -> Awaitable[Sequence[Money]]:
        """What may still be spent, per currency: reservations are already off."""

    def calls_up(self, names: Sequence[str]) -> Awaitable[Mapping[str, int] | None]:
        """The open calls of these accounts on all nodes, where there are any; None: there is one node alone,
        which knows."""

    def tranches(self, name: str) -> Awaitable[Sequence[tuple[str, Money]]]:
        """What nodes hold of it in advance (core/tranches), by the node's name."""

    def return_tranches(self, node: str, change: Change) -> Awaitable[int]:
        """Of a node that will never start again: of so many accounts. AccountError where it lives, or there
        is no such node."""

    def ledger(
        self, name: str, entries_max: int = 100, before_entry: int | None = None
    ) -> Awaitable[Sequence[LedgerEntry]]:
        """The latest first."""


class StoredEntries(Protocol):
    """Peers, gateways, routes and account rules that were made by command."""

    def all(self) -> Awaitable[Sequence[StoredEntry]]:
        """In their order."""

    def keep(
        self,
        changes: Sequence[Change],
        terms: Sequence[tuple[AccountTerms, Change]] = (),
        entries: Sequence[StoredEntry] | None = None,
    ) -> Awaitable[None]:
        """In one transaction: `changes` are noted, `terms` taken over as by `Accounts.take_over`, and
        `entries` are all that there are from now on (None: they stay). One without a time gets that of the
        commit. AccountError, and nothing is kept."""

    def settings_revision(self) -> Awaitable[int]:
        """Of the settings in force: grows by one with each start, and each change noted as a reload."""


class Users(Protocol):
    """People who may use the page."""

    def all(self) -> Awaitable[Sequence[User]]:
        """By name."""

    def keep(self, user: User, change: Change) -> Awaitable[None]:
        """In place of the one of this name; `change` is noted."""


class RetentionError(Exception):
    """What is to be removed cannot go; the text says why."""


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """`waiting`: records that hold it and are still to be published; `open_calls`: calls that are not over.
    Ask again when they are. `after`: where to go on, published records and those kept back; None: that was
    all."""

    pseudonym: str
    records: int
    waiting: int
    open_calls: int
    after: tuple[int, int] | None = None


class Retention(Protocol):
    """Old calls leave the journal, once they are archived, and numbers of people who ask for it."""

    def remove_some(self, link: chain.Link, until: datetime, archive: str, change: Change) -> Awaitable[bool]:
        """A few of what lies before this commit, all of calls that ended before `until`; whether it was the
        last of it: `change` is then noted. May be repeated. Raises RetentionError."""

    def erase_some(self, number: str, after: tuple[int, int], change: Change) -> Awaitable[Erased]:
        """A pseudonym in the place of a number (its digits, as they stand in the records) in some records
        behind `after`. `change` is noted wherever there were any, and with the last of them: under the
        pseudonym, and it never has the number. May be repeated. Raises RetentionError."""


class Suspense(Protocol):
    """What a salvage left open of the balances, and the decision of a person about it: core/suspense."""

    def suspended(self, account: str | None = None) -> Awaitable[Sequence[Suspended]]:
        """All that is open; of one account, or of all."""

    def clear(
        self, account: str, entries: Sequence[int], decision: SuspenseDecision, change: Change
    ) -> Awaitable[Sequence[Suspended]]:
        """Decide about these entries of an account (none named: all that are open); returns those that were
        open. `change` is noted where there are any, with the balances before and after it."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a person changed; entries are never changed."""

    entry: int
    at_wall_ns: int
    change: Change


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; what is None is not asked."""

    before_entry: int | None = None
    operator: str | None = None  # the name, as claimed
    uid: int | None = None
    action: str | None = None
    subject: str | None = None


class AuditTrail(Protocol):
    """Changes that people made. What the store writes for a person takes the Change with it; this is for
    what is changed elsewhere."""

    def write(self, change: Change) -> Awaitable[None]:
        """Returns when it is on disk; raises where the store cannot write now, and then the change is not to
        be made."""

    def list(
        self, after_entry: int | None = None, entries_max: int = 100, wanted: AuditFilter | None = None
    ) -> Awaitable[Sequence[AuditEntry]]:
        """The oldest first: those after an entry, or, without one, the latest."""


class DeckError(Exception):
    """What was asked of the stored decks cannot be done; the text says why."""


class DeckBook(Protocol):
    """The stored decks, and which of them was, is and will be in force under which name. Every method waits
    for the disk: not for an event loop. DeckError says what cannot be done."""

    def load(self, revision: str) -> Deck | Sequence[str]:
        """A stored deck, or what is wrong with it."""

    def histories(self) -> Mapping[str, Sequence[Activation]]: ...
    def activate(self, name: str, wanted: Activation, now: datetime) -> Activation:
        """What is in force, or to come, already, is not repeated."""

    def rollback(
        self, name: str, wanted: Activation, now: datetime, *, settings_have_it: bool
    ) -> Activation: ...
    def cancel(
        self, name: str, now: datetime, why: str, revision: str | None = None
    ) -> Sequence[Activation]: ...
    def refuse(self, name: str, activation: Activation, why: str) -> None: ...
    def mark(self, name: str, activation: Activation, *, came: bool) -> Activation: ...
    def unnoted(self) -> Sequence[tuple[str, str, Import]]:
        """Revision and source of what commands have stored and the audit trail does not know of."""

    def mark_noted(self, revision: str) -> None: ...


class RecordFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What to search for; what is None is not asked."""

    account: str | None = None
    origin: HangupOrigin | None = None
    reason: ServerReason | None = None
    detail: Detail | None = None
    gateway: str | None = None  # empty: calls that came to none
    number: str | None = None  # the caller, the callee, or the number billed; `49*`: all that begin so
    since: datetime | None = None  # aware; calls that ended then or later
    until: datetime | None = None  # calls that ended before
    suppressed: bool = False  # look among the records that were kept back instead
    currency: str | None = None  # of what the account pays; amounts of two currencies are not compared
    charge_min: Decimal | None = None  # what it pays, tax included; both bounds belong to it
    charge_max: Decimal | None = None
    by_start: bool = False  # since and until ask when the call began (its INVITE came), not when it ended
    revised_since: datetime | None = None  # aware; calls whose record was revised then or later
    sip_call_id: str | None = None  # of either leg
    tag: str | None = None  # From or To, of either leg
    session_id: str | None = None  # RFC 7989: the header, or half of it
    holds: bool = False  # of each call the highest revision alone, unless that is void
    destination: str | None = None  # as the sell deck names it, or its prefix; empty: no rate was found
    part: Part | None = None  # charged or kept free, which the columns do not tell
    unrated: bool = False  # no rate was found to sell it at
    overrun: bool = False  # talked longer than granted

    def __post_init__(self) -> None:
        if self.currency is None and (self.charge_min is not None or self.charge_max is not None):
            raise ValueError("a charge has a currency: name it")

    @property
    def names(self) -> list[str]:
        """Names on the wire, all of which the record must have (core/found_by)."""
        return [*filter(None, (self.sip_call_id, self.tag)), *found_by.sessions(self.session_id)]

    @property
    def looks_inside(self) -> bool:
        """Whether records must be read to know which of them fit."""
        return (
            self.currency is not None
            or self.destination is not None
            or self.part is not None
            or self.unrated
            or self.overrun
            or bool(self.names)
        )

    def fits(self, cdr: Cdr) -> bool:
        """Whether the record fits in what its columns cannot tell. A revision of an earlier writer does not
        say when it was made: it is told rather than missed."""
        if self.holds and cdr.void:
            return False
        if self.destination is not None and destination_of(cdr) != self.destination:
            return False
        if self.part is not None and part_of(cdr) is not self.part:
            return False
        if self.overrun and not cdr.overrun_ms:
            return False
        if self.unrated and not any(
            line.side is ChargeSide.SELL and line.rating_status is RatingStatus.NO_RATE
            for line in cdr.charges
        ):
            return False
        if self.by_start and (
            (self.since is not None and cdr.invited_at < self.since)
            or (self.until is not None and cdr.invited_at >= self.until)
        ):
            return False
        if self.revised_since is not None and (
            not cdr.revision or (cdr.revised_at is not None and cdr.revised_at < self.revised_since)
        ):
            return False
        if self.sip_call_id is not None and self.sip_call_id not in found_by.call_ids(cdr):
            return False
        if self.tag is not None and self.tag not in found_by.tags(cdr):
            return False
        if not set(found_by.sessions(self.session_id)) <= set(found_by.sessions(cdr.session_id)):
            return False
        return self.has_charge(cdr)

    def has_charge(self, cdr: Cdr) -> bool:
        """Whether the record's charge is within the bounds."""
        if self.currency is None:
            return True
        totals = [
            line.total
            for line in cdr.charges
            if line.side is ChargeSide.SELL and line.total is not None and line.currency == self.currency
        ]
        return any(
            (self.charge_min is None or total >= self.charge_min)
            and (self.charge_max is None or total <= self.charge_max)
            for total in totals
        )


class RecordPage(msgspec.Struct, frozen=True, kw_only=True):
    records: tuple[Cdr, ...]
    cursor: str | None = None  # for the next page; None: this was the last


class CursorError(ValueError):
    """Not one that these records have given."""


class Followed(NamedTuple):
    records: Sequence[Cdr]
    cursor: str  # to go on by
    own_seq: int  # up to this number those of this node were given, now or before


class Records(Protocol):
    """CDRs that were written, for reading."""

    def show(self, call_id: str) -> Awaitable[Sequence[Cdr]]:
        """All revisions of one call, oldest first; none where the id is not known."""

    def search(
        self, wanted: RecordFilter, records_max: int = 100, cursor: str | None = None
    ) -> Awaitable[RecordPage]:
        """The latest end first. A page may hold fewer, or none, and yet a cursor: so much was looked at.
        Raises CursorError."""

    def tail(self, after_seq: int, records_max: int = 100) -> Awaitable[Sequence[Cdr]]:
        """Published records of this node in the order of `seq`."""

    def follow(self, cursor: str | None, records_max: int = 100) -> Awaitable[Followed]:
        """Published records of all nodes: None: the last ones; else those that came since, each once, however
        late it was committed. Raises CursorError."""


class Revisions(Protocol):
    """Restating records after the fact: the record, its place in the outbox and the difference in the ledger,
    together."""

    def revise(self, cdrs: Sequence[Cdr], changes: Sequence[Change] = ()) -> Awaitable[Sequence[bool]]:
        """Write each, if the newest revision of its call is the one before; False where it is not. `changes`
        (one for each, or none): noted of those that are written."""


# --- the publisher ------------------------------------------------------------------------------------------


class OutboxState(msgspec.Struct, frozen=True, kw_only=True):
    """What the retained status and the metrics say of the outbox."""

    epoch: str
    head_seq: int = 0  # the last sequence number taken; 0 before the first
    published: int = 0  # rows that took a number in this epoch: its first number is head_seq - published + 1
    depth: int = 0  # rows that wait for the broker
    oldest_wall_ns: int = 0  # when the oldest of them was written; 0: none waits
    dead: int = 0  # dead letters kept
    commit: int = 0  # the number of the last commit, and the hash of the chain up to it
    commit_hash: str = ""


class OutboxStatus(Protocol):
    def outbox_state(self) -> Awaitable[OutboxState]: ...


class LinkError(Exception):
    """The link to the broker could not be made, or ended. `code` is the reason code of the broker's own
    DISCONNECT or CONNACK where it sent one: some brokers answer a message that they refuse by hanging up."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class StatusPublisher(Protocol):
    def publish_status(self, state: OutboxState) -> None:
        """Replace the retained status. Never blocks; lost with the link, which is why it is repeated."""


class Link(StatusPublisher, Protocol):
    """One connection to the broker, from CONNACK to its loss."""

    @property
    def window(self) -> int:
        """How many rows may be unacknowledged at once: the caller's duty to keep."""

    def send(self, row: OutboxRow, acknowledged: Callable[[int, int], None]) -> None:
        """Hand a row over; never blocks. `acknowledged(seq, code)` is called once, on the event loop and
        perhaps before `send` returns, with the PUBACK reason code; not at all if the link is lost first.
        Raises LinkError."""

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        """Called once, on the event loop, when the link is lost (at once if it already is)."""


class Publisher(Protocol):
    """The way to the broker. It makes one attempt when asked and never retries: the relay has the only retry
    loop."""

    def connect(self) -> AbstractAsyncContextManager[Link]:
        """Raises LinkError. However the link is left, it is cut, and the broker publishes the will."""


# --- the store of a node ------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What the broker has of this node: the epoch that was published from last, and the last number, where it
    still has that."""

    epoch: str
    head_seq: int | None = None


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of before a start and is not in the store; for the log and the audit table."""

    cause: str
    commits_lost: int
    numbers_lost: int  # sequence numbers that were given out and have no record now
    calls_maybe_told: int  # open calls whose record may have been published


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier process kept on its disk while the database was away, and a start brought in."""

    steps: int = 0
    revised: int = 0  # records of calls that another node had recorded as found open
    left: Sequence[str] = ()  # what was not written, and why
    damage: str = ""  # why not all of the file could be read
    set_aside: Path | None = None  # where the file is now, for either reason


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """For the log and the operator: what a start has changed in an older file."""

    schema_before: int
    schema_after: int
    kept: Path  # the file as it was before
    going_back: str


class Salvage(msgspec.Struct, kw_only=True):
    """For the log and the operator: where the damaged file is, what was saved, and what does not add up."""

    aside: Path
    cause: str
    report: Path = Path()  # all of this as JSON
    saved: dict[str, int] = {}
    dropped: dict[str, int] = {}  # rows that could be reached and were not what was written
    lost_seqs: int = 0
    unreadable: list[str] = []  # tables with a place that could not be reached
    not_as_written: list[str] = []  # the first entry of the damaged file that does not fit its chain
    mended: list[str] = []
    may_lack_accounts: bool = False  # what is not here may have been there, with a balance
    suspended: list[str] = []  # accounts of whose balance a person has to decide: `sidecar journal open`
    wrong: list[str] = []


class NodeOutbox(Outbox, DeadLetters, OutboxStatus, Protocol):
    """Rows that wait, those that nobody takes, and how many there are."""


class Nodes(Protocol):
    """The nodes that share a database (core/takeover), from the side of one of them."""

    async def serve(self, heard_at: Sequence[str], lease_s: float) -> None:
        """Calls come from now on, at these addresses; each commit begins a lease of so many seconds."""

    def note_stray(self, bye: StrayBye) -> None:
        """For whoever takes its call over; not kept where that cannot be now."""

    def strays(self) -> Awaitable[Sequence[StrayBye]]:
        """What all nodes have noted in the last minutes, by the clock of this one."""

    def others(self) -> Awaitable[Sequence[takeover.Node]]:
        """Those of our tenant that have ever begun. UnavailableError while the database is away."""

    def take(self, dead: takeover.Node) -> Awaitable[NodeStore | None]:
        """Its books, to end its calls and tell its records, in a new epoch of it; whoever else writes in them
        is fenced. None: it lives again, or somebody else has them. UnavailableError, StoreError."""

    def on_fenced(self, notify: Callable[[], None]) -> None:
        """Called on the event loop, once: another process writes in the place of this one, which never will
        again."""


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What a node tells the others, once a second."""

    state: str  # as in its status
    calls: int
    calls_max: int
    version: str
    by_gateway: dict[str, int] = {}  # calls
    by_peer: dict[str, int] = {}
    wanted: dict[str, dict[str, int]] = {}  # of calls per second: kind of limit, name (core/token_buckets)
    terms: dict[str, dict[str, str | None]] = {}  # by account: what its settings say and the books do not


class NodeSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the database, and its present epoch."""

    node: str
    epoch: str
    epoch_since_wall_ns: int
    base_seq: int
    head_seq: int
    acknowledged_seq: int
    is_present: bool = True  # False: an epoch that has ended
    boot_id: str | None = None  # None: nobody writes in it
    started_wall_ns: int | None = None
    heartbeat_wall_ns: int | None = None
    open_calls: int = 0  # in the books
    told: Told | None = None  # of late; None: it is not heard
    dead_letters: int = 0  # of the node
    taken_over_by: str | None = None  # last; of all epochs: who opened this one for it
    taken_over_wall_ns: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """By another node, for a person there: a method of the control socket, and its parameters as JSON."""

    request: int
    method: str
    params: bytes
    operator: Operator


class FraudTold(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells the others of its fraud rules."""

    counts: FraudCounts | None = None  # None: they are as they were
    claims: Sequence[FraudHold] = ()  # what rules found here; one for each rule and key
    hold_seen: int = 0  # the change of what is held that was heard last


class FraudNews(msgspec.Struct, frozen=True, kw_only=True):
    counts: Mapping[str, tuple[FraudCounts, int]] = {}  # by node, where they are new; how old, in ms
    claimed: AbstractSet[tuple[str, str]] = (
        frozenset()
    )  # of the claims: rule and key, where nobody had found it before
    holds: Sequence[FraudHold] = ()  # what changed since, in the order of the changes, some at a time


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What the others told since the last time."""

    others: Mapping[str, Told]  # by node: all that are heard
    terms: Sequence[AccountTerms] = ()  # of accounts that changed, by whomever
    addresses: Mapping[str, Sequence[str]] = {}  # all blocks that commands gave each of them
    asked: Sequence[Asked] = ()
    fraud: FraudNews = FraudNews()


class NodeSilentError(Exception):
    """A node was asked, and has not answered; the text says whether it may yet do what it was asked for."""


class Neighbours(Protocol):
    """The other nodes on the same database."""

    def wait(self, wait_s: float) -> Awaitable[None]:
        """So long at most, for something to be told. UnavailableError while the database is away."""

    def exchange(self, told: Told, fraud: FraudTold | None = None) -> Awaitable[News]:
        """Tell, and hear. Who calls it again has put in force what was heard before. UnavailableError."""

    def lift(self, held: FraudHold) -> Awaitable[int]:
        """What a rule holds is let go on all nodes: the number of that change. UnavailableError."""

    def seen(self, *, every_epoch: bool = False) -> Awaitable[Sequence[NodeSeen]]:
        """All nodes, by their names; each with its present epoch, or with all that it had."""

    def ask(self, node: str, method: str, params: bytes, operator: Operator) -> Awaitable[bytes]:
        """The answer of another node, as it wrote it. NodeSilentError."""

    def answer(self, request: int, answer: bytes) -> Awaitable[None]: ...


class NodeStore(Store, Protocol):
    """An open store, as a node is put together with it, whatever engine keeps it."""

    @property
    def outbox(self) -> NodeOutbox: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def audit(self) -> AuditTrail: ...
    @property
    def stored(self) -> StoredEntries: ...
    @property
    def users(self) -> Users: ...
    @property
    def records(self) -> Records: ...
    @property
    def replays(self) -> Replays: ...
    @property
    def revisions(self) -> Revisions: ...
    @property
    def retention(self) -> Retention: ...
    @property
    def suspense(self) -> Suspense: ...

    # What this start has found and done.
    @property
    def is_new(self) -> bool:
        """Nothing of this node was kept before it."""

    @property
    def salvage(self) -> Salvage | None: ...
    @property
    def loss(self) -> Loss | None: ...
    @property
    def migrated(self) -> Migrated | None: ...
    @property
    def brought(self) -> Brought | None: ...
    @property
    def wrong(self) -> Sequence[str]:
        """Why it could not be said that all is as it was written."""

    @property
    def tightened(self) -> Mapping[str, int]:
        """What others could read until this start, with its mode."""

    @property
    def last_known_wall_ns(self) -> int:
        """When an earlier boot of this node is last known to have lived; 0: there was none."""

    @property
    def failure(self) -> str:
        """What the engine says, while failing."""

    @property
    def let_go(self) -> Mapping[str, int]:
        """So many calls were admitted while the books were away, by what allowed it (core/away.Ground)."""

    def on_failure(self, notify: Callable[[str, str], None]) -> None:
        """`notify(before, now)`, texts for the operator: the store begins to fail (`before` is empty), its
        cause becomes another, or it writes again (`now` is empty)."""

    def on_commit(self, notify: Callable[[int, int], None]) -> None:
        """`notify(steps, duration_ns)` after each commit."""

    def on_defect(self, notify: Callable[[UUID | None, BaseException], None]) -> None:
        """A step that could not be worked out was dropped; its call stays open."""

    def on_low_balance(self, notify: Callable[[LowBalance], None]) -> None:
        """Called on the event loop after the commit in which an account fell below its threshold."""

    def note_soon(self, change: Change) -> None:
        """Note in the audit table what the node itself found or did; kept until that is written."""

    def contradicts(self, seen: Seen) -> Awaitable[str]:
        """Why what a broker has seen is not of this store: it is to be opened again with that. Empty: it
        is."""

    def by_invite(self, since: datetime, calls_max: int) -> AbstractContextManager[Iterator[Cdr]]:
        """The calls of this node whose INVITE came then or later, at most about so many, the latest, each by
        the record that holds; in the order of their ids. Waits for the disk: not for an event loop."""

    def ledger_check(self) -> Awaitable[Sequence[str]]:
        """What does not add up; empty where all does."""

    def keep_checking(self, on_wrong: Callable[[Sequence[str]], None]) -> Awaitable[None]:
        """Never ends: all of it, a little at a time, again and again; `on_wrong` is told what is not as it
        was written, each once."""

    @property
    def nodes(self) -> Nodes | None:
        """None: this engine is one node's alone."""

    @property
    def neighbours(self) -> Neighbours | None:
        """None: this engine is one node's alone."""

    def discard(self) -> Awaitable[None]:
        """Close a new one, and leave nothing of it. What holds anything is not touched."""

    def close(self) -> Awaitable[None]:
        """Write what was submitted, then close; once."""


# --- records again ------------------------------------------------------------------------------------------


SeqRange = tuple[int, int]  # numbers; both ends belong to it


class ReplayCounters(msgspec.Struct):
    requests: int = 0
    records: int = 0  # published again


class ReplayPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal holds of some numbers: each up to `to_seq` is a row, or in one of the ranges."""

    rows: tuple[OutboxRow, ...] = ()
    to_seq: int  # the last that was looked at
    waiting: tuple[SeqRange, ...] = ()  # they will be published: not sent again before that
    dead: tuple[SeqRange, ...] = ()  # dead letters
    absent: tuple[SeqRange, ...] = ()  # of another epoch, damaged, or not there
    head_seq: int = 0  # the last number of the epoch; 0: no such epoch is known here


class Replays(Protocol):
    def replay(
        self, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
    ) -> Awaitable[ReplayPage]:
        """Published records again, in the order of their numbers, at most so many numbers at once. None as
        epoch: of all; as `to_seq`: up to the last."""

    def first_seq_since(self, moment: datetime) -> Awaitable[int | None]:
        """The lowest number of a call that ended then or later; None: there is none."""


class ReplayAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that came over the broker; both ends of the way back are checked."""

    user: str
    response_topic: str
    correlation: bytes
    payload: bytes


class ReportMade(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber tells of itself (wire/report); who he is is checked."""

    user: str
    client: str
    payload: bytes
    is_retained: bool = False  # by the broker, who knows since when


class ReplayLink(Protocol):
    """One connection to the broker on which replays are asked for and sent."""

    @property
    def window(self) -> int:
        """How many messages may be unacknowledged at once: the caller's duty to keep."""

    def on_asked(self, notify: Callable[[ReplayAsked], None]) -> None:
        """Called on the event loop for each request."""

    def on_reported(self, notify: Callable[[ReportMade], None]) -> None:
        """Called on the event loop for each report, those too that the broker has retained."""

    def send(
        self, row: OutboxRow, asked: ReplayAsked | None, acknowledged: Callable[[int, int], None]
    ) -> None:
        """A record, marked as replayed: to who asked, or, for None, on its own topic. Else as `Link.send`."""

    def answer(self, asked: ReplayAsked, payload: bytes, acknowledged: Callable[[int, int], None]) -> None:
        """What became of a request; `acknowledged` gets 0 as the number."""

    def on_lost(self, notify: Callable[[LinkError], None]) -> None: ...


class ReplayDoor(Protocol):
    def connect(self) -> AbstractAsyncContextManager[ReplayLink]:
        """As `Publisher.connect`, but without a will."""


class FraudCounters(msgspec.Struct, kw_only=True):
    """What fraud rules count since the start. The metrics read it from another thread: plain numbers."""

    fired: dict[str, int] = {}  # by rule; all that there are
    held: dict[str, int] = {}  # by rule: for how many it is in force, as last looked at
    forgotten: int = 0


class TakeoverCounters(msgspec.Struct, kw_only=True):
    """What a node has seen of the others on its database since the start, by their names. The metrics read it
    from another thread: plain numbers, changed on the event loop alone."""

    dead: dict[
        str, bool
    ] = {}  # whether its lease is over and it has left something that nobody has taken over
    taken_over: dict[str, int] = {}  # how often, by this node
    calls: dict[str, int] = {}  # that were open then
    books_s: dict[str, float] = {}  # the last time: from its last commit until its books were taken over
    calls_s: dict[str, float] = {}  # and until all its calls were ended and recorded


class RelayCounters(msgspec.Struct, kw_only=True):
    """What the relay counts since the start. The metrics read it from another thread: plain numbers, changed
    on the event loop alone."""

    connected: bool = False
    connects: int = 0
    links_lost: int = 0
    links_taken_over: int = 0  # by another client of our id
    sent: int = 0
    delivered: int = 0
    no_subscriber: int = 0  # among the delivered
    retried: int = 0
    dead: int = 0
    outbox_failures: int = 0
    defects: int = 0  # exceptions of our own code
    in_flight: int = 0
    codes: dict[int, int] = {}  # PUBACK reason code -> how many


class Meter(Protocol):
    """What the runtime counts. Every method is cheap, never blocks and never raises."""

    def call_ended(self, cdr: Cdr) -> None:
        """An admitted call was closed, recorded or suppressed."""

    def call_refused(self, detail: str, count: int = 1) -> None: ...
    def call_unrated(self, side: ChargeSide, party: str) -> None:
        """A call was answered for which an account (sell) or a gateway (buy) has no rate. So many parties
        at most that each may be a label."""

    def phase_changed(self, before: Phase | None, after: Phase | None) -> None:
        """A call moved on; None: it was not there before, or has been forgotten."""

    def grant_answered(self, answer: str) -> None:
        """A grant was `extended` or `refused`, or the asking `failed`."""

    def alarm_raised(self, kind: AlarmKind) -> None: ...
    def alarm_lost(self, where: str) -> None:
        """It did not come to the `broker`, or into the `audit` table."""

    def commit_took(self, seconds: float) -> None: ...
    def promise_broken(self, where: str) -> None:
        """An assertion of our own failed; its call was released as server/fault."""

    def row_unknown(self, table: str) -> None:
        """A state or classification table had no row: a visible defect."""
