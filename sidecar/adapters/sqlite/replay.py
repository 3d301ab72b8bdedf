"""The Replays port: published records again, from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import apsw
import msgspec

from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.store.bodies import DamagedError, ranges, sound
from sidecar.adapters.store.outbox import row_of
from sidecar.ports import OutboxRow, ReplayPage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class _Numbered(msgspec.Struct, frozen=True):
    store_epoch: str


_EPOCH_OF = msgspec.msgpack.Decoder(_Numbered)


class SqliteReplays:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def replay(
        self, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
    ) -> ReplayPage:
        return await self._reader.ask(
            lambda connection: _page(connection, epoch, from_seq, to_seq, numbers_max)
        )

    async def first_seq_since(self, moment: datetime) -> int | None:
        sql = "SELECT min(seq) FROM cdrs WHERE ended_us >= ?"
        ended_us = (moment - _EPOCH) // _US

        def ask(connection: apsw.Connection) -> int | None:
            ((seq,),) = connection.execute(sql, (ended_us,))
            return None if seq is None else int(seq)

        return await self._reader.ask(ask)


def _page(
    connection: apsw.Connection, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
) -> ReplayPage:
    # One transaction: what is acknowledged meanwhile must not be in none of the lists.
    with connection:
        head_seq = _head_seq(connection, epoch)
        last = min(from_seq + numbers_max - 1, head_seq if to_seq is None else min(to_seq, head_seq))
        if last < from_seq:
            return ReplayPage(to_seq=from_seq - 1, head_seq=head_seq)
        waiting = _waiting(connection, from_seq, last)
        dead = _seqs(connection, "dead_letters", from_seq, last)
        rows = _rows(connection, epoch, from_seq, last)
    told = waiting | dead
    sent = tuple(row for row in rows if row.seq not in told)
    absent = set(range(from_seq, last + 1)) - told - {row.seq for row in sent}
    return ReplayPage(
        rows=sent,
        to_seq=last,
        waiting=tuple(ranges(sorted(waiting))),
        dead=tuple(ranges(sorted(dead - waiting))),
        absent=tuple(ranges(sorted(absent))),
        head_seq=head_seq,
    )


def _rows(connection: apsw.Connection, epoch: str | None, first: int, last: int) -> Sequence[OutboxRow]:
    found = []
    sql = "SELECT seq, body, crc FROM cdr_bodies WHERE seq BETWEEN ? AND ? ORDER BY seq"
    for seq, body, crc in connection.execute(sql, (first, last)):
        with suppress(DamagedError, msgspec.MsgspecError):
            content = sound(body, crc, f"record {seq}")
            if epoch is None or _EPOCH_OF.decode(content).store_epoch == epoch:
                found.append(row_of(seq, content))
    return found


def _waiting(connection: apsw.Connection, first: int, last: int) -> set[int]:
    """What the broker has not answered: it comes by itself."""
    ((acknowledged, head),) = connection.execute("SELECT acknowledged_seq, head_seq FROM store")
    behind = _seqs(connection, "outbox_behind", first, last)
    return behind | set(range(max(first, acknowledged + 1), min(last, head) + 1))


def _seqs(connection: apsw.Connection, table: str, first: int, last: int) -> set[int]:
    sql = f"SELECT seq FROM {table} WHERE seq BETWEEN ? AND ?"  # noqa: S608 - names of ours alone
    return {seq for (seq,) in connection.execute(sql, (first, last))}


def _head_seq(connection: apsw.Connection, epoch: str | None) -> int:
    """The last number of an epoch: that of all where it is the present one, else that of its last record. A
    later boot's numbers are higher, so it is found by halving."""
    ((current, head),) = connection.execute("SELECT epoch, head_seq FROM store")
    if epoch in (None, current):
        return int(head)
    ((boot,),) = connection.execute("SELECT max(boot) FROM boots WHERE epoch = ?", (epoch,))
    if boot is None:
        return 0
    low, high = 0, int(head)  # its last record is in (low - 1, high]
    while low < high:
        middle = (low + high + 1) // 2
        sql = "SELECT boot FROM cdrs WHERE seq >= ? ORDER BY seq LIMIT 1"
        found = connection.execute(sql, (middle,)).fetchone()
        if found is not None and found[0] <= boot:
            low = middle
        else:
            high = middle - 1
    return low
