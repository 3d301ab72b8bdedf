"""Why a charge is what it is, from the charge's own record: no deck, no settings.

Each figure is computed again from those before it, and a figure that comes out otherwise is named.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec

from sidecar.core.amounts import exact_text
from sidecar.core.cdr import ChargeRecord, ChargeStep
from sidecar.core.numbers import PHONE_CONTEXT
from sidecar.core.rating import RatingTerms, amount_text, net_of
from sidecar.core.terms import RatingStatus

WITHOUT_PRICE = {
    RatingStatus.NO_RATE: "no rate: no prefix of the deck begins the billed number, or there is none",
    RatingStatus.FREE: "free: the billed number is on the list of free numbers",
    RatingStatus.NOT_BILLABLE: "not billable: the call has no billable second",
}

LOCAL = "no rate: the number is local to its phone-context, which is no beginning of a number"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`lines`: (what, text) in the order of reckoning; `differences`: what the record should say instead."""

    lines: tuple[tuple[str, str], ...]
    differences: tuple[str, ...]


def explain(
    received: str,
    record: ChargeRecord,
    *,
    hold_s: int | None = None,
    terms: RatingTerms | None = None,
) -> Explanation:
    """How the digits `received` became `record`.

    `terms` are those that the record does not carry: the minimum, the fee unit, the tax rate. Without them
    the defaults are taken, and a tax is not checked.
    """
    lines = [
        ("received", received),
        ("strip rule", record.strip_rule or "-"),
        ("billed number", record.billed_number or "none"),
        ("deck", record.deck_revision or "-"),
    ]
    if record.candidates:
        lines.append(("candidates", ", ".join(prefix or "(default)" for prefix in record.candidates)))
    if record.prefix is not None:
        matched = f"{record.prefix or '(default)'} {record.destination or ''}".rstrip()
        lines.append(("matched prefix", matched))
    if record.caller_class is not None:
        lines.append(("callers", record.caller_class))
    if hold_s is not None:
        lines.append(("hold time", f"{hold_s} s"))
    if record.rating_status is not RatingStatus.RATED:
        local = record.rating_status is RatingStatus.NO_RATE and record.strip_rule == PHONE_CONTEXT
        price = LOCAL if local else WITHOUT_PRICE[record.rating_status]
        if record.rating_status is RatingStatus.NOT_BILLABLE and hold_s and record.grace_s:
            price = f"not billable: {hold_s} s are within the grace of {record.grace_s} s"
        lines.append(("price", price))
        return Explanation(lines=tuple(lines), differences=tuple(_unpriced_differences(record)))
    priced, differences = _priced(record, terms)
    return Explanation(lines=(*lines, *priced), differences=(*_number_differences(record), *differences))


def _priced(record: ChargeRecord, terms: RatingTerms | None) -> tuple[list[tuple[str, str]], list[str]]:
    lines: list[tuple[str, str]] = []
    differences: list[str] = []
    billed_s, exact = 0, Fraction(record.connect_fee or 0)
    for number, step in enumerate(record.steps, 1):
        amount = Fraction(step.price) * step.billed_s / step.per_s
        lines.append((f"step {number}", _step_text(step, amount)))
        if step.start_s != billed_s:
            differences.append(f"step {number} starts at {step.start_s} s, not at {billed_s} s")
        if step.billed_s % step.increment_s:
            differences.append(f"step {number}: {step.billed_s} s are no whole increments")
        if Fraction(step.amount) != amount:
            differences.append(f"step {number}: amount {step.amount}, recomputed {exact_text(amount)}")
        billed_s, exact = billed_s + step.billed_s, exact + amount
    if billed_s != record.billed_s:
        differences.append(f"billed seconds {record.billed_s}, recomputed {billed_s}")
    minimum = terms.minimum_charge if terms else Decimal(0)
    if record.rate_minimum_charge is not None:
        minimum = record.rate_minimum_charge
    used = RatingTerms(
        rounding=record.rounding,
        decimals=record.decimals,
        fee_unit=terms.fee_unit if terms else None,
        minimum_charge=minimum if record.steps else Decimal(0),
    )
    net = net_of(exact, used)
    lines += [
        ("billed", f"{billed_s} s"),
        ("connect fee", amount_text(record.connect_fee or Decimal(0))),
        ("exact sum", exact_text(exact)),
    ]
    if used.minimum_charge:
        lines.append(("minimum", amount_text(used.minimum_charge)))
    unit = f"a multiple of {used.fee_unit:f}" if used.fee_unit else f"{used.decimals} decimals"
    lines.append(("rounding", f"{used.rounding}, to {unit}"))
    differences += _amount_differences(record, net, terms)
    tax = record.tax or Decimal(0)
    lines += [
        ("net", amount_text(net)),
        ("tax", amount_text(tax)),
        ("total", f"{amount_text(net + tax)} {record.currency}"),
    ]
    return lines, differences


def _step_text(step: ChargeStep, amount: Fraction) -> str:
    return (
        f"from {step.start_s} s: {step.billed_s} s in increments of {step.increment_s} s, "
        f"{step.price:f} per {step.per_s} s = {exact_text(amount)}"
    )


def _amount_differences(record: ChargeRecord, net: Decimal, terms: RatingTerms | None) -> list[str]:
    differences = []
    tax = record.tax or Decimal(0)
    if record.net != net:
        differences.append(f"net {_text(record.net)}, recomputed {amount_text(net)}")
    if terms and Fraction(tax) != Fraction(net) * Fraction(terms.tax_rate):
        recomputed = exact_text(Fraction(net) * Fraction(terms.tax_rate))
        differences.append(f"tax {amount_text(tax)}, recomputed {recomputed}")
    if record.total is None or Fraction(record.total) != Fraction(net) + Fraction(tax):
        differences.append(
            f"total {_text(record.total)}, recomputed {exact_text(Fraction(net) + Fraction(tax))}"
        )
    return differences


def _number_differences(record: ChargeRecord) -> list[str]:
    if not (record.billed_number or "").startswith(record.prefix or ""):
        return [f"the matched prefix {record.prefix} does not begin the billed number {record.billed_number}"]
    if record.candidates and record.prefix != record.candidates[0]:
        return [f"the matched prefix {record.prefix} is not the longest, {record.candidates[0]}"]
    return []


def _unpriced_differences(record: ChargeRecord) -> list[str]:
    return [
        f"{name} {amount_text(amount)} of a call that is {record.rating_status}"
        for name, amount in (("net", record.net), ("tax", record.tax), ("total", record.total))
        if amount
    ]


def _text(amount: Decimal | None) -> str:
    return "null" if amount is None else amount_text(amount)
