"""Which rows of the outbox of one epoch wait for the broker, changed within one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.waiting import BaseWaiting, Letter


class Waiting(BaseWaiting):
    def __init__(
        self, server: Server, epoch: int, boot: int, wall_ns: int, acknowledged_seq: int, head_seq: int
    ) -> None:
        super().__init__(boot, wall_ns, acknowledged_seq, head_seq)
        self._server = server
        self._epoch = epoch

    def _dies(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self._server.run(
                "INSERT INTO dead_letters (epoch, seq, boot, reason_code, reason_name, died_wall_ns)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (epoch, seq) DO UPDATE SET boot = EXCLUDED.boot,"
                " reason_code = EXCLUDED.reason_code, reason_name = EXCLUDED.reason_name,"
                " died_wall_ns = EXCLUDED.died_wall_ns",
                (self._epoch, *letter),
            )

    def _no_longer_behind(self, first: int, last: int) -> None:
        self._server.run(
            "DELETE FROM outbox_behind WHERE epoch = ? AND seq BETWEEN ? AND ?", (self._epoch, first, last)
        )

    def _leave_behind(self, first: int, last: int) -> None:
        self._server.run(
            "INSERT INTO outbox_behind (epoch, seq, queued_wall_ns)"
            " SELECT epoch, seq, written_wall_ns FROM cdrs WHERE epoch = ? AND seq BETWEEN ? AND ?"
            " ON CONFLICT DO NOTHING",
            (self._epoch, first, last),
        )

    def _is_behind(self, seq: int) -> bool:
        sql = "SELECT 1 FROM outbox_behind WHERE epoch = ? AND seq = ?"
        return bool(self._server.run(sql, (self._epoch, seq)))

    def _dead_seqs(self) -> set[int]:
        sql = "SELECT seq FROM dead_letters WHERE epoch = ?"
        return {seq for (seq,) in self._server.run(sql, (self._epoch,))}

    def _wait_again(self, first: int, last: int) -> None:
        self._server.run(
            "INSERT INTO outbox_behind (epoch, seq, queued_wall_ns)"
            " SELECT epoch, seq, ?::bigint FROM dead_letters WHERE epoch = ? AND seq BETWEEN ? AND ?"
            " ON CONFLICT DO NOTHING",
            (self._wall_ns, self._epoch, first, last),
        )

    def _no_longer_dead(self, first: int, last: int) -> None:
        self._server.run(
            "DELETE FROM dead_letters WHERE epoch = ? AND seq BETWEEN ? AND ?", (self._epoch, first, last)
        )
