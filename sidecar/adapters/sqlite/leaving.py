"""The history of a node leaves its journal for another engine (see store/moving). The file stays as it was,
under another name, so that no start takes it for the books again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import apsw

from sidecar.adapters.sqlite.file import FILE_NAME, DataDir, connect, connect_reader, move_wal
from sidecar.adapters.sqlite.migrations import refuse_other
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.sqlite.told import TOLD_NAME, read_told
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.disk import synced
from sidecar.adapters.store.keys import read_keys
from sidecar.adapters.store.moving import (
    COLUMNS,
    NAMES,
    WITH_BODIES,
    Archived,
    BootRow,
    EpochRow,
    Totals,
    balance_of,
    bodies_of,
    head_of,
    sum_of,
)
from sidecar.adapters.store.store import StoreError
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO
from sidecar.core.found_by import keys_of
from sidecar.wire.cdr_codec import decode

MOVED_NAME = f"{FILE_NAME}.moved"

_ORDER = {
    "cdrs": "seq",
    "outbox_behind": "seq",
    "dead_letters": "seq",
    "open_calls": "slot",
    "accounts": "name",
    "balances": "account, currency",
}  # all others: entry
# What waits above the mark in an epoch that has ended waits behind it elsewhere.
_BEHIND = (
    "SELECT seq, queued_wall_ns FROM outbox_behind UNION ALL"
    " SELECT seq, written_wall_ns FROM cdrs, store WHERE seq > acknowledged_seq AND seq <= epoch_base_seq"
    " ORDER BY seq"
)
_EARLIER = (
    "SELECT boots.epoch, min(started_wall_ns), count(seq), max(seq) FROM boots LEFT JOIN cdrs USING (boot)"
    " WHERE boots.epoch != ? GROUP BY boots.epoch ORDER BY min(boots.boot)"
)
_BOOTS = (
    "SELECT boot, epoch, boot_id, started_wall_ns, heartbeat_wall_ns, heartbeat_mono_ns FROM boots"
    " ORDER BY boot"
)


class JournalHistory:
    """See `History`."""

    def __init__(self, file: Path, connection: apsw.Connection) -> None:
        self.place = str(file)
        self._connection = connection
        ((self.epoch, number, digest),) = connection.execute(
            "SELECT epoch, commit_number, commit_hash FROM store"
        )
        self.head = f"{number}:{digest.hex()}"

    def epochs(self) -> Sequence[EpochRow]:
        found, head = list[EpochRow](), 0
        for name, created_wall_ns, records, last in self._connection.execute(_EARLIER, (self.epoch,)):
            head = last or head
            # Where it began is not kept; what a salvage has lost of its numbers is not missing a second time.
            found.append(EpochRow(name, created_wall_ns, head - records, head, head))
        ((created_wall_ns, base, head, mark),) = self._connection.execute(
            "SELECT created_wall_ns, epoch_base_seq, head_seq, acknowledged_seq FROM store"
        )
        return [*found, EpochRow(self.epoch, created_wall_ns, base, head, max(base, mark))]

    def boots(self) -> Sequence[BootRow]:
        return [BootRow(*row) for row in self._connection.execute(_BOOTS)]

    def rows(self, table: str) -> Iterator[tuple[object, ...]]:
        connection, columns = self._connection, COLUMNS[table]
        if table == "outbox_behind":
            yield from connection.execute(_BEHIND)
            return
        source = "cdrs JOIN cdr_bodies USING (seq)" if table == "cdrs" else table
        sql = f"SELECT {', '.join(columns)} FROM {source} ORDER BY {_ORDER.get(table, 'entry')}"  # noqa: S608
        if "found_by" not in columns:
            yield from connection.execute(sql)
            return
        for row in connection.execute(sql):
            *said, found_by, body, crc = row
            if found_by is None:  # of before there was such a column
                found_by = keys_of(decode(sound(body, crc, f"a record of {self.place}")))
            yield (*said, found_by, body, crc)

    def archived(self) -> Archived | None:
        for until_us, archive, seq, removed_wall_ns in self._connection.execute(
            "SELECT until_us, archive, seq, removed_wall_ns FROM sealed ORDER BY number DESC LIMIT 1"
        ):
            heads = list(self._connection.execute("SELECT account, seq FROM account_heads ORDER BY entry"))
            return Archived(until_us, archive, seq, removed_wall_ns, heads)
        return None

    def totals(self) -> Totals:
        counts: dict[str, int] = {}
        for table, name in NAMES.items():
            counts[name] = self._connection.execute(
                f"SELECT count(*) FROM ({_BEHIND if table == 'outbox_behind' else f'SELECT 1 FROM {table}'})"  # noqa: S608
            ).get
        for table in WITH_BODIES:
            source = "cdr_bodies" if table == "cdrs" else table
            sql = f"SELECT coalesce(sum(crc), 0) FROM {source}"  # noqa: S608
            counts[bodies_of(table)] = self._connection.execute(sql).get
        counts |= {head_of(epoch.name): epoch.head_seq for epoch in self.epochs()}
        sums: dict[str, Decimal] = {}
        for account, currency, amount in self._connection.execute(
            "SELECT account, currency, amount FROM ledger ORDER BY account, currency"
        ):
            name = sum_of(account, currency)
            sums[name] = EXACT.add(sums.get(name, ZERO), Decimal(amount))
        for account, currency, _, amount in self.rows("balances"):
            sums[balance_of(str(account), str(currency))] = Decimal(str(amount))
        return Totals(counts=counts, sums=sums)


class Left:
    """A journal that nobody else has open."""

    def __init__(self, file: Path, connection: apsw.Connection) -> None:
        self._file = file
        self._connection = connection
        self.history = JournalHistory(file, connection)

    def leave(self) -> None:
        """It is in the other place: no start shall write here again. What a crash leaves of this is done by
        whoever asks again."""
        if self._file.name != FILE_NAME:
            return
        self._connection.close(force=True)
        connection = connect(self._file)
        try:
            move_wal(connection)
        finally:
            connection.close(force=True)
        self._file.rename(self._file.with_name(MOVED_NAME))
        self._file.with_name(TOLD_NAME).unlink(missing_ok=True)
        synced(self._file.parent)


@contextmanager
def leaving(data_dir: Path, key_file: Path) -> Iterator[Left]:
    """StoreError: a node runs, there is no journal, or it is not as it was written."""
    here = [name for name in (FILE_NAME, MOVED_NAME) if (data_dir / name).exists()]
    if not here:
        raise StoreError(f"{data_dir / FILE_NAME}: there is no journal")
    if len(here) > 1:
        raise StoreError(f"{data_dir / MOVED_NAME}: is of an earlier move: keep it elsewhere")
    held = DataDir(data_dir)
    try:
        file = data_dir / here[0]
        if file == held.file:
            _check(data_dir, key_file)
        connection = connect_reader(file)
        try:
            refuse_other(connection, file)
            connection.execute("BEGIN")
            left = Left(file, connection)
            if not left.history.epoch:
                raise StoreError(
                    f"{file}: was put back, and no node has begun on it: start it once on SQLite"
                )
            yield left
        finally:
            connection.close(force=True)
    except apsw.Error as error:
        raise StoreError(f"{data_dir / FILE_NAME}: cannot be read ({error})") from error
    finally:
        held.release()


def _check(data_dir: Path, key_file: Path) -> None:
    told = read_told(data_dir)
    keys = read_keys(key_file) if key_file.exists() else ()
    with Snapshot(data_dir) as journal:
        if wrong := journal.check(keys, told):
            raise StoreError(f"{data_dir / FILE_NAME}: is not as it was written: {'; '.join(wrong[:10])}")
