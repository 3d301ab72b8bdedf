"""A deck to sell by, made of one or several that gateways are paid by.

For each prefix that any of them has the rate is taken that comes at a place among them (1: the cheapest, by
what a minute costs), a margin is put on, prices are rounded up, and increments are at least the ones that
are wanted. A number that all of them block is blocked, one that has no rate is not sold. What is to come in
them is to come in the deck.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_UP, Context, Decimal

import msgspec
from msgspec.structs import replace

from sidecar.core.amounts import EXACT
from sidecar.core.deck_diff import minute_cost
from sidecar.core.margin import ExchangeTable
from sidecar.core.steps import RateStep, WindowPrice, check_steps, per_minute
from sidecar.core.tariff import Deck, DeckBuilder, Rate

_ROUNDING = Context(prec=60)
_HUNDRED = Decimal(100)
NOT_SOLD = None


class DeriveError(Exception):
    """The deck cannot be made; the text says of which prefix, and why."""


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """Put on what is paid: per cent of it, and at least so much a minute."""

    percent: Decimal = Decimal(0)
    least_per_min: Decimal = Decimal(0)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """`rank`: 2 takes the second cheapest, or the dearest of those that there are. `exceptions`: by prefix,
    the longest that begins a number: another margin, a price a minute, or None: not sold. `initial_s` and
    `increment_s`: increments are at least these."""

    currency: str
    margin: Margin
    rank: int = 1
    decimals: int = 4
    initial_s: int = 1
    increment_s: int = 1
    exceptions: Mapping[str, Margin | Decimal | None] = {}
    exchange: ExchangeTable = ExchangeTable()


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a row of the deck comes from: a deck by its place among those given, and the prefix there."""

    prefix: str
    caller_prefix: str
    effective_from: datetime | None
    source: int
    source_prefix: str
    paid_per_min: Decimal


def derived(sources: Sequence[Deck], wanted: Wanted, at: datetime) -> tuple[Deck, list[Origin]]:
    """The deck, without a revision yet, and where each of its rows comes from. `at`: what held before is left
    out."""
    builder = DeckBuilder()
    origins: list[Origin] = []
    for prefix, callers in _asked(sources):
        for caller in callers:
            for rate, origin in _of_prefix(sources, wanted, at, prefix, caller):
                builder.add(prefix, builder.destination(rate.destination), *builder.kind(rate))
                origins.append(origin)
    if conflicts := builder.sort():
        raise DeriveError(f"prefix {conflicts[0].prefix}: {conflicts[0].reason}")
    return Deck.built("", builder), origins


def _asked(sources: Sequence[Deck]) -> Iterator[tuple[str, list[str]]]:
    """Every prefix of any of them, with the prefixes of callers that it asks for."""
    found: dict[str, set[str]] = {}
    for deck in sources:
        kinds = deck.kinds
        for prefix, _, kind, _ in deck.rows():
            found.setdefault(prefix, set()).add(kinds[kind].caller_prefix)
    return ((prefix, sorted(callers)) for prefix, callers in sorted(found.items()))


def _of_prefix(
    sources: Sequence[Deck], wanted: Wanted, at: datetime, prefix: str, caller: str
) -> Iterator[tuple[Rate, Origin]]:
    """The rows of one prefix, one after the other in time."""
    rule: Margin | Decimal | None = wanted.margin
    for length in range(len(prefix), 0, -1):
        if prefix[:length] in wanted.exceptions:
            rule = wanted.exceptions[prefix[:length]]
            break
    if rule is NOT_SOLD:
        return
    times = [at, *_changes(sources, prefix, at)]
    told: tuple[int, Rate] | None = None
    begun: datetime | None = None
    for when, until in zip(times, [*times[1:], None], strict=True):
        found = _picked(sources, wanted, when, prefix, caller)
        bare = None if found is None else (found[0], _bare(found[1]))
        if bare != told:
            told, begun = bare, None if when == at else when
        if found is None or (
            until is not None and _next_is_same(sources, wanted, until, prefix, caller, told)
        ):
            continue
        source, paid = found
        rate = _sold(paid, rule, wanted, when, prefix)
        yield (
            replace(rate, prefix=prefix, caller_prefix=caller, effective_from=begun, effective_to=until),
            Origin(
                prefix=prefix,
                caller_prefix=caller,
                effective_from=begun,
                source=source,
                source_prefix=paid.prefix,
                paid_per_min=Decimal(0) if paid.blocked else minute_cost(paid, when),
            ),
        )


def _next_is_same(
    sources: Sequence[Deck],
    wanted: Wanted,
    until: datetime,
    prefix: str,
    caller: str,
    told: tuple[int, Rate] | None,
) -> bool:
    found = _picked(sources, wanted, until, prefix, caller)
    return found is not None and (found[0], _bare(found[1])) == told


