"""What an account gets to see of a month: opening, movements, its calls by destination, closing.

It is made of the ledger alone, so its sums are the ledger's to the last digit; records say what a charge was
for. What was booked in the month counts, whenever the call was: a revision is in the statement of the month
in which it was booked, with the difference that it made. Reservations of live calls are no part of it: they
come back, or become a charge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from sidecar.core.amounts import EXACT
from sidecar.core.books import PASSING, ZERO, MovementKind
from sidecar.core.cdr import Cdr
from sidecar.core.records import is_charged
from sidecar.core.terms import ChargeSide
from sidecar.core.windows import month_start

UNKNOWN = "(no record)"  # the destination of a charge that no record explains


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of the ledger of one account and currency. `is_carried`: booked before anything that is not
    archived, whenever it was written."""

    kind: str
    amount: Decimal
    booked_at: datetime
    call_id: UUID | None = None
    revision: int | None = None
    reference: str | None = None
    operator: str | None = None
    text: str | None = None
    is_carried: bool = False


class Destination(msgspec.Struct, kw_only=True):
    """Calls that were charged, less those whose charge was taken back."""

    destination: str
    calls: int = 0
    billed_s: int = 0
    net: Decimal = ZERO
    tax: Decimal = ZERO
    total: Decimal = ZERO


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """`closing` = `opening` + the movements - the totals of `calls`. The ledger's balance is less by `held`,
    which live calls hold at the end."""

    account: str
    currency: str
    zone: str
    begin: datetime
    end: datetime
    opening: Decimal
    movements: tuple[LedgerLine, ...]
    calls: tuple[Destination, ...]
    net: Decimal
    tax: Decimal
    charged: Decimal
    closing: Decimal
    held: Decimal


class _Cost(msgspec.Struct, frozen=True):
    """Of one revision of a call."""

    destination: str = UNKNOWN
    calls: int = 0
    billed_s: int = 0
    net: Decimal = ZERO
    tax: Decimal = ZERO
    total: Decimal = ZERO


def month_of(text: str, zone: str) -> tuple[datetime, datetime]:
    """`2026-03` in a zone, half-open; ValueError where it is no month."""
    try:
        noon = datetime.strptime(text, "%Y-%m").replace(hour=12, tzinfo=UTC)
        following = noon.replace(year=noon.year + noon.month // 12, month=noon.month % 12 + 1)
    except ValueError:
        raise ValueError(f"{text!r} is not a month such as 2026-03") from None
    return month_start(noon, zone), month_start(following, zone)


def statement(
    account: str,
    currency: str,
    zone: str,
    period: tuple[datetime, datetime],
    lines: Iterable[LedgerLine],
    record: Callable[[UUID, int], Cdr | None],
) -> Statement:
    """`lines`: all of the account in this currency. `record`: that revision of a call."""
    begin, end = period
    opening = held = charged = added = ZERO
    movements: list[LedgerLine] = []
    found: dict[str, Destination] = {}
    for line in lines:
        if line.booked_at >= end and not line.is_carried:
            continue
        if line.kind in PASSING:
            held = EXACT.subtract(held, line.amount)
        elif line.is_carried or line.booked_at < begin:
            opening = EXACT.add(opening, line.amount)
        elif line.kind == MovementKind.CHARGE and line.call_id is not None:
            charged = EXACT.subtract(charged, line.amount)
            for cost, sign in _costs(line, line.call_id, record):
                _add(found, cost, sign)
        else:
            added = EXACT.add(added, line.amount)
            movements.append(line)
    calls = tuple(found[name] for name in sorted(found))
    return Statement(
        account=account,
        currency=currency,
        zone=zone,
        begin=begin,
        end=end,
        opening=opening,
        movements=tuple(movements),
        calls=calls,
        net=_sum(one.net for one in calls),
        tax=_sum(one.tax for one in calls),
        charged=charged,
        closing=EXACT.subtract(EXACT.add(opening, added), charged),
        held=held,
    )


def _costs(
    line: LedgerLine, call_id: UUID, record: Callable[[UUID, int], Cdr | None]
) -> list[tuple[_Cost, int]]:
    """What the revision costs, and, with the sign turned, what the one before did; together the charge."""
    revision = line.revision or 0
    now = record(call_id, revision)
    before = record(call_id, revision - 1) if revision else None
    if now is not None and (before is not None or not revision):
        costs = [(_cost(now), 1)]
        if before is not None:
            costs.append((_cost(before), -1))
        if _sum(_signed(cost.total, sign) for cost, sign in costs) == -line.amount:
            return costs
    return [(_Cost(net=-line.amount, total=-line.amount), 1)]


def _cost(cdr: Cdr) -> _Cost:
    sold = next((one for one in cdr.charges if one.side is ChargeSide.SELL and one.total), None)
    if sold is None or cdr.void or not is_charged(cdr.suppressed_by):
        return _Cost()
    return _Cost(
        destination=sold.destination or sold.prefix or "",
        calls=1,
        billed_s=sold.billed_s,
        net=sold.net or ZERO,
        tax=sold.tax or ZERO,
        total=sold.total or ZERO,
    )


def _add(found: dict[str, Destination], cost: _Cost, sign: int) -> None:
    if not cost.calls and not cost.total:
        return
    to = found.setdefault(cost.destination, Destination(destination=cost.destination))
    to.calls += sign * cost.calls
    to.billed_s += sign * cost.billed_s
    to.net = EXACT.add(to.net, _signed(cost.net, sign))
    to.tax = EXACT.add(to.tax, _signed(cost.tax, sign))
    to.total = EXACT.add(to.total, _signed(cost.total, sign))


def _signed(amount: Decimal, sign: int) -> Decimal:
    return amount if sign > 0 else EXACT.minus(amount)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
