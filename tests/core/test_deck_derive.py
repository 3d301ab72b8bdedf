from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from sidecar.core.deck_derive import DeriveError, Margin, Wanted, derived
from sidecar.core.margin import ExchangeRate, ExchangeTable
from sidecar.core.tariff import Deck, Rate, format_steps, parse_steps

NOW = datetime(2026, 11, 27, tzinfo=UTC)
LATER = NOW + timedelta(days=4)


def rate(prefix: str, steps: str, **more: object) -> Rate:
    kept = {"currency": "EUR", "destination": f"to {prefix}"} | more
    return Rate(prefix=prefix, steps=parse_steps(steps), **kept)  # type: ignore[arg-type]


CHEAP_FIXED = Deck("a", [rate("44", "0:0.010/60/60"), rate("447", "0:0.05/60/1"), rate("33", "0:0.02/60/1")])
CHEAP_MOBILE = Deck("b", [rate("44", "0:0.012/60/1"), rate("447", "0:0.03/60/1")])


def sold(deck: Deck) -> dict[str, str]:
    return {one.prefix: format_steps(one.steps) for one in deck}


def test_of_each_prefix_the_cheapest_is_taken_with_the_margin_on_it_rounded_up() -> None:
    wanted = Wanted(currency="EUR", margin=Margin(percent=Decimal(20)), decimals=3)
    deck, origins = derived([CHEAP_FIXED, CHEAP_MOBILE], wanted, NOW)
    assert sold(deck) == {"33": "0:0.024/60/1", "44": "0:0.012/60/60", "447": "0:0.036/60/1"}
    assert [(one.prefix, one.source, one.paid_per_min) for one in origins] == [
        ("33", 0, Decimal("0.02")),
        ("44", 0, Decimal("0.01")),
        ("447", 1, Decimal("0.03")),
    ]


@pytest.mark.parametrize(
    ("wanted", "price"),
    [
        (Wanted(currency="EUR", margin=Margin(percent=Decimal(20)), rank=2), "0:0.0144/60/1"),
        (Wanted(currency="EUR", margin=Margin(percent=Decimal(20)), rank=9), "0:0.0144/60/1"),
        (
            Wanted(currency="EUR", margin=Margin(percent=Decimal(20), least_per_min=Decimal("0.005"))),
            "0:0.015/60/60",
        ),
        (Wanted(currency="EUR", margin=Margin(percent=Decimal("33.333")), decimals=2), "0:0.02/60/60"),
        (Wanted(currency="EUR", margin=Margin(), initial_s=60, increment_s=30), "0:0.01/60/60"),
        (
            Wanted(currency="EUR", margin=Margin(), rank=2, initial_s=60, increment_s=30),
            "0:0.012/60/60;60:0.012/60/30",
        ),
    ],
)
def test_rank_margin_rounding_and_increments(wanted: Wanted, price: str) -> None:
    deck, _ = derived([CHEAP_FIXED, CHEAP_MOBILE], wanted, NOW)
    assert sold(deck)["44"] == price


def test_exceptions_hold_for_the_longest_prefix_that_they_name() -> None:
    wanted = Wanted(
        currency="EUR",
        margin=Margin(percent=Decimal(20)),
        exceptions={"44": Margin(percent=Decimal(100)), "447": Decimal("0.2"), "3": None},
    )
    deck, _ = derived([CHEAP_FIXED, CHEAP_MOBILE], wanted, NOW)
    assert sold(deck) == {"44": "0:0.02/60/60", "447": "0:0.2/60/1"}


def test_what_is_to_come_there_is_to_come_here() -> None:
    rising = Deck("c", [rate("44", "0:0.01/60/1"), rate("44", "0:0.02/60/1", effective_from=LATER)])
    deck, _ = derived([rising, CHEAP_MOBILE], Wanted(currency="EUR", margin=Margin()), NOW)
    first, second = (one for one in deck if one.prefix == "44")
    assert (format_steps(first.steps), first.effective_from, first.effective_to) == (
        "0:0.01/60/1",
        None,
        LATER,
    )
    assert (format_steps(second.steps), second.effective_from) == ("0:0.012/60/1", LATER)


def test_a_number_is_blocked_where_all_block_it_and_a_call_is_paid_in_its_currency() -> None:
    blocked = Rate(prefix="449", currency="EUR", blocked=True)
    one, other = Deck("d", [blocked, rate("44", "0:0.01/60/1")]), Deck("e", [blocked])
    deck, _ = derived([one, other], Wanted(currency="EUR", margin=Margin()), NOW)
    assert {found.prefix: found.blocked for found in deck} == {"44": False, "449": True}
    dollars = Deck("f", [rate("1", "0:0.01/60/1", currency="USD")])
    with pytest.raises(DeriveError, match="no rate of USD in EUR"):
        derived([dollars], Wanted(currency="EUR", margin=Margin()), NOW)
    table = ExchangeTable([ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=NOW)])
    deck, _ = derived([dollars], Wanted(currency="EUR", margin=Margin(), exchange=table), NOW)
    (found,) = deck
    assert (format_steps(found.steps), found.currency) == ("0:0.009/60/1", "EUR")


def test_a_fee_and_a_minimum_get_the_margin_too() -> None:
    deck, _ = derived(
        [Deck("g", [rate("1", "0:0.01/60/1", connect_fee=Decimal("0.1"), minimum_charge=Decimal("0.2"))])],
        Wanted(currency="EUR", margin=Margin(percent=Decimal(50)), exceptions={"2": None}),
        NOW,
    )
    (found,) = deck
    assert (found.connect_fee, found.minimum_charge) == (Decimal("0.15"), Decimal("0.3"))
