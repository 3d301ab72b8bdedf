"""A carrier's records or invoice lines against what we bought of it: what one side has and the other has not,
and where seconds or prices differ.

A call is the same on both sides by its id, where theirs has one of ours; else by the called number and the
nearest time of answer within the tolerance. Lines without a called number are sums, of a prefix, a
destination, or all calls of a currency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from sidecar.core.amounts import EXACT
from sidecar.core.cdr import Cdr
from sidecar.core.terms import ChargeSide, Word

_ZERO = Decimal(0)


class TheirLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the carrier's file. Numbers are digits without `+`; times are in UTC."""

    row: int
    call_id: str = ""
    started_at: datetime | None = None
    called: str = ""
    caller: str = ""
    prefix: str = ""
    destination: str = ""
    calls: int = 1
    seconds: int = 0
    amount: Decimal = _ZERO
    currency: str

    @property
    def is_call(self) -> bool:
        return bool(self.call_id or (self.called and self.started_at))


class OurCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The buy side of one answered call. `ids`: what the carrier may call it."""

    call_id: str
    ids: tuple[str, ...]
    started_at: datetime
    called: str
    prefix: str
    destination: str
    seconds: int
    amount: Decimal | None  # None: we have no rate
    currency: str


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    time: timedelta = timedelta(seconds=60)
    seconds: int = 1
    amount: Decimal = _ZERO


class Kind(Word):
    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"
    SECONDS = "seconds"
    PRICE = "price"
    CURRENCY = "currency"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`theirs` and `ours` as far as each side has the call, or the sum."""

    kind: Kind
    theirs: TheirLine | None = None
    ours: OurCall | None = None


class Total(msgspec.Struct, kw_only=True):
    """Of one currency. `ours` sums what we rated."""

    currency: str
    their_calls: int = 0
    our_calls: int = 0
    their_seconds: int = 0
    our_seconds: int = 0
    theirs: Decimal = _ZERO
    ours: Decimal = _ZERO

    @property
    def difference(self) -> Decimal:
        return EXACT.subtract(self.theirs, self.ours)


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    findings: tuple[Finding, ...]
    totals: tuple[Total, ...]
    matched: int
    money_differs: bool


def our_call(cdr: Cdr) -> OurCall | None:
    """The buy side of a record; None where nothing was bought."""
    line = next((one for one in cdr.charges if one.side is ChargeSide.BUY), None)
    if line is None or cdr.b_answered_at is None or cdr.void:
        return None
    ids = (str(cdr.call_id), *((cdr.leg_b.sip_call_id,) if cdr.leg_b is not None else ()))
    return OurCall(
        call_id=str(cdr.call_id),
        ids=ids,
        started_at=cdr.b_answered_at,
        called=line.billed_number or cdr.callee.sent or "",
        prefix=line.prefix or "",
        destination=line.destination or "",
        seconds=line.billed_s,
        amount=line.total,
        currency=line.currency or "",
    )


def reconcile(theirs: Iterable[TheirLine], ours: Iterable[OurCall], tolerance: Tolerance) -> Reconciliation:
    lines, calls = list(theirs), list(ours)
    if all(line.is_call for line in lines):
        pairs, missing_here, missing_there = _pairs(lines, calls, tolerance)
    else:
        pairs, missing_here, missing_there = _sums(lines, calls)
    findings = [Finding(kind=Kind.MISSING_HERE, theirs=line) for line in missing_here]
    findings += [Finding(kind=Kind.MISSING_THERE, ours=call) for call in missing_there]
    for line, call in pairs:
        findings += _differences(line, call, tolerance)
    totals = _totals(lines, calls)
    money = any(
        finding.kind in (Kind.PRICE, Kind.CURRENCY)
        or (finding.kind is Kind.MISSING_HERE and finding.theirs is not None and finding.theirs.amount)
        or (finding.kind is Kind.MISSING_THERE and finding.ours is not None and finding.ours.amount)
        for finding in findings
    )
    return Reconciliation(
        findings=tuple(findings), totals=tuple(totals), matched=len(pairs), money_differs=bool(money)
    )


_Pairs = tuple[list[tuple[TheirLine, OurCall]], list[TheirLine], list[OurCall]]


