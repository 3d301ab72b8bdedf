from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credit import grant
from sidecar.core.rating import RatingTerms, Segment, affordable_s, charge
from sidecar.core.steps import RateStep, dearest_steps, format_steps, parse_steps, per_minute
from sidecar.core.tariff import Rate

PEAK = "0:0.60/60/60@Mo-Fr 08:00-18:00 Europe/Berlin|0.06/60/1"
TERMS = RatingTerms(decimals=4)


def rate(steps: str, fee: str = "0") -> Rate:
    return Rate(prefix="49", currency="EUR", steps=parse_steps(steps), connect_fee=Decimal(fee))


def pieces(segments: tuple[Segment, ...]) -> list[tuple[int, int, str]]:
    return [(one.start_s, one.seconds, str(one.price)) for one in segments]


@pytest.mark.parametrize(
    "text",
    [
        "0:0.6/60/60@Mo-Fr 08:00-18:00 Europe/Berlin|0.06/60/1",
        "0:1/60/60@Sa-Su 00:00-24:00 UTC|2/60/60@Mo,We 22:00-06:00 America/New_York|3/60/60;60:1/60/1",
    ],
)
def test_windows_are_read_back_as_they_were_written(text: str) -> None:
    assert format_steps(parse_steps(text)) == text


def test_the_price_without_a_window_may_stand_anywhere_and_the_start_be_repeated() -> None:
    steps = parse_steps("0:0.06/60/1 | 0:0.60/60/60@Mo-Fr 08:00-18:00 Europe/Berlin")
    assert steps == parse_steps(PEAK)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0:1/60/60@Mo 08:00-18:00 UTC", "no price without a window"),
        ("0:1/60/60|2/60/60", "two prices without a window"),
        ("0:1/60/60|30:2/60/60@Mo UTC", "starts elsewhere"),
        ("1/60/60@Mo UTC|0:2/60/60", "is not start_s"),
        ("0:1/60/60|2/60/60@", "window"),
        ("0:1/60/60|2/60/60@Mo 08:00-18:00 Mars/Olympus", "time zone"),
        ("0:1/60/60|2/60/7@Mo UTC;60:1/60/1", "whole number of 7 s"),
        ("0:1/60/60|NaN/60/60@Mo UTC", "not an amount"),
        ("0:" + "1/60/60@Mo UTC|" * 17 + "1/60/60", "17 windows"),
    ],
)
def test_illegal_windows_are_refused_with_the_reason(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_steps(text)


@pytest.mark.parametrize(
    ("answered", "hold_s", "segments"),
    [
        # Inside and outside.
        ("2026-03-02T12:00:00+01:00", 90, [(0, 120, "0.6")]),
        ("2026-03-02T20:00:00+01:00", 90, [(0, 90, "0.06")]),
        ("2026-03-01T12:00:00+01:00", 90, [(0, 90, "0.06")]),
        # Across the start: the first increment of the dear price begins at 08:00:00.
        ("2026-03-02T07:59:30+01:00", 100, [(0, 30, "0.06"), (30, 120, "0.6")]),
        ("2026-03-02T07:59:30.500+01:00", 100, [(0, 30, "0.06"), (30, 120, "0.6")]),
        # Across the end: the minute that began before 18:00 is billed whole.
        ("2026-03-02T17:59:30+01:00", 100, [(0, 60, "0.6"), (60, 40, "0.06")]),
        # Friday evening to Monday morning, 62 hours.
        (
            "2026-03-06T17:59:00+01:00",
            60 + 62 * 3600 + 1,
            [(0, 60, "0.6"), (60, 223_200, "0.06"), (223_260, 60, "0.6")],
        ),
    ],
)
def test_a_call_is_split_where_the_window_begins_and_ends(
    answered: str, hold_s: int, segments: list[tuple[int, int, str]]
) -> None:
    assert pieces(charge(rate(PEAK), hold_s, TERMS, datetime.fromisoformat(answered)).segments) == segments


@pytest.mark.parametrize(
    ("answered", "hold_s", "segments"),
    [
        # 01:30 CET: half an hour later the clock shows 03:00.
        ("2026-03-29T01:30:00+01:00", 7200, [(0, 1800, "0.2"), (1800, 3600, "0.3"), (5400, 1800, "0.2")]),
        # 01:30 CEST: 02:00-03:00 is shown twice, and 03:00 comes 2.5 hours later.
        ("2026-10-25T01:30:00+02:00", 12_600, [(0, 9000, "0.2"), (9000, 3600, "0.3")]),
    ],
)
def test_a_call_across_a_daylight_saving_change_is_split_by_the_clock_on_the_wall(
    answered: str, hold_s: int, segments: list[tuple[int, int, str]]
) -> None:
    steps = "0:0.3/60/1@03:00-04:00 Europe/Berlin|0.2/60/1"
    assert pieces(charge(rate(steps), hold_s, TERMS, datetime.fromisoformat(answered)).segments) == segments


def test_a_window_that_the_clock_skips_is_not_priced() -> None:
    steps = "0:0.3/60/1@02:00-03:00 Europe/Berlin|0.2/60/1"
    result = charge(rate(steps), 7200, TERMS, datetime.fromisoformat("2026-03-29T01:00:00+01:00"))
    assert pieces(result.segments) == [(0, 7200, "0.2")]
    result = charge(rate(steps), 14_400, TERMS, datetime.fromisoformat("2026-10-25T01:00:00+02:00"))
    assert pieces(result.segments) == [(0, 3600, "0.2"), (3600, 7200, "0.3"), (10_800, 3600, "0.2")]


def test_free_seconds_pass_on_the_clock_too() -> None:
    terms = RatingTerms(decimals=4, free_s=60)
    result = charge(rate(PEAK), 61, terms, datetime.fromisoformat("2026-03-02T07:59:00+01:00"))
    assert pieces(result.segments) == [(0, 60, "0.6")]


def test_a_rate_with_windows_needs_the_time_of_the_answer() -> None:
    for at in (None, datetime(2026, 3, 2)):  # noqa: DTZ001
        with pytest.raises(ValueError, match="time of the answer"):
            charge(rate(PEAK), 1, TERMS, at)


@st.composite
def windowed(draw: st.DrawFn) -> Rate:
    increment = st.sampled_from([1, 6, 10, 30, 60])
    windows = st.sampled_from(
        ["Mo-Fr 08:00-18:00 Europe/Berlin", "Su 01:00-04:00 Europe/Berlin", "22:00-06:00 UTC", "Sa-Su UTC"]
    )
    texts = []
    for start_s in (0, 120, 600)[: draw(st.integers(1, 3))]:
        prices = [f"{draw(st.integers(0, 99))}/60/{draw(increment)}@{draw(windows)}" for _ in range(2)]
        texts.append(f"{start_s}:" + "|".join([*prices, f"{draw(st.integers(0, 99))}/60/{draw(increment)}"]))
    return rate(";".join(texts), fee=str(draw(st.integers(0, 5))))


moments = st.one_of(
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.datetimes(datetime(2026, 10, 24), datetime(2026, 10, 27), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(windowed(), moments, st.integers(1, 9000))
def test_the_charge_equals_a_walk_from_increment_to_increment(rate: Rate, at: datetime, hold_s: int) -> None:
    billed_s, exact = 0, Fraction(rate.connect_fee)
    while billed_s < hold_s:
        step = max((one for one in rate.steps if one.start_s <= billed_s), key=lambda one: one.start_s)
        price = step.price_at(at + timedelta(seconds=billed_s))
        exact += Fraction(price.price_e12 * price.increment_s, price.per_s * 10**12)
        billed_s += price.increment_s
    result = charge(rate, hold_s, RatingTerms(decimals=9), at)
    assert result.billed_s == billed_s
    assert abs(Fraction(result.net) - exact) <= Fraction(1, 2 * 10**9)
    assert result.total <= charge(rate, hold_s + 60, RatingTerms(decimals=9), at).total


@given(windowed(), moments, st.integers(0, 400), st.integers(0, 3600), st.integers(0, 120))
def test_a_grant_covers_the_call_whenever_it_is_answered(
    rate: Rate, at: datetime, balance: int, max_s: int, ring_s: int
) -> None:
    granted = grant(Decimal(balance), rate, TERMS, max_s, at)
    if granted is not None:
        total = charge(rate, granted.granted_s, TERMS, at + timedelta(seconds=ring_s)).total
        assert total <= granted.reserved.amount <= balance


@given(windowed(), moments, st.integers(0, 400))
def test_what_is_affordable_at_a_known_time_is_exact(rate: Rate, at: datetime, balance: int) -> None:
    seconds = affordable_s(Decimal(balance), rate, TERMS, 3600, at)
    if seconds:
        assert charge(rate, seconds, TERMS, at).total <= balance
    if seconds < 3600:
        assert charge(rate, seconds + 1, TERMS, at).total > balance


def test_the_dearest_steps_of_plain_steps_are_those_steps() -> None:
    steps = parse_steps("0:0.2/60/60;60:0.1/60/1")
    assert dearest_steps(steps) == (steps, Decimal(0))


def test_a_price_per_minute_is_known_from_its_steps() -> None:
    assert per_minute(parse_steps("0:0.2/60/60;60:0.2/60/6")) == (200_000_000_000, 60, 6)
    for text in ("0:0.2/60/60;60:0.1/60/6", "0:0.2/30/60", "0:0.2/60/60;120:0.2/60/6", PEAK):
        assert per_minute(parse_steps(text)) is None
    assert per_minute((RateStep.of(0, Decimal(0), 60, 1),)) == (0, 1, 1)
