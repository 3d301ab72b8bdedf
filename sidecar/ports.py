"""The narrow doors between the runtime and the outside: what an adapter must offer, and no more.

Adapters implement these without importing each other; `wiring.py` chooses them. Several small ones rather
than one wide: a call-detail hook of another softswitch, say, can be a Watch without being a Control.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from sidecar.core.call import Call, Phase
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Snapshot, StoreCommand, WireCommand
from sidecar.core.events import CallEvent, CallFoundOpen, Event
from sidecar.core.terms import Money


class Clock(Protocol):
    def mono_ns(self) -> int: ...
    def wall_ns(self) -> int: ...


class Watch(Protocol):
    """The events of a hook, in the order in which they happened, in batches."""

    def on_events(self, deliver: Callable[[Sequence[Event]], None]) -> None: ...


class Control(Protocol):
    """The commands of a hook. `send` never blocks; commands for a call that is gone are ignored and
    counted."""

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None: ...
    def set_accepting(self, detail: str) -> None:
        """An empty detail accepts calls; `drain` or `journal` refuses new ones with it."""


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
        """Called on the event loop when the store begins to fail (True) and when it writes again (False)."""

    @property
    def failing(self) -> bool: ...
    @property
    def epoch(self) -> str: ...


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    topic: str
    payload: bytes
    message_id: str
    content_version: int


class Outbox(Protocol):
    """Rows that wait for the broker, in the order of `seq`."""

    def pending(self, after_seq: int, rows_max: int) -> Awaitable[Sequence[OutboxRow]]: ...
    def settle(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> Awaitable[None]:
        """Take delivered rows out; move dead ones, with their reason code, to the dead letters."""

    def on_rows(self, notify: Callable[[], None]) -> None:
        """Called on the event loop after a commit that added rows."""


class Accounts(Protocol):
    """Balances, for the command line; every movement is a ledger entry."""

    def create(self, name: str, currency: str, prepaid: bool) -> Awaitable[None]: ...
    def top_up(self, name: str, amount: Money, reference: str) -> Awaitable[Money]: ...
    def balance(self, name: str) -> Awaitable[Sequence[Money]]: ...


class Records(Protocol):
    """CDRs that were written, for reading."""

    def show(self, call_id: str) -> Awaitable[Sequence[Cdr]]: ...


# --- the publisher ------------------------------------------------------------------------------------------


class OutboxState(msgspec.Struct, frozen=True, kw_only=True):
    """What the retained status and the metrics say of the outbox."""

    epoch: str
    head_seq: int = 0  # the last sequence number taken; 0 before the first
    published: int = 0  # rows that took a number in this epoch: its first number is head_seq - published + 1
    depth: int = 0  # rows that wait for the broker
    oldest_wall_ns: int = 0  # when the oldest of them was written; 0: none waits
    dead: int = 0  # dead letters kept


class OutboxWatch(Protocol):
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


class RelayCounters(msgspec.Struct, kw_only=True):
    """What the relay counts since the start. The metrics read it from another thread: plain numbers, changed
    on the event loop alone."""

    connected: bool = False
    connects: int = 0
    links_lost: int = 0
    sent: int = 0
    delivered: int = 0
    no_subscriber: int = 0  # among the delivered
    retried: int = 0
    dead: int = 0
    outbox_failures: int = 0
    in_flight: int = 0
    codes: dict[int, int] = {}  # PUBACK reason code -> how many


class Meter(Protocol):
    """What the runtime counts. Every method is cheap, never blocks and never raises."""

    def call_ended(self, cdr: Cdr) -> None:
        """An admitted call was closed, recorded or suppressed."""

    def call_refused(self, detail: str, count: int = 1) -> None: ...
    def phase_changed(self, before: Phase | None, after: Phase | None) -> None:
        """A call moved on; None: it was not there before, or has been forgotten."""

    def commit_took(self, seconds: float) -> None: ...
    def promise_broken(self, where: str) -> None:
        """An assertion of our own failed; its call was released as server/fault."""

    def row_unknown(self, table: str) -> None:
        """A state or classification table had no row: a visible defect."""
