"""What the Outbox port reads of the file (see store/outbox)."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.store.known import Boot
from sidecar.adapters.store.outbox import BaseOutbox, Body
from sidecar.adapters.store.packing import unpacked
from sidecar.adapters.store.reading import Write
from sidecar.ports import DeadLetter, OutboxState

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


class SqliteOutbox(BaseOutbox):
    def __init__(self, reader: Reader, write: Write, boot: Boot) -> None:
        super().__init__(write)
        self._reader = reader
        self._boot = boot

    async def _read(self, after_seq: int, rows_max: int) -> Sequence[Body]:
        return await self._reader.ask(
            lambda connection: list(connection.execute(_PENDING, (after_seq, rows_max)))
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

    async def outbox_state(self) -> OutboxState:
        return await self._reader.ask(lambda connection: _state(connection, self._boot))


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
