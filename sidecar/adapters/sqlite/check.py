"""The proof of the sums, read from the file alone: what every test, and an operator in doubt, asks."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.ledger import EXACT, ZERO, Charged, Kind, plain
from sidecar.adapters.sqlite.rows import DamagedError, sound
from sidecar.core.records import sell_total
from sidecar.wire.cdr_codec import decode

_Key = tuple[str, str]  # account, currency


def ledger_check(connection: apsw.Connection) -> list[str]:
    """Everything that does not add up; an empty list is the proof that

    - opening (0) + top-ups - charges - reservations = balance, for each account and currency, exactly;
    - each row's balance is the one before it plus its amount;
    - the movements of a call add up to the charge of its highest revision, and to its reservation while it is
      open;
    - the last sequence number that was given is that of the last record.
    """
    # One transaction: rows that are written meanwhile are seen by all of the questions or by none.
    found: list[str] = []
    with connection:
        found += _running_balances(connection)
        found += _reservations(connection)
        found += _charges(connection)
        found += _head(connection)
    return found


def _head(connection: apsw.Connection) -> list[str]:
    ((head, last),) = connection.execute(
        "SELECT head_seq, (SELECT coalesce(max(seq), 0) FROM cdrs) FROM store"
    )
    return [] if head == last else [f"store: the last number given was {head}, that of the records is {last}"]


def _running_balances(connection: apsw.Connection) -> list[str]:
    found = []
    sums: dict[_Key, Decimal] = defaultdict(lambda: ZERO)
    for entry, account, currency, amount, balance in connection.execute(
        "SELECT entry, account, currency, amount, balance FROM ledger ORDER BY entry"
    ):
        key = (account, currency)
        sums[key] = EXACT.add(sums[key], Decimal(amount))
        if sums[key] != Decimal(balance):
            found.append(f"ledger entry {entry}: says balance {balance}, movements say {plain(sums[key])}")
    kept = {
        (a, c): Decimal(amount)
        for a, c, amount in connection.execute("SELECT account, currency, amount FROM balances")
    }
    return found + [
        f"{key[0]}: balance {kept.get(key)} {key[1]}, movements say {plain(sums[key])}"
        for key in sorted(sums.keys() | kept.keys())
        if kept.get(key, ZERO) != sums[key]
    ]


def _reservations(connection: apsw.Connection) -> list[str]:
    return [
        f"call {UUID(bytes=call_id)}: holds {plain(held)} {currency}, its movements {plain(booked)}"
        for (call_id, _, currency), (held, booked) in wrong_reservations(connection).items()
    ]


def _charges(connection: apsw.Connection) -> list[str]:
    damaged: list[str] = []
    return [
        f"call {UUID(bytes=call_id)}: its record says {_text(owed or {})}, the ledger {_text(posted)}"
        for call_id, (owed, posted) in wrong_charges(connection, damaged).items()
    ] + damaged


def wrong_reservations(
    connection: apsw.Connection,
) -> dict[tuple[bytes, str, str], tuple[Decimal, Decimal]]:
    """(call, account, currency) -> (what the open call holds, what was reserved and not released), where the
    two differ."""
    held: dict[tuple[bytes, str, str], Decimal] = {
        (call_id, account, currency): Decimal(reserved)
        for call_id, account, currency, reserved in connection.execute(
            "SELECT call_id, account, currency, reserved FROM open_calls WHERE reserved IS NOT NULL"
        )
    }
    booked: dict[tuple[bytes, str, str], Decimal] = defaultdict(lambda: ZERO)
    for call_id, account, currency, amount in connection.execute(
        "SELECT call_id, account, currency, amount FROM ledger WHERE kind IN (?, ?)",
        (Kind.RESERVE, Kind.RELEASE),
    ):
        key = (call_id, account, currency)
        booked[key] = EXACT.subtract(booked[key], Decimal(amount))
    return {
        key: (held.get(key, ZERO), booked[key])
        for key in sorted(held.keys() | booked.keys())
        if held.get(key, ZERO) != booked[key]
    }


def wrong_charges(
    connection: apsw.Connection, damaged: list[str]
) -> dict[bytes, tuple[Charged | None, Charged]]:
    """call -> (what its record of the highest revision says, None without one; what was posted), where they
    differ. Records that are not what was written go to `damaged`."""
    owed: dict[bytes, tuple[int, Charged]] = {}
    for call_id, revision, body, crc in connection.execute(
        "SELECT call_id, revision, body, crc FROM cdrs JOIN cdr_bodies USING (seq)"
        " UNION ALL SELECT call_id, revision, body, crc FROM suppressed"
    ):
        if call_id not in owed or owed[call_id][0] < revision:
            try:
                cdr = decode(sound(body, crc, f"record of call {UUID(bytes=call_id)}, revision {revision}"))
            except DamagedError as error:
                damaged.append(str(error))
                continue
            total = None if cdr.void else sell_total(cdr)
            owed[call_id] = (revision, {(cdr.account, total.currency): total.amount} if total else {})
    posted: dict[bytes, Charged] = defaultdict(dict)
    for call_id, account, currency, amount in connection.execute(
        "SELECT call_id, account, currency, amount FROM ledger WHERE kind = ?", (Kind.CHARGE,)
    ):
        sums = posted[call_id]
        sums[account, currency] = EXACT.subtract(sums.get((account, currency), ZERO), Decimal(amount))
    found: dict[bytes, tuple[Charged | None, Charged]] = {}
    for call_id in sorted(owed.keys() | posted.keys()):
        want = owed[call_id][1] if call_id in owed else None
        have = {key: amount for key, amount in posted.get(call_id, {}).items() if amount}
        if (want or {}) != have:
            found[call_id] = (want, have)
    return found


def _text(charged: Charged) -> str:
    sums = [f"{account} {plain(amount)} {currency}" for (account, currency), amount in charged.items()]
    return ", ".join(sums) or "0"
