from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credit import grant
from sidecar.core.rating import RatingTerms, Segment, affordable_s, charge
from sidecar.core.steps import (
    RateStep,
    WindowPrice,
    dearest_steps,
    format_steps,
    parse_steps,
    per_minute,
    per_minute_steps,
)
from sidecar.core.tariff import Rate
from sidecar.core.windows import parse_window

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


@pytest.mark.parametrize(
    ("inside", "outside", "net"),
    [("0.3/30/60", "0.3/60/60", "0.9"), ("0.3/60/60", "0.3/60/30", "0.6"), ("0.3/60/60", "0.2/60/60", "0.5")],
    ids=["per_s", "increment_s", "price"],
)
def test_prices_that_differ_in_one_of_their_numbers_are_pieces_of_their_own(
    inside: str, outside: str, net: str
) -> None:
    steps = f"0:{inside}@12:00-13:00 UTC|{outside}"
    result = charge(rate(steps), 120, TERMS, datetime.fromisoformat("2026-03-02T12:59:00+00:00"))
    assert result.net == Decimal(net)
    assert [(one.start_s, one.seconds) for one in result.segments] == [(0, 60), (60, 60)]
    written = [f"{one.price}/{one.per_s}/{one.increment_s}" for one in result.segments]
    assert written == [inside, outside]


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


@pytest.mark.parametrize(
    ("answered", "price"),
    [
        ("2026-03-02T09:00:00+00:00", "0.3"),  # both windows hold
        ("2026-03-02T07:59:00+00:00", "0.2"),
        ("2026-03-03T07:59:00+00:00", "0.1"),
    ],
)
def test_of_several_windows_that_hold_the_first_has_the_price(answered: str, price: str) -> None:
    steps = "0:0.3/60/60@Mo-Fr 08:00-18:00 UTC|0.2/60/60@Mo 00:00-24:00 UTC|0.1/60/60"
    assert pieces(charge(rate(steps), 60, TERMS, datetime.fromisoformat(answered)).segments) == [
        (0, 60, price)
    ]


def test_a_rate_with_windows_needs_the_time_of_the_answer() -> None:
    for at in (None, datetime(2026, 3, 2)):  # noqa: DTZ001
        with pytest.raises(ValueError, match="time of the answer"):
            charge(rate(PEAK), 1, TERMS, at)


# Windows as their text says them: days (0 is Monday), first and last hour of the local day, zone.
WINDOWS: dict[str, tuple[range, int, int, str]] = {
    "Mo-Fr 08:00-18:00 Europe/Berlin": (range(5), 8, 18, "Europe/Berlin"),
    "Su 01:00-04:00 Europe/Berlin": (range(6, 7), 1, 4, "Europe/Berlin"),
    "22:00-06:00 UTC": (range(7), 22, 6, "UTC"),
    "Sa-Su UTC": (range(5, 7), 0, 24, "UTC"),
}


class Price(NamedTuple):
    """A price as a reader of a deck sees it, and the text that says it."""

    price: int
    per_s: int
    increment_s: int
    window: str = ""

    def __str__(self) -> str:
        return f"{self.price}/{self.per_s}/{self.increment_s}" + (f"@{self.window}" if self.window else "")

    def holds(self, at: datetime) -> bool:
        if not self.window:
            return True
        days, start, end, zone = WINDOWS[self.window]
        local = at.astimezone(ZoneInfo(zone))
        in_hours = start <= local.hour < end if start < end else not end <= local.hour < start
        return local.weekday() in days and in_hours


class Windowed(NamedTuple):
    rate: Rate
    steps: list[tuple[int, list[Price]]]

    def price_at(self, second: int, at: datetime) -> Price:
        """Read from the text alone: the last step that has begun, and of its prices the first that holds."""
        prices = [prices for start_s, prices in self.steps if start_s <= second][-1]
        return next(price for price in prices if price.holds(at))


@st.composite
def windowed(draw: st.DrawFn) -> Windowed:
    per_s, increment = st.sampled_from([1, 30, 60]), st.sampled_from([1, 6, 10, 30, 60])
    steps = []
    for start_s in (0, 120, 600)[: draw(st.integers(1, 3))]:
        windows = [*draw(st.lists(st.sampled_from(list(WINDOWS)), min_size=2, max_size=2)), ""]
        steps.append(
            (start_s, [Price(draw(st.integers(0, 99)), draw(per_s), draw(increment), one) for one in windows])
        )
    text = ";".join(f"{start_s}:{'|'.join(map(str, prices))}" for start_s, prices in steps)
    return Windowed(rate(text, fee=str(draw(st.integers(0, 5)))), steps)


