"""Reading records: those of all nodes by their call, or as they come; those of this node by their number; and
the proof of the sums, whose rules are in core/books_check."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from sidecar.adapters.postgresql.boots import OF_NODE
from sidecar.adapters.postgresql.server import Reader, Rows, Server, as_text
from sidecar.adapters.store.batch import SEARCHED, searched
from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.adapters.store.records import BaseRecords, Found, first_call_id, records_of
from sidecar.adapters.store.search import Search, within_s
from sidecar.core import books_check
from sidecar.core.books_check import CallLine, Line, Owed
from sidecar.core.cdr import Cdr
from sidecar.core.found_by import keys_of
from sidecar.core.records import sell_total
from sidecar.ports import CursorError, Followed, RecordFilter, RecordPage
from sidecar.wire.cdr_codec import decode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BY_CALL = (
    "SELECT call_id, revision, body, crc FROM cdrs WHERE call_id >= ?1 AND call_id < ?2"
    " UNION ALL SELECT call_id, revision, body, crc FROM suppressed WHERE call_id >= ?1 AND call_id < ?2"
    " ORDER BY call_id DESC, revision DESC LIMIT ?3"
)
HOLDS = " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM {table} AS later"  # noqa: S608 - names of ours alone
    " WHERE later.call_id = found.call_id AND later.revision > found.revision)"
    for table in ("cdrs", "suppressed")
)
_ROWS_PER_LOOK = 5_000
EPOCHS_MAX = 1_000_000  # of a database; a node begins a few in its life


class PostgresqlRecords(BaseRecords):
    """Of all nodes; what is asked for by number, of this one."""

    def __init__(self, reader: Reader, node: str) -> None:
        super().__init__(reader)
        self._node = node

    def _of_call(self, server: Server, call_id: bytes) -> Rows:
        return of_call(server, call_id)

    def _published(self, server: Server, after_seq: int, rows_max: int) -> Rows:
        of = OF_NODE.format("?1")
        sql = f"SELECT seq, body, crc FROM cdrs WHERE {of} AND seq > ?2 ORDER BY seq LIMIT ?3"  # noqa: S608
        return server.run(sql, (self._node, after_seq, rows_max))

    def _followed(self, server: Server, cursor: str | None, rows_max: int) -> Followed:
        with server.moment():
            return followed(server, self._node, cursor, rows_max)

    def _page(self, connection: Server, wanted: RecordFilter, limit: int, cursor: str | None) -> RecordPage:
        return PostgresqlSearch(connection, wanted).page(limit, cursor, within_s(wanted))


def of_call(server: Server, call_id: bytes) -> Rows:
    return server.run(
        "SELECT number, body, crc FROM (SELECT seq AS number, body, crc, revision FROM cdrs"
        " WHERE call_id = ?1 UNION ALL"
        " SELECT entry, body, crc, revision FROM suppressed WHERE call_id = ?1) AS found"
        " ORDER BY revision",
        (call_id,),
    )


# Within an epoch numbers are given in the order of the commits; among several nothing is. So each is followed
# by itself, and what one of them commits late is behind its own position.
_EPOCHS = "SELECT epoch, node, base_seq, head_seq, boot IS NULL FROM epochs ORDER BY epoch"
_BEHIND = """
    SELECT of.epoch, written_wall_ns, seq, body, crc
    FROM unnest(?::int[], ?::bigint[]) AS read (epoch, after_seq), LATERAL (
        SELECT * FROM cdrs WHERE cdrs.epoch = read.epoch AND seq > after_seq ORDER BY seq {} LIMIT ?
    ) AS of ORDER BY of.epoch, seq
