from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.deck_diff import RateChange, Word, deck_changes
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


def test_what_changes_is_told_from_its_time_on() -> None:
    steps, dear = parse_steps("0:1/60/60"), parse_steps("0:2/60/60")
    old = Rate(prefix="49", currency="EUR", steps=steps)
    ends = Rate(prefix="49", currency="EUR", steps=steps, effective_to=CHANGE)
    begins = Rate(prefix="49", currency="EUR", steps=dear, effective_from=CHANGE)
    before, after = Deck("a", [old]), Deck("b", [ends, begins])
    (change,) = deck_changes(before, after)
    assert change == RateChange(before=old, after=begins, since=CHANGE)
    assert change.word is Word.RAISED
    assert change.percent == 100
    (closed,) = deck_changes(before, Deck("c", [ends]))
    assert (closed.word, closed.since) == ("closed", CHANGE)
    later = Deck("d", [Rate(prefix="49", currency="EUR", steps=steps, effective_from=CHANGE)])
    assert [one.word for one in deck_changes(before, later)] == ["closed"]
    assert list(deck_changes(before, later, CHANGE)) == []


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("0:1/60/60", "0:2/60/60", "raised"),
        ("0:1/60/60", "0:0.5/60/60", "lowered"),
        ("0:1/60/1", "0:1/60/60", "raised"),
        ("0:1/60/60", "0:0.9/60/1", "lowered"),
        ("0:1/60/1", "0:0.9/60/60", "changed"),
        ("0:1/60/60", "0:1/60/60;60:0.5/60/60", "lowered"),
    ],
)
def test_a_price_is_what_calls_cost(before: str, after: str, word: str) -> None:
    old, new = (
        Deck(steps, [Rate(prefix="4", currency="EUR", steps=parse_steps(steps))]) for steps in (before, after)
    )
    assert [one.word.value for one in deck_changes(old, new)] == [word]


def test_new_closed_and_another_currency_or_name_have_their_words() -> None:
    def named(prefix: str, **more: str) -> Rate:
        return msgspec.structs.replace(rate(prefix, 1), **more)

    before = Deck("a", [named("1"), named("2"), named("3")])
    after = Deck("b", [named("2", currency="USD"), named("3", destination="x"), named("4")])
    assert [(one.prefix, one.word) for one in deck_changes(before, after)] == [
        ("1", "closed"),
        ("2", "changed"),
        ("3", "changed"),
        ("4", "new"),
    ]
