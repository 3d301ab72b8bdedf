"""What looks wrong in a deck itself, whoever calls: prefixes that begin with an exit code, and prices that
are others by a factor as mistakes have it: a decimal point (10, 100), cents for units (100), seconds for
minutes (60).

Prices are compared with those of the revision before and with their neighbours: rows of one destination, or
of one length that differ in their last digit alone. Only a factor that fits to a hundredth is named: mobile
numbers may well cost the tenfold of others, but seldom exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from statistics import median_low

import msgspec

from sidecar.core.deck_diff import minute_cost
from sidecar.core.doctor.vocabulary import NumberingPlan, Symptom
from sidecar.core.tariff import OWN_PRICES, Deck

FACTORS = (10, 60, 100)
CLOSE = Fraction(1, 100)
NEIGHBOURS_MIN = 3
EXAMPLES_MAX = 10
EXIT_CODES = ("00", "011")

_Price = tuple[str, int, Fraction]  # prefix, destination, of a minute


class DeckFinding(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` of the `of` rows of a deck show the symptom; the first of them are in `examples`."""

    symptom: Symptom
    deck: str  # its name
    revision: str
    text: str
    rows: int
    of: int
    examples: tuple[str, ...]
    fix: str


def deck_findings(
    name: str, deck: Deck, before: Deck | None, plan: NumberingPlan, at: datetime
) -> list[DeckFinding]:
    """`before`: the revision that was in force under the name until then; None: there was none."""
    found = []
    coded = [
        prefix
        for prefix in dict.fromkeys(row[0] for row in deck.rows() if row[0].startswith("0"))
        if any(prefix.startswith(code) and plan.country_code(prefix[len(code) :]) for code in EXIT_CODES)
    ]
    if coded:
        found.append(
            DeckFinding(
                symptom=Symptom.EXIT_CODE_IN_DECK,
                deck=name,
                revision=deck.revision,
                text=f"{len(coded)} prefixes begin with an exit code: a number in E.164 never matches them",
                rows=len(coded),
                of=len(deck),
                examples=tuple(coded[:EXAMPLES_MAX]),
                fix="import the list with `prefix_strip` in its template; or, if numbers are meant to be "
                "rated with the code on them, strip nothing",
            )
        )
    prices = list(_prices(deck, at))
    for symptom, pairs, text in (
        (
            Symptom.PRICE_FACTOR_BEFORE,
            _against(prices, {} if before is None else {one[0]: one[2] for one in _prices(before, at)}),
            "the revision before",
        ),
        (Symptom.PRICE_FACTOR_NEIGHBOURS, _among_neighbours(prices), "their neighbours"),
    ):
        by_factor: dict[tuple[int, bool], list[str]] = defaultdict(list)
        for prefix, price, other in pairs:
            factor = _factor(price, other)
            if factor is not None:
                by_factor[factor].append(prefix)
        for (times, is_dearer), prefixes in sorted(by_factor.items()):
            share = f"{times} times" if is_dearer else f"1/{times} of"
            found.append(
                DeckFinding(
                    symptom=symptom,
                    deck=name,
                    revision=deck.revision,
                    text=f"{len(prefixes)} prices are {share} those of {text}",
                    rows=len(prefixes),
                    of=len(deck),
                    examples=tuple(prefixes[:EXAMPLES_MAX]),
                    fix="look at `scale`, `per_s` and decimal commas in the template, or ask the carrier",
                )
            )
    return found


def _prices(deck: Deck, at: datetime) -> Iterator[_Price]:
    """Of the rows that hold, for any caller."""
    for row in deck.rows():
        prefix, destination, kind, price_e9 = row
        known = deck.kinds[kind]
        if known.blocked or known.caller_prefix or not known.holds_at(at):
            continue
        if price_e9 != OWN_PRICES:
            yield prefix, destination, Fraction(price_e9, 10**9)
        else:
            yield prefix, destination, Fraction(minute_cost(deck.rate_of(row), at))


def _against(
    prices: Iterable[_Price], before: dict[str, Fraction]
) -> Iterator[tuple[str, Fraction, Fraction]]:
    for prefix, _, price in prices:
        if prefix in before:
            yield prefix, price, before[prefix]


def _among_neighbours(prices: Sequence[_Price]) -> Iterator[tuple[str, Fraction, Fraction]]:
    groups: dict[object, list[_Price]] = defaultdict(list)
    for one in prices:
        groups[one[1]].append(one)
        if len(one[0]) > 1:
            groups[one[0][:-1]].append(one)
    told: set[str] = set()
    for group in groups.values():
        if len(group) < NEIGHBOURS_MIN:
            continue
        usual = median_low([price for _, _, price in group])
        for prefix, _, price in group:
            if prefix not in told and _factor(price, usual) is not None:
                told.add(prefix)
                yield prefix, price, usual


def _factor(price: Fraction, other: Fraction) -> tuple[int, bool] | None:
    """(factor, whether the price is the dearer of the two)."""
    if not price or not other or price == other:
        return None
    ratio, is_dearer = (price / other, True) if price > other else (other / price, False)
    return next(
        ((times, is_dearer) for times in FACTORS if abs(ratio / times - 1) <= CLOSE),
        None,
    )
