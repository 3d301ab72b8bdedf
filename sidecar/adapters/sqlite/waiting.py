"""Which rows of the outbox wait for the broker (see store/waiting), in the file."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from sidecar.adapters.sqlite.rows import Table
from sidecar.adapters.store.waiting import BaseWaiting, Letter

DEAD_LETTERS = Table(
    "dead_letters", ("seq", "boot", "reason_code", "reason_name", "died_wall_ns"), replace=True
)


_LEAVE_BEHIND = (
    "INSERT OR IGNORE INTO outbox_behind (seq, queued_wall_ns)"
    " SELECT seq, written_wall_ns FROM cdrs WHERE seq BETWEEN ? AND ?"
)


class Waiting(BaseWaiting):
    def __init__(
        self, connection: apsw.Connection, boot: int, wall_ns: int, acknowledged_seq: int, head_seq: int
    ) -> None:
        super().__init__(boot, wall_ns, acknowledged_seq, head_seq)
        self._connection = connection

    def _dies(self, letters: Sequence[Letter]) -> None:
        DEAD_LETTERS.write(self._connection, letters)

    def _no_longer_behind(self, first: int, last: int) -> None:
        self._connection.execute("DELETE FROM outbox_behind WHERE seq BETWEEN ? AND ?", (first, last))

    def _leave_behind(self, first: int, last: int) -> None:
        self._connection.execute(_LEAVE_BEHIND, (first, last))

    def _is_behind(self, seq: int) -> bool:
        sql = "SELECT 1 FROM outbox_behind WHERE seq = ?"
        return self._connection.execute(sql, (seq,)).fetchone() is not None

    def _dead_seqs(self) -> set[int]:
        return {seq for (seq,) in self._connection.execute("SELECT seq FROM dead_letters")}

    def _wait_again(self, first: int, last: int) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO outbox_behind (seq, queued_wall_ns)"
            " SELECT seq, ? FROM dead_letters WHERE seq BETWEEN ? AND ?",
            (self._wall_ns, first, last),
        )

    def _no_longer_dead(self, first: int, last: int) -> None:
        self._connection.execute("DELETE FROM dead_letters WHERE seq BETWEEN ? AND ?", (first, last))