"""


def followed(server: Server, node: str, cursor: str | None, rows_max: int) -> Followed:
    """As of one moment. Among the nodes in the order of their clocks."""
    over, places = _places(cursor)
    epochs = {epoch: row for epoch, *row in server.run(_EPOCHS) if epoch not in over}
    at: dict[int, int] = {epoch: row[1] for epoch, row in epochs.items()}
    at |= {epoch: seq for epoch, seq in places.items() if epoch in at}
    behind = {epoch: seq for epoch, seq in at.items() if seq < epochs[epoch][2]}
    sql = _BEHIND.format("DESC" if cursor is None else "")
    by_epoch: dict[int, list[tuple[Any, ...]]] = {}
    for row in server.run(sql, ([*behind], [*behind.values()], rows_max)):
        by_epoch.setdefault(row[0], []).append(row)
    merged = heapq.merge(*by_epoch.values(), key=lambda row: row[1])
    rows = [*merged][-rows_max:] if cursor is None else [*islice(merged, rows_max)]
    if cursor is None or len(rows) < rows_max:
        at = {epoch: int(row[2]) for epoch, row in epochs.items()}
    else:
        for epoch, _, seq, *_ in rows:
            at[epoch] = seq
    over |= {epoch for epoch, (_, _, head, is_over) in epochs.items() if is_over and at[epoch] == head}
    own = [at[epoch] for epoch, (of, *_) in epochs.items() if of == node]
    return Followed(
        records=records_of((seq, body, crc) for _, _, seq, body, crc in rows),
        cursor=_cursor(over, {epoch: seq for epoch, seq in at.items() if epoch not in over}),
        own_seq=max(own, default=0),
    )


def _cursor(over: set[int], places: dict[int, int]) -> str:
    """`1-3,5;4:17,6:2`: the epochs that are over and read, and up to which number the others are."""
    spans: list[list[int]] = []
    for epoch in sorted(over):
        if spans and spans[-1][1] == epoch - 1:
            spans[-1][1] = epoch
        else:
            spans.append([epoch, epoch])
    said = ",".join(f"{first}-{last}" for first, last in spans)
    return f"{said};{','.join(f'{epoch}:{seq}' for epoch, seq in sorted(places.items()))}"


def _places(cursor: str | None) -> tuple[set[int], dict[int, int]]:
    """ValueError for one that was not given here."""
    if cursor is None:
        return set(), {}
    over: set[int] = set()
    try:
        spans, found = cursor.split(";")
        for span in filter(None, spans.split(",")):
            first, last = map(int, span.split("-"))
            if last - first < EPOCHS_MAX:
                over.update(range(first, last + 1))
        pairs = (place.split(":") for place in filter(None, found.split(",")))
        return over, {int(epoch): int(seq) for epoch, seq in pairs}
    except ValueError:
        raise CursorError(f"cursor {cursor!r}: not one that was given here") from None


class PostgresqlSearch(Search):
    has_name = "position(?::bytea IN found_by) > 0"

    def _keys(self) -> Sequence[str]:
        return ("entry",) if self._wanted.suppressed else ("epoch", "seq")

    def _found(self, where: str, values: Sequence[object], rows_max: int) -> Iterator[Found]:
        for *place, body, crc, holds in self._connection.execute(
            f"SELECT {', '.join(self._place)}, body, crc, {HOLDS if self._wanted.holds else 'TRUE'}"  # noqa: S608
            f" FROM {self._table} AS found WHERE {where} ORDER BY {self._latest_first()} LIMIT ?",
            (*values, rows_max),
        ):
            yield Found(tuple(place), body, crc, holds)


def by_invite(server: Server, node: str, since: datetime, calls_max: int) -> Iterator[Cdr]:
    """The calls of this node whose INVITE came then or later, at most so many, the latest, each by its
    highest revision, unless that is void; in the order of their ids."""
    first, until = first_call_id(since), b"\xff" * 17
    found: list[Cdr] = []
    while len(found) < calls_max:
        rows = server.run(_BY_CALL, (first, until, _ROWS_PER_LOOK))
        for call_id, _, body, crc in rows:
            if call_id == until or len(found) == calls_max:
                continue  # an earlier revision of the same call
            until = call_id
            cdr = decode(sound(body, crc, f"the record of call {UUID(bytes=call_id)}"))
            if cdr.node == node and not cdr.void:
                found.append(cdr)
        if len(rows) < _ROWS_PER_LOOK:
            break
    return reversed(found)


def ledger_check(server: Server) -> list[str]:
    """Everything that does not add up over all nodes, as adapters/sqlite/check says it of one."""
    damaged: list[str] = []
    with server.unhurried(), server.moment():
        kept = {
            (row[0], row[1]): row[2] for row in server.run("SELECT account, currency, amount FROM balances")
        }
        lines = (
            Line(*row)
            for row in server.stream(
                "SELECT entry, account, currency, amount, balance FROM ledger ORDER BY entry"
            )
        )
        found = books_check.wrong_balances(lines, kept)
        held = _lines(
            server, "SELECT call_id, account, currency, reserved FROM open_calls WHERE reserved IS NOT NULL"
        )
        found += books_check.wrong_tranches(
            [tuple(row) for row in server.run("SELECT account, currency, amount FROM tranches")],
            server.stream("SELECT account, currency, amount FROM ledger WHERE kind = 'tranche'"),
        )
        passing = _lines(server, f"{_MOVED} WHERE kind IN ('reserve', 'release')")
        found += books_check.reservations_said(books_check.wrong_reservations(held, passing))
        ((archived_us,),) = server.run("SELECT max(until_us) FROM archives")
        charges = _lines(server, f"{_MOVED} WHERE kind = 'charge'")
        if archived_us is not None:
            first = first_call_id(_EPOCH + timedelta(microseconds=archived_us))
            charges = (CallLine(*row) for row in server.stream(_CHARGES_OF_RECORDS, (first,)))
        found += books_check.charges_said(books_check.wrong_charges(_owed(server, damaged), charges))
        found += damaged
        for name, node, given, count, is_last in server.run(_NUMBERS):
            if given != count or not is_last:
                found.append(f"node {node}, epoch {name}: {count} records, of {given} numbers given")
        found += wrong_outbox(server)
    return found


_MOVED = "SELECT call_id, account, currency, amount FROM ledger"
# Of calls whose records were archived the charges are still here.
_CHARGES_OF_RECORDS = (
    f"{_MOVED} AS moved WHERE kind = 'charge' AND (call_id >= ?"  # noqa: S608 - texts of ours alone
    " OR EXISTS (SELECT 1 FROM cdrs WHERE cdrs.call_id = moved.call_id)"
    " OR EXISTS (SELECT 1 FROM suppressed WHERE suppressed.call_id = moved.call_id))"
)
_NUMBERS = (
    "SELECT name, node, head_seq - coalesce(gone, base_seq), count(seq),"
    " coalesce(max(seq), gone, base_seq) = head_seq"
    " FROM epochs CROSS JOIN LATERAL (SELECT max(seq) AS gone FROM archived_epochs"
    " WHERE archived_epochs.epoch = epochs.epoch) AS archived"
    " LEFT JOIN cdrs ON cdrs.epoch = epochs.epoch AND cdrs.seq > coalesce(gone, 0)"
    " GROUP BY epochs.epoch, name, node, gone, base_seq, head_seq"
)
_OUTBOX = (
    "SELECT name, node, head_seq - acknowledged_seq,"
    " (SELECT count(*) FROM cdrs WHERE cdrs.epoch = epochs.epoch AND seq > acknowledged_seq),"
    " (SELECT count(*) FROM outbox_behind AS behind"
    " WHERE behind.epoch = epochs.epoch AND seq > acknowledged_seq)"
    " FROM epochs WHERE CAST(?1 AS TEXT) IS NULL OR node = ?1"
)


def wrong_outbox(server: Server, node: str | None = None) -> list[str]:
    """Of one node, or of all: what does not grow with the calls of years."""
    found = []
    for name, of_node, above, records, behind in server.run(_OUTBOX, (node,)):
        if above != records:
            found.append(f"outbox of node {of_node}, epoch {name}: {records} records for {above} numbers")
        if behind:
            found.append(
                f"outbox of node {of_node}, epoch {name}: {behind} rows that are not behind the mark"
            )
    return found


def _lines(server: Server, sql: str) -> Iterator[CallLine]:
    return (CallLine(*row) for row in server.stream(sql))


CHECKED = ", ".join(("body", "crc", "found_by", *SEARCHED))  # what `looked_at` takes


def looked_at(row: Sequence[Any]) -> tuple[Cdr | None, list[str]]:
    """The record, where it can be read, and what is not as it was written."""
    body, crc, found_by, *found = row
    boot, call_id, revision, *_ = found
    name = f"record of call {UUID(bytes=call_id)}, revision {revision}"
    try:
        cdr = decode(sound(body, crc, name))
    except DamagedError as error:
        return None, [str(error)]
    opened, numbers = searched(cdr, boot)
    said = [as_text(one) if isinstance(one, str) else one for one in (*opened, *numbers)]
    if said != found or found_by != keys_of(cdr):
        return cdr, [f"{name}: is found by what it does not say"]
    return cdr, []


def _owed(server: Server, damaged: list[str]) -> Iterator[Owed]:
    for row in server.stream(f"SELECT {CHECKED} FROM cdrs UNION ALL SELECT {CHECKED} FROM suppressed"):  # noqa: S608
        cdr, wrong = looked_at(row)
        damaged += wrong
        if cdr is not None:
            yield Owed(cdr.call_id.bytes, cdr.revision, cdr.account, None if cdr.void else sell_total(cdr))
