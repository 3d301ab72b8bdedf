"""Which rows of the outbox wait for the broker, changed within one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from sidecar.adapters.sqlite.rows import Table, ranges

# MQTT 5 §3.4.2.1 (PUBACK), and 0x95, which a row gets that is larger than the broker takes.
REASON_NAMES = {
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic Name invalid",
    0x91: "Packet Identifier in use",
    0x95: "Packet too large",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}

DEAD_LETTERS = Table(
    "dead_letters", ("seq", "boot", "reason_code", "reason_name", "died_wall_ns"), replace=True
)


class Waiting:
    def __init__(self, connection: apsw.Connection, boot: int, wall_ns: int) -> None:
        self._connection = connection
        self._boot = boot
        self._wall_ns = wall_ns

    def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        """Delivered rows wait no longer; dead ones, with their reason code, are dead letters."""
        connection = self._connection
        # A dead letter only while it waits: a repeated acknowledgement must not bring back one that was
        # retried.
        letters = [
            (seq, self._boot, code, REASON_NAMES.get(code, f"0x{code:02x}"), self._wall_ns)
            for seq, code in dead
            if connection.execute("SELECT 1 FROM outbox WHERE seq = ?", (seq,)).fetchone()
        ]
        DEAD_LETTERS.write(connection, letters)
        for first, last in ranges([*delivered, *(seq for seq, _ in dead)]):
            connection.execute("DELETE FROM outbox WHERE seq BETWEEN ? AND ?", (first, last))

    def retry_dead(self, seqs: Sequence[int] | None) -> int:
        """These dead letters (None: all) wait again; how many there were."""
        chosen = self._dead(seqs)
        for first, last in ranges(chosen):
            self._connection.execute(
                "INSERT OR IGNORE INTO outbox (seq, queued_wall_ns)"
                " SELECT seq, ? FROM dead_letters WHERE seq BETWEEN ? AND ?",
                (self._wall_ns, first, last),
            )
        self._forget_dead(chosen)
        return len(chosen)

    def drop_dead(self, seqs: Sequence[int]) -> int:
        """These dead letters will not be tried again; how many there were."""
        chosen = self._dead(seqs)
        self._forget_dead(chosen)
        return len(chosen)

    def _dead(self, seqs: Sequence[int] | None) -> list[int]:
        dead = {seq for (seq,) in self._connection.execute("SELECT seq FROM dead_letters")}
        return sorted(dead if seqs is None else dead.intersection(seqs))

    def _forget_dead(self, seqs: Sequence[int]) -> None:
        for first, last in ranges(seqs):
            self._connection.execute("DELETE FROM dead_letters WHERE seq BETWEEN ? AND ?", (first, last))
