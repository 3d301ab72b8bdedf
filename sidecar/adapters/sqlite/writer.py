"""The one thread that writes: takes what was submitted, commits it together, and reports on the event loop.

While one commit waits for the disk the next one gathers. On a fast disk that alone would make a commit of
nearly each step, so commits begin at least `commit_interval_ms` apart: an idle writer commits at once, a busy
one has company. The bridge's batches come further apart than that, so they do not wait for it. (What nobody
waits for is held back a little before it comes here: see `pacing`.)

When SQLite reports an error, the transaction is rolled back and the writer is *failing*:
- admissions and answers that wait for an outcome get StepFailed, and so do new ones, at once;
- all else (ends, attempts, what the broker acknowledged) is kept in order and tried again, with growing
  pauses, until it is written. That is bounded by the calls that are up, because no call is admitted
  meanwhile;
- after anything but a full disk the file is closed and opened again, everything in the WAL is moved into the
  database and synced there, and the whole is checked: after a failed fsync nobody knows what of the WAL is on
  disk, though the page cache shows it all. For the same reason an admission that was reported as failed is
  undone should it turn up.

A step that fails for a reason of its own (a defect) is found by running each step of its batch alone; it is
dropped and counted. Its call stays open in the journal, and the next start records it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import apsw

from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.file import Boot, move_wal
from sidecar.adapters.sqlite.known import Known, recall
from sidecar.adapters.sqlite.place import Place
from sidecar.adapters.sqlite.told import Told, ToldFile
from sidecar.adapters.sqlite.work import Job, Kept, Report, Work
from sidecar.core.books import Outcome, OutcomeKind, call_of
from sidecar.core.chain import ChainKey
from sidecar.core.commands import Audit
from sidecar.ports import Clock

STEPS_PER_COMMIT_MAX = 512
COMMIT_INTERVAL_MS_MIN = 3
RETRY_PAUSE_S_MIN = 0.02
RETRY_PAUSE_S_MAX = 2.0
WAL_PAGES_MAX = 2_000  # 8 MiB; then a checkpoint
PROBE_BYTES = 256 * 1024

# What the disk, or another process, can do to us; any other error of SQLite is a defect of ours.
DISK_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ProtocolError,
    apsw.NoMemError,
)


class Writer:
    def __init__(
        self,
        connection: apsw.Connection,
        reopen: Callable[[], apsw.Connection],
        boot: Boot,
        key: ChainKey,
        told: ToldFile,
        clock: Clock,
        report: Callable[[Report], None],
        commit_interval_ms: int,
    ) -> None:
        self._connection: apsw.Connection | None = None
        self._reopen = reopen
        self._key = key
        self._told = told
        self._known: Known = recall(connection, key)
        self._boot = boot
        self._clock = clock
        self._report = report
        self._commit_interval_s = commit_interval_ms / 1000
        self._queue: SimpleQueue[Sequence[Work] | None] = SimpleQueue()
        self._submitted = 0  # counted by the event loop
        self._taken = 0  # counted by the thread
        self._stopping = False
        # A daemon thread: a process that ends without `stop` is a crash, which the file survives, not a hang.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._next_commit_s = 0.0
        self._wal_pages = 0
        self._checkpoint_at = WAL_PAGES_MAX
        self._adopt(connection)
        self._tell()

    def start(self) -> None:
        self._thread.start()

    def submit(self, works: Sequence[Work]) -> None:
        self._submitted += len(works)
        for start in range(0, len(works), STEPS_PER_COMMIT_MAX):
            self._queue.put(works[start : start + STEPS_PER_COMMIT_MAX])

    def waiting(self) -> int:
        return self._submitted - self._taken

    def stop(self, place: Place) -> None:
        """Write what was submitted, then end the thread. Blocks; a disk that fails is given one last try. A
        journal whose file is gone is written out under its name once more."""
        self._queue.put(None)
        self._thread.join()
        if self._connection is not None:
            # All is committed: what cannot be moved out of the WAL now is taken up at the next start.
            with suppress(apsw.Error):
                move_wal(self._connection)
            with suppress(apsw.Error, OSError):
                place.put_back(self._connection)
            with suppress(apsw.Error):
                self._connection.close(force=True)
        self._told.close()

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress(OSError):
            Path("/proc/thread-self/comm").write_text(
                self._thread.name, "utf-8"
            )  # for `top -H` and profilers
        while not self._stopping:
            works = self._gather()
            try:
                if works:
                    self._write(works)
            except Exception as error:  # noqa: BLE001 - without this thread nothing is ever written again
                self._report(Report(defects=[(None, error)]))

    def _write(self, works: Sequence[Work]) -> None:
        try:
            self._commit(works)
        except DISK_ERRORS as error:
            self._endure(works, error)
        except Exception:  # noqa: BLE001 - whatever it is, the other steps are not to suffer
            self._commit_apart(works)
        try:
            self._checkpoint_if_due()
        except apsw.Error as error:
            self._endure((), error)

    def _gather(self) -> list[Work]:
        """All that waits, at least one, and less than twice STEPS_PER_COMMIT_MAX; None in the queue means
        stop."""
        queue, works = self._queue, list[Work]()
        more = queue.get()
        early_s = self._next_commit_s - time.monotonic()
        if early_s > 0 and more is not None:
            time.sleep(early_s)
        self._next_commit_s = time.monotonic() + self._commit_interval_s
        while more is not None:
            works += more
            self._taken += len(more)
            if len(works) >= STEPS_PER_COMMIT_MAX:
                return works
            try:
                more = queue.get_nowait()
            except Empty:
                return works
        self._stopping = True
        return works

    def _commit(self, works: Sequence[Work]) -> None:
        connection = self._connection
        assert connection is not None
        began_ns = time.perf_counter_ns()
        batch = Batch(connection, self._known, self._boot, self._clock.wall_ns(), self._clock.mono_ns())
        connection.execute("BEGIN IMMEDIATE")
        try:
            jobs = []
            for work in works:
                if isinstance(work, Job):
                    work.result = work.run(batch)
                    jobs.append((work, None))
                else:
                    batch.run(work)
            batch.flush()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        batch.committed()
        self._tell()  # before anybody hears of it: what was told is never more than what is told here
        self._report(
            Report(
                outcomes=batch.outcomes,
                outbox_rows=batch.outbox_rows,
                low_balances=batch.low_balances,
                jobs=jobs,
                link=self._known.chain.link,
                steps=len(works),
                commit_ns=time.perf_counter_ns() - began_ns,
            )
        )

    def _commit_apart(self, works: Sequence[Work]) -> None:
        """One of these steps has a defect: each gets a transaction of its own, and the one that fails is
        dropped."""
        for number, work in enumerate(works):
            try:
                self._commit([work])
            except DISK_ERRORS as error:
                self._endure(works[number:], error)
                return
            except Exception as error:  # noqa: BLE001 - reported, and the writer lives
                if isinstance(work, Job):
                    self._report(Report(jobs=[(work, error)]))
                else:
                    call_id = next((call_of(one) for one in work if not isinstance(one, Audit)), None)
                    failed = [Outcome(call_id, OutcomeKind.STEP_FAILED)] if call_id else []
                    self._report(Report(outcomes=failed, defects=[(call_id, error)]))

    def _tell(self) -> None:
        chain = self._known.chain
        self._told.tell(Told(chain.link, chain.marks.head_seq, self._boot.epoch))

    def _checkpoint_if_due(self) -> None:
        connection = self._connection
        if connection is None or self._wal_pages < self._checkpoint_at:
            return
        pages, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        # A reader can keep some of it in the WAL; ask again when it has grown as much once more, not at each
        # commit.
        self._checkpoint_at = WAL_PAGES_MAX if moved == pages else pages + WAL_PAGES_MAX

    def _adopt(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._checkpoint_at = WAL_PAGES_MAX
        connection.set_wal_hook(self._wal_grew)

    def _wal_grew(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    # --- failing --------------------------------------------------------------------------------------------

    def _endure(self, works: Sequence[Work], error: Exception) -> None:
        """Until everything that must be written is written."""
        kept = Kept()
        self._report(kept.take(works, failing=cause_of(error)))
        pause_s = RETRY_PAUSE_S_MIN
        while True:
            self._stopping = self._stopping or not self._pause(pause_s, kept)
            try:
                self._recover(error)
                self._drain(kept)
            except Exception as again:  # noqa: BLE001 - whatever it is, what is kept must not be lost
                error = again
                self._report(Report(failing=cause_of(again)))
                pause_s = min(2 * pause_s, RETRY_PAUSE_S_MAX)
                if self._stopping:
                    return  # the last try failed; the next start finds these calls open
                continue
            self._report(Report(failing=""))
            return

    def _pause(self, pause_s: float, kept: Kept) -> bool:
        """Wait, turning away what comes in meanwhile if it cannot wait; False if we are to stop."""
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                works = self._queue.get(timeout=left_s)
            except Empty:
                return True
            if works is None:
                return False
            self._taken += len(works)
            self._report(kept.take(works))
        return True

    def _recover(self, error: Exception) -> None:
        connection = self._connection
        if connection is None or not isinstance(error, (apsw.FullError, apsw.BusyError)):
            if connection is not None:
                self._connection = None
                with suppress(apsw.Error):
                    connection.close(force=True)
            connection = self._reopen()
            self._adopt(connection)
            head_bridge_id = self._known.head_bridge_id  # of this boot, not in the file
            self._known = recall(connection, self._key)
            self._known.head_bridge_id = head_bridge_id
        # Room for more than the few pages of a heartbeat, or every other admission would fail again.
        with connection:
            connection.execute("INSERT INTO probe (body) VALUES (zeroblob(?))", (PROBE_BYTES,))
        with connection:
            connection.execute("DELETE FROM probe")

    def _drain(self, kept: Kept) -> None:
        while kept.works:
            part = kept.works[:STEPS_PER_COMMIT_MAX]
            try:
                self._commit(part)
            except DISK_ERRORS:
                raise
            except Exception:  # noqa: BLE001 - as in _run
                self._commit_apart(part)
            kept.written(len(part))
            self._checkpoint_if_due()


def cause_of(error: Exception) -> str:
    """What SQLite says of the disk, for the operator: `SQLITE_IOERR_FSYNC: disk I/O error`."""
    codes = {**apsw.mapping_result_codes, **apsw.mapping_extended_result_codes}
    # An error of our own making, as `verify` raises it, has no code.
    name = codes.get(getattr(error, "extendedresult", -1)) or type(error).__name__
    return f"{name}: {error}" if str(error) else str(name)
