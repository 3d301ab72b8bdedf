"""The proof of the sums, from what a store holds: what every test, and an operator in doubt, asks.

    opening (0) + top-ups - charges - reservations - tranches = balance of an account, exactly

A call is named by the 16 bytes of its id: there may be millions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, Charged
from sidecar.core.terms import Money

Key = tuple[str, str]  # account, currency
HeldKey = tuple[bytes, str, str]  # call, account, currency


class Line(NamedTuple):
    """One line of the ledger, as far as its running balance goes; in the order in which they were booked."""

    entry: int
    account: str
    currency: str
    amount: Decimal
    balance: Decimal


class CallLine(NamedTuple):
    """One movement of a call."""

    call_id: bytes
    account: str
    currency: str
    amount: Decimal


class Owed(NamedTuple):
    """What one record of a call says that its account owes; None: nothing."""

    call_id: bytes
    revision: int
    account: str
    total: Money | None


def wrong_balances(lines: Iterable[Line], kept: Mapping[Key, Decimal]) -> list[str]:
    """Lines whose balance is not the one before plus their amount, and balances that are not the sum of their
    lines."""
    found = []
    sums: dict[Key, Decimal] = defaultdict(lambda: ZERO)
    for entry, account, currency, amount, balance in lines:
        key = (account, currency)
        sums[key] = EXACT.add(sums[key], amount)
        if sums[key] != balance:
            found.append(
                f"ledger entry {entry}: says balance {plain(balance)}, movements say {plain(sums[key])}"
            )
    for key in sorted(sums.keys() | kept.keys()):
        account, currency = key
        if kept.get(key, ZERO) != sums[key]:
            said = plain(kept[key]) if key in kept else None
            found.append(f"{account}: balance {said} {currency}, movements say {plain(sums[key])}")
    return found


def wrong_tranches(
    held: Iterable[tuple[str, str, Decimal]], movements: Iterable[tuple[str, str, Decimal]]
) -> list[str]:
    """Accounts of which nodes hold another sum than was moved into their tranches and not back."""
    sums: dict[Key, Decimal] = defaultdict(lambda: ZERO)
    for account, currency, amount in (*held, *movements):
        sums[account, currency] = EXACT.add(sums[account, currency], amount)
    return [
        f"{account}: tranches hold {plain(off)} {currency} more than its movements say"
        for (account, currency), off in sorted(sums.items())
        if off
    ]


def wrong_reservations(
    held: Iterable[CallLine], movements: Iterable[CallLine]
) -> dict[HeldKey, tuple[Decimal, Decimal]]:
    """(call, account, currency) -> (what the open call holds, what was reserved and not released), where the
    two differ. `movements`: those that reserve and release."""
    holds: dict[HeldKey, Decimal] = {line[:3]: line.amount for line in held}
    booked: dict[HeldKey, Decimal] = defaultdict(lambda: ZERO)
    for line in movements:
        booked[line[:3]] = EXACT.subtract(booked[line[:3]], line.amount)
    return {
        key: (holds.get(key, ZERO), booked[key])
        for key in sorted(holds.keys() | booked.keys())
        if holds.get(key, ZERO) != booked[key]
    }


def wrong_charges(
    records: Iterable[Owed], charges: Iterable[CallLine]
) -> dict[bytes, tuple[Charged | None, Charged]]:
    """call -> (what its record of the highest revision says, None without one; what was posted), where they
    differ. `charges`: the movements of that kind."""
    newest: dict[bytes, tuple[int, Charged]] = {}
    for call_id, revision, account, total in records:
        if call_id not in newest or newest[call_id][0] < revision:
            newest[call_id] = (revision, {(account, total.currency): total.amount} if total else {})
    posted: dict[bytes, dict[Key, Decimal]] = defaultdict(dict)
    for line in charges:
        sums, key = posted[line.call_id], (line.account, line.currency)
        sums[key] = EXACT.subtract(sums.get(key, ZERO), line.amount)
    found: dict[bytes, tuple[Charged | None, Charged]] = {}
    for call_id in sorted(newest.keys() | posted.keys()):
        owed = newest[call_id][1] if call_id in newest else None
        charged = {key: amount for key, amount in posted.get(call_id, {}).items() if amount}
        if (owed or {}) != charged:
            found[call_id] = (owed, charged)
    return found


def reservations_said(found: Mapping[HeldKey, tuple[Decimal, Decimal]]) -> list[str]:
    return [
        f"call {UUID(bytes=call_id)}: holds {plain(held)} {currency}, its movements {plain(booked)}"
        for (call_id, _, currency), (held, booked) in found.items()
    ]


def charges_said(found: Mapping[bytes, tuple[Charged | None, Charged]]) -> list[str]:
    return [
        f"call {UUID(bytes=call_id)}: its record says {_text(owed or {})}, the ledger {_text(posted)}"
        for call_id, (owed, posted) in found.items()
    ]


def plain(amount: Decimal) -> str:
    """Digits without an exponent, every decimal kept."""
    return format(amount, "f")


def _text(charged: Charged) -> str:
    sums = [f"{account} {plain(amount)} {currency}" for (account, currency), amount in charged.items()]
    return ", ".join(sums) or "0"
