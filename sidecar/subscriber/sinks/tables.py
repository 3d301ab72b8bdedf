"""The tables of a subscriber, in the SQL that SQLite and PostgreSQL share.

sidecar_cdrs        each record once: (call_id, revision); `record` is the whole as JSON
sidecar_cdrs_valid  a view for billing: of each call the highest revision, unless it is void
sidecar_positions   which numbers of each node and epoch are held
sidecar_rejected    messages that are no record, or contradict one
sidecar_subscriber  the version of these tables, and the MQTT client id
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sidecar.subscriber.progress import Position, Ranges
from sidecar.subscriber.record import Record, Source
from sidecar.subscriber.sink import Committed, Rejected, SinkError

TABLES_VERSION = "1"

_CREATE = """
CREATE TABLE IF NOT EXISTS sidecar_subscriber (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sidecar_cdrs (
    call_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    node TEXT NOT NULL,
    epoch TEXT NOT NULL,
    seq BIGINT NOT NULL,
    account TEXT NOT NULL,
    ended_at {time} NOT NULL,
    void BOOLEAN NOT NULL,
    digest TEXT NOT NULL,
    record {json},
    PRIMARY KEY (call_id, revision),
    UNIQUE (tenant, node, epoch, seq)
);
CREATE TABLE IF NOT EXISTS sidecar_positions (
    tenant TEXT NOT NULL,
    node TEXT NOT NULL,
    epoch TEXT NOT NULL,
    first_seq BIGINT,
    head_seq BIGINT NOT NULL,
    is_over BOOLEAN NOT NULL,
    held TEXT NOT NULL,
    PRIMARY KEY (tenant, node, epoch)
);
CREATE TABLE IF NOT EXISTS sidecar_rejected (
    digest TEXT PRIMARY KEY,
    topic TEXT NOT NULL,
    payload {bytes} NOT NULL,
    reason TEXT NOT NULL
);
"""
_VIEW = """
CREATE VIEW sidecar_cdrs_valid AS SELECT * FROM sidecar_cdrs AS one WHERE NOT void AND NOT EXISTS (
    SELECT 1 FROM sidecar_cdrs AS later WHERE later.call_id = one.call_id AND later.revision > one.revision
)
"""
_INSERT = (
    "INSERT INTO sidecar_cdrs (call_id, revision, message_id, tenant, node, epoch, seq, account, ended_at,"
    " void, digest, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1"
)
_DIGEST = "SELECT digest FROM sidecar_cdrs WHERE call_id = ? AND revision = ?"
_REJECT = "INSERT INTO sidecar_rejected VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_POSITION = (
    "INSERT INTO sidecar_positions VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (tenant, node, epoch) DO UPDATE SET"
    " first_seq = excluded.first_seq, head_seq = excluded.head_seq, is_over = excluded.is_over,"
    " held = excluded.held"
)
_SET = "INSERT INTO sidecar_subscriber VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"

Execute = Callable[[str, Sequence[Any]], list[Any]]


class Tables:
    """`execute` runs one statement with `?` for each value, within a transaction that the sink begins and
    ends."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def create(self, *, time: str, json: str, payload: str) -> None:
        """Where they are not there yet. Raises SinkError where they are of a newer version."""
        for statement in _CREATE.format(time=time, json=json, bytes=payload).split(";\n"):
            if statement.strip():
                self._execute(statement, ())
        found = self.value("tables")
        if found is None:
            self._execute(_VIEW, ())
            self.set("tables", TABLES_VERSION)
            self.set("client_id", f"sidecar-subscriber-{secrets.token_hex(8)}")
        elif found != TABLES_VERSION:
            raise SinkError(f"its tables are of version {found}; this subscriber knows {TABLES_VERSION}")

    def value(self, name: str) -> str | None:
        rows = self._execute("SELECT value FROM sidecar_subscriber WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def set(self, name: str, value: str) -> None:
        self._execute(_SET, (name, value))

    def positions(self) -> list[Position]:
        sql = "SELECT tenant, node, epoch, first_seq, head_seq, is_over, held FROM sidecar_positions"
        return [
            Position(
                source=Source(tenant, node, epoch),
                first_seq=first_seq,
                head_seq=head_seq,
                is_over=bool(is_over),
                held=Ranges(msgspec.json.decode(held, type=list[tuple[int, int]])),
            )
            for tenant, node, epoch, first_seq, head_seq, is_over, held in self._execute(sql, ())
        ]

    def write(
        self,
        records: Sequence[Record],
        rejected: Sequence[Rejected],
        positions: Sequence[Position],
        text_of: Callable[[Record], str | None],
    ) -> Committed:
        """`text_of`: what to keep of a record as `record`."""
        new, again, contradicting = [], 0, []
        for record in records:
            if self._execute(_INSERT, _row(record, text_of(record))):
                new.append(record)
            elif reason := self._contradiction(record):
                contradicting.append(_rejected(record, reason))
            else:
                again += 1
        for one in (*rejected, *contradicting):
            self._execute(_REJECT, (one.digest, one.topic, one.payload, one.reason.replace("\0", "\\0")))
        for position in positions:
            self._execute(_POSITION, _position_row(position))
        return Committed(new=tuple(new), again=again, contradicting=tuple(contradicting))

    def _contradiction(self, record: Record) -> str:
        """Why a record that was not inserted is more than one that came again."""
        known = self._execute(_DIGEST, record.key)
        if not known:
            return f"number {record.seq} of epoch {record.source.epoch} was another record's"
        return "" if known[0][0] == record.digest else "it came before with other content"


def _row(record: Record, text: str | None) -> tuple[Any, ...]:
    return (
        record.call_id,
        record.revision,
        record.message_id,
        *record.source,
        record.seq,
        record.account,
        record.ended_at.isoformat(),
        record.void,
        record.digest,
        text,
    )


def _position_row(position: Position) -> tuple[Any, ...]:
    held = msgspec.json.encode(list(position.held)).decode()
    return (*position.source, position.first_seq, position.head_seq, position.is_over, held)


def _rejected(record: Record, reason: str) -> Rejected:
    return Rejected(topic=f"{record.call_id}/{record.revision}", payload=record.text.encode(), reason=reason)
