from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.rating import (
    Charge,
    RatingTerms,
    Segment,
    affordable_s,
    amount_text,
    charge,
    hold_seconds,
    net_of,
)
from sidecar.core.tariff import Rate, RateStep, parse_steps
from sidecar.core.terms import RatingStatus, Rounding

MODES = {
    Rounding.UP: ROUND_CEILING,
    Rounding.DOWN: ROUND_FLOOR,
    Rounding.HALF_UP: ROUND_HALF_UP,
    Rounding.HALF_EVEN: ROUND_HALF_EVEN,
}

amounts = st.decimals(min_value=0, max_value=1000, places=4, allow_nan=False, allow_infinity=False)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    steps: list[RateStep] = []
    start_s = 0
    for _ in range(draw(st.integers(1, 4))):
        step = RateStep.of(
            start_s,
            draw(amounts),
            draw(st.sampled_from([1, 7, 30, 60])),
            draw(st.sampled_from([1, 6, 13, 30, 60])),
        )
        steps.append(step)
        start_s += step.increment_s * draw(st.integers(1, 5))
    return Rate(
        prefix="",
        currency="EUR",
        steps=tuple(steps),
        connect_fee=draw(amounts),
        grace_s=draw(st.sampled_from([0, 0, 3])),
        included_s=draw(st.sampled_from([None, None, 0, 20])),
        minimum_charge=draw(st.sampled_from([None, None, Decimal(0), Decimal("0.5")])),
    )


@st.composite
def terms(draw: st.DrawFn) -> RatingTerms:
    return RatingTerms(
        rounding=draw(st.sampled_from(list(Rounding))),
        decimals=draw(st.integers(0, 9)),
        fee_unit=draw(st.sampled_from([None, None, Decimal("0.05"), Decimal("0.25"), Decimal(3)])),
        free_s=draw(st.sampled_from([0, 0, 5, 60])),
        minimum_charge=draw(st.sampled_from([Decimal(0), Decimal("0.123456")])),
        tax_rate=draw(st.sampled_from([Decimal(0), Decimal("0.19"), Decimal("0.077")])),
    )


def minimum(rate: Rate, terms: RatingTerms) -> Fraction:
    return Fraction(terms.minimum_charge if rate.minimum_charge is None else rate.minimum_charge)


def naive_net(rate: Rate, hold_s: int, terms: RatingTerms) -> tuple[int, Decimal]:
    """Second by second: each increment that has begun is added as a Fraction."""
    left_s = hold_s - (terms.free_s if rate.included_s is None else rate.included_s)
    if left_s <= 0 or hold_s <= rate.grace_s:
        return 0, Decimal(0)
    billed_s, exact = 0, Fraction(rate.connect_fee)
    while billed_s < left_s:
        step = max((one for one in rate.steps if one.start_s <= billed_s), key=lambda one: one.start_s)
        exact += Fraction(step.price) * step.increment_s / step.per_s
        billed_s += step.increment_s
    exact = max(exact, minimum(rate, terms))
    unit = Fraction(terms.fee_unit) if terms.fee_unit else Fraction(1, 10**terms.decimals)
    units = exact / unit
    with localcontext(prec=200):
        # 60 digits after the point decide every case here except an exact half, which has a short form.
        text = Decimal(units.numerator) / Decimal(units.denominator)
        whole = text.quantize(Decimal(1), MODES[terms.rounding])
        net = Fraction(int(whole)) * unit
        return billed_s, Decimal(net.numerator) / Decimal(net.denominator)


@given(rates(), terms(), st.integers(0, 2000))
def test_the_charge_equals_a_second_by_second_sum_of_fractions(
    rate: Rate, terms: RatingTerms, hold_s: int
) -> None:
    result = charge(rate, hold_s, terms)
    assert (result.billed_s, result.net) == naive_net(rate, hold_s, terms)
    with localcontext(prec=200):
        assert result.tax == result.net * terms.tax_rate
        assert result.total == result.net + result.tax


