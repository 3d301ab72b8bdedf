from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.deck_diff import RateChange, deck_changes
from sidecar.core.tariff import Deck, Rate, parse_steps

CHANGE = datetime(2026, 7, 1, tzinfo=UTC)

decks = st.dictionaries(st.text("012", max_size=4), st.integers(0, 2), max_size=15)


def deck(revision: str, prices: dict[str, int]) -> Deck:
    return Deck(revision, [rate(prefix, price) for prefix, price in prices.items()])


def rate(prefix: str, price: int) -> Rate:
    return Rate(prefix=prefix, currency="EUR", steps=parse_steps(f"0:{price}/60/60"))


@given(decks, decks)
def test_the_changes_lead_from_one_deck_to_the_other(before: dict[str, int], after: dict[str, int]) -> None:
    changes = list(deck_changes(deck("a", before), deck("b", after)))
    assert [one.prefix for one in changes] == sorted(
        prefix for prefix in before.keys() | after.keys() if before.get(prefix) != after.get(prefix)
    )
    for one in changes:
        assert one.before == (rate(one.prefix, before[one.prefix]) if one.prefix in before else None)
        assert one.after == (rate(one.prefix, after[one.prefix]) if one.prefix in after else None)


def test_periods_of_one_prefix_are_rows_of_their_own() -> None:
    steps = parse_steps("0:1/60/60")
    old = Rate(prefix="49", currency="EUR", steps=steps)
    ends = Rate(prefix="49", currency="EUR", steps=steps, effective_to=CHANGE)
    begins = Rate(prefix="49", currency="EUR", steps=steps, effective_from=CHANGE)
    assert list(deck_changes(Deck("a", [old]), Deck("b", [ends, begins]))) == [
        RateChange(before=old, after=ends),
        RateChange(before=None, after=begins),
    ]
