"""The event loop's side of a store: what it is given, and what it tells of the writer's thread.

The event loop only puts steps into a bounded queue, all those of one turn together; the writer's thread
works, commits and reports back once per commit. `pacing` says when steps are handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from sidecar.adapters.store.accounts import StoredAccounts
from sidecar.adapters.store.audit import StoredAudit
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.known import Boot, open_call_of
from sidecar.adapters.store.pacing import COMPANY_MS_MAX, Pacing
from sidecar.adapters.store.reading import Reader
from sidecar.adapters.store.revisions import StoredRevisions
from sidecar.adapters.store.suspense import StoredSuspense
from sidecar.adapters.store.users import StoredUsers
from sidecar.adapters.store.work import Job, Report, nobody, waiting_call
from sidecar.adapters.store.writer import COMMIT_INTERVAL_MS_MIN, WritingThread
from sidecar.core.alarms import LowBalance
from sidecar.core.audit import NODE, Change
from sidecar.core.away import Ground
from sidecar.core.books import OpenCall, Outcome, OutcomeKind, as_granted
from sidecar.core.call import Call, Stamp
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Extend, StoreCommand
from sidecar.core.events import (
    Admitted,
    AnswerRecorded,
    CallEvent,
    CallFoundOpen,
    CreditRefused,
    GrantExtended,
    StepFailed,
)
from sidecar.ports import Brought, Clock, Loss, Migrated, Neighbours, Nodes, OutboxRow, Salvage
from sidecar.wire.entries import EntryError, decode_call

CHECK_PAUSE_S = 1.0

_T = TypeVar("_T")

FoundOpen = tuple[Call, CallFoundOpen]


class StoreError(Exception):
    """The store cannot be opened; the message says what to do."""


class StoreAwayError(StoreError):
    """Nobody answers where it is, which may pass: another start may be one."""


class Pace(NamedTuple):
    """How many steps may wait, how far commits begin apart, and how long a step waits for company."""

    queue_steps_max: int = 50_000
    commit_interval_ms: int = COMMIT_INTERVAL_MS_MIN
    company_ms: int = COMPANY_MS_MAX


class Left(NamedTuple):
    """What earlier boots left undone."""

    calls: Sequence[FoundOpen]
    refusals: Sequence[Cdr]


class FencedError(StoreError):
    """It was, and another process has taken over since."""


class _Outbox(Protocol):
    def rows_added(self, rows: Sequence[OutboxRow]) -> None: ...
    def rows_doubtful(self) -> None: ...


class Rounds(Protocol):
    """Looking over all that was written, from the first to the last, then again."""

    async def go_on(self) -> Sequence[str]:
        """What the next part has that is not as it was written."""

    def close(self) -> None: ...


class BaseStore:
    """The Store port, but for what an engine says of its calls. Who inherits it calls `_begin`."""

    def __init__(self, clock: Clock, boot: Boot, reader: Reader, left: Left, pace: Pace) -> None:
        self._clock = clock
        self._boot = boot
        self._reader = reader
        self._left = left
        self._pace = pace
        self.accounts = StoredAccounts(reader, self._write)
        self.audit = StoredAudit(reader, self._write)
        self.users = StoredUsers(reader, self._write)
        self.revisions = StoredRevisions(self._write)
        self.suspense = StoredSuspense(reader, self._write)
        self._loop = asyncio.get_running_loop()
        self._failing = False
        self._decides = False  # while it fails, calls are let go all the same
        self._is_refusing = False  # as last told
        self.let_go = {ground.value: 0 for ground in Ground}
        self._closed = False
        self._deliver: Callable[[Sequence[CallEvent]], None] = nobody
        self._notify_failing: Callable[[bool], None] = nobody
        self._notify_failure: Callable[[str, str], None] = nobody
        self._notify_low_balance: Callable[[LowBalance], None] = nobody
        self._notify_commit: Callable[[int, int], None] = nobody
        self._notify_defect: Callable[[UUID | None, BaseException], None] = nobody
        self._notify_fenced: Callable[[], None] = nobody
        self.failure = ""  # what the engine said, while failing
        # What this start has found and done: see NodeStore.
        self.is_new = False
        self.salvage: Salvage | None = None
        self.brought: Brought | None = None
        self.loss: Loss | None = None
        self.migrated: Migrated | None = None
        self.wrong: Sequence[str] = ()
        self.tightened: Mapping[str, int] = {}

    def _begin(self, writer: WritingThread, outbox: _Outbox) -> None:
        self._thread, self._told_of_rows = writer, outbox
        self._pacing = Pacing(self._loop, writer.submit, self._pace.company_ms)
        writer.start()

    def _stop(self) -> None:
        """End the writer's thread, and let go of what is open. Blocks."""
        raise NotImplementedError

    async def close(self) -> None:
        """While the engine fails there is one last try: calls whose end could not be written are found open
        at the next start."""
        if self._closed:
            return
        self._closed = True
        self._pacing.hand_over()
        await asyncio.to_thread(self._stop)
        await asyncio.sleep(0)  # the writer's last report runs before the caller goes on

    @property
    def epoch(self) -> str:
        return self._boot.epoch

    @property
    def last_known_wall_ns(self) -> int:
        """The clock should be past that."""
        return self._boot.last_known_wall_ns

    def found_open(self) -> Sequence[FoundOpen]:
        """The calls that earlier boots left open, each with the last moment at which its boot is known to
        have lived."""
        return self._left.calls

    def found_refusals(self) -> Sequence[Cdr]:
        return self._left.refusals

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """Every commit writes the clocks as they stood when it began; this makes sure that there is one."""
        self._pacing.add(Job(run=nothing, done=nobody), may_wait=True)

    @property
    def nodes(self) -> Nodes | None:
        return None

    @property
    def neighbours(self) -> Neighbours | None:
        return None

    def _rounds(self) -> Rounds:
        raise NotImplementedError

    async def keep_checking(
        self, on_wrong: Callable[[Sequence[str]], None], pause_s: float = CHECK_PAUSE_S
    ) -> None:
        """See NodeStore."""
        said = set(self.wrong)
        rounds = self._rounds()
        try:
            while True:
                await asyncio.sleep(pause_s)
                # While the disk fails its file is opened anew, which a reader would disturb.
                found = [] if self._failing else await rounds.go_on()
                if new := [text for text in found if text not in said]:
                    said.update(new)
                    on_wrong(new)
        finally:
            rounds.close()

    def _lost(self, loss: Loss | None, epoch: str) -> None:
        self.loss = loss
        if loss is not None:
            self.note_soon(Change(operator=NODE, action="journal.epoch", subject=epoch, text=loss.cause))

    def note_soon(self, change: Change) -> None:
        """Note in the audit table what the node itself found or did."""
        self._pacing.add(Job(run=lambda batch: batch.audit(change), done=nobody, lasting=True), may_wait=True)

    @property
    def failing(self) -> bool:
        return self._failing

    @property
    def refusing(self) -> bool:
        return self._failing and not self._decides

    def submit(self, step: Sequence[StoreCommand]) -> None:
        work = tuple(step)
        call_id = waiting_call(work)
        is_full = self._thread.waiting() + len(self._pacing) >= self._pace.queue_steps_max
        if is_full and call_id is not None:
            # Only what can be refused is refused: ends are as many as the calls that are up.
            event = StepFailed(call_id=call_id, mono_ns=self._clock.mono_ns(), wall_ns=self._clock.wall_ns())
            self._loop.call_soon(self._deliver_all, (event,))
            return
        # An extension is asked for long before its answer is needed.
        self._pacing.add(work, may_wait=call_id is None or isinstance(work[0], Extend))

    def on_outcome(self, deliver: Callable[[Sequence[CallEvent]], None]) -> None:
        self._deliver = deliver

    def on_failing(self, notify: Callable[[bool], None]) -> None:
        self._notify_failing = notify

    def on_failure(self, notify: Callable[[str, str], None]) -> None:
        """`notify(before, now)`, texts for the operator: the store begins to fail (`before` is empty), what
        the disk says becomes another, or it writes again (`now` is empty)."""
        self._notify_failure = notify

    def on_commit(self, notify: Callable[[int, int], None]) -> None:
        """`notify(steps, duration_ns)` after each commit, for the metrics."""
        self._notify_commit = notify

    def on_defect(self, notify: Callable[[UUID | None, BaseException], None]) -> None:
        """A step that could not be worked out: our fault. It was dropped; its call stays open in the
        journal."""
        self._notify_defect = notify

    def on_fenced(self, notify: Callable[[], None]) -> None:
        """See Nodes."""
        self._notify_fenced = notify

    def on_low_balance(self, notify: Callable[[LowBalance], None]) -> None:
        """Called on the event loop after the commit in which an account fell below its threshold."""
        self._notify_low_balance = notify

    def keep_refusals(self, aggregates: Sequence[Cdr]) -> None:
        self._pacing.add(Job(run=lambda batch: batch.refusals.keep(aggregates), done=nobody), may_wait=True)

    async def written(self) -> None:
        await self._write(nothing, lasting=True)

    # --- from and to the writer's thread --------------------------------------------------------------------

    async def _write(self, run: Callable[[Any], _T], *, lasting: bool = False, may_wait: bool = False) -> _T:
        future: asyncio.Future[_T] = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.done():
                return  # the caller has gone
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._pacing.add(Job(run=run, done=done, lasting=lasting), may_wait=may_wait)
        return await future

    def _report_soon(self, report: Report) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(self._report, report)

    def _report(self, report: Report) -> None:
        """On the event loop."""
        if report.outcomes:
            mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
            self._deliver_all([event_of(outcome, mono_ns, wall_ns) for outcome in report.outcomes])
        for low_balance in report.low_balances:
            self._notify_low_balance(low_balance)
        if report.outbox_rows:
            self._told_of_rows.rows_added(report.outbox_rows)
        for job, error in report.jobs:
            job.done(job.result, error)
        for call_id, error in report.defects:
            self._notify_defect(call_id, error)
        if report.steps:
            self._notify_commit(report.steps, report.commit_ns)
        if report.decides is not None:
            self._decides = report.decides
        if report.failing is not None:
            self._writer_says(report.failing)
        self._tell_refusing()
        for ground, calls in report.let_go.items():
            self.let_go[ground] += calls
        if report.is_fenced:
            notify, self._notify_fenced = self._notify_fenced, nobody  # once
            notify()

    def _writer_says(self, cause: str) -> None:
        self._now_failing(cause)

    def _now_failing(self, cause: str) -> None:
        before, self.failure = self.failure, cause
        if bool(before) != bool(cause):
            self._failing = bool(cause)
            self._told_of_rows.rows_doubtful()
            self._tell_refusing()
        if before != cause:
            self._notify_failure(before, cause)

    def _tell_refusing(self) -> None:
        if self._is_refusing != self.refusing:
            self._is_refusing = self.refusing
            self._notify_failing(self._is_refusing)

    def _deliver_all(self, events: Sequence[CallEvent]) -> None:
        self._deliver(events)