@given(rates(), terms(), st.integers(0, 2000))
def test_the_segments_explain_the_charge(rate: Rate, terms: RatingTerms, hold_s: int) -> None:
    result = charge(rate, hold_s, terms)
    assert sum(one.seconds for one in result.segments) == result.billed_s
    assert [one.start_s for one in result.segments] == [
        sum(one.seconds for one in result.segments[:number]) for number in range(len(result.segments))
    ]
    assert all(one.seconds % one.increment_s == 0 for one in result.segments)
    exact = Fraction(result.connect_fee) + sum(one.amount for one in result.segments)
    if result.billed_s:
        unit = Fraction(terms.fee_unit) if terms.fee_unit else Fraction(1, 10**terms.decimals)
        assert abs(max(exact, minimum(rate, terms)) - Fraction(result.net)) < unit
    else:
        assert exact == result.total == 0


@given(rates(), terms(), st.integers(0, 3000), st.integers(1, 100))
def test_a_longer_call_never_costs_less(rate: Rate, terms: RatingTerms, hold_s: int, more_s: int) -> None:
    assert charge(rate, hold_s, terms).total <= charge(rate, hold_s + more_s, terms).total


@given(rates(), terms(), amounts, st.integers(0, 5000))
def test_what_is_affordable_is_paid_and_one_second_more_is_not(
    rate: Rate, terms: RatingTerms, balance: Decimal, max_s: int
) -> None:
    seconds = affordable_s(balance, rate, terms, max_s)
    assert 0 <= seconds <= max_s
    assert charge(rate, seconds, terms).total <= balance
    if seconds < max_s:
        assert charge(rate, seconds + 1, terms).total > balance


@given(rates(), terms(), amounts)
def test_a_debt_affords_nothing(rate: Rate, terms: RatingTerms, debt: Decimal) -> None:
    assume(debt > 0)
    assert affordable_s(-debt, rate, terms, 14_400) == 0


@given(st.integers(0, 10**7), st.integers(0, 999))
def test_a_deadline_of_whole_seconds_bills_exactly_those(granted_s: int, precision_ms: int) -> None:
    assert hold_seconds(granted_s * 1000, precision_ms) == granted_s


@pytest.mark.parametrize(
    ("billable_ms", "precision_ms", "hold_s"),
    [
        (21_049, 50, 21),
        (21_050, 50, 22),
        (21_000, 0, 21),
        (21_001, 0, 22),
        (21_999, 999, 22),
        (21_998, 999, 21),
        (0, 0, 0),
        (49, 50, 0),
        (50, 50, 1),
    ],
)
def test_the_hold_time_precision_decides_when_a_second_more_is_billed(
    billable_ms: int, precision_ms: int, hold_s: int
) -> None:
    assert hold_seconds(billable_ms, precision_ms) == hold_s


def test_a_zero_duration_call_costs_neither_fee_nor_minimum() -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:1/60/60"), connect_fee=Decimal(1))
    result = charge(rate, 0, RatingTerms(minimum_charge=Decimal(5), tax_rate=Decimal("0.19")))
    assert result.status is RatingStatus.NOT_BILLABLE
    assert result.segments == ()
    assert (result.billed_s, result.connect_fee, result.total) == (0, Decimal(0), Decimal(0))


def test_a_call_within_the_free_seconds_costs_neither_fee_nor_minimum() -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:1/60/60"), connect_fee=Decimal(1))
    terms = RatingTerms(minimum_charge=Decimal(5), free_s=30)
    assert charge(rate, 30, terms).status is RatingStatus.RATED
    assert charge(rate, 30, terms).total == 0
    assert (charge(rate, 31, terms).billed_s, charge(rate, 31, terms).total) == (60, Decimal(5))


@pytest.mark.parametrize(
    ("rounding", "net"), [("up", "0.05"), ("down", "0.00"), ("half_up", "0.05"), ("half_even", "0.00")]
)
def test_the_fee_unit_is_the_multiple_that_the_charge_is_rounded_to(rounding: str, net: str) -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:0.025/60/60"))
    terms = RatingTerms(rounding=Rounding(rounding), decimals=4, fee_unit=Decimal("0.05"))
    assert amount_text(charge(rate, 10, terms).net) == net


@pytest.mark.parametrize(
    ("price", "half_even", "half_up"),
    [
        ("0.004", "0", "0"),
        ("0.005", "0", "0.01"),
        ("0.006", "0.01", "0.01"),
        ("0.015", "0.02", "0.02"),
        ("0.025", "0.02", "0.03"),
        ("0.035", "0.04", "0.04"),
        ("0.045", "0.04", "0.05"),
        ("0.0451", "0.05", "0.05"),
        ("0.055", "0.06", "0.06"),
    ],
)
def test_an_exact_half_goes_to_the_even_neighbour_or_up(price: str, half_even: str, half_up: str) -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps(f"0:{price}/60/60"))
    for rounding, net in ((Rounding.HALF_EVEN, half_even), (Rounding.HALF_UP, half_up)):
        assert charge(rate, 1, RatingTerms(decimals=2, rounding=rounding)).net == Decimal(net)