moments = st.one_of(
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.datetimes(datetime(2026, 10, 24), datetime(2026, 10, 27), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(windowed(), moments, st.integers(1, 9000))
def test_the_charge_equals_a_walk_from_increment_to_increment(
    windowed: Windowed, at: datetime, hold_s: int
) -> None:
    rate = windowed.rate
    billed_s, exact = 0, Fraction(rate.connect_fee)
    while billed_s < hold_s:
        price = windowed.price_at(billed_s, at + timedelta(seconds=billed_s))
        exact += Fraction(price.price * price.increment_s, price.per_s)
        billed_s += price.increment_s
    result = charge(rate, hold_s, RatingTerms(decimals=9), at)
    assert result.billed_s == billed_s
    assert abs(Fraction(result.net) - exact) <= Fraction(1, 2 * 10**9)
    assert result.total <= charge(rate, hold_s + 60, RatingTerms(decimals=9), at).total


@given(windowed(), moments, st.integers(0, 400), st.integers(0, 3600), st.integers(0, 120))
def test_a_grant_covers_the_call_whenever_it_is_answered(
    windowed: Windowed, at: datetime, balance: int, max_s: int, ring_s: int
) -> None:
    rate = windowed.rate
    granted = grant(Decimal(balance), rate, TERMS, max_s)
    if granted is not None:
        total = charge(rate, granted.granted_s, TERMS, at + timedelta(seconds=ring_s)).total
        assert total <= granted.reserved.amount <= balance


@given(windowed(), moments, st.integers(0, 400))
def test_what_is_affordable_at_a_known_time_is_exact(windowed: Windowed, at: datetime, balance: int) -> None:
    rate = windowed.rate
    seconds = affordable_s(Decimal(balance), rate, TERMS, 3600, at)
    if seconds:
        assert charge(rate, seconds, TERMS, at).total <= balance
    if seconds < 3600:
        assert charge(rate, seconds + 1, TERMS, at).total > balance


def test_the_dearest_steps_of_plain_steps_are_those_steps() -> None:
    steps = parse_steps("0:0.2/60/60;60:0.1/60/1")
    assert dearest_steps(steps) == (steps, Decimal(0))


@pytest.mark.parametrize(
    ("text", "bound", "fee"),
    [
        # 0.05 a second is dearer than 2 a minute, whatever the figures look like.
        ("0:0.05/1/60@Mo UTC|2/60/60", "0:0.05/1/60", "0"),
        ("0:2/60/60@Mo UTC|0.05/1/60", "0:0.05/1/60", "0"),
        # Unequal increments: the longest may run on by 59 s at the dearest price, the rest is by the second.
        ("0:0.6/60/60@Mo UTC|0.06/60/1", "0:0.6/60/1", "0.59"),
        ("0:0.06/60/60@Mo UTC|0.6/60/1", "0:0.6/60/1", "0.59"),
        ("0:0.6/30/30@Mo UTC|0.06/60/6", "0:0.6/30/1", "0.58"),
        # Of every step: 59 s at 0.01, 9 s at 0.02.
        (
            "0:0.6/60/60@Mo UTC|0.06/60/1;60:0.02/1/10@Mo UTC|0.01/1/1",
            "0:0.6/60/1;60:0.02/1/1",
            "0.77",
        ),
        # The fee is never less than exact: 59/60 of the least amount is that amount.
        ("0:0.000000000001/60/60@Mo UTC|0/60/1", "0:0.000000000001/60/1", "0.000000000001"),
    ],
)
def test_the_dearest_steps_and_the_fee_on_top(text: str, bound: str, fee: str) -> None:
    assert dearest_steps(parse_steps(text)) == (parse_steps(bound), Decimal(fee))


def test_a_price_per_minute_is_known_from_its_steps() -> None:
    assert per_minute(parse_steps("0:0.2/60/60;60:0.2/60/6")) == (200_000_000_000, 60, 6)
    for text in (
        "0:0.2/60/60;60:0.1/60/6",
        "0:0.2/30/60",
        "0:0.2/30/60;60:0.2/60/6",
        "0:0.2/60/60;60:0.2/30/6",
        "0:0.2/60/60;120:0.2/60/6",
        "0:0.2/60/60;60:0.2/60/60;120:0.2/60/6",
        "0:0.2/60/60@Mo UTC|0.2/60/60;60:0.2/60/6",
        "0:0.2/60/60;60:0.2/60/6@Mo UTC|0.2/60/6",
        PEAK,
    ):
        assert per_minute(parse_steps(text)) is None, text
    assert per_minute((RateStep.of(0, Decimal(0), 60, 1),)) == (0, 1, 1)


WINDOW = parse_window("Mo UTC")
PRICE: dict[str, Any] = {"price_e12": 1, "per_s": 60, "increment_s": 60}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"price_e12": -1}, "price -1 e-12"),
        ({"price_e12": 10**21}, "price 1000000000000000000000 e-12"),
        ({"per_s": 0}, "^per_s 0 "),
        ({"per_s": 86_400 * 366 + 1}, "^per_s 31622401 "),
        ({"increment_s": 0}, "^increment_s 0 "),
    ],
)
def test_a_price_out_of_bounds_cannot_be_built(changes: dict[str, int], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        RateStep(start_s=0, **{**PRICE, **changes})
    with pytest.raises(ValueError, match=error):
        WindowPrice(window=WINDOW, **{**PRICE, **changes})


def test_the_bounds_themselves_can_be_built() -> None:
    assert RateStep(start_s=0, **PRICE | {"price_e12": 10**21 - 1}).price == Decimal("999999999.999999999999")
    several = tuple(WindowPrice(window=WINDOW, **PRICE) for _ in range(16))
    assert len(RateStep(start_s=0, alternatives=several, **PRICE).alternatives) == 16
    with pytest.raises(ValueError, match=r"^start_s -1 "):
        RateStep(start_s=-1, **PRICE)
    with pytest.raises(ValueError, match=r"^price 1000000000 "):
        RateStep.of(0, Decimal(10**9), 60, 60)


def test_as_many_steps_as_are_allowed_and_the_longest_seconds_can_be_built() -> None:
    assert len(parse_steps(";".join(f"{n}:1/1/1" for n in range(64)))) == 64
    longest = RateStep(start_s=86_400 * 366, price_e12=0, per_s=86_400 * 366, increment_s=86_400 * 366)
    assert longest.per_s == 31_622_400
    for name in ("start_s", "per_s", "increment_s"):
        with pytest.raises(ValueError, match=f"^{name} 31622401 is not within"):
            RateStep(**{"start_s": 0, **PRICE, name: 31_622_401})
    with pytest.raises(ValueError, match=r"^17 windows: at most 16 in one step$"):
        RateStep(start_s=0, alternatives=(WindowPrice(window=WINDOW, **PRICE),) * 17, **PRICE)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0:1/60", "^step 1: '0:1/60' is not start_s:price/per_s/increment_s$"),
        ("0:1/60/60;60:1/60", "^step 2: '60:1/60' is not start_s"),
        ("1:1/60/60", "^gap: the first step starts at 1 s, not at 0$"),
        ("0:1/60/60;60:1/60/60;60:1/60/60", "^overlap: step 3 starts at 60 s, not after 60 s$"),
        ("0:1/60/60;0:1/60/60", "^overlap: step 2 starts at 0 s, not after 0 s$"),
        (
            "0:1/60/60;90:1/60/60",
            "^step 2 starts at 90 s, not a whole number of 60 s increments after 0 s$",
        ),
        (
            "0:1/60/60;60:1/60/60@Mo UTC|1/60/7;120:1/60/60",
            "^step 3 starts at 120 s, not a whole number of 7 s increments after 60 s$",
        ),
        (";".join(f"{n}:1/1/1" for n in range(65)), "^65 steps: 1-64 are allowed$"),
        ("0:1/60/60|30:2/60/60@Mo UTC", "^step 1: '30:2/60/60@Mo UTC' starts elsewhere"),
        ("0:1/60/60;60:1/60/60|2/60/60", "^step 2: two prices without a window$"),
    ],
)
def test_an_illegal_step_is_refused_by_its_number(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_steps(text)


def test_the_text_of_steps_says_every_number_of_them() -> None:
    text = "0:0.6/30/20@Mo 08:00-18:00 UTC|0.07/50/40;40:0.000000000001/70/80"
    cheap = WindowPrice(
        window=parse_window("Mo 08:00-18:00 UTC"), price_e12=600_000_000_000, per_s=30, increment_s=20
    )
    steps = (
        RateStep(start_s=0, price_e12=70_000_000_000, per_s=50, increment_s=40, alternatives=(cheap,)),
        RateStep(start_s=40, price_e12=1, per_s=70, increment_s=80),
    )
    assert parse_steps(text) == steps
    assert format_steps(steps) == text
    assert RateStep.of(40, Decimal("0.000000000001"), 70, 80) == steps[1]
    assert [one.price for one in steps[0].prices()] == [Decimal("0.6"), Decimal("0.07")]
    assert list(steps[0].prices()) == [cheap, steps[0]]
    monday = datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert steps[0].price_at(monday) is cheap
    assert steps[0].price_at(monday - timedelta(microseconds=1)) is steps[0]


@pytest.mark.parametrize(
    ("initial_s", "increment_s", "text"),
    [(60, 6, "0:0.1/60/60;60:0.1/60/6"), (1, 60, "0:0.1/60/1;1:0.1/60/60"), (60, 60, "0:0.1/60/60")],
)
def test_a_price_per_minute_and_its_steps_are_one_another(
    initial_s: int, increment_s: int, text: str
) -> None:
    steps = per_minute_steps(Decimal("0.1"), initial_s, increment_s)
    assert format_steps(steps) == text
    assert per_minute(steps) == (100_000_000_000, initial_s, increment_s)


def test_a_step_starts_whole_increments_after_the_one_before_it_and_not_after_the_call_began() -> None:
    assert [one.start_s for one in parse_steps("0:1/10/10;10:1/60/7;24:1/60/1")] == [0, 10, 24]
    for start_s in (28, 32, 11):
        with pytest.raises(ValueError, match=rf"^step 3 starts at {start_s} s, not a whole number of 7 s"):
            parse_steps(f"0:1/10/10;10:1/60/7;{start_s}:1/60/1")