def found_calls(rows: Iterable[tuple[Any, ...]]) -> list[FoundOpen]:
    """Calls that earlier boots left open, by id, body, checksum, what the books hold of each (account,
    currency, reserved, granted_s), and when its boot is last known to have lived (mono, wall). DamagedError,
    EntryError."""
    return list(map(found_call, rows))


def found_call(row: tuple[Any, ...]) -> FoundOpen:
    """One of them."""
    call_id, body, crc, account, currency, reserved, granted_s, mono_ns, wall_ns = row
    name = f"open call {UUID(bytes=call_id)}"
    body = sound(body, crc, name)
    try:
        call = decode_call(body)
    except EntryError as error:
        raise EntryError(f"{name}: {error}") from error
    held = open_call_of(account, currency, reserved, granted_s)
    return as_found_open(call, held, Stamp(mono_ns, wall_ns))


def as_found_open(call: Call, held: OpenCall, heartbeat: Stamp) -> FoundOpen:
    """A call that an earlier boot left open: what the books have granted it, and the last moment at which it
    is known to have lived."""
    call = as_granted(call, held)
    last = max(heartbeat, *_stamps(call), key=lambda stamp: stamp.mono_ns)
    return call, CallFoundOpen(call_id=call.call_id, mono_ns=last.mono_ns, wall_ns=last.wall_ns)


