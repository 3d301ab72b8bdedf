"""Prefixes that a partial list says to end."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sidecar.core.deck_merge import merged
from sidecar.core.tariff import Deck, Rate, per_minute_steps

LISTED = datetime(2026, 12, 1, tzinfo=UTC)
END = datetime(2026, 12, 10, tzinfo=UTC)


def rate(prefix: str, price: str = "0.1", **period: Any) -> Rate:
    return Rate(prefix=prefix, currency="EUR", steps=per_minute_steps(Decimal(price), 1, 1), **period)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("said", [[], [rate("44", effective_to=END)]])
def test_a_prefix_ends_when_the_list_says_so(whole: bool, said: list[Rate]) -> None:
    base = Deck(
        "base", [rate("44"), rate("33"), rate("44", "0.2", effective_from=datetime(2027, 1, 1, tzinfo=UTC))]
    )
    listed = Deck("list", [*said, rate("33", "0.3")])
    found = merged(base, listed, LISTED, whole=whole, ended={"44": END})
    before, after = found.match("44", LISTED), found.match("44", END)
    assert before is not None
    assert (before.steps, before.effective_to) == (rate("44").steps, END)
    assert after is None
    assert found.match("44", datetime(2027, 2, 1, tzinfo=UTC)) is None
    other = found.match("33", LISTED)
    assert other is not None
    assert other.steps == rate("33", "0.3").steps


def test_a_prefix_that_is_not_in_the_deck_ends_nothing() -> None:
    base = Deck("base", [rate("33")])
    found = merged(base, Deck("list", [rate("39")]), LISTED, whole=False, ended={"44": END})
    assert sorted({one.prefix for one in found}) == ["33", "39"]
