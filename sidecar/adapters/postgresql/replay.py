"""What the Replays port reads of one epoch (see store/replay): of this node's, where none is named, or of any
that the database has."""

from __future__ import annotations

from sidecar.adapters.postgresql.server import Reader, Server
from sidecar.adapters.store.replay import BaseReplays, Held, page_of, waiting_above
from sidecar.ports import ReplayPage

_MARKS = "SELECT epoch, head_seq, acknowledged_seq FROM epochs WHERE "


class PostgresqlReplays(BaseReplays):
    def __init__(self, reader: Reader, epoch: int) -> None:
        super().__init__(reader)
        self._epoch = epoch

    def _page(
        self, server: Server, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
    ) -> ReplayPage:
        # What is acknowledged meanwhile must not be in none of the lists.
        with server.moment():
            found = (
                server.run(f"{_MARKS} epoch = ?", (self._epoch,))
                if epoch is None
                else server.run(f"{_MARKS} name = ?", (epoch,))
            )
            number, head_seq, acknowledged_seq = found[0] if found else (0, 0, 0)

            def held(first: int, last: int) -> Held:
                sql = "SELECT seq, body, crc FROM cdrs WHERE epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq"
                behind = _seqs(server, "outbox_behind", number, first, last)
                return Held(
                    bodies=server.run(sql, (number, first, last)),
                    waiting=behind | waiting_above(acknowledged_seq, head_seq, first, last),
                    dead=_seqs(server, "dead_letters", number, first, last),
                )

            return page_of(epoch, head_seq, from_seq, to_seq, numbers_max, held)

    def _first_since(self, server: Server, ended_us: int) -> int | None:
        sql = "SELECT min(seq) FROM cdrs WHERE epoch = ? AND ended_us >= ?"
        ((seq,),) = server.run(sql, (self._epoch, ended_us))
        return None if seq is None else int(seq)


def _seqs(server: Server, table: str, epoch: int, first: int, last: int) -> set[int]:
    sql = f"SELECT seq FROM {table} WHERE epoch = ? AND seq BETWEEN ? AND ?"  # noqa: S608 - names of ours alone
    return {seq for (seq,) in server.run(sql, (epoch, first, last))}
