from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.credit import Grant, grant
from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Rate, parse_steps
from sidecar.core.terms import Money, Rounding

RATE = Rate(
    prefix="49", currency="EUR", steps=parse_steps("0:0.10/60/60;60:0.10/60/1"), connect_fee=Decimal("0.05")
)
TERMS = RatingTerms(decimals=2, tax_rate=Decimal("0.19"))


def test_the_whole_affordable_time_is_reserved() -> None:
    granted = grant(Decimal("0.30"), RATE, TERMS, 14_400)
    assert granted is not None
    assert granted == Grant(granted_s=122, reserved=Money(Decimal("0.2975"), "EUR"))


def test_a_grant_is_bounded_by_the_maximum_duration_of_the_call_and_of_the_rate() -> None:
    short = Rate(prefix="49", currency="EUR", steps=RATE.steps, max_duration_s=90)
    for rate, maximum_s, granted_s in ((RATE, 60, 60), (short, 60, 60), (short, 14_400, 90)):
        granted = grant(Decimal(1000), rate, TERMS, maximum_s)
        assert granted is not None
        assert granted.granted_s == granted_s


@pytest.mark.parametrize("balance", ["0", "0.17", "-5"])
def test_a_balance_that_does_not_pay_the_first_second_is_no_credit(balance: str) -> None:
    assert grant(Decimal(balance), RATE, TERMS, 14_400) is None


@given(st.decimals(0, 50, places=3), st.integers(1, 7200), st.integers(0, 7200))
def test_no_end_within_the_grant_costs_more_than_was_reserved(
    balance: Decimal, maximum_s: int, hold_s: int
) -> None:
    granted = grant(balance, RATE, TERMS, maximum_s)
    if granted is None:
        return
    assert granted.reserved.amount <= balance
    assert charge(RATE, min(hold_s, granted.granted_s), TERMS).total <= granted.reserved.amount


WINDOWED = Rate(
    prefix="49", currency="EUR", steps=parse_steps("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/60")
)


def test_the_dearest_price_of_the_week_is_reserved_whenever_the_call_is_made() -> None:
    granted = grant(Decimal("1.25"), WINDOWED, RatingTerms(decimals=2), 3600)
    assert granted == Grant(granted_s=120, reserved=Money(Decimal("1.20"), "EUR"))


def test_where_the_increments_of_the_windows_differ_the_longest_is_reserved_beside_the_fee() -> None:
    steps = parse_steps("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/1")
    rate = replace(WINDOWED, steps=steps, connect_fee=Decimal("0.05"))
    assert grant(Decimal("0.64"), rate, RatingTerms(decimals=2), 3600) is None
    granted = grant(Decimal("0.65"), rate, RatingTerms(decimals=2), 3600)
    assert granted == Grant(granted_s=1, reserved=Money(Decimal("0.65"), "EUR"))


def test_the_fee_on_top_stays_an_amount() -> None:
    steps = parse_steps("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/1")
    rate = replace(WINDOWED, steps=steps, connect_fee=Decimal("999999999.9"))
    granted = grant(Decimal(10**10), rate, RatingTerms(decimals=9, rounding=Rounding.UP), 1)
    assert granted == Grant(granted_s=1, reserved=Money(Decimal("1000000000.010000000"), "EUR"))


def test_a_free_call_needs_no_more_than_a_balance_that_is_no_debt() -> None:
    rate = replace(WINDOWED, steps=parse_steps("0:0/60/60"))
    assert grant(Decimal(0), rate, TERMS, 3600) == Grant(granted_s=3600, reserved=Money(Decimal(0), "EUR"))
    assert grant(Decimal("-0.000001"), rate, TERMS, 3600) is None
    assert grant(Decimal(1), rate, TERMS, 0) is None


def test_the_tax_is_reserved_too() -> None:
    rate = replace(WINDOWED, steps=parse_steps("0:1/60/60"))
    assert grant(Decimal("1.18"), rate, TERMS, 60) is None
    assert grant(Decimal("1.19"), rate, TERMS, 60) == Grant(
        granted_s=60, reserved=Money(Decimal("1.19"), "EUR")
    )
