"""What the Replays port reads of the file (see store/replay)."""

from __future__ import annotations

import apsw

from sidecar.adapters.store.replay import BaseReplays, Held, page_of, waiting_above
from sidecar.ports import ReplayPage


class SqliteReplays(BaseReplays):
    def _page(
        self,
        connection: apsw.Connection,
        epoch: str | None,
        from_seq: int,
        to_seq: int | None,
        numbers_max: int,
    ) -> ReplayPage:
        # One transaction: what is acknowledged meanwhile must not be in none of the lists.
        with connection:
            page = page_of(
                epoch,
                _head_seq(connection, epoch),
                from_seq,
                to_seq,
                numbers_max,
                lambda first, last: _held(connection, first, last),
            )
        return page  # noqa: RET504 - for mypy, a transaction may pass over an error

    def _first_since(self, connection: apsw.Connection, ended_us: int) -> int | None:
        ((seq,),) = connection.execute("SELECT min(seq) FROM cdrs WHERE ended_us >= ?", (ended_us,))
        return None if seq is None else int(seq)


def _held(connection: apsw.Connection, first: int, last: int) -> Held:
    sql = "SELECT seq, body, crc FROM cdr_bodies WHERE seq BETWEEN ? AND ? ORDER BY seq"
    ((acknowledged, head),) = connection.execute("SELECT acknowledged_seq, head_seq FROM store")
    behind = _seqs(connection, "outbox_behind", first, last)
    return Held(
        bodies=connection.execute(sql, (first, last)),
        waiting=behind | waiting_above(acknowledged, head, first, last),
        dead=_seqs(connection, "dead_letters", first, last),
    )


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
