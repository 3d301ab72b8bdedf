"""A record explains itself: every figure comes out again, and one that was changed does not."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.call import Pricing
from sidecar.core.cdr import Cdr
from sidecar.core.explain_call import explain_call, rated_at, terms_of
from sidecar.core.margin import ExchangeRate, ExchangeTable
from sidecar.core.numbers import StripPlan, StripRule, billed_number
from sidecar.core.rating import RatingTerms, hold_seconds
from sidecar.core.records import charge_line, margin_of
from sidecar.core.tariff import Rate, parse_steps
from sidecar.core.terms import ChargeSide, Rounding
from tests.scenarios.table import BY_NAME, SCENARIOS

STRIP, TERMS = StripPlan(global_strip=2), RatingTerms()
CALL = BY_NAME["caller-bye-in-call"].play().record
ANSWERED_AT = datetime(2026, 3, 6, 16, 58, 30, tzinfo=UTC)  # a Friday, 17:58:30 in Berlin


@pytest.mark.parametrize("name", [one.name for one in SCENARIOS])
def test_every_figure_of_every_record_comes_out_again(name: str) -> None:
    ladder = BY_NAME[name].play()
    for record in (*ladder.refusals, *ladder.records):
        assert explain_call(record).all_differences == ()


def test_the_way_leads_from_the_digits_to_the_margin() -> None:
    found = explain_call(CALL)
    sell, buy = found.charges
    assert [name for name, _ in sell.lines] == [
        "received",
        "normalised",
        "strip rule",
        "stripped",
        "billed number",
        "deck",
        "candidates",
        "matched prefix",
        "rate",
        "billable time",
        "hold time",
        "step 1",
        "billed",
        "connect fee",
        "exact sum",
        "rounding",
        "net",
        "tax",
        "total",
    ]
    lines = dict(sell.lines)
    assert lines["received"] == "4930123456"
    assert lines["candidates"] == "49"
    assert lines["rate"] == "0:0.06/60/1"
    assert lines["billable time"].startswith("10050 ms from 2026-03-01T12:")
    assert lines["total"] == "0.011000 EUR"
    assert dict(buy.lines)["candidates"] == "49"
    assert found.margin == (
        ("sold, net", "0.011000 EUR"),
        ("bought, net", "0.005500 EUR"),
        ("margin", "0.005500 EUR"),
    )


def sold(
    user: str = "0044123",
    plan: StripPlan = STRIP,
    *,
    steps: str = "0:0.2/60/60@Mo-Fr 08:00-18:00 Europe/Berlin|0.1/60/60;60:0.1/60/1",
    terms: RatingTerms = TERMS,
    talk_ms: int = 100_400,
    **row: Any,
) -> Cdr:
    """The record of a call that was sold so, at nothing bought."""
    number = billed_number(user, plan)
    rate = Rate(prefix="44", currency="EUR", steps=parse_steps(steps), connect_fee=Decimal("0.05"), **row)
    matched = rate if (number.billed or "").startswith("44") else None
    pricing = Pricing(number=number, terms=terms, rate=matched, deck_revision="d")
    line = charge_line(ChargeSide.SELL, "acme", pricing, talk_ms, ANSWERED_AT)
    return replace(
        CALL,
        callee=replace(CALL.callee, received=user, billed=number.billed),
        answered_at=ANSWERED_AT,
        talk_ms=talk_ms,
        billable_ms=talk_ms,
        hold_s=hold_seconds(talk_ms, terms.hold_time_precision_ms),
        billed_s=line.billed_s,
        granted_s=None,
        charges=(line,),
        margin=None,
    )


def test_free_seconds_minimum_unit_tax_and_windows_are_in_the_record() -> None:
    terms = RatingTerms(
        free_s=5,
        minimum_charge=Decimal(1),
        fee_unit=Decimal("0.05"),
        tax_rate=Decimal("0.19"),
        rounding=Rounding.UP,
        hold_time_precision_ms=0,
    )
    cdr = sold(terms=terms)
    assert terms_of(cdr.charges[0]) == terms
    assert explain_call(cdr).all_differences == ()
    [line] = explain_call(cdr).charges
    texts = dict(line.lines)
    assert (texts["free seconds"], texts["minimum"]) == ("5 s", "1")
    assert texts["rounding"] == "up, to a multiple of 0.05"


@given(
    st.sampled_from(["0044123", "+44123", "44-12.3", "#77*44123", "044123", "x"]),
    st.sampled_from(
        [
            StripPlan(),
            StripPlan(global_strip=2),
            StripPlan(rules=(StripRule(name="trunk", prefix="0", strip=1, add="44"),)),
            StripPlan(rules=(StripRule(name="tech", prefix="#77*", strip=4),), account_strip=1),
        ]
    ),
    st.builds(
        RatingTerms,
        rounding=st.sampled_from(Rounding),
        decimals=st.integers(0, 9),
        hold_time_precision_ms=st.integers(0, 999),
        free_s=st.integers(0, 90),
        minimum_charge=st.decimals(0, 2, places=3),
        tax_rate=st.decimals(0, 1, places=2),
    ),
    st.integers(0, 400_000),
)
def test_whatever_was_charged_comes_out_again(
    user: str, plan: StripPlan, terms: RatingTerms, talk_ms: int
) -> None:
    assert explain_call(sold(user, plan, terms=terms, talk_ms=talk_ms)).all_differences == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"billed_number": "4412"}, "billed number 4412, 0044123 gives 44123"),
        ({"stripped": 1}, "0044123 gives 044123"),
        ({"added": "49"}, "0044123 gives 4944123"),
        ({"prefix": "45"}, "the matched prefix 45 does not begin"),
        ({"hold_s": 99}, "hold time 99 s, 100400 ms give 101 s"),
        ({"billable_ms": 200_000}, "200000 ms are billed, of at most 100400"),
        ({"rate": "0:0.2/60/60;60:0.1/60/1"}, "steps"),
        ({"rate": "0:0.2/60"}, "gives no charge"),
        ({"rate": None}, "names no rate"),
        ({"currency": None}, "names no rate"),
        ({"stripped": 40}, "0044123 gives None"),
        ({"net": Decimal("0.1")}, "net 0.1, the rate gives"),
        ({"tax": Decimal("0.1")}, "tax 0.1"),
        ({"total": None}, "total null"),
        ({"free_s": 60}, "net"),
        ({"minimum_charge": Decimal(9)}, "net"),
        ({"connect_fee": Decimal(0)}, "net"),
        ({"billed_s": 7}, "billed_s of the call is"),
    ],
)
def test_a_figure_that_was_changed_is_named(changes: dict[str, Any], said: str) -> None:
    cdr = sold(steps="0:0.3/60/60;60:0.1/60/1")
    changed = replace(cdr, charges=(replace(cdr.charges[0], **changes),))
    assert any(said in text for text in explain_call(changed).all_differences)


def test_prices_by_time_of_day_go_by_the_answer() -> None:
    cdr = sold()
    later = replace(cdr, answered_at=ANSWERED_AT.replace(hour=18))
    assert explain_call(cdr).all_differences == ()
    assert explain_call(later).all_differences != ()


def test_a_margin_is_computed_again_with_its_own_exchange_rate() -> None:
    sell, buy = CALL.charges
    rate = ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=CALL.invited_at)
    charges = (sell, replace(buy, currency="USD"))
    cdr = replace(CALL, charges=charges, margin=margin_of(charges, CALL.invited_at, ExchangeTable([rate])))
    assert explain_call(cdr).all_differences == ()
    assert cdr.margin is not None
    wrong = replace(cdr, margin=replace(cdr.margin, amount=Decimal(1)))
    assert explain_call(wrong).all_differences == ("margin 1 EUR, the charges give 0.0060500 EUR",)
    assert explain_call(replace(CALL, margin=None)).all_differences == (
        "no margin, the charges give 0.005500",
    )


def test_a_record_of_an_earlier_writer_is_explained_as_far_as_it_goes() -> None:
    new = dict.fromkeys(
        ["stripped", "added", "rate", "billable_ms", "hold_s", "hold_time_precision_ms", "free_s"]
    )
    older = replace(
        CALL, charges=tuple(replace(line, **new, minimum_charge=None, tax_rate=None) for line in CALL.charges)
    )
    assert explain_call(older).all_differences == ()
    assert explain_call(replace(older, margin=None)).all_differences == ()


def test_a_row_is_chosen_by_the_invite_and_for_the_gateway_by_its_attempt() -> None:
    assert rated_at(CALL, ChargeSide.SELL) == CALL.invited_at
    assert rated_at(CALL, ChargeSide.BUY) == CALL.attempts[-1].started_at


@pytest.mark.parametrize(
    ("name", "value", "of_line"),
    [("billable_ms", 1, 100_400), ("hold_s", 1, 101), ("billed_s", 1, 120), ("callee", "4499", "44123")],
)
def test_what_the_call_says_is_what_the_sold_line_says(name: str, value: Any, of_line: Any) -> None:
    cdr = sold(steps="0:0.3/60/60")
    wrong = replace(cdr, **{name: replace(cdr.callee, billed=value) if name == "callee" else value})
    named = "callee.billed" if name == "callee" else name
    assert explain_call(cdr).all_differences == ()
    assert explain_call(wrong).all_differences == (
        f"{named} of the call is {value}, of its charge {of_line}",
    )


@pytest.mark.parametrize(
    ("talk_ms", "granted_s", "said"),
    [
        (100_400, None, ()),
        (100_399, None, ("100400 ms are billed, of at most 100399",)),
        (100_400, 101, ()),
        (100_400, 100, ("100400 ms are billed, of at most 100000",)),
    ],
)
def test_no_more_is_billed_than_was_talked_and_granted(
    talk_ms: int, granted_s: int | None, said: tuple[str, ...]
) -> None:
    cdr = replace(sold(), talk_ms=talk_ms, granted_s=granted_s)
    assert explain_call(cdr).all_differences == said


def test_the_bought_line_goes_by_what_was_sent_and_bs_answer() -> None:
    b_answered_at = CALL.answered_at.replace(hour=9) if CALL.answered_at else None
    cdr = replace(CALL, callee=replace(CALL.callee, received="00"), b_answered_at=b_answered_at, hold_s=77)
    buy = dict(explain_call(cdr).charges[1].lines)
    assert buy["received"] == CALL.callee.sent == "4930123456"
    assert " from 2026-03-01T09:" in buy["billable time"]
    assert buy["hold time"] == "11 s"
    older = replace(cdr.charges[1], hold_s=None)
    assert "hold time" not in dict(explain_call(replace(cdr, charges=(older,))).charges[0].lines)


def test_digits_put_in_front_are_told() -> None:
    plan = StripPlan(rules=(StripRule(name="trunk", prefix="0", strip=1, add="44"),))
    lines = [dict(explain_call(sold("0123", one)).charges[0].lines) for one in (plan, StripPlan())]
    assert [line["stripped"] for line in lines] == ["1 off the front, 44 put in front", "0 off the front"]


def test_a_margin_is_told_with_its_exchange_rate_and_its_currency_counts() -> None:
    sell, buy = CALL.charges
    rate = ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=CALL.invited_at)
    charges = (sell, replace(buy, currency="USD"))
    margin = margin_of(charges, CALL.invited_at, ExchangeTable([rate]))
    assert margin is not None
    cdr = replace(CALL, charges=charges, margin=margin)
    assert explain_call(cdr).margin[2] == (
        "exchange rate",
        f"1 USD = 0.9 EUR from {CALL.invited_at.isoformat()} on",
    )
    pounds = replace(cdr, margin=replace(margin, currency="GBP"))
    assert explain_call(pounds).all_differences == ("margin 0.0060500 GBP, the charges give 0.0060500 EUR",)
    alone = replace(cdr, charges=(sell,))
    assert explain_call(alone).differences == ("margin 0.0060500 EUR, the charges give none",)


def test_the_last_attempt_is_the_one_that_is_paid() -> None:
    (attempt,) = CALL.attempts
    first = replace(attempt, started_at=CALL.ended_at)
    cdr = replace(CALL, attempts=(first, attempt))
    assert rated_at(cdr, ChargeSide.BUY) == attempt.started_at
    assert rated_at(replace(CALL, attempts=(first,)), ChargeSide.SELL) == CALL.invited_at
    assert rated_at(replace(CALL, attempts=()), ChargeSide.BUY) == CALL.invited_at


@pytest.mark.parametrize("name", ["net", "tax", "total"])
def test_each_amount_that_the_rate_does_not_give_is_named(name: str) -> None:
    cdr = sold()
    wrong = replace(cdr, charges=(replace(cdr.charges[0], **{name: Decimal(7)}),))
    assert any(
        text.startswith(f"{name} 7, the rate gives ") for text in explain_call(wrong).charges[0].differences
    )


@pytest.mark.parametrize("name", ["billable_ms", "hold_s", "hold_time_precision_ms"])
def test_a_time_that_the_line_does_not_tell_is_not_reckoned_again(name: str) -> None:
    line = replace(sold().charges[0], **{name: None})
    texts = explain_call(replace(sold(), charges=(line,))).all_differences
    assert not [text for text in texts if "hold time" in text or "are billed" in text]


@pytest.mark.parametrize("hold_s", [3, 4, 10, 11, 70])
def test_what_the_row_says_itself_is_in_the_record(hold_s: int) -> None:
    terms = RatingTerms(free_s=60, minimum_charge=Decimal(2), tax_rate=Decimal("0.19"))
    row: dict[str, Any] = {"grace_s": 3, "included_s": 10, "minimum_charge": Decimal(1)}
    cdr = sold(terms=terms, talk_ms=hold_s * 1000, **row)
    (line,) = cdr.charges
    assert terms_of(line) == terms
    assert explain_call(cdr).all_differences == ()
    texts = dict(explain_call(cdr).charges[0].lines)
    assert (texts["grace"], texts["included seconds"]) == ("3 s", "10 s")
    if hold_s <= 3:
        assert texts["price"] == "not billable: 3 s are within the grace of 3 s"
    elif hold_s > 10:
        assert texts["minimum"] == "1"
        assert line.net == Decimal(1)
        changed = replace(line, included_s=9, rate_minimum_charge=Decimal(3))
        assert explain_call(replace(cdr, charges=(changed,))).all_differences != ()
