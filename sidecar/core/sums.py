"""What the calls of a day or a month come to, kept as sums, so that a year is shown at once: by account,
destination, gateway, and who ended them. A record is added once; one that is revised is taken out again as it
was, and added as it is. Sums are exact, and per currency: two currencies are never added.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from sidecar.core.amounts import EXACT
from sidecar.core.cdr import Cdr
from sidecar.core.records import is_charged
from sidecar.core.terms import ChargeSide, Disposition
from sidecar.core.totals import Counts, destination_of

_NOTHING = Decimal(0)
Money = dict[str, Decimal]  # by currency


class By(StrEnum):
    ALL = "all"
    ACCOUNT = "account"
    DESTINATION = "destination"
    GATEWAY = "gateway"
    END = "end"  # the origin, and behind a space the reason where there is one


class Part(StrEnum):
    """Which records: the published ones; those that were charged and yet kept back (NO_CDR, zero duration);
    those that a flag for server hangups or faults kept free, with what they would have cost."""

    PUBLISHED = "published"
    KEPT_BACK = "kept_back"
    KEPT_FREE = "kept_free"


class Sums(Counts, kw_only=True, array_like=True):
    """Over records of one part. `sold` and `bought` are net, `owed` has the tax."""

    overruns: int = 0
    overrun_ms: int = 0
    sold: Money = msgspec.field(default_factory=dict)
    owed: Money = msgspec.field(default_factory=dict)
    bought: Money = msgspec.field(default_factory=dict)
    margin: Money = msgspec.field(default_factory=dict)

    def add(self, other: Sums, sign: int = 1) -> None:
        self.count_all(other, sign)
        self.overruns += sign * other.overruns
        self.overrun_ms += sign * other.overrun_ms
        for mine, theirs in (
            (self.sold, other.sold),
            (self.owed, other.owed),
            (self.bought, other.bought),
            (self.margin, other.margin),
        ):
            for currency, amount in theirs.items():
                _add(mine, currency, amount * sign)


class Minute(msgspec.Struct, kw_only=True, array_like=True):
    """Calls that ended in it, whatever became of their records; `pdd_ms` is summed over `pdds` of them.
    `ends` counts by origin, and reason where there is one."""

    calls: int = 0
    answered: int = 0
    talk_ms: int = 0
    pdd_ms: int = 0
    pdds: int = 0
    ends: dict[str, int] = {}

    def add(self, other: Minute, sign: int = 1) -> None:
        self.calls += sign * other.calls
        self.answered += sign * other.answered
        self.talk_ms += sign * other.talk_ms
        self.pdd_ms += sign * other.pdd_ms
        self.pdds += sign * other.pdds
        for name, count in other.ends.items():
            self.ends[name] = self.ends.get(name, 0) + sign * count


def part_of(cdr: Cdr) -> Part:
    if cdr.recorded:
        return Part.PUBLISHED
    return Part.KEPT_BACK if is_charged(cdr.suppressed_by) else Part.KEPT_FREE


def sums_of(cdr: Cdr) -> Sums:
    found = Sums(overruns=int(cdr.overrun_ms > 0), overrun_ms=cdr.overrun_ms)
    found.count(cdr)
    for line in cdr.charges:
        is_sold = line.side is ChargeSide.SELL
        if line.currency is not None and line.total is not None:
            _add(found.sold if is_sold else found.bought, line.currency, line.net or _NOTHING)
            if is_sold:
                _add(found.owed, line.currency, line.total)
    if cdr.margin is not None:
        _add(found.margin, cdr.margin.currency, cdr.margin.amount)
    return found


def minute_of(cdr: Cdr) -> Minute:
    calls = cdr.refused_count or 1
    return Minute(
        calls=calls,
        answered=int(cdr.disposition is Disposition.ANSWERED),
        talk_ms=cdr.talk_ms,
        pdd_ms=cdr.pdd_ms or 0,
        pdds=int(cdr.pdd_ms is not None),
        ends={end_of(cdr): calls},
    )


def end_of(cdr: Cdr) -> str:
    origin = cdr.hangup_origin.value
    return origin if cdr.server_reason is None else f"{origin} {cdr.server_reason.value}"


def groups_of(cdr: Cdr) -> tuple[tuple[By, str], ...]:
    """Where it is counted; an empty name: it has no destination, or no gateway."""
    return (
        (By.ALL, ""),
        (By.ACCOUNT, cdr.account),
        (By.DESTINATION, destination_of(cdr)),
        (By.GATEWAY, cdr.gateway or ""),
        (By.END, end_of(cdr)),
    )


def periods_of(day: date) -> tuple[str, str, str]:
    """The day, the days of its month that begin with the same digit, and its month: texts that begin so."""
    text = day.isoformat()
    return text, text[:9], text[:7]


def periods_in(first: date, last: date) -> Iterator[str]:
    """Those that make up the days from `first` to `last`, as few as there are: of a year its months, and of
    thirty days a dozen."""
    day = first
    while day <= last:
        of_day, of_ten, of_month = periods_of(day)
        after_month = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        after_ten = (
            after_month
            if day.day >= 30
            else min(after_month, day.replace(day=1) + _days(day.day // 10 * 10 + 9))
        )
        if day.day == 1 and after_month - _days(1) <= last:
            yield of_month
            day = after_month
        elif (day.day == 1 or day.day % 10 == 0) and after_ten - _days(1) <= last:
            yield of_ten
            day = after_ten
        else:
            yield of_day
            day += _days(1)


def _days(number: int) -> timedelta:
    return timedelta(days=number)


def _add(sums: Money, currency: str, amount: Decimal) -> None:
    total = EXACT.add(sums.get(currency, _NOTHING), amount)
    if total:
        sums[currency] = total
    else:
        sums.pop(currency, None)
