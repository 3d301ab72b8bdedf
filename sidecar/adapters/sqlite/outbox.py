"""The Outbox port: rows that wait for the broker, and those that it will never take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import apsw
from msgspec.structs import replace

from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.file import Boot
from sidecar.adapters.sqlite.packing import unpacked
from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.sqlite.rows import DamagedError, sound
from sidecar.core.audit import Change, told
from sidecar.ports import DeadLetter, OutboxRow, OutboxState
from sidecar.wire.cdr_codec import CONTENT_VERSION, address_of
from sidecar.wire.topics import cdr_topic

ROWS_AT_HAND_MAX = 10_000

_T = TypeVar("_T")


# Above the mark there is a record for each number.
_PENDING = """
    SELECT seq, body, crc FROM outbox_behind JOIN cdr_bodies USING (seq) WHERE seq > ?1
    UNION ALL
    SELECT seq, body, crc FROM cdr_bodies WHERE seq > max(?1, (SELECT acknowledged_seq FROM store))
    ORDER BY seq LIMIT ?2
"""
_STATE = """
    SELECT head_seq, acknowledged_seq, (SELECT count(*) FROM outbox_behind),
        coalesce(
            (SELECT queued_wall_ns FROM outbox_behind ORDER BY seq LIMIT 1),
            (SELECT written_wall_ns FROM cdrs WHERE seq > acknowledged_seq ORDER BY seq LIMIT 1)
        ),
        (SELECT count(*) FROM dead_letters), commit_number, commit_hash
    FROM store
"""


class Write(Protocol):
    """How this adapter's parts have something written; the store gives it to them."""

    async def __call__(
        self, run: Callable[[Batch], _T], *, lasting: bool = False, may_wait: bool = False
    ) -> _T: ...


class SqliteOutbox:
    def __init__(self, reader: Reader, write: Write, boot: Boot) -> None:
        self._reader = reader
        self._write = write
        self._boot = boot
        self._notify: Callable[[], None] = _nobody
        self._given_seq = 0
        # The latest rows, without a gap, so that a publisher that keeps up never reads the disk.
        self._at_hand: deque[OutboxRow] = deque(maxlen=ROWS_AT_HAND_MAX)

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
            rows = await self._reader.ask(lambda connection: _pending(connection, after_seq, rows_max))
        if rows:
            self._given_seq = max(self._given_seq, rows[-1].seq)
        return rows

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        self._given_seq = max([self._given_seq, *delivered, *(seq for seq, _ in dead)])
        await self._write(
            lambda batch: batch.waiting.acknowledge(delivered, dead), lasting=True, may_wait=True
        )

    async def dead_letters(self, after_seq: int = 0, rows_max: int = 100) -> Sequence[DeadLetter]:
        sql = (
            "SELECT seq, reason_code, reason_name, died_wall_ns, body"
            " FROM dead_letters JOIN cdr_bodies USING (seq) WHERE seq > ? ORDER BY seq LIMIT ?"
        )

        def ask(connection: apsw.Connection) -> Sequence[DeadLetter]:
            return tuple(
                DeadLetter(
                    seq=seq, reason_code=code, reason_name=name, died_wall_ns=died, payload=unpacked(body)
                )
                for seq, code, name, died, body in connection.execute(sql, (after_seq, rows_max))
            )

        return await self._reader.ask(ask)

    async def retry_dead(self, seqs: Sequence[int] | None = None, change: Change | None = None) -> int:
        count = await self._write(lambda batch: _noted(batch, batch.waiting.retry_dead(seqs), change))
        if count:
            self._notify()
        return count

    async def drop_dead(self, seqs: Sequence[int], change: Change | None = None) -> int:
        return await self._write(lambda batch: _noted(batch, batch.waiting.drop_dead(seqs), change))

    async def outbox_state(self) -> OutboxState:
        return await self._reader.ask(lambda connection: _state(connection, self._boot))


def _noted(batch: Batch, count: int, change: Change | None) -> int:
    if count and change is not None:
        batch.audit(replace(change, after=told({"count": count})))
    return count


def _pending(connection: apsw.Connection, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
    rows: list[OutboxRow] = []
    is_more = True
    while is_more and len(rows) < rows_max:
        room, found = rows_max - len(rows), 0
        for seq, body, crc in connection.execute(_PENDING, (after_seq, room)):
            after_seq, found = seq, found + 1
            # A damaged record stays where it is, seen in the depth and age of the outbox, and delays no
            # other: its place in the answer is that of the next.
            with suppress(DamagedError):
                rows.append(row_of(seq, sound(body, crc, f"record {seq}")))
        is_more = found == room
    return tuple(rows)


def row_of(seq: int, body: bytes) -> OutboxRow:
    to = address_of(body)
    return OutboxRow(
        seq=seq,
        topic=cdr_topic(to.tenant, to.node, to.account, to.hangup_origin),
        payload=body,
        message_id=to.message_id,
        content_version=CONTENT_VERSION,
    )


def _state(connection: apsw.Connection, boot: Boot) -> OutboxState:
    ((head, acknowledged, behind, oldest_wall_ns, dead, commit, digest),) = connection.execute(_STATE)
    return OutboxState(
        epoch=boot.epoch,
        head_seq=head,
        published=head - boot.epoch_base_seq,
        depth=head - acknowledged + behind,
        oldest_wall_ns=oldest_wall_ns or 0,
        dead=dead,
        commit=commit,
        commit_hash=digest.hex(),
    )


def _nobody() -> None:
    pass
