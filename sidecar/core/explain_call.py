"""Why a call costs what its record says: the record is reckoned again from the digits that were dialled, and
from nothing but itself. Every figure that comes out otherwise is named.

    dialled -> stripped -> billed number -> matched row -> hold time -> steps -> net, tax, total -> margin
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from sidecar.core.callers import caller_of
from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.explain import explain
from sidecar.core.margin import ExchangeTable
from sidecar.core.numbers import E164, PHONE_CONTEXT, ROUTING_NUMBER, StripPlan, billed_number, normalise
from sidecar.core.rating import RatingTerms, amount_text, charge, hold_seconds
from sidecar.core.records import margin_of
from sidecar.core.tariff import SURCHARGE, Rate, parse_steps
from sidecar.core.terms import CallerBasis, ChargeSide, RateBy, RatingStatus

Lines = tuple[tuple[str, str], ...]

_BASES = {
    CallerBasis.ASSERTED: "as its peer asserts it",
    CallerBasis.TRUSTED: "as the From of a peer says that is trusted to",
    CallerBasis.NO_NUMBER: "so of the surcharge class",
    CallerBasis.NO_COUNTRY: "which no country has: of the surcharge class",
    CallerBasis.FORGEABLE: "by a From that nobody vouches for: of the surcharge class",
}


class LineExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """`lines`: (what, text) in the order of reckoning; `differences`: what the record should say instead."""

    side: ChargeSide
    party: str
    lines: Lines
    differences: tuple[str, ...]


class CallExplanation(msgspec.Struct, frozen=True, kw_only=True):
    charges: tuple[LineExplanation, ...]
    margin: Lines
    differences: tuple[str, ...]  # of the call as a whole

    @property
    def all_differences(self) -> tuple[str, ...]:
        return (*(text for line in self.charges for text in line.differences), *self.differences)


def explain_call(cdr: Cdr) -> CallExplanation:
    margin, differences = _margin(cdr)
    return CallExplanation(
        charges=tuple(_line(cdr, line) for line in cdr.charges),
        margin=margin,
        differences=differences,
    )


def rated_at(cdr: Cdr, side: ChargeSide) -> datetime:
    """The time by which the row of the deck was chosen."""
    if side is ChargeSide.BUY and cdr.attempts:
        return cdr.attempts[-1].started_at
    return cdr.invited_at


def answered_at(cdr: Cdr, side: ChargeSide) -> datetime | None:
    """The time from which this side is billed: what prices by time of day go by."""
    return cdr.answered_at if side is ChargeSide.SELL else cdr.b_answered_at


def received_number(cdr: Cdr, side: ChargeSide) -> str:
    """The digits that this side's strip rule was applied to."""
    return cdr.callee.received if side is ChargeSide.SELL else cdr.callee.sent or ""


def terms_of(line: ChargeRecord) -> RatingTerms | None:
    """The terms of a line; None in a record that does not hold them yet."""
    if line.hold_time_precision_ms is None:
        return None
    return RatingTerms(
        rounding=line.rounding,
        decimals=line.decimals,
        fee_unit=line.fee_unit,
        hold_time_precision_ms=line.hold_time_precision_ms,
        free_s=line.free_s or 0,
        minimum_charge=line.minimum_charge or Decimal(0),
        tax_rate=line.tax_rate or Decimal(0),
    )


def _line(cdr: Cdr, line: ChargeRecord) -> LineExplanation:
    received, terms = received_number(cdr, line.side), terms_of(line)
    hold_s = line.hold_s if line.hold_s is not None else cdr.hold_s if line.side is ChargeSide.SELL else None
    found = explain(received, line, hold_s=hold_s, terms=terms)
    texts = dict(found.lines)
    more: dict[str, list[tuple[str, str]]] = {
        "received": [("normalised", normalise(received))],
        "strip rule": _taken_off(line),
        "matched prefix": [("rate", line.rate)] if line.rate else [],
        "callers": _caller(cdr),
        "hold time": _free(line),
    }
    lines: list[tuple[str, str]] = []
    for name, text in texts.items():
        if name == "hold time":
            lines += _times(cdr, line, terms)
        lines += [(name, text), *more.get(name, [])]
    again = (
        *_number(received, line),
        *_class(cdr, line),
        *_hold(cdr, line, terms),
        *_again(cdr, line, terms),
    )
    return LineExplanation(
        side=line.side,
        party=line.party,
        lines=tuple(lines),
        differences=(*again, *found.differences),
    )


def _taken_off(line: ChargeRecord) -> list[tuple[str, str]]:
    if line.stripped is None:
        return []
    added = f", {line.added} put in front" if line.added else ""
    return [("stripped", f"{line.stripped} off the front{added}")]


def _caller(cdr: Cdr) -> list[tuple[str, str]]:
    if cdr.caller_basis is None:
        return []
    return [("caller", f"{cdr.caller.billed or 'no number'}, {_BASES[cdr.caller_basis]}")]


def _free(line: ChargeRecord) -> list[tuple[str, str]]:
    lines = [("grace", f"{line.grace_s} s")] if line.grace_s else []
    if line.included_s is not None:
        lines.append(("included seconds", f"{line.included_s} s"))
    elif line.free_s:
        lines.append(("free seconds", f"{line.free_s} s"))
    return lines