@pytest.mark.parametrize(
    ("balance", "seconds"), [("0", 0), ("1", 1), ("6", 6), ("7", 7), ("8", 8), ("99", 9)]
)
def test_the_affordable_seconds_of_a_balance(balance: str, seconds: int) -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:1/1/1"))
    assert affordable_s(Decimal(balance), rate, RatingTerms(), 9) == seconds
    assert affordable_s(Decimal(balance), rate, RatingTerms(), 0) == 0


def test_the_minimum_is_applied_before_the_rounding() -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:0.001/60/60"))
    terms = RatingTerms(decimals=2, minimum_charge=Decimal("0.015"))
    assert charge(rate, 10, terms).net == Decimal("0.02")


def test_tax_is_a_line_of_its_own_and_is_not_rounded() -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:0.0333/60/60"))
    result = charge(rate, 10, RatingTerms(decimals=4, tax_rate=Decimal("0.077")))
    assert (result.net, result.tax, result.total) == (
        Decimal("0.0333"),
        Decimal("0.0025641"),
        Decimal("0.0358641"),
    )


def test_the_largest_amounts_stay_exact() -> None:
    rate = Rate(
        prefix="",
        currency="EUR",
        steps=parse_steps("0:999999999.999999999999/1/1"),
        connect_fee=Decimal(999999999),
    )
    terms = RatingTerms(decimals=9, tax_rate=Decimal("9.999999999999"))
    result = charge(rate, 31_622_400, terms)
    exact = Fraction("999999999.999999999999") * 31_622_400 + 999999999
    assert abs(Fraction(result.net) - exact) < Fraction(1, 10**9)
    assert Fraction(result.total) == Fraction(result.net) * (1 + Fraction("9.999999999999"))


def test_amounts_are_written_plainly() -> None:
    assert amount_text(charge(free_rate(), 60, RatingTerms(decimals=9)).net) == "0.000000000"
    assert amount_text(charge(free_rate(), 60, RatingTerms(decimals=0)).net) == "0"


def free_rate() -> Rate:
    return Rate(prefix="", currency="EUR", steps=parse_steps("0:0/60/60"))


@pytest.mark.parametrize(
    "changes",
    [
        {"decimals": 10},
        {"decimals": -1},
        {"fee_unit": Decimal(0)},
        {"fee_unit": Decimal("NaN")},
        {"hold_time_precision_ms": 1000},
        {"hold_time_precision_ms": -1},
        {"free_s": -1},
        {"minimum_charge": Decimal(-1)},
        {"tax_rate": Decimal(19)},
        {"tax_rate": Decimal("Infinity")},
    ],
)
def test_illegal_terms_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(changes))} "):
        RatingTerms(**changes)


@pytest.mark.parametrize("hold_s", [-1, 86_400 * 366 + 1])
def test_a_hold_time_out_of_bounds_is_refused(hold_s: int) -> None:
    with pytest.raises(ValueError, match="hold_s"):
        charge(free_rate(), hold_s, RatingTerms())


def test_the_terms_that_say_nothing_are_those_of_the_product() -> None:
    assert RatingTerms() == RatingTerms(
        rounding=Rounding.HALF_UP,
        decimals=6,
        fee_unit=None,
        hold_time_precision_ms=50,
        free_s=0,
        minimum_charge=Decimal(0),
        tax_rate=Decimal(0),
    )


@pytest.mark.parametrize(
    "bounds",
    [
        {"decimals": 0, "hold_time_precision_ms": 0, "free_s": 0},
        {"decimals": 9, "hold_time_precision_ms": 999, "free_s": 86_400 * 366},
        {"fee_unit": Decimal("0.000000000001"), "minimum_charge": Decimal("999999999.999999999999")},
        {"tax_rate": Decimal(10)},
    ],
)
def test_the_bounds_of_the_terms_can_be_built(bounds: dict[str, Any]) -> None:
    terms = RatingTerms(**bounds)
    assert {name: getattr(terms, name) for name in bounds} == bounds


