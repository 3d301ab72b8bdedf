"""An outbox that lives in memory: for measuring the publisher without a disk, and for what a disk cannot be
made to do on command (fail to write, hold a read back). It keeps the promises of the port, and forgets all
with the process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from sidecar.ports import OutboxRow, OutboxState


class MemoryOutbox:
    """An Outbox and an OutboxStatus (see ports)."""

    def __init__(self, epoch: str = "memory", first_seq: int = 1) -> None:
        self._epoch = epoch
        self._first_seq = self._next_seq = first_seq
        self._rows: dict[int, OutboxRow] = {}
        self._order: list[int] = []  # every number ever taken: an acknowledged one is skipped when read
        self._notify: list[Callable[[], None]] = []
        self.dead: dict[int, int] = {}

    @property
    def head_seq(self) -> int:
        return self._next_seq - 1

    @property
    def waiting(self) -> list[int]:
        return list(self._rows)

    def add(self, topic: str, payload: bytes, message_id: str, content_version: int = 1) -> int:
        """One committed row; returns its sequence number."""
        seq = self._next_seq
        self._next_seq += 1
        self._rows[seq] = OutboxRow(
            seq=seq, topic=topic, payload=payload, message_id=message_id, content_version=content_version
        )
        self._order.append(seq)
        for notify in self._notify:
            notify()
        return seq

    async def pending(self, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
        rows: list[OutboxRow] = []
        for index in range(bisect_right(self._order, after_seq), len(self._order)):
            row = self._rows.get(self._order[index])
            if row is not None:
                rows.append(row)
                if len(rows) == rows_max:
                    break
        return rows

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        for seq in delivered:
            self._rows.pop(seq, None)
        for seq, code in dead:
            if self._rows.pop(seq, None) is not None:
                self.dead[seq] = code

    def on_rows(self, notify: Callable[[], None]) -> None:
        self._notify.append(notify)

    async def outbox_state(self) -> OutboxState:
        return OutboxState(
            epoch=self._epoch,
            head_seq=self.head_seq,
            published=self._next_seq - self._first_seq,
            depth=len(self._rows),
            dead=len(self.dead),
        )
