from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.amounts import exact_text
from sidecar.core.cdr import ChargeRecord, ChargeStep
from sidecar.core.explain import explain
from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Rate, parse_steps
from sidecar.core.terms import ChargeSide, RatingStatus, Rounding

RATE = Rate(
    prefix="44",
    destination="United Kingdom",
    currency="GBP",
    steps=parse_steps("0:0.2/60/60;60:0.1/60/1"),
    connect_fee=Decimal("0.05"),
)


def record(hold_s: int, terms: RatingTerms) -> ChargeRecord:
    cost = charge(RATE, hold_s, terms)
    return ChargeRecord(
        side=ChargeSide.SELL,
        party="acme",
        rating_status=cost.status,
        currency=cost.currency,
        deck_revision="ab12",
        strip_rule="global",
        billed_number="44123456789",
        prefix=RATE.prefix,
        destination=RATE.destination,
        steps=tuple(
            ChargeStep(
                start_s=one.start_s,
                billed_s=one.seconds,
                increment_s=one.increment_s,
                price=one.price,
                per_s=one.per_s,
                amount=exact_text(one.amount),
            )
            for one in cost.segments
        ),
        connect_fee=cost.connect_fee,
        billed_s=cost.billed_s,
        net=cost.net,
        tax=cost.tax,
        total=cost.total,
        rounding=terms.rounding,
        decimals=terms.decimals,
        candidates=("44", "4", ""),
    )


def test_an_explanation_leads_from_the_digits_to_the_charge() -> None:
    found = explain("0044123456789", record(91, RatingTerms(decimals=4)), hold_s=91)
    assert found.differences == ()
    assert found.lines == (
        ("received", "0044123456789"),
        ("strip rule", "global"),
        ("billed number", "44123456789"),
        ("deck", "ab12"),
        ("candidates", "44, 4, (default)"),
        ("matched prefix", "44 United Kingdom"),
        ("hold time", "91 s"),
        ("step 1", "from 0 s: 60 s in increments of 60 s, 0.2 per 60 s = 0.2"),
        ("step 2", "from 60 s: 31 s in increments of 1 s, 0.1 per 60 s = 31/600"),
        ("billed", "91 s"),
        ("connect fee", "0.05"),
        ("exact sum", "181/600"),
        ("rounding", "half_up, to 4 decimals"),
        ("net", "0.3017"),
        ("tax", "0"),
        ("total", "0.3017 GBP"),
    )


@given(
    st.integers(1, 5000), st.sampled_from(list(Rounding)), st.integers(0, 9), st.sampled_from(["0", "0.19"])
)
def test_a_right_record_shows_no_difference(hold_s: int, rounding: Rounding, decimals: int, tax: str) -> None:
    terms = RatingTerms(
        rounding=rounding, decimals=decimals, tax_rate=Decimal(tax), minimum_charge=Decimal("0.3")
    )
    assert explain("44", record(hold_s, terms), terms=terms).differences == ()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"net": Decimal("0.3016")}, "net 0.3016, recomputed 0.3017"),
        ({"total": Decimal("0.31")}, "total 0.31, recomputed 0.3017"),
        ({"total": None}, "total null"),
        ({"tax": Decimal("0.1")}, "total 0.3017, recomputed 0.4017"),
        ({"billed_s": 90}, "billed seconds 90, recomputed 91"),
        ({"connect_fee": Decimal(0)}, "net 0.3017, recomputed 0.2517"),
        ({"billed_number": "33123"}, "does not begin"),
        ({"rounding": Rounding.DOWN}, "net 0.3017, recomputed 0.3016"),
        ({"rating_status": RatingStatus.FREE}, "net 0.3017 of a call that is free"),
    ],
)
def test_a_figure_that_comes_out_otherwise_is_named(changes: dict[str, Any], difference: str) -> None:
    found = explain("44", replace(record(91, RatingTerms(decimals=4)), **changes))
    assert any(difference in one for one in found.differences), found.differences


def test_a_wrong_step_is_named() -> None:
    right = record(91, RatingTerms(decimals=4))
    first, second = right.steps
    for wrong, text in (
        (replace(second, amount="0.05"), "step 2: amount 0.05, recomputed 31/600"),
        (replace(second, start_s=61), "step 2 starts at 61 s, not at 60 s"),
        (replace(second, increment_s=2), "step 2: 31 s are no whole increments"),
    ):
        assert text in explain("44", replace(right, steps=(first, wrong))).differences


@pytest.mark.parametrize("status", [RatingStatus.FREE, RatingStatus.NO_RATE, RatingStatus.NOT_BILLABLE])
def test_a_call_without_a_price_says_why(status: RatingStatus) -> None:
    bare = ChargeRecord(
        side=ChargeSide.SELL, party="_", rating_status=status, rounding=Rounding.HALF_UP, decimals=6
    )
    found = explain("alice", bare)
    assert found.differences == ()
    assert found.lines[-1][1].replace(" ", "_").startswith(status)


@given(st.fractions(min_value=0, max_value=1000))
def test_exact_amounts_are_read_back(amount: Fraction) -> None:
    assert Fraction(exact_text(amount)) == amount


def test_a_longer_prefix_that_was_passed_over_is_named() -> None:
    wrong = replace(record(91, RatingTerms()), candidates=("4412", "44"))
    assert explain("0044123456789", wrong).differences == ("the matched prefix 44 is not the longest, 4412",)


def test_seconds_that_are_all_free_have_no_minimum() -> None:
    terms = RatingTerms(free_s=10, minimum_charge=Decimal(1), decimals=4)
    free = record(5, terms)
    assert (len(free.steps), free.net) == (0, Decimal(0))
    found = explain("44", free, terms=terms)
    assert found.differences == ()
    assert "minimum" not in dict(found.lines)


def test_a_unit_of_fees_is_what_is_rounded_to() -> None:
    terms = RatingTerms(fee_unit=Decimal("0.25"), decimals=4)
    found = explain("44", record(91, terms), terms=terms)
    assert found.differences == ()
    assert dict(found.lines)["rounding"] == "half_up, to a multiple of 0.25"


def test_a_tax_that_is_not_that_of_the_terms_is_named() -> None:
    terms = RatingTerms(decimals=4, tax_rate=Decimal("0.19"))
    right = record(91, terms)
    assert right.net is not None
    wrong = replace(right, tax=Decimal("0.1"), total=right.net + Decimal("0.1"))
    assert explain("44", wrong, terms=terms).differences == ("tax 0.1, recomputed 0.057323",)
    assert explain("44", wrong).differences == (), "without terms a tax is not checked"


@pytest.mark.parametrize("name", ["net", "tax", "total"])
def test_each_amount_of_a_free_call_is_named(name: str) -> None:
    free = replace(record(91, RatingTerms()), rating_status=RatingStatus.FREE)
    free = replace(free, **{"net": None, "tax": None, "total": None, name: Decimal(7)})
    assert explain("44", free).differences == (f"{name} 7 of a call that is free",)


def test_the_default_row_is_told_as_such() -> None:
    default = replace(record(91, RatingTerms()), prefix="", destination=None, candidates=("",))
    lines = dict(explain("44", default).lines)
    assert (lines["matched prefix"], lines["candidates"]) == ("(default)", "(default)")
