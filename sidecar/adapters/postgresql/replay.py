"""What the Replays port reads (see store/replay): of all epochs of this node, where none is named, or of any
that the database has."""

from __future__ import annotations

from sidecar.adapters.postgresql.boots import OF_NODE, Own
from sidecar.adapters.postgresql.server import Reader, Rows, Server
from sidecar.adapters.store.replay import BaseReplays, Held, page_of, waiting_above
from sidecar.ports import ReplayPage

_EPOCH = "SELECT epoch, head_seq, acknowledged_seq FROM epochs WHERE "


class PostgresqlReplays(BaseReplays):
    def __init__(self, reader: Reader, own: Own) -> None:
        super().__init__(reader)
        self._own = own

    def _page(
        self, server: Server, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
    ) -> ReplayPage:
        # What is acknowledged meanwhile must not be in none of the lists.
        with server.moment():
            if epoch is None:
                of = OF_NODE.format("?1")
                ((_, *marks),) = server.run(f"{_EPOCH} epoch = ?", (self._own.epoch,))
                whose: str | int = self._own.node
            else:
                of = "epoch = ?1"
                ((whose, *marks),) = server.run(f"{_EPOCH} name = ?", (epoch,)) or [(0, 0, 0)]
            head_seq, acknowledged_seq = marks

            def held(first: int, last: int) -> Held:
                def asked(columns: str, table: str) -> Rows:
                    sql = f"SELECT {columns} FROM {table} WHERE {of} AND seq BETWEEN ?2 AND ?3 ORDER BY seq"  # noqa: S608 - names of ours alone
                    return server.run(sql, (whose, first, last))

                behind, dead = (
                    {seq for (seq,) in asked("seq", table)} for table in ("outbox_behind", "dead_letters")
                )
                waiting = behind | waiting_above(acknowledged_seq, head_seq, first, last)
                return Held(asked("seq, body, crc", "cdrs"), waiting, dead)

            return page_of(epoch, head_seq, from_seq, to_seq, numbers_max, held)

    def _first_since(self, server: Server, ended_us: int) -> int | None:
        sql = f"SELECT min(seq) FROM cdrs WHERE {OF_NODE.format('?1')} AND ended_us >= ?2"  # noqa: S608
        ((seq,),) = server.run(sql, (self._own.node, ended_us))
        return None if seq is None else int(seq)
