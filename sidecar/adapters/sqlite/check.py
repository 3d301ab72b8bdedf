"""The proof of the sums, read from the file alone; its rules are in core/books_check."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import apsw

from sidecar.adapters.store.batch import SEARCHED, searched
from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.core import books_check
from sidecar.core.books import Charged, MovementKind
from sidecar.core.books_check import CallLine, HeldKey, Line, Owed
from sidecar.core.found_by import keys_of
from sidecar.core.records import sell_total
from sidecar.wire.cdr_codec import decode


def ledger_check(connection: apsw.Connection) -> list[str]:
    """Everything that does not add up; an empty list is the proof that

    - opening (0) + top-ups - charges - reservations = balance, for each account and currency, exactly;
    - each row's balance is the one before it plus its amount;
    - the movements of a call add up to the charge of its highest revision, and to its reservation while it is
      open;
    - what a record is searched by is what the record says;
    - the last sequence number that was given is that of the last record;
    - each record above the mark of the outbox is there, and what waits below it is a record too.
    """
    # One transaction: rows that are written meanwhile are seen by all of the questions or by none.
    damaged: list[str] = []
    with connection:
        found = _wrong_balances(connection)
        found += books_check.reservations_said(wrong_reservations(connection))
        found += books_check.charges_said(wrong_charges(connection, damaged))
        found += damaged
        found += _wrong_head(connection)
        found += _wrong_outbox(connection)
    return found


def quick_check(connection: apsw.Connection) -> list[str]:
    """What of it does not grow with the calls of years."""
    return _wrong_head(connection) + _wrong_outbox(connection)


def _wrong_balances(connection: apsw.Connection) -> list[str]:
    kept = {
        (account, currency): Decimal(amount)
        for account, currency, amount in connection.execute("SELECT account, currency, amount FROM balances")
    }
    lines = (
        Line(entry, account, currency, Decimal(amount), Decimal(balance))
        for entry, account, currency, amount, balance in connection.execute(
            "SELECT entry, account, currency, amount, balance FROM ledger ORDER BY entry"
        )
    )
    return books_check.wrong_balances(lines, kept)


def _wrong_head(connection: apsw.Connection) -> list[str]:
    ((head, last),) = connection.execute(
        "SELECT head_seq, max(epoch_base_seq, (SELECT coalesce(max(seq), 0) FROM cdrs),"
        " (SELECT coalesce(max(seq), 0) FROM sealed)) FROM store"
    )
    return [] if head == last else [f"store: the last number given was {head}, that of the records is {last}"]


def _wrong_outbox(connection: apsw.Connection) -> list[str]:
    ((head, mark, above, behind),) = connection.execute(
        "SELECT head_seq, acknowledged_seq, (SELECT count(*) FROM cdrs WHERE seq > acknowledged_seq),"
        " (SELECT count(*) FROM outbox_behind AS row WHERE seq > acknowledged_seq"
        " OR NOT EXISTS (SELECT 1 FROM cdrs WHERE cdrs.seq = row.seq))"
        " FROM store"
    )
    found = []
    if above != head - mark:
        found.append(f"outbox: {above} records from {mark + 1} to {head}")
    if behind:
        found.append(f"outbox: {behind} rows that are not behind {mark}, or have no record")
    return found


def wrong_reservations(connection: apsw.Connection) -> dict[HeldKey, tuple[Decimal, Decimal]]:
    """See `books_check.wrong_reservations`."""
    held = _call_lines(
        connection,
        "SELECT call_id, account, currency, reserved FROM open_calls WHERE reserved IS NOT NULL",
    )
    movements = _call_lines(
        connection,
        "SELECT call_id, account, currency, amount FROM ledger WHERE kind IN (?, ?)",
        MovementKind.RESERVE,
        MovementKind.RELEASE,
    )
    return books_check.wrong_reservations(held, movements)


def wrong_charges(
    connection: apsw.Connection, damaged: list[str]
) -> dict[bytes, tuple[Charged | None, Charged]]:
    """See `books_check.wrong_charges`. Records that are not what was written go to `damaged`."""
    charges = _call_lines(
        connection,
        "SELECT call_id, account, currency, amount FROM ledger WHERE kind = ?",
        MovementKind.CHARGE,
    )
    return books_check.wrong_charges(_owed(connection, damaged), charges)


def _call_lines(connection: apsw.Connection, sql: str, *kinds: str) -> Iterator[CallLine]:
    for call_id, account, currency, amount in connection.execute(sql, kinds):
        yield CallLine(call_id, account, currency, Decimal(amount))


def _owed(connection: apsw.Connection, damaged: list[str]) -> Iterator[Owed]:
    columns = ", ".join(("found_by", *SEARCHED))
    for body, crc, found_by, *found in connection.execute(
        f"SELECT body, crc, {columns} FROM cdrs JOIN cdr_bodies USING (seq)"  # noqa: S608 - names of ours alone
        f" UNION ALL SELECT body, crc, {columns} FROM suppressed"
    ):
        boot, call_id, revision, *_ = found
        name = f"record of call {UUID(bytes=call_id)}, revision {revision}"
        try:
            cdr = decode(sound(body, crc, name))
        except DamagedError as error:
            damaged.append(str(error))
            continue
        opened, numbers = searched(cdr, boot)
        if [*opened, *numbers] != found or found_by not in (None, keys_of(cdr)):
            damaged.append(f"{name}: is found by what it does not say")
        yield Owed(cdr.call_id.bytes, cdr.revision, cdr.account, None if cdr.void else sell_total(cdr))
