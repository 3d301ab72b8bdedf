"""The Store port on SQLite, and what shares its file: `outbox`, `accounts`, `audit`, `records`, `replays`,
`revisions`.

The event loop only puts steps into a bounded queue, all those of one turn together; the writer's thread
works, commits and reports back once per commit. `pacing` says when steps are handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.accounts import SqliteAccounts
from sidecar.adapters.sqlite.audit import SqliteAudit
from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.chain import begin_chain
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.checking import CHECK_PAUSE_S, Rounds, checked_at_start
from sidecar.adapters.sqlite.file import (
    FILE_NAME,
    Boot,
    DamagedFileError,
    DataDir,
    StoreError,
    begin_boot,
    connect,
    move_wal,
    verify,
)
from sidecar.adapters.sqlite.keys import KEY_FILE_NAME, add_key, read_keys
from sidecar.adapters.sqlite.known import open_call_of
from sidecar.adapters.sqlite.loss import (
    Loss,
    Seen,
    begin_after_loss,
    contradicted,
    missing,
    refuse_missing,
    told_or_seen,
)
from sidecar.adapters.sqlite.migrations import Migrated, open_migrated
from sidecar.adapters.sqlite.outbox import SqliteOutbox
from sidecar.adapters.sqlite.pacing import COMPANY_MS_MAX, Pacing
from sidecar.adapters.sqlite.page_one import KEPT_NAME, keep_schema
from sidecar.adapters.sqlite.place import Place
from sidecar.adapters.sqlite.reader import Reader, SqliteRecords
from sidecar.adapters.sqlite.refusals import found_refusals
from sidecar.adapters.sqlite.replay import SqliteReplays
from sidecar.adapters.sqlite.retention import SqliteRetention
from sidecar.adapters.sqlite.revisions import SqliteRevisions
from sidecar.adapters.sqlite.rows import DamagedError, sound
from sidecar.adapters.sqlite.salvage import Salvage, finish_salvage, salvaged
from sidecar.adapters.sqlite.suspense import SqliteSuspense
from sidecar.adapters.sqlite.told import TOLD_NAME, ToldFile, read_told
from sidecar.adapters.sqlite.work import Job, Report, waiting_call
from sidecar.adapters.sqlite.writer import COMMIT_INTERVAL_MS_MIN, Writer
from sidecar.core.alarms import LowBalance
from sidecar.core.audit import NODE, Change
from sidecar.core.books import Outcome, OutcomeKind, as_granted
from sidecar.core.call import Call, Stamp
from sidecar.core.cdr import Cdr
from sidecar.core.chain import ChainKey
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
from sidecar.ports import Clock
from sidecar.wire.entries import EntryError, decode_call

QUEUE_STEPS_MAX = 50_000

_T = TypeVar("_T")

FoundOpen = tuple[Call, CallFoundOpen]


class SqliteStore:
    """Opened by `open`, in the event loop that it then reports to; `close` before that loop ends."""

    def __init__(
        self,
        data_dir: DataDir,
        connection: apsw.Connection,
        boot: Boot,
        keys: Sequence[ChainKey],
        found: Sequence[FoundOpen],
        clock: Clock,
        queue_steps_max: int,
        commit_interval_ms: int,
        company_ms: int,
        vfs: str | None,
    ) -> None:
        self._data_dir = data_dir
        self._boot = boot
        self._found = found
        self._found_refusals = found_refusals(connection, boot.epoch)
        self._clock = clock
        self._queue_steps_max = queue_steps_max
        self._vfs = vfs
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(data_dir.file, vfs)
        self._keys = keys
        self._place = Place(data_dir.file)
        self._displaced = ""  # what happened to the file under us
        self._failing = False
        self._closed = False
        self._deliver: Callable[[Sequence[CallEvent]], None] = _nobody
        self._notify_failing: Callable[[bool], None] = _nobody
        self._notify_failure: Callable[[str, str], None] = _nobody
        self._notify_low_balance: Callable[[LowBalance], None] = _nobody
        self._notify_commit: Callable[[int, int], None] = _nobody
        self._notify_defect: Callable[[UUID | None, BaseException], None] = _nobody
        self.salvage: Salvage | None = None  # what was saved of a damaged file at this start
        self.loss: Loss | None = None  # what was told of before this start and is not in the file
        self.is_new = False  # there was no journal before this start
        self.wrong: Sequence[str] = ()  # why a look at the start could not say that all is as it was written
        self.migrated: Migrated | None = None  # what this start has changed in an older file
        self.tightened: Mapping[str, int] = {}  # what was not for this user alone, with its mode
        self.failure = ""  # what the disk said, while failing
        self.outbox = SqliteOutbox(self._reader, self._write, boot)
        self.accounts = SqliteAccounts(self._reader, self._write)
        self.audit = SqliteAudit(self._reader, self._write)
        self.records = SqliteRecords(self._reader)
        self.replays = SqliteReplays(self._reader)
        self.revisions = SqliteRevisions(self._write)
        self.retention = SqliteRetention(self._reader, self._write)
        self.suspense = SqliteSuspense(self._reader, self._write)
        self._writer = Writer(
            connection,
            reopen=self._reopen,
            boot=boot,
            key=keys[-1],
            told=ToldFile(data_dir.path),
            clock=clock,
            report=self._report_soon,
            commit_interval_ms=commit_interval_ms,
        )
        self._pacing = Pacing(self._loop, self._writer.submit, company_ms)
        self._writer.start()

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        node: str,
        boot_id: str,
        clock: Clock,
        queue_steps_max: int = QUEUE_STEPS_MAX,
        commit_interval_ms: int = COMMIT_INTERVAL_MS_MIN,
        company_ms: int = COMPANY_MS_MAX,
        vfs: str | None = None,
        passed_by: int | None = None,
        key_file: Path | None = None,
        begin_anew: bool = False,
        seen: Seen | None = None,
    ) -> SqliteStore:
        """Raises StoreError, with what to do, where the directory or the file cannot be used. `passed_by`:
        the group that may use a socket in the directory, see DataDir. `key_file`: of the chain, where it is
        not in the directory. `begin_anew`: whatever was told of a journal that is gone. `seen`: what the
        broker has of the journal that was published from last."""
        held = DataDir(data_dir, passed_by)
        salvage, migrated, loss = None, None, None
        wrong: Sequence[str] = ()
        try:
            finish_salvage(held.file)
            is_new, told = not held.file.exists(), read_told(data_dir)
            if not begin_anew:
                refuse_missing(held.file, told)
            try:
                connection, migrated = open_migrated(held.file, vfs)
                wrong = checked_at_start(connection, key_file or data_dir / KEY_FILE_NAME)
                found = _found_open(connection)
            except (DamagedFileError, DamagedError) as error:
                head_seq = told.head_seq if told is not None else 0
                place = key_file or data_dir / KEY_FILE_NAME
                old_keys = read_keys(place) if place.exists() else ()
                connection, salvage = salvaged(
                    held.file, str(error), clock.wall_ns(), vfs, head_seq, old_keys
                )
                found = _found_open(connection)
            keys = _keys(connection, key_file or data_dir / KEY_FILE_NAME)
            cause = salvage.cause if salvage is not None else missing(connection, told)
            if not cause and not is_new:
                cause = contradicted(connection, seen)
            told = told_or_seen(connection, told, None if is_new else seen)
            with connection:
                if told is not None and cause:
                    loss = begin_after_loss(connection, told, cause, clock.wall_ns())
                boot = begin_boot(connection, node, boot_id, clock)
                begin_chain(connection, keys[-1], clock.wall_ns())
            keep_schema(connection, data_dir)
            store = cls(
                held,
                connection,
                boot,
                keys,
                found,
                clock,
                queue_steps_max,
                commit_interval_ms,
                company_ms,
                vfs,
            )
        except apsw.Error as error:
            held.release()
            raise StoreError(f"{held.file}: cannot be used ({error})") from error
        except BaseException:
            held.release()
            raise
        store.salvage, store.migrated, store.tightened = salvage, migrated, held.tightened
        store.loss, store.wrong, store.is_new = loss, wrong, is_new
        if loss is not None:
            store.note_soon(
                Change(operator=NODE, action="journal.epoch", subject=boot.epoch, text=loss.cause)
            )
        return store

    def note_soon(self, change: Change) -> None:
        """Note in the audit table what the node itself found or did."""
        self._pacing.add(
            Job(run=lambda batch: batch.audit(change), done=_nobody, lasting=True), may_wait=True
        )

    async def close(self) -> None:
        """Write what was submitted, then close; once.

        While the disk fails there is one last try: calls whose end could not be written are found open at the
        next start.
        """
        if self._closed:
            return
        self._closed = True
        self._pacing.hand_over()
        await asyncio.to_thread(self._writer.stop, self._place)
        self._reader.close()
        self._data_dir.release()
        await asyncio.sleep(0)  # the writer's last report runs before the caller goes on

    async def discard(self) -> None:
        """Close a new journal, and leave the directory as if it had never been: the next start is to find
        none either. What holds anything is not touched."""
        await self.close()
        if self.is_new:
            for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", TOLD_NAME, KEPT_NAME):
                (self._data_dir.path / name).unlink(missing_ok=True)

    # --- the Store port -------------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        return self._boot.epoch

    @property
    def last_known_wall_ns(self) -> int:
        """When an earlier boot is last known to have lived: the clock should be past that. 0: there was
        none."""
        return self._boot.last_known_wall_ns

    @property
    def failing(self) -> bool:
        return self._failing

    def submit(self, step: Sequence[StoreCommand]) -> None:
        work = tuple(step)
        call_id = waiting_call(work)
        is_full = self._writer.waiting() + len(self._pacing) >= self._queue_steps_max
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

    def on_low_balance(self, notify: Callable[[LowBalance], None]) -> None:
        """Called on the event loop after the commit in which an account fell below its threshold."""
        self._notify_low_balance = notify

    def found_open(self) -> Sequence[FoundOpen]:
        """The calls that earlier boots left open, each with the last moment at which its boot is known to
        have lived."""
        return self._found

    def found_refusals(self) -> Sequence[Cdr]:
        return self._found_refusals

    def keep_refusals(self, aggregates: Sequence[Cdr]) -> None:
        self._pacing.add(Job(run=lambda batch: batch.refusals.keep(aggregates), done=_nobody), may_wait=True)

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """Every commit writes the clocks as they stood when it began; this makes sure that there is one. It
        also looks whether the file is still there: where not, no new call is taken until it is."""
        self._look_at_place()
        self._pacing.add(Job(run=_nothing, done=_nobody), may_wait=True)

    async def written(self) -> None:
        await self._write(_nothing, lasting=True)

    async def ledger_check(self) -> Sequence[str]:
        """See `check.ledger_check`: empty where everything adds up."""
        return await self._reader.ask(ledger_check)

    async def keep_checking(
        self, on_wrong: Callable[[Sequence[str]], None], pause_s: float = CHECK_PAUSE_S
    ) -> None:
        """Never ends: the whole journal, a little of it at a time, again and again; `on_wrong` is told what
        is not as it was written, each once."""
        said = set(self.wrong)
        rounds = Rounds(Reader(self._data_dir.file, self._vfs), self._keys)
        try:
            while True:
                await asyncio.sleep(pause_s)
                # While the disk fails the file is opened anew, which a reader would disturb.
                found = [] if self._failing else await rounds.go_on()
                if new := [text for text in found if text not in said]:
                    said.update(new)
                    on_wrong(new)
        finally:
            rounds.close()

    # --- from and to the writer's thread --------------------------------------------------------------------

    async def _write(
        self, run: Callable[[Batch], _T], *, lasting: bool = False, may_wait: bool = False
    ) -> _T:
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

    def _reopen(self) -> apsw.Connection:
        """In the writer's thread, after a fault of the disk: a connection to a file that was synced and
        checked."""
        self._reader.close()
        if not self._place.database_is_ours():
            raise apsw.CantOpenError(f"{self._data_dir.file} is not the file that was open")
        connection = connect(self._data_dir.file, self._vfs)
        try:
            move_wal(connection)
            verify(connection)
            self._place.settle()
        except BaseException:
            connection.close(force=True)
            raise
        return connection

    def _report_soon(self, report: Report) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(self._report, report)

    def _report(self, report: Report) -> None:
        """On the event loop."""
        if report.outcomes:
            mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
            self._deliver_all([_event(outcome, mono_ns, wall_ns) for outcome in report.outcomes])
        for low_balance in report.low_balances:
            self._notify_low_balance(low_balance)
        if report.outbox_rows:
            self.outbox.rows_added(report.outbox_rows)
        for job, error in report.jobs:
            job.done(job.result, error)
        for call_id, error in report.defects:
            self._notify_defect(call_id, error)
        if report.steps:
            self._notify_commit(report.steps, report.commit_ns)
        if report.failing is not None and not self._displaced:
            self._now_failing(report.failing)

    def _look_at_place(self) -> None:
        if self.failure and not self._displaced:
            return  # the disk fails: the files are being opened anew
        before, self._displaced = self._displaced, self._place.displaced()
        if self._displaced != before:
            self._now_failing(self._displaced)

    def _now_failing(self, cause: str) -> None:
        before, self.failure = self.failure, cause
        if bool(before) != bool(cause):
            self._failing = bool(cause)
            self.outbox.rows_doubtful()
            self._notify_failing(self._failing)
        if before != cause:
            self._notify_failure(before, cause)

    def _deliver_all(self, events: Sequence[CallEvent]) -> None:
        self._deliver(events)


def _keys(connection: apsw.Connection, file: Path) -> Sequence[ChainKey]:
    """Those of the file; a new one where there is neither file nor chain. StoreError where a chain is there
    and its keys are gone."""
    has_chain = connection.execute("SELECT EXISTS (SELECT 1 FROM commits)").get
    if not file.exists():
        if has_chain:
            raise StoreError(
                f"{file}: the keys of the journal are gone: put the file back. Without it nobody can tell"
                " whether the journal is as it was written; `sidecar journal new-key` makes one for what"
                " comes from now on"
            )
        return [add_key(file)]
    return read_keys(file)


def _found_open(connection: apsw.Connection) -> Sequence[FoundOpen]:
    found = []
    for call_id, body, crc, account, currency, reserved, granted_s, mono_ns, wall_ns in connection.execute(
        "SELECT call_id, body, crc, account, currency, reserved, granted_s,"
        " heartbeat_mono_ns, heartbeat_wall_ns"
        " FROM open_calls JOIN boots USING (boot) ORDER BY slot"
    ):
        try:
            call = decode_call(sound(body, crc, f"open call {UUID(bytes=call_id)}"))
        except DamagedError:
            connection.close(force=True)
            raise
        except EntryError as error:
            raise StoreError(f"{connection.filename}: call {UUID(bytes=call_id)}: {error}") from error
        call = as_granted(call, open_call_of(account, currency, reserved, granted_s))
        last = max(Stamp(mono_ns, wall_ns), *_stamps(call), key=lambda stamp: stamp.mono_ns)
        event = CallFoundOpen(call_id=call.call_id, mono_ns=last.mono_ns, wall_ns=last.wall_ns)
        found.append((call, event))
    return found


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


def _event(outcome: Outcome, mono_ns: int, wall_ns: int) -> CallEvent:
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


def _nothing(_batch: Batch) -> None:
    pass


def _nobody(*_: object) -> None:
    pass
