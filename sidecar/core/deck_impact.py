"""What putting a deck in force would do, told before it is done: to prices, and to the calls of the last
days.

Three things want a word from whoever does it: numbers that have a rate and would have none, prices that
become nothing, and sales that become cheaper than what the cheapest gateway takes for them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from heapq import nlargest

import msgspec

from sidecar.core.amounts import EXACT
from sidecar.core.callers import caller_of
from sidecar.core.cdr import Cdr
from sidecar.core.deck_diff import RateChange, Word, deck_changes, minute_cost
from sidecar.core.explain_call import answered_at, terms_of
from sidecar.core.margin import ExchangeTable
from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Deck, Rate
from sidecar.core.terms import ChargeSide, RatingStatus

LARGEST = 10
EXAMPLES_MAX = 10
_NOTHING = Decimal(0)


class Prefixes(msgspec.Struct, kw_only=True):
    """How many, and the first of them."""

    count: int = 0
    examples: list[str] = []

    def add(self, prefix: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(prefix)


class PriceImpact(msgspec.Struct, kw_only=True):
    """`counts`: prefixes by what becomes of them. `largest`: the greatest changes of price, by share of the
    price before. The three others are those that want a word; `nothing_holds`: the deck has no rate at all
    at its time."""

    counts: dict[str, int]
    largest: tuple[RateChange, ...]
    unrated: Prefixes
    free: Prefixes
    losses: Prefixes
    nothing_holds: bool = False


class Opposite(msgspec.Struct, frozen=True):
    """What a deck is held against: a sell deck against the decks that gateways are paid by (`side` buy), a
    buy deck against those that accounts pay by."""

    side: ChargeSide
    decks: tuple[Deck, ...]
    beside: tuple[Deck, ...] = ()  # the other decks of the side that changes
    exchange: ExchangeTable = ExchangeTable()


def price_impact(
    before: Deck | None, after: Deck, at: datetime, opposite: Opposite | None = None
) -> PriceImpact:
    """`at`: when it would come into force. Without `before` nothing was there."""
    old = Deck("", []) if before is None else before
    counts: Counter[str] = Counter()
    unrated, free, losses = Prefixes(), Prefixes(), Prefixes()
    changed: set[str] = set()
    largest: list[tuple[Decimal, int, RateChange]] = []
    for number, change in enumerate(deck_changes(old, after, at)):
        counts[change.word.value] += 1
        when = change.since or at
        changed.add(change.prefix)
        if change.word is Word.CLOSED and after.match(change.prefix, when) is None:
            unrated.add(change.prefix)
        if change.after is not None and not _costs(change.after, when):
            was = old.match(change.prefix, at)
            if was is None or _costs(was, at):
                free.add(change.prefix)
        if change.percent is not None:
            largest.append((abs(change.percent), -number, change))
            if len(largest) > 1000:
                largest = nlargest(LARGEST, largest)
    if opposite is not None and changed:
        for losing in sorted(_losing(old, after, at, opposite, changed)):
            losses.add(losing)
    return PriceImpact(
        counts=dict(sorted(counts.items())),
        largest=tuple(change for _, _, change in nlargest(LARGEST, largest)),
        unrated=unrated,
        free=free,
        losses=losses,
        nothing_holds=not any(rate.holds_at(at) for rate in after.kinds),
    )


def _costs(rate: Rate, at: datetime) -> bool:
    return rate.blocked or bool(minute_cost(rate, at, 3600))


def _sold(deck: Deck, number: str, at: datetime) -> Rate | None:
    """The rate of a number that may be called."""
    rate = deck.match(number, at)
    return None if rate is None or rate.blocked else rate


def _losing(before: Deck, after: Deck, at: datetime, opposite: Opposite, changed: set[str]) -> set[str]:
    """Numbers that were not sold below their price and would be: the prefixes that change, and those of the
    other side within them."""
    numbers = set(changed)
    lengths = sorted({len(prefix) for prefix in changed})
    for deck in opposite.decks:
        for prefix, *_ in deck.rows():
            if any(prefix[:length] in changed for length in lengths if length <= len(prefix)):
                numbers.add(prefix)

    def loses(number: str, deck: Deck) -> bool:
        one = _sold(deck, number, at)
        others = [rate for other in opposite.decks if (rate := _sold(other, number, at)) is not None]
        if one is None or not others:
            return False
        if opposite.side is ChargeSide.BUY:
            return _is_loss(one, others, at, opposite.exchange)
        beside = [rate for other in opposite.beside if (rate := _sold(other, number, at)) is not None]
        return any(_is_loss(sold, [one, *beside], at, opposite.exchange) for sold in others)

    return {number for number in numbers if loses(number, after) and not loses(number, before)}


def _is_loss(sold: Rate, bought: Sequence[Rate], at: datetime, exchange: ExchangeTable) -> bool:
    """Of a minute, at the cheapest of those whose currency can be compared."""
    costs = []
    for rate in bought:
        cost = minute_cost(rate, at)
        if rate.currency != sold.currency:
            known = exchange.rate(rate.currency, sold.currency, at)
            if known is None:
                continue
            cost = EXACT.multiply(cost, known.rate)
        costs.append(cost)
    return bool(costs) and minute_cost(sold, at) < min(costs)


class CallsImpact(msgspec.Struct, kw_only=True):
    """What the calls of the last days would cost by the deck. Amounts are per currency; `lost` what was
    charged for calls that would have no rate. `destinations`: of those, calls by destination."""

    calls: int = 0
    unrated: int = 0
    free: int = 0
    losing: int = 0
    blocked: int = 0  # would be refused
    before: dict[str, Decimal] = {}
    after: dict[str, Decimal] = {}
    lost: dict[str, Decimal] = {}
    destinations: dict[str, int] = {}


def calls_impact(
    cdrs: Iterable[Cdr],
    deck: Deck,
    at: datetime,
    is_rated_by: Callable[[str | None], bool],
    side: ChargeSide,
    exchange: ExchangeTable,
) -> CallsImpact:
    """`is_rated_by`: whether a revision was in force under the name. `at`: when the deck would come into
    force; calls are rated as if they were made then."""
    found = CallsImpact()
    before: defaultdict[str, Decimal] = defaultdict(Decimal)
    after: defaultdict[str, Decimal] = defaultdict(Decimal)
    lost: defaultdict[str, Decimal] = defaultdict(Decimal)
    destinations: Counter[str] = Counter()
    for cdr in cdrs:
        line = next((one for one in cdr.charges if one.side is side), None)
        if (
            line is None
            or not is_rated_by(line.deck_revision)
            or not line.billed_number
            or line.rating_status is RatingStatus.FREE
        ):
            continue
        found.calls += 1
        rate = deck.match(line.billed_number, at, caller_of(cdr).looked_up)
        if line.total is not None and line.currency is not None:
            before[line.currency] += line.total
        if rate is None:
            if line.rating_status is not RatingStatus.NO_RATE:
                found.unrated += 1
                destinations[line.destination or line.prefix or ""] += 1
                if line.total is not None and line.currency is not None:
                    lost[line.currency] += line.total
            continue
        if rate.blocked:
            found.blocked += 1
            continue
        terms = terms_of(line) or RatingTerms(rounding=line.rounding, decimals=line.decimals)
        hold_s = line.hold_s if line.hold_s is not None else cdr.hold_s
        cost = charge(rate, hold_s, terms, answered_at(cdr, side) or at) if hold_s else None
        after[rate.currency] += cost.total if cost is not None else _NOTHING
        if cost is not None and line.total and not cost.total:
            found.free += 1
        other = next((one for one in cdr.charges if one.side is not side), None)
        if cost is None or other is None or other.net is None or line.net is None:
            continue
        theirs = (other.net, other.currency)
        found.losing += _call_loses((cost.net, cost.currency), theirs, side, at, exchange) and not (
            _call_loses((line.net, line.currency), theirs, side, at, exchange)
        )
    found.before, found.after, found.lost = dict(before), dict(after), dict(lost)
    found.destinations = dict(destinations.most_common(EXAMPLES_MAX))
    return found


def _call_loses(
    ours: tuple[Decimal, str | None],
    theirs: tuple[Decimal, str | None],
    side: ChargeSide,
    at: datetime,
    exchange: ExchangeTable,
) -> bool:
    """Amounts with their currencies; `ours` is of the side."""
    (sold, sold_in), (bought, bought_in) = (ours, theirs) if side is ChargeSide.SELL else (theirs, ours)
    if sold_in != bought_in:
        known = exchange.rate(bought_in or "", sold_in or "", at)
        if known is None:
            return False
        bought = EXACT.multiply(bought, known.rate)
    return sold < bought