@pytest.mark.parametrize(
    ("beyond", "error"),
    [
        ({"free_s": 86_400 * 366 + 1}, "^free_s 31622401 is not within 0-31622400$"),
        ({"tax_rate": Decimal("10.000000000001")}, "^tax_rate 10.000000000001 is above 10"),
        ({"fee_unit": Decimal(-1)}, "^fee_unit -1 is not within"),
        ({"rounding": "nearest"}, "nearest"),
    ],
)
def test_terms_beyond_their_bounds_cannot_be_built(beyond: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        RatingTerms(**beyond)


def test_equal_terms_are_equal_however_they_are_written() -> None:
    long = {"fee_unit": "0.050", "minimum_charge": "1.00", "tax_rate": "0.190"}
    short = {"fee_unit": "0.05", "minimum_charge": "1", "tax_rate": "0.19"}
    written = [RatingTerms(**{name: Decimal(text) for name, text in one.items()}) for one in (long, short)]  # type: ignore[arg-type]
    assert [str(getattr(written[0], name)) for name in short] == list(short.values())
    assert written[0] == written[1]
    assert RatingTerms(rounding="up").rounding is Rounding.UP  # type: ignore[arg-type]


def test_a_charge_says_what_it_was_made_of() -> None:
    rate = Rate(
        prefix="49", currency="CHF", steps=parse_steps("0:0.6/60/60;60:0.1/30/6"), connect_fee=Decimal("0.02")
    )
    terms = RatingTerms(rounding=Rounding.UP, decimals=3, tax_rate=Decimal("0.1"))
    assert charge(rate, 70, terms) == Charge(
        status=RatingStatus.RATED,
        hold_s=70,
        billed_s=72,
        connect_fee=Decimal("0.02"),
        net=Decimal("0.660"),
        tax=Decimal("0.066"),
        total=Decimal("0.726"),
        currency="CHF",
        segments=(
            Segment(start_s=0, seconds=60, increment_s=60, price_e12=600_000_000_000, per_s=60),
            Segment(start_s=60, seconds=12, increment_s=6, price_e12=100_000_000_000, per_s=30),
        ),
        terms=terms,
    )
    assert (charge(rate, 70, terms).rounding, charge(rate, 70, terms).decimals) == (Rounding.UP, 3)
    assert [one.amount for one in charge(rate, 70, terms).segments] == [Fraction(3, 5), Fraction(1, 25)]


@pytest.mark.parametrize(
    ("hold_s", "status"), [(0, RatingStatus.NOT_BILLABLE), (1, RatingStatus.RATED), (30, RatingStatus.RATED)]
)
def test_a_charge_of_nothing_says_what_it_was_made_of_too(hold_s: int, status: RatingStatus) -> None:
    rate = Rate(prefix="49", currency="CHF", steps=parse_steps("0:1/60/60"), connect_fee=Decimal(1))
    terms = RatingTerms(decimals=3, free_s=30, minimum_charge=Decimal(5), tax_rate=Decimal("0.1"))
    nothing = charge(rate, hold_s, terms)
    assert nothing == Charge(
        status=status,
        hold_s=hold_s,
        billed_s=0,
        connect_fee=Decimal(0),
        net=Decimal(0),
        tax=Decimal(0),
        total=Decimal(0),
        currency="CHF",
        segments=(),
        terms=terms,
    )
    assert [amount_text(one) for one in (nothing.net, nothing.tax, nothing.total)] == ["0.000", "0", "0.000"]


def test_without_a_tax_rate_the_tax_is_a_plain_0() -> None:
    rate = Rate(prefix="", currency="EUR", steps=parse_steps("0:1/60/60"))
    result = charge(rate, 60, RatingTerms(decimals=2))
    assert [amount_text(one) for one in (result.net, result.tax, result.total)] == ["1.00", "0", "1.00"]


def test_no_more_is_affordable_than_the_longest_hold_time() -> None:
    longest_s = 86_400 * 366
    for max_s, seconds in (
        (longest_s + 1, longest_s),
        (longest_s, longest_s),
        (longest_s - 1, longest_s - 1),
    ):
        assert affordable_s(Decimal(0), free_rate(), RatingTerms(), max_s) == seconds
    assert affordable_s(Decimal(1), free_rate(), RatingTerms(), -1) == 0
    assert charge(free_rate(), longest_s, RatingTerms()).billed_s == longest_s


@pytest.mark.parametrize(
    ("rounding", "minimum", "exact", "net"),
    [
        (Rounding.HALF_UP, "0", Fraction(1, 200), "0.01"),
        (Rounding.HALF_EVEN, "0", Fraction(1, 200), "0.00"),
        (Rounding.HALF_EVEN, "0", Fraction(3, 200), "0.02"),
        (Rounding.UP, "0", Fraction(1, 3), "0.34"),
        (Rounding.UP, "0", Fraction(1, 4), "0.25"),
        (Rounding.DOWN, "0", Fraction(2, 3), "0.66"),
        (Rounding.DOWN, "0.7", Fraction(2, 3), "0.70"),
        (Rounding.DOWN, "0.6", Fraction(2, 3), "0.66"),
    ],
)
def test_an_exact_amount_becomes_a_net_as_a_charge_does(
    rounding: Rounding, minimum: str, exact: Fraction, net: str
) -> None:
    terms = RatingTerms(decimals=2, rounding=rounding, minimum_charge=Decimal(minimum))
    assert amount_text(net_of(exact, terms)) == net


ROW = Rate(prefix="44", currency="EUR", steps=parse_steps("0:0.60/60/1"), connect_fee=Decimal("0.1"))


@pytest.mark.parametrize(
    ("row", "terms", "hold_s", "status", "billed_s", "total"),
    [
        ({"grace_s": 5}, {}, 5, RatingStatus.NOT_BILLABLE, 0, "0"),
        ({"grace_s": 5}, {}, 6, RatingStatus.RATED, 6, "0.16"),
        ({"grace_s": 5}, {"free_s": 60}, 4, RatingStatus.NOT_BILLABLE, 0, "0"),
        ({"included_s": 30}, {}, 30, RatingStatus.RATED, 0, "0"),
        ({"included_s": 30}, {}, 31, RatingStatus.RATED, 1, "0.11"),
        ({"included_s": 0}, {"free_s": 60}, 31, RatingStatus.RATED, 31, "0.41"),
        ({}, {"free_s": 30}, 31, RatingStatus.RATED, 1, "0.11"),
        ({"included_s": 30, "grace_s": 40}, {}, 40, RatingStatus.NOT_BILLABLE, 0, "0"),
        ({"minimum_charge": Decimal("0.5")}, {}, 1, RatingStatus.RATED, 1, "0.5"),
        ({"minimum_charge": Decimal("0.5")}, {"minimum_charge": Decimal(2)}, 1, RatingStatus.RATED, 1, "0.5"),
        ({"minimum_charge": Decimal(0)}, {"minimum_charge": Decimal(2)}, 1, RatingStatus.RATED, 1, "0.11"),
        ({}, {"minimum_charge": Decimal(2)}, 1, RatingStatus.RATED, 1, "2"),
    ],
)
def test_what_a_row_says_comes_before_the_terms(
    row: dict[str, Any], terms: dict[str, Any], hold_s: int, status: RatingStatus, billed_s: int, total: str
) -> None:
    found = charge(replace(ROW, **row), hold_s, RatingTerms(**terms))
    assert (found.status, found.billed_s, found.total) == (status, billed_s, Decimal(total))


def test_whole_seconds_within_the_grace_are_affordable_without_money() -> None:
    assert affordable_s(Decimal(0), replace(ROW, grace_s=7), RatingTerms(), 600) == 7


def test_included_seconds_move_the_windows() -> None:
    steps = parse_steps("0:0.3/60/60@00:00-12:01 UTC|0.1/60/60")
    row = Rate(prefix="44", currency="EUR", steps=steps, included_s=60)
    found = charge(row, 61, RatingTerms(free_s=5), datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert found.total == Decimal("0.1")


def test_a_blocked_row_has_no_price() -> None:
    with pytest.raises(ValueError, match="blocked: it has no price"):
        charge(Rate(prefix="44", currency="EUR", blocked=True), 1, RatingTerms())
    for price in ({"steps": ROW.steps}, {"connect_fee": Decimal(1)}, {"minimum_charge": Decimal(1)}):
        with pytest.raises(ValueError, match="a blocked row has a price"):
            Rate(prefix="44", currency="EUR", blocked=True, **price)
    with pytest.raises(ValueError, match="0 steps"):
        Rate(prefix="44", currency="EUR")
