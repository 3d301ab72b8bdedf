"""What a fix would change: the calls of one sender rated again, by the decks in force, with the numbers as
they were billed and as they would be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal

from sidecar.core.admit import side_terms
from sidecar.core.amounts import EXACT
from sidecar.core.doctor.observe import Observed
from sidecar.core.doctor.vocabulary import Effect
from sidecar.core.policy import Policy
from sidecar.core.rating import HOLD_S_MAX, RatingTerms, charge, hold_seconds
from sidecar.core.tariff import Deck, Rate
from sidecar.core.terms import ChargeSide

# The deck and the terms that a charge would be rated by now; None: it has no deck.
Book = Callable[[Observed], tuple[Deck, RatingTerms] | None]


def book_of(policy: Policy) -> Book:
    def book(one: Observed) -> tuple[Deck, RatingTerms] | None:
        if one.side is ChargeSide.BUY:
            gateway = policy.gateways.get(one.sender)
            deck = policy.decks.get(gateway.deck or "") if gateway else None
            return (deck, side_terms(policy.rating, gateway)) if deck and gateway else None
        account = policy.account_terms(one.account)
        deck = policy.decks.get(account.deck or policy.default_deck)
        return (deck, side_terms(policy.rating, account)) if deck else None

    return book


def effect(
    observed: Iterable[Observed], rewritten: Callable[[Observed], str | None], book: Book
) -> Effect | None:
    """`rewritten` gives the number that would be billed. None where no call has a deck."""
    calls = changed = rated_before = rated_after = 0
    before: dict[str, Decimal] = defaultdict(Decimal)
    after: dict[str, Decimal] = defaultdict(Decimal)
    for one in observed:
        found = book(one)
        if found is None:
            continue
        deck, terms = found
        calls += 1
        then, now = _rate(deck, one.billed, one), _rate(deck, rewritten(one), one)
        rated_before += then is not None
        rated_after += now is not None
        changed += then != now
        _add(before, then, terms, one)
        _add(after, now, terms, one)
    if not calls:
        return None
    return Effect(
        calls=calls,
        changed=changed,
        rated_before=rated_before,
        rated_after=rated_after,
        before=dict(before),
        after=dict(after),
    )


def _rate(deck: Deck, billed: str | None, one: Observed) -> Rate | None:
    if not billed or not (billed.isascii() and billed.isdigit()):
        return None
    rate = deck.match(billed, one.at, one.rated_caller)
    return None if rate is None or rate.blocked else rate


def _add(totals: dict[str, Decimal], rate: Rate | None, terms: RatingTerms, one: Observed) -> None:
    if rate is None or one.free:
        return
    hold_s = min(hold_seconds(max(one.billable_ms, 0), terms.hold_time_precision_ms), HOLD_S_MAX)
    cost = charge(rate, hold_s, terms, one.answered_at or one.at)
    totals[rate.currency] = EXACT.add(totals[rate.currency], cost.total)