def _stamps(call: Call) -> Iterator[Stamp]:
    """Every moment that the entry itself proves: a call may have come after the last heartbeat."""
    yield Stamp(call.invite.mono_ns, call.invite.wall_ns)
    for attempt in call.attempts:
        yield attempt.started
    for stamp in (
        call.ringing,
        call.b_answered,
        call.answered,
        call.a_life,
        call.b_life,
        call.refreshed,
        call.ended,
    ):
        if stamp is not None:
            yield stamp


def event_of(outcome: Outcome, mono_ns: int, wall_ns: int) -> CallEvent:
    call_id = outcome.call_id
    if outcome.kind is OutcomeKind.ADMITTED:
        return Admitted(
            call_id=call_id,
            mono_ns=mono_ns,
            wall_ns=wall_ns,
            granted_s=outcome.granted_s,
            reserved=outcome.reserved,
            rule=outcome.rule,
        )
    if outcome.kind is OutcomeKind.ANSWER_RECORDED:
        return AnswerRecorded(call_id=call_id, mono_ns=mono_ns, wall_ns=wall_ns)
    if outcome.kind is OutcomeKind.GRANT_EXTENDED:
        assert outcome.granted_s is not None, "a grant of nothing"
        assert outcome.reserved is not None, "a grant that nothing is held for"
        return GrantExtended(
            call_id=call_id,
            mono_ns=mono_ns,
            wall_ns=wall_ns,
            granted_s=outcome.granted_s,
            reserved=outcome.reserved,
            final=outcome.final,
            rule=outcome.rule,
        )
    if outcome.kind is OutcomeKind.CREDIT_REFUSED:
        return CreditRefused(
            call_id=call_id, mono_ns=mono_ns, wall_ns=wall_ns, detail=outcome.detail, rule=outcome.rule
        )
    return StepFailed(call_id=call_id, mono_ns=mono_ns, wall_ns=wall_ns)


def nothing(_batch: object) -> None:
    pass