def _times(cdr: Cdr, line: ChargeRecord, terms: RatingTerms | None) -> list[tuple[str, str]]:
    if line.billable_ms is None or terms is None:
        return []
    begun = answered_at(cdr, line.side)
    since = f" from {begun.isoformat()} on" if begun is not None else ""
    return [
        (
            "billable time",
            f"{line.billable_ms} ms{since}, a second more from {terms.hold_time_precision_ms} ms on",
        )
    ]


def _number(received: str, line: ChargeRecord) -> list[str]:
    if line.stripped is None:
        return []
    as_it_is = line.strip_rule in (E164, PHONE_CONTEXT, ROUTING_NUMBER)
    plan = StripPlan(
        global_strip=0 if as_it_is else min(line.stripped, 32),
        rate_by=RateBy.ROUTING_NUMBER if line.strip_rule == ROUTING_NUMBER else RateBy.DIALLED,
    )
    number = billed_number(received, plan).billed
    if number is not None and not as_it_is:
        number = (line.added or "") + number
    if number != line.billed_number:
        return [f"billed number {line.billed_number}, {received} gives {number}"]
    return []


def _class(cdr: Cdr, line: ChargeRecord) -> list[str]:
    asked, said = caller_of(cdr).looked_up, line.caller_class
    if said is None:
        return []
    fits = said == asked if SURCHARGE in (said, asked) else asked.startswith(said)
    return [] if fits else [f"the row is for callers {said}, and the caller is {asked}"]


def _hold(cdr: Cdr, line: ChargeRecord, terms: RatingTerms | None) -> list[str]:
    if terms is None or line.billable_ms is None or line.hold_s is None:
        return []
    differences = []
    hold_s = hold_seconds(line.billable_ms, terms.hold_time_precision_ms)
    if hold_s != line.hold_s:
        differences.append(f"hold time {line.hold_s} s, {line.billable_ms} ms give {hold_s} s")
    if line.side is not ChargeSide.SELL:
        return differences
    for name, of_call, of_line in (
        ("billable_ms", cdr.billable_ms, line.billable_ms),
        ("hold_s", cdr.hold_s, line.hold_s),
        ("billed_s", cdr.billed_s, line.billed_s),
        ("callee.billed", cdr.callee.billed, line.billed_number),
    ):
        if of_call != of_line:
            differences.append(f"{name} of the call is {of_call}, of its charge {of_line}")
    longest_ms = cdr.talk_ms if cdr.granted_s is None else min(cdr.talk_ms, cdr.granted_s * 1000)
    if line.billable_ms > longest_ms:
        differences.append(f"{line.billable_ms} ms are billed, of at most {longest_ms}")
    return differences


def _again(cdr: Cdr, line: ChargeRecord, terms: RatingTerms | None) -> list[str]:
    """The steps and all amounts, by the one function that makes charges."""
    if terms is None or line.rating_status is not RatingStatus.RATED:
        return []
    if line.rate is None or line.hold_s is None or line.currency is None:
        return ["rated, but the record names no rate"]
    try:
        rate = Rate(
            prefix=line.prefix or "",
            currency=line.currency,
            steps=parse_steps(line.rate),
            connect_fee=line.connect_fee or Decimal(0),
            grace_s=line.grace_s or 0,
            included_s=line.included_s,
            minimum_charge=line.rate_minimum_charge,
        )
        cost = charge(rate, line.hold_s, terms, answered_at(cdr, line.side))
    except ValueError as error:
        return [f"the rate {line.rate!r} gives no charge: {error}"]
    said = [(one.start_s, one.billed_s, one.increment_s, one.price, one.per_s) for one in line.steps]
    made = [(one.start_s, one.seconds, one.increment_s, one.price, one.per_s) for one in cost.segments]
    differences = []
    if said != made:
        differences.append(f"steps {_steps(said)}, the rate gives {_steps(made)}")
    for name, of_record, again in (
        ("net", line.net, cost.net),
        ("tax", line.tax, cost.tax),
        ("total", line.total, cost.total),
    ):
        if of_record != again:
            text = "null" if of_record is None else amount_text(of_record)
            differences.append(f"{name} {text}, the rate gives {amount_text(again)}")
    return differences


def _steps(steps: list[tuple[int, int, int, Decimal, int]]) -> str:
    return (
        "; ".join(f"{start}: {s} s at {price:f}/{per}/{inc}" for start, s, inc, price, per in steps) or "none"
    )


def _margin(cdr: Cdr) -> tuple[Lines, tuple[str, ...]]:
    said = cdr.margin
    table = ExchangeTable([said.exchange] if said and said.exchange else [])
    again = margin_of(cdr.charges, cdr.invited_at, table)
    if said is None:
        written = any(line.hold_s is not None for line in cdr.charges)
        missing = again is not None and written
        return (), (f"no margin, the charges give {amount_text(again.amount)}",) if again and missing else ()
    nets = [(f"{'sold' if one.side is ChargeSide.SELL else 'bought'}, net", one) for one in cdr.charges]
    lines = [(name, f"{amount_text(one.net)} {one.currency}") for name, one in nets if one.net is not None]
    if said.exchange is not None:
        one = said.exchange
        lines.append(
            (
                "exchange rate",
                f"1 {one.base} = {one.rate:f} {one.quote} from {one.valid_from.isoformat()} on",
            )
        )
    lines.append(("margin", f"{amount_text(said.amount)} {said.currency}"))
    if again is None or (again.amount, again.currency) != (said.amount, said.currency):
        text = "none" if again is None else f"{amount_text(again.amount)} {again.currency}"
        return tuple(lines), (f"margin {amount_text(said.amount)} {said.currency}, the charges give {text}",)
    return tuple(lines), ()
