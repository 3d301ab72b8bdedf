from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.credit import Grant, extend, forgotten_ms, grant, guard_ms
from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Rate, parse_steps
from sidecar.core.terms import Money, Rounding

RATE = Rate(
    prefix="49", currency="EUR", steps=parse_steps("0:0.10/60/60;60:0.10/60/1"), connect_fee=Decimal("0.05")
)
TERMS = RatingTerms(decimals=2, tax_rate=Decimal("0.19"))
WINDOWED = Rate(
    prefix="49", currency="EUR", steps=parse_steps("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/60")
)
MONDAY_MORNING = datetime(2026, 3, 2, 8, tzinfo=UTC)


def euros(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


def test_a_slice_is_reserved_or_what_the_balance_affords_of_it() -> None:
    assert grant(Decimal("0.30"), RATE, TERMS, 60) == Grant(granted_s=60, reserved=euros("0.1785"))
    assert grant(Decimal("0.30"), RATE, TERMS, 122) == Grant(granted_s=122, reserved=euros("0.2975"))
    last = Grant(granted_s=122, reserved=euros("0.2975"), final=True)
    assert grant(Decimal("0.30"), RATE, TERMS, 123) == last


def test_an_extension_prices_the_whole_call() -> None:
    """The connect fee and the whole first minute are paid once."""
    held = Grant(granted_s=60, reserved=euros("0.1785"))
    more = extend(Decimal("0.1215"), held, RATE, TERMS, 120)
    assert more == Grant(granted_s=120, reserved=euros("0.2975"))
    last = Grant(granted_s=122, reserved=euros("0.2975"), final=True)
    assert extend(Decimal("0.0025"), more, RATE, TERMS, 180) == last


@pytest.mark.parametrize("available", ["0", "0.001", "-0.01", "-100"])
def test_an_extension_that_nothing_is_left_for_is_refused_and_takes_nothing_back(available: str) -> None:
    held = Grant(granted_s=122, reserved=euros("0.2975"))
    assert extend(Decimal(available), held, RATE, TERMS, 180) == replace(held, final=True)


def test_an_extension_that_was_granted_already_moves_nothing() -> None:
    held = Grant(granted_s=120, reserved=euros("0.2975"))
    for total_s in (60, 120):
        assert extend(Decimal(100), held, RATE, TERMS, total_s) == held


@given(
    st.lists(st.tuples(st.decimals(0, 1, places=3), st.integers(1, 600)), min_size=1, max_size=8),
    st.sampled_from(["0:0.10/60/60;60:0.10/60/1", "0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/1"]),
)
def test_slice_by_slice_no_more_is_reserved_than_there_was_and_never_less_than_it_costs(
    slices: list[tuple[Decimal, int]], steps: str
) -> None:
    rate = replace(WINDOWED, steps=parse_steps(steps), connect_fee=Decimal("0.05"))
    there = slices[0][0]
    held = grant(there, rate, TERMS, slices[0][1])
    if held is None:
        return
    for more, slice_s in slices[1:]:
        there += more
        before = held
        held = extend(there - before.reserved.amount, before, rate, TERMS, before.granted_s + slice_s)
        assert before.granted_s <= held.granted_s <= before.granted_s + slice_s
        assert before.reserved.amount <= held.reserved.amount <= there
    for at in (MONDAY_MORNING, MONDAY_MORNING + timedelta(hours=9, minutes=58)):
        assert charge(rate, held.granted_s, TERMS, at).total <= held.reserved.amount


@pytest.mark.parametrize(
    ("least_ms", "store_ms", "guard"),
    [(200, 0, 200), (200, 100, 200), (200, 101, 202), (200, 60_000, 5_000), (8_000, 0, 8_000)],
)
def test_the_slower_the_store_the_earlier_it_is_asked(least_ms: int, store_ms: int, guard: int) -> None:
    assert guard_ms(least_ms, store_ms) == guard


def test_a_slow_commit_is_remembered_for_about_a_minute() -> None:
    seen = [800]
    while seen[-1]:
        seen.append(forgotten_ms(seen[-1]))
    assert seen[:3] == [800, 787, 774]
    assert 380 <= seen[44] <= 400
    assert len(seen) < 300


def test_a_grant_is_bounded_by_the_maximum_duration_of_the_rate() -> None:
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


def test_the_dearest_price_of_the_week_is_reserved_whenever_the_call_is_made() -> None:
    granted = grant(Decimal("1.25"), WINDOWED, RatingTerms(decimals=2), 3600)
    assert granted == Grant(granted_s=120, reserved=euros("1.20"), final=True)


def test_where_the_increments_of_the_windows_differ_the_longest_is_reserved_beside_the_fee() -> None:
    steps = parse_steps("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/1")
    rate = replace(WINDOWED, steps=steps, connect_fee=Decimal("0.05"))
    assert grant(Decimal("0.64"), rate, RatingTerms(decimals=2), 3600) is None
    granted = grant(Decimal("0.65"), rate, RatingTerms(decimals=2), 3600)
    assert granted == Grant(granted_s=1, reserved=euros("0.65"), final=True)


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
