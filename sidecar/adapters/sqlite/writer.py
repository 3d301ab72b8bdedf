"""The writer's thread on SQLite: its transaction, its checkpoints, and what a fault of the disk asks for.

After anything but a full disk the file is closed and opened again, everything in the WAL is moved into the
database and synced there, and the whole is checked: after a failed fsync nobody knows what of the WAL is on
disk, though the page cache shows it all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import apsw

from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.file import DISK_ERRORS, move_wal
from sidecar.adapters.sqlite.known import Known, recall
from sidecar.adapters.sqlite.place import Place
from sidecar.adapters.sqlite.told import Told, ToldFile
from sidecar.adapters.store.known import Boot
from sidecar.adapters.store.work import Report, Work, worked
from sidecar.adapters.store.writer import WritingThread
from sidecar.core.chain import ChainKey
from sidecar.ports import Clock

WAL_PAGES_MAX = 2_000  # 8 MiB; then a checkpoint
PROBE_BYTES = 256 * 1024


class Writer(WritingThread):
    faults = DISK_ERRORS

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
        super().__init__(report, commit_interval_ms)
        self._connection: apsw.Connection | None = None
        self._reopen = reopen
        self._key = key
        self._told = told
        self._known: Known = recall(connection, key)
        self._boot = boot
        self._clock = clock
        self._wal_pages = 0
        self._checkpoint_at = WAL_PAGES_MAX
        self._adopt(connection)
        self._tell()

    def stop(self, place: Place) -> None:
        """See `_end`. A journal whose file is gone is written out under its name once more."""
        self._end()
        if self._connection is not None:
            # All is committed: what cannot be moved out of the WAL now is taken up at the next start.
            with suppress(apsw.Error):
                move_wal(self._connection)
            with suppress(apsw.Error, OSError):
                place.put_back(self._connection)
            with suppress(apsw.Error):
                self._connection.close(force=True)
        self._told.close()

    def _commit(self, works: Sequence[Work]) -> None:
        connection = self._connection
        assert connection is not None
        began_ns = time.perf_counter_ns()
        batch = Batch(connection, self._known, self._boot, self._clock.wall_ns(), self._clock.mono_ns())
        connection.execute("BEGIN IMMEDIATE")
        try:
            jobs = worked(works, batch)
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

    def _tell(self) -> None:
        chain = self._known.chain
        self._told.tell(Told(chain.link, chain.marks.head_seq, self._boot.epoch))

    def _tend(self) -> None:
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

    def _recover(self, error: Exception) -> Sequence[Work]:
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
        return ()

    def _cause(self, error: Exception) -> str:
        return cause_of(error)


def cause_of(error: Exception) -> str:
    """What SQLite says of the disk, for the operator: `SQLITE_IOERR_FSYNC: disk I/O error`."""
    codes = {**apsw.mapping_result_codes, **apsw.mapping_extended_result_codes}
    # An error of our own making, as `verify` raises it, has no code.
    name = codes.get(getattr(error, "extendedresult", -1)) or type(error).__name__
    return f"{name}: {error}" if str(error) else str(name)
