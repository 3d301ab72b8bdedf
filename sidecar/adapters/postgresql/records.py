"""Reading records: those of all nodes by their call, those of this node's epoch by their number; and the
proof of the sums, whose rules are in core/books_check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from sidecar.adapters.postgresql.server import Reader, Server, as_text
from sidecar.adapters.store.batch import SEARCHED, searched
from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.core import books_check
from sidecar.core.books_check import CallLine, Line, Owed
from sidecar.core.cdr import Cdr
from sidecar.core.found_by import keys_of
from sidecar.core.records import sell_total
from sidecar.wire.cdr_codec import decode

RECORDS_PER_PAGE_MAX = 1_000


class PostgresqlRecords:
    def __init__(self, reader: Reader, epoch: int) -> None:
        self._reader = reader
        self._epoch = epoch

    async def show(self, call_id: str) -> Sequence[Cdr]:
        try:
            key = UUID(call_id).bytes
        except ValueError:
            return ()
        sql = (
            "SELECT seq, body, crc, revision FROM cdrs WHERE call_id = ?1"
            " UNION ALL SELECT entry, body, crc, revision FROM suppressed WHERE call_id = ?1"
            " ORDER BY revision"
        )
        rows = await self._reader.ask(lambda server: server.run(sql, (key,)))
        return tuple(_record(number, body, crc) for number, body, crc, _ in rows)

    async def tail(self, after_seq: int, records_max: int = 100) -> Sequence[Cdr]:
        sql = "SELECT seq, body, crc FROM cdrs WHERE epoch = ? AND seq > ? ORDER BY seq LIMIT ?"
        values = (self._epoch, after_seq, max(1, min(records_max, RECORDS_PER_PAGE_MAX)))
        rows = await self._reader.ask(lambda server: server.run(sql, values))
        return tuple(_record(*row) for row in rows)


def _record(number: int, body: bytes, crc: int) -> Cdr:
    return decode(sound(body, crc, f"record {number}"))


def ledger_check(server: Server) -> list[str]:
    """Everything that does not add up over all nodes, as adapters/sqlite/check says it of one."""
    damaged: list[str] = []
    with server.transaction():
        server.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        kept = {
            (row[0], row[1]): row[2] for row in server.run("SELECT account, currency, amount FROM balances")
        }
        lines = (
            Line(*row)
            for row in server.run(
                "SELECT entry, account, currency, amount, balance FROM ledger ORDER BY entry"
            )
        )
        found = books_check.wrong_balances(lines, kept)
        held = _lines(
            server, "SELECT call_id, account, currency, reserved FROM open_calls WHERE reserved IS NOT NULL"
        )
        passing = _lines(server, f"{_MOVED} WHERE kind IN ('reserve', 'release')")
        found += books_check.reservations_said(books_check.wrong_reservations(held, passing))
        charges = _lines(server, f"{_MOVED} WHERE kind = 'charge'")
        found += books_check.charges_said(books_check.wrong_charges(_owed(server, damaged), charges))
        found += damaged
        for name, node, head, count, last in server.run(_NUMBERS):
            if not head == count == last:
                found.append(
                    f"node {node}, epoch {name}: {count} records up to {last}, of {head} numbers given"
                )
    return found


_MOVED = "SELECT call_id, account, currency, amount FROM ledger"
_NUMBERS = (
    "SELECT name, node, head_seq, count(seq), coalesce(max(seq), 0) FROM epochs LEFT JOIN cdrs USING (epoch)"
    " GROUP BY epoch, name, node, head_seq"
)


def _lines(server: Server, sql: str) -> Iterator[CallLine]:
    return (CallLine(*row) for row in server.run(sql))


def _owed(server: Server, damaged: list[str]) -> Iterator[Owed]:
    columns = ", ".join(("found_by", *SEARCHED))
    for body, crc, found_by, *found in server.run(
        f"SELECT body, crc, {columns} FROM cdrs UNION ALL SELECT body, crc, {columns} FROM suppressed"  # noqa: S608
    ):
        boot, call_id, revision, *_ = found
        name = f"record of call {UUID(bytes=call_id)}, revision {revision}"
        try:
            cdr = decode(sound(body, crc, name))
        except DamagedError as error:
            damaged.append(str(error))
            continue
        opened, numbers = searched(cdr, boot)
        said = [as_text(one) if isinstance(one, str) else one for one in (*opened, *numbers)]
        if said != found or found_by != keys_of(cdr):
            damaged.append(f"{name}: is found by what it does not say")
        yield Owed(cdr.call_id.bytes, cdr.revision, cdr.account, None if cdr.void else sell_total(cdr))
