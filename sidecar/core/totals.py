"""What calls come to: control totals of what was handed over, and the revenue of a period.

Sums are exact and per currency: amounts of two currencies are never added. Revenue and cost are apart; so are
calls that the account is charged for and calls whose charge a record flag waived, which are the gap that the
flag leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import StrEnum

import msgspec

from sidecar.core.amounts import EXACT
from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.records import is_charged
from sidecar.core.terms import ChargeSide, Disposition, HangupOrigin, RatingStatus, ServerReason

_NOTHING = Decimal(0)


class Amounts(msgspec.Struct, kw_only=True):
    """Of one currency and one side."""

    net: Decimal = _NOTHING
    tax: Decimal = _NOTHING
    total: Decimal = _NOTHING

    def add(self, line: ChargeRecord) -> None:
        self.net = EXACT.add(self.net, line.net or _NOTHING)
        self.tax = EXACT.add(self.tax, line.tax or _NOTHING)
        self.total = EXACT.add(self.total, line.total or _NOTHING)

    def merge(self, other: Amounts) -> None:
        self.net = EXACT.add(self.net, other.net)
        self.tax = EXACT.add(self.tax, other.tax)
        self.total = EXACT.add(self.total, other.total)


class Counts(msgspec.Struct, kw_only=True):
    """Of records. `calls` counts each refusal of a record that stands for many; `unrated` are the records
    whose sell side found no rate. Milliseconds of talk, whole seconds billed."""

    records: int = 0
    calls: int = 0
    answered: int = 0
    unrated: int = 0
    talk_ms: int = 0
    billed_s: int = 0

    def count(self, cdr: Cdr) -> None:
        self.records += 1
        self.calls += cdr.refused_count or 1
        self.answered += cdr.disposition is Disposition.ANSWERED
        self.unrated += any(
            line.side is ChargeSide.SELL and line.rating_status is RatingStatus.NO_RATE
            for line in cdr.charges
        )
        self.talk_ms += cdr.talk_ms
        self.billed_s += cdr.billed_s

    def count_all(self, other: Counts, sign: int = 1) -> None:
        self.records += sign * other.records
        self.calls += sign * other.calls
        self.answered += sign * other.answered
        self.unrated += sign * other.unrated
        self.talk_ms += sign * other.talk_ms
        self.billed_s += sign * other.billed_s


class Totals(Counts, kw_only=True):
    """`billable_ms` are milliseconds, `hold_s` whole seconds. `sell` and `buy` are by currency; a line
    without an amount adds none."""

    billable_ms: int = 0
    hold_s: int = 0
    sell: dict[str, Amounts] = {}
    buy: dict[str, Amounts] = {}

    def add(self, cdr: Cdr) -> None:
        self.count(cdr)
        self.billable_ms += cdr.billable_ms
        self.hold_s += cdr.hold_s
        for line in cdr.charges:
            if line.currency is not None and line.total is not None:
                side = self.sell if line.side is ChargeSide.SELL else self.buy
                side.setdefault(line.currency, Amounts()).add(line)

    def merge(self, other: Totals) -> None:
        self.count_all(other)
        self.billable_ms += other.billable_ms
        self.hold_s += other.hold_s
        for mine, theirs in ((self.sell, other.sell), (self.buy, other.buy)):
            for currency, amounts in theirs.items():
                mine.setdefault(currency, Amounts()).merge(amounts)


class ControlTotals(msgspec.Struct, kw_only=True):
    """What a second program compares with its own sums over the same records."""

    all: Totals = msgspec.field(default_factory=Totals)
    by_origin: dict[HangupOrigin, Totals] = msgspec.field(
        default_factory=lambda: {origin: Totals() for origin in HangupOrigin}
    )

    def add(self, cdr: Cdr) -> None:
        self.all.add(cdr)
        self.by_origin[cdr.hangup_origin].add(cdr)


class GroupBy(StrEnum):
    ACCOUNT = "account"
    GATEWAY = "gateway"
    DESTINATION = "destination"


class Revenue(msgspec.Struct, kw_only=True):
    """Calls of one group, origin and reason. `charged`: what the accounts owe for; `unpublished` of its
    records were charged and kept from the biller (SERVER_BILLING_NO_CDR_E164S). `waived`: what the calls
    would have cost that a flag for server hangups or faults kept free; `waived_by` counts them by setting."""

    group: str
    origin: HangupOrigin
    reason: ServerReason | None
    charged: Totals = msgspec.field(default_factory=Totals)
    waived: Totals = msgspec.field(default_factory=Totals)
    unpublished: int = 0
    waived_by: dict[str, int] = {}

    def add(self, cdr: Cdr) -> None:
        if is_charged(cdr.suppressed_by):
            self.charged.add(cdr)
            self.unpublished += not cdr.recorded
        else:
            self.waived.add(cdr)
            setting = cdr.suppressed_by or ""
            self.waived_by[setting] = self.waived_by.get(setting, 0) + 1


def revenue(records: Iterable[Cdr], by: GroupBy | None = None) -> list[Revenue]:
    """One row for each group, origin and reason that occurs, in that order."""
    rows: dict[tuple[str, str, str], Revenue] = {}
    group_of = _GROUPS[by] if by is not None else _all
    for cdr in records:
        group = group_of(cdr)
        key = (group, cdr.hangup_origin.value, cdr.server_reason.value if cdr.server_reason else "")
        row = rows.get(key)
        if row is None:
            row = rows[key] = Revenue(group=group, origin=cdr.hangup_origin, reason=cdr.server_reason)
        row.add(cdr)
    return [rows[key] for key in sorted(rows)]


def _all(_: Cdr) -> str:
    return ""


def destination_of(cdr: Cdr) -> str:
    """As the sell deck names it, or its prefix; "" where no rate was found."""
    line = next((line for line in cdr.charges if line.side is ChargeSide.SELL), None)
    return "" if line is None else line.destination or line.prefix or ""


_GROUPS: dict[GroupBy, Callable[[Cdr], str]] = {
    GroupBy.ACCOUNT: lambda cdr: cdr.account,
    GroupBy.GATEWAY: lambda cdr: cdr.gateway or "",
    GroupBy.DESTINATION: destination_of,
}