def _changes(sources: Sequence[Deck], prefix: str, at: datetime) -> list[datetime]:
    found = set()
    for deck in sources:
        if any(kind.effective_from or kind.effective_to for kind in deck.kinds):
            for rate in deck.periods(prefix):
                found |= {
                    one for one in (rate.effective_from, rate.effective_to) if one is not None and one > at
                }
    return sorted(found)


def _picked(
    sources: Sequence[Deck], wanted: Wanted, when: datetime, prefix: str, caller: str
) -> tuple[int, Rate] | None:
    """(place of the deck, its rate) by rank; blocked only where all that have a rate block it."""
    rates = [
        (place, rate)
        for place, deck in enumerate(sources)
        if (rate := deck.match(prefix, when, caller)) is not None
    ]
    open_ones = [(place, rate) for place, rate in rates if not rate.blocked]
    if not open_ones:
        return rates[0] if rates else None
    if len(open_ones) > 1:
        open_ones.sort(
            key=lambda one: (_in_currency(minute_cost(one[1], when), one[1], wanted, when), one[0])
        )
    return open_ones[min(wanted.rank, len(open_ones)) - 1]


def _sold(paid: Rate, rule: Margin | Decimal | None, wanted: Wanted, when: datetime, prefix: str) -> Rate:
    if paid.blocked:
        return replace(paid, currency=wanted.currency)
    share = rule if isinstance(rule, Margin) else Margin()

    def priced(price_e12: int, per_s: int) -> int:
        if isinstance(rule, Decimal):
            return _up(_ROUNDING.divide(EXACT.multiply(rule, Decimal(per_s)), Decimal(60)), wanted.decimals)
        price = _in_currency(EXACT.scaleb(Decimal(price_e12), -12), paid, wanted, when)
        least = _ROUNDING.divide(_ROUNDING.multiply(share.least_per_min, Decimal(per_s)), Decimal(60))
        margin = max(EXACT.multiply(price, _ROUNDING.divide(share.percent, _HUNDRED)), least)
        return _up(EXACT.add(price, margin), wanted.decimals)

    def amount(value: Decimal) -> Decimal:
        if isinstance(rule, Decimal) or not value:
            return Decimal(0)
        price = _in_currency(value, paid, wanted, when)
        more = EXACT.multiply(price, _ROUNDING.divide(share.percent, _HUNDRED))
        return EXACT.scaleb(Decimal(_up(EXACT.add(price, more), wanted.decimals)), -12)

    steps = _with_increments(paid, wanted)
    try:
        check_steps(steps)
        return replace(
            paid,
            currency=wanted.currency,
            steps=tuple(
                replace(
                    step,
                    price_e12=priced(step.price_e12, step.per_s),
                    alternatives=tuple(
                        replace(one, price_e12=priced(one.price_e12, one.per_s)) for one in step.alternatives
                    ),
                )
                for step in steps
            ),
            connect_fee=amount(paid.connect_fee),
            minimum_charge=None if paid.minimum_charge is None else amount(paid.minimum_charge),
        )
    except ValueError as error:
        raise DeriveError(f"prefix {prefix}: {error}") from None


def _with_increments(paid: Rate, wanted: Wanted) -> tuple[RateStep, ...]:
    found = per_minute(paid.steps)
    if found is not None:
        initial_s, increment_s = max(found[1], wanted.initial_s), max(found[2], wanted.increment_s)
        first = replace(paid.steps[0], increment_s=initial_s)
        if initial_s == increment_s:
            return (first,)
        return (first, replace(first, start_s=initial_s, increment_s=increment_s))

    def longer(step: RateStep | WindowPrice) -> int:
        return max(step.increment_s, wanted.increment_s)

    return tuple(
        replace(
            step,
            increment_s=longer(step),
            alternatives=tuple(replace(one, increment_s=longer(one)) for one in step.alternatives),
        )
        for step in paid.steps
    )


def _in_currency(amount: Decimal, paid: Rate, wanted: Wanted, when: datetime) -> Decimal:
    if paid.currency == wanted.currency:
        return amount
    known = wanted.exchange.rate(paid.currency, wanted.currency, when)
    if known is None:
        raise DeriveError(
            f"prefix {paid.prefix}: billing.exchange_rates has no rate of {paid.currency} in "
            f"{wanted.currency}"
        )
    return EXACT.multiply(amount, known.rate)


def _up(amount: Decimal, decimals: int) -> int:
    """Rounded up to so many decimals, in units of 10^-12."""
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_UP, context=_ROUNDING)
    return int(rounded.scaleb(12, context=_ROUNDING))


def _bare(rate: Rate) -> Rate:
    return replace(rate, effective_from=None, effective_to=None)
