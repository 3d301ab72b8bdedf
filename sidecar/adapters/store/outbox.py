"""The Outbox port: rows that wait for the broker, and those that it will never take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from sidecar.adapters.store.batch import BaseBatch
from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.adapters.store.reading import Write
from sidecar.adapters.store.waiting import BaseWaiting
from sidecar.core.audit import Change, told
from sidecar.ports import OutboxRow
from sidecar.wire.cdr_codec import CONTENT_VERSION, address_of
from sidecar.wire.topics import cdr_topic

ROWS_AT_HAND_MAX = 10_000

Body = tuple[int, bytes, int]  # number, body as it is kept, checksum


class Batch(BaseBatch):
    """Of either engine."""

    waiting: BaseWaiting


class BaseOutbox(ABC):
    def __init__(self, write: Write) -> None:
        self._write = write
        self._notify: Callable[[], None] = _nobody
        self._given_seq = 0
        # The latest rows, without a gap, so that a publisher that keeps up never reads the disk.
        self._at_hand: deque[OutboxRow] = deque(maxlen=ROWS_AT_HAND_MAX)

    @abstractmethod
    async def _read(self, after_seq: int, rows_max: int) -> Sequence[Body]:
        """Those that wait, in order."""

    def on_rows(self, notify: Callable[[], None]) -> None:
        self._notify = notify

    def rows_added(self, rows: Sequence[OutboxRow]) -> None:
        """Called by the store, on the event loop, after their commit."""
        self._at_hand.extend(rows)
        self._notify()

    def rows_doubtful(self) -> None:
        """Called by the store after a fault of the disk: only the file says what was written."""
        self._at_hand.clear()
        self._notify()

    async def pending(self, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
        at_hand = self._at_hand
        # Forward only: rows that were never given out cannot have been acknowledged; of others only the file
        # knows.
        if at_hand and after_seq >= self._given_seq and at_hand[0].seq <= after_seq + 1:
            while at_hand and at_hand[0].seq <= after_seq:
                at_hand.popleft()
            rows: Sequence[OutboxRow] = [at_hand[i] for i in range(min(rows_max, len(at_hand)))]
        else:
            rows = await self._pending(after_seq, rows_max)
        if rows:
            self._given_seq = max(self._given_seq, rows[-1].seq)
        return rows

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        self._given_seq = max([self._given_seq, *delivered, *(seq for seq, _ in dead)])
        await self._write(
            lambda batch: batch.waiting.acknowledge(delivered, dead), lasting=True, may_wait=True
        )

    async def retry_dead(self, seqs: Sequence[int] | None = None, change: Change | None = None) -> int:
        count = await self._write(lambda batch: _noted(batch, batch.waiting.retry_dead(seqs), change))
        if count:
            self._notify()
        return count

    async def drop_dead(self, seqs: Sequence[int], change: Change | None = None) -> int:
        return await self._write(lambda batch: _noted(batch, batch.waiting.drop_dead(seqs), change))

    async def _pending(self, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
        rows: list[OutboxRow] = []
        is_more = True
        while is_more and len(rows) < rows_max:
            room = rows_max - len(rows)
            found = await self._read(after_seq, room)
            for seq, body, crc in found:
                after_seq = seq
                # A damaged record stays where it is, seen in the depth and age of the outbox, and delays no
                # other: its place in the answer is that of the next.
                with suppress(DamagedError):
                    rows.append(row_of(seq, sound(body, crc, f"record {seq}")))
            is_more = len(found) == room
        return tuple(rows)


def _noted(batch: Batch, count: int, change: Change | None) -> int:
    if count and change is not None:
        batch.audit(replace(change, after=told({"count": count})))
    return count


def row_of(seq: int, body: bytes) -> OutboxRow:
    to = address_of(body)
    return OutboxRow(
        seq=seq,
        topic=cdr_topic(to.tenant, to.node, to.account, to.hangup_origin),
        payload=body,
        message_id=to.message_id,
        content_version=CONTENT_VERSION,
    )


def _nobody() -> None:
    pass
