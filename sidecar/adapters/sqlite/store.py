"""The store of a node in one file (see NodeStore)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import apsw

from sidecar.adapters.sqlite.chain import begin_chain
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.checking import Rounds, checked_at_start
from sidecar.adapters.sqlite.file import (
    FILE_NAME,
    DamagedFileError,
    DataDir,
    begin_boot,
    connect,
    move_wal,
    verify,
)
from sidecar.adapters.sqlite.loss import (
    begin_after_loss,
    contradicted,
    missing,
    refuse_missing,
    told_or_seen,
)
from sidecar.adapters.sqlite.migrations import open_migrated
from sidecar.adapters.sqlite.outbox import SqliteOutbox
from sidecar.adapters.sqlite.page_one import KEPT_NAME, keep_schema
from sidecar.adapters.sqlite.place import Place
from sidecar.adapters.sqlite.reader import Reader, SqliteRecords
from sidecar.adapters.sqlite.refusals import found_refusals
from sidecar.adapters.sqlite.replay import SqliteReplays
from sidecar.adapters.sqlite.retention import SqliteRetention
from sidecar.adapters.sqlite.salvage import finish_salvage, salvaged
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.sqlite.stored import settings_revision, stored_rows
from sidecar.adapters.sqlite.told import TOLD_NAME, ToldFile, read_told
from sidecar.adapters.sqlite.writer import Writer
from sidecar.adapters.store.bodies import DamagedError
from sidecar.adapters.store.keys import KEY_FILE_NAME, add_key, read_keys
from sidecar.adapters.store.known import Boot
from sidecar.adapters.store.store import BaseStore, FoundOpen, Left, Pace, StoreError, found_calls
from sidecar.adapters.store.stored import KeptEntries
from sidecar.core.cdr import Cdr
from sidecar.core.chain import ChainKey
from sidecar.ports import Clock, Seen
from sidecar.wire.entries import EntryError


class SqliteStore(BaseStore):
    """Opened by `open`, in the event loop that it then reports to; `close` before that loop ends."""

    _reader: Reader

    def __init__(
        self,
        data_dir: DataDir,
        connection: apsw.Connection,
        boot: Boot,
        keys: Sequence[ChainKey],
        left: Left,
        clock: Clock,
        pace: Pace,
        vfs: str | None,
    ) -> None:
        reader = Reader(data_dir.file, vfs)
        super().__init__(clock, boot, reader, left, pace)
        self._data_dir = data_dir
        self._vfs = vfs
        self._keys = keys
        self._place = Place(data_dir.file)
        self._displaced = ""  # what happened to the file under us
        self.outbox = SqliteOutbox(reader, self._write, boot)
        self.stored = KeptEntries(reader, self._write, stored_rows, settings_revision)
        self.records = SqliteRecords(reader)
        self.replays = SqliteReplays(reader)
        self.retention = SqliteRetention(reader, self._write, keys)
        self._writer = Writer(
            connection,
            reopen=self._reopen,
            boot=boot,
            key=keys[-1],
            told=ToldFile(data_dir.path),
            clock=clock,
            report=self._report_soon,
            commit_interval_ms=pace.commit_interval_ms,
        )
        self._begin(self._writer, self.outbox)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        node: str,
        boot_id: str,
        clock: Clock,
        pace: Pace = Pace(),  # noqa: B008 - it is frozen
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
                Left(found, found_refusals(connection, boot.epoch)),
                clock,
                pace,
                vfs,
            )
        except apsw.Error as error:
            held.release()
            raise StoreError(f"{held.file}: cannot be used ({error})") from error
        except BaseException:
            held.release()
            raise
        store.salvage, store.migrated, store.tightened = salvage, migrated, held.tightened
        store.wrong, store.is_new = wrong, is_new
        store._lost(loss, boot.epoch)
        return store

    def _stop(self) -> None:
        self._writer.stop(self._place)
        self._reader.close()
        self._data_dir.release()

    async def discard(self) -> None:
        """Close a new journal, and leave the directory as if it had never been: the next start is to find
        none either. What holds anything is not touched."""
        await self.close()
        if self.is_new:
            for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", TOLD_NAME, KEPT_NAME):
                (self._data_dir.path / name).unlink(missing_ok=True)

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """It also looks whether the file is still there: where not, no new call is taken until it is."""
        self._look_at_place()
        super().heartbeat(mono_ns, wall_ns)

    async def contradicts(self, seen: Seen) -> str:
        """Why what a broker has seen is not of this journal: it is to be opened again with that. Empty: it
        is."""
        return await self._reader.ask(lambda connection: contradicted(connection, seen))

    @contextmanager
    def by_invite(self, since: datetime, calls_max: int) -> Iterator[Iterator[Cdr]]:
        with Snapshot(self._data_dir.path) as journal:
            yield journal.by_invite(since, calls_max=calls_max)

    async def ledger_check(self) -> Sequence[str]:
        """See `check.ledger_check`: empty where everything adds up."""
        return await self._reader.ask(ledger_check)

    def _rounds(self) -> Rounds:
        return Rounds(Reader(self._data_dir.file, self._vfs), self._keys)

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

    def _writer_says(self, cause: str) -> None:
        if not self._displaced:
            super()._writer_says(cause)

    def _look_at_place(self) -> None:
        if self.failure and not self._displaced:
            return  # the disk fails: the files are being opened anew
        before, self._displaced = self._displaced, self._place.displaced()
        if self._displaced != before:
            self._now_failing(self._displaced)


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
    try:
        return found_calls(
            connection.execute(
                "SELECT call_id, body, crc, account, currency, reserved, granted_s,"
                " heartbeat_mono_ns, heartbeat_wall_ns"
                " FROM open_calls JOIN boots USING (boot) ORDER BY slot"
            )
        )
    except DamagedError:
        connection.close(force=True)
        raise
    except EntryError as error:
        raise StoreError(f"{connection.filename}: {error}") from error