def _pairs(lines: list[TheirLine], calls: list[OurCall], tolerance: Tolerance) -> _Pairs:
    by_id = {name: place for place, call in enumerate(calls) for name in call.ids}
    pairs: list[tuple[TheirLine, OurCall]] = []
    taken: set[int] = set()
    open_lines: list[TheirLine] = []
    for line in lines:
        place = by_id.get(line.call_id, -1) if line.call_id else -1
        if place >= 0 and place not in taken:
            taken.add(place)
            pairs.append((line, calls[place]))
        else:
            open_lines.append(line)
    by_number: dict[str, list[int]] = defaultdict(list)
    for place, call in enumerate(calls):
        if place not in taken:
            by_number[call.called].append(place)
    # The nearest first, so that two calls to one number do not take each other's.
    near = sorted(
        (abs(line.started_at - calls[place].started_at), number, place)
        for number, line in enumerate(open_lines)
        if line.started_at is not None
        for place in by_number.get(line.called, ())
        if abs(line.started_at - calls[place].started_at) <= tolerance.time
    )
    matched: set[int] = set()
    for _, number, place in near:
        if number not in matched and place not in taken:
            matched.add(number)
            taken.add(place)
            pairs.append((open_lines[number], calls[place]))
    missing_here = [line for number, line in enumerate(open_lines) if number not in matched]
    missing_there = [call for place, call in enumerate(calls) if place not in taken]
    return sorted(pairs, key=lambda pair: pair[0].row), missing_here, missing_there


def _sums(lines: list[TheirLine], calls: list[OurCall]) -> _Pairs:
    """Lines against the sums of our calls, by what the lines name."""
    by_prefix = any(line.prefix for line in lines)
    by_destination = not by_prefix and any(line.destination for line in lines)

    def key(one: TheirLine | OurCall) -> tuple[str, str]:
        name = one.prefix if by_prefix else one.destination.casefold() if by_destination else ""
        return name, one.currency

    their_sums: dict[tuple[str, str], TheirLine] = {}
    for line in lines:
        known = their_sums.get(key(line))
        their_sums[key(line)] = line if known is None else _added(known, line)
    our_sums: dict[tuple[str, str], OurCall] = {}
    for call in calls:
        before = our_sums.get(key(call))
        amount = EXACT.add((before.amount or _ZERO) if before else _ZERO, call.amount or _ZERO)
        our_sums[key(call)] = msgspec.structs.replace(
            call, call_id="", seconds=(before.seconds if before else 0) + call.seconds, amount=amount
        )
    pairs = [(line, our_sums[name]) for name, line in their_sums.items() if name in our_sums]
    missing_here = [line for name, line in their_sums.items() if name not in our_sums]
    missing_there = [call for name, call in our_sums.items() if name not in their_sums]
    return pairs, missing_here, missing_there


def _added(one: TheirLine, other: TheirLine) -> TheirLine:
    return msgspec.structs.replace(
        one,
        calls=one.calls + other.calls,
        seconds=one.seconds + other.seconds,
        amount=EXACT.add(one.amount, other.amount),
    )


def _differences(line: TheirLine, call: OurCall, tolerance: Tolerance) -> Iterator[Finding]:
    if line.currency != call.currency:
        yield Finding(kind=Kind.CURRENCY, theirs=line, ours=call)
        return
    if abs(line.seconds - call.seconds) > tolerance.seconds:
        yield Finding(kind=Kind.SECONDS, theirs=line, ours=call)
    if call.amount is None or abs(line.amount - _as_exact_as(call.amount, line.amount)) > tolerance.amount:
        yield Finding(kind=Kind.PRICE, theirs=line, ours=call)


def _as_exact_as(amount: Decimal, other: Decimal) -> Decimal:
    """With the decimals that the other side writes: it cannot differ in what it does not say."""
    exponent = other.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= 0 or not other:
        return amount
    return amount.quantize(Decimal((0, (1,), exponent)), ROUND_HALF_UP)


def _totals(lines: list[TheirLine], calls: list[OurCall]) -> list[Total]:
    totals: dict[str, Total] = {}
    for line in lines:
        total = totals.setdefault(line.currency, Total(currency=line.currency))
        total.their_calls += line.calls
        total.their_seconds += line.seconds
        total.theirs = EXACT.add(total.theirs, line.amount)
    for call in calls:
        total = totals.setdefault(call.currency, Total(currency=call.currency))
        total.our_calls += 1
        total.our_seconds += call.seconds
        total.ours = EXACT.add(total.ours, call.amount or _ZERO)
    return [totals[currency] for currency in sorted(totals)]
