"""What the Outbox port reads of one node (see store/outbox)."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.postgresql.boots import OF_NODE, Own
from sidecar.adapters.postgresql.server import Reader, Server
from sidecar.adapters.store.outbox import BaseOutbox, Body
from sidecar.adapters.store.packing import unpacked
from sidecar.adapters.store.reading import Write
from sidecar.ports import DeadLetter, OutboxState

_NODES = OF_NODE.format("?1")
# Above the mark there is a record for each number; earlier epochs have nothing above theirs.
_PENDING = f"""
    SELECT seq, body, crc FROM outbox_behind JOIN cdrs USING (epoch, seq) WHERE {_NODES} AND seq > ?3
    UNION ALL
    SELECT seq, body, crc FROM cdrs WHERE epoch = ?2
        AND seq > greatest(?3, (SELECT acknowledged_seq FROM epochs WHERE epoch = ?2))
    ORDER BY seq LIMIT ?4
"""  # noqa: S608 - texts of ours alone
_STATE = f"""
    SELECT name, base_seq, head_seq, acknowledged_seq, (SELECT count(*) FROM outbox_behind WHERE {_NODES}),
        coalesce(
            (SELECT queued_wall_ns FROM outbox_behind WHERE {_NODES} ORDER BY seq LIMIT 1),
            (SELECT written_wall_ns FROM cdrs
                WHERE epoch = ?2 AND seq > acknowledged_seq ORDER BY seq LIMIT 1)
        ),
        (SELECT count(*) FROM dead_letters WHERE {_NODES}), link, link_hash
    FROM epochs WHERE epoch = ?2
"""  # noqa: S608 - texts of ours alone


class PostgresqlOutbox(BaseOutbox):
    def __init__(self, reader: Reader, write: Write, own: Own) -> None:
        super().__init__(write)
        self._reader = reader
        self._own = own

    async def _read(self, after_seq: int, rows_max: int) -> Sequence[Body]:
        values = (self._own.node, self._own.epoch, after_seq, rows_max)
        return await self._reader.ask(lambda server: server.run(_PENDING, values))

    async def dead_letters(self, after_seq: int = 0, rows_max: int = 100) -> Sequence[DeadLetter]:
        sql = (
            "SELECT seq, reason_code, reason_name, died_wall_ns, body FROM dead_letters JOIN cdrs"  # noqa: S608
            f" USING (epoch, seq) WHERE {_NODES} AND seq > ?2 ORDER BY seq LIMIT ?3"
        )
        rows = await self._reader.ask(lambda server: server.run(sql, (self._own.node, after_seq, rows_max)))
        return tuple(
            DeadLetter(seq=seq, reason_code=code, reason_name=name, died_wall_ns=died, payload=unpacked(body))
            for seq, code, name, died, body in rows
        )

    async def outbox_state(self) -> OutboxState:
        return await self._reader.ask(self._state)

    def _state(self, server: Server) -> OutboxState:
        ((name, base, head, acknowledged, behind, oldest_wall_ns, dead, link, link_hash),) = server.run(
            _STATE, (self._own.node, self._own.epoch)
        )
        return OutboxState(
            epoch=name,
            head_seq=head,
            published=head - base,
            depth=head - acknowledged + behind,
            oldest_wall_ns=oldest_wall_ns or 0,
            dead=dead,
            commit=link,
            commit_hash=link_hash.hex(),
        )
