"""Which rows of the outbox of one node wait for the broker, changed within one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.postgresql.boots import OF_NODE, Own
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.waiting import BaseWaiting, Letter

_NODES = OF_NODE.format("?1")


class Waiting(BaseWaiting):
    def __init__(self, server: Server, own: Own, wall_ns: int, acknowledged_seq: int, head_seq: int) -> None:
        super().__init__(own.boot.boot, wall_ns, acknowledged_seq, head_seq)
        self._server = server
        self._epoch = own.epoch
        self._node = own.node

    def _dies(self, letters: Sequence[Letter]) -> None:
        for seq, *letter in letters:
            self._server.run(
                "INSERT INTO dead_letters (epoch, seq, boot, reason_code, reason_name, died_wall_ns)"  # noqa: S608
                f" SELECT epoch, seq, ?3::int, ?4::int, ?5::text, ?6::bigint FROM cdrs"
                f" WHERE {_NODES} AND seq = ?2"
                " ON CONFLICT (epoch, seq) DO UPDATE SET boot = EXCLUDED.boot,"
                " reason_code = EXCLUDED.reason_code, reason_name = EXCLUDED.reason_name,"
                " died_wall_ns = EXCLUDED.died_wall_ns",
                (self._node, seq, *letter),
            )

    def _no_longer_behind(self, first: int, last: int) -> None:
        self._server.run(
            f"DELETE FROM outbox_behind WHERE {_NODES} AND seq BETWEEN ?2 AND ?3",  # noqa: S608
            (self._node, first, last),
        )

    def _leave_behind(self, first: int, last: int) -> None:
        self._server.run(
            "INSERT INTO outbox_behind (epoch, seq, queued_wall_ns)"
            " SELECT epoch, seq, written_wall_ns FROM cdrs WHERE epoch = ? AND seq BETWEEN ? AND ?"
            " ON CONFLICT DO NOTHING",
            (self._epoch, first, last),
        )

    def _is_behind(self, seq: int) -> bool:
        sql = f"SELECT 1 FROM outbox_behind WHERE {_NODES} AND seq = ?2"  # noqa: S608
        return bool(self._server.run(sql, (self._node, seq)))

    def _dead_seqs(self) -> set[int]:
        sql = f"SELECT seq FROM dead_letters WHERE {_NODES}"  # noqa: S608
        return {seq for (seq,) in self._server.run(sql, (self._node,))}

    def _wait_again(self, first: int, last: int) -> None:
        self._server.run(
            "INSERT INTO outbox_behind (epoch, seq, queued_wall_ns)"  # noqa: S608
            f" SELECT epoch, seq, ?4::bigint FROM dead_letters WHERE {_NODES} AND seq BETWEEN ?2 AND ?3"
            " ON CONFLICT DO NOTHING",
            (self._node, first, last, self._wall_ns),
        )

    def _no_longer_dead(self, first: int, last: int) -> None:
        self._server.run(
            f"DELETE FROM dead_letters WHERE {_NODES} AND seq BETWEEN ?2 AND ?3",  # noqa: S608
            (self._node, first, last),
        )
