from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.tariff import (
    Deck,
    DeckBuilder,
    Rate,
    RateStep,
    format_steps,
    parse_amount,
    parse_steps,
    per_minute_steps,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
STEPS = parse_steps("0:0.1/60/60")


def rate(prefix: str, destination: str = "", **changes: Any) -> Rate:
    return Rate(prefix=prefix, currency="EUR", steps=STEPS, destination=destination, **changes)


def naive_match(rates: list[Rate], billed: str, at: datetime) -> Rate | None:
    fitting = [one for one in rates if billed.startswith(one.prefix) and one.holds_at(at)]
    return max(fitting, key=lambda one: len(one.prefix), default=None)


@given(
    st.lists(st.text("0123", max_size=6), unique=True, max_size=40),
    st.lists(st.text("0123", min_size=1, max_size=9), max_size=20),
)
def test_the_longest_prefix_is_what_a_naive_scan_finds(prefixes: list[str], numbers: list[str]) -> None:
    rates = [rate(prefix, f"to {prefix}") for prefix in prefixes]
    deck = Deck("r", rates)
    for number in numbers:
        assert deck.match(number, AT) == naive_match(rates, number, AT)
    assert {one.prefix for one in deck} == set(prefixes)
    assert [one.prefix for one in deck] == sorted(prefixes)


@given(st.data())
def test_a_row_outside_its_period_leaves_the_number_to_a_shorter_prefix(data: st.DataObject) -> None:
    rates = []
    for prefix in data.draw(st.lists(st.text("01", max_size=4), unique=True, max_size=12)):
        days = data.draw(st.lists(st.integers(0, 9), unique=True, min_size=2, max_size=6).map(sorted))
        for start, end in zip(days[::2], days[1::2], strict=False):
            since, until = AT + timedelta(days=start), AT + timedelta(days=end)
            rates.append(rate(prefix, effective_from=since, effective_to=until))
    deck = Deck("r", rates)
    for number in data.draw(st.lists(st.text("01", min_size=1, max_size=6), max_size=10)):
        for day in range(-1, 11):
            at = AT + timedelta(days=day)
            assert deck.match(number, at) == naive_match(rates, number, at)


def test_a_million_random_look_ups_equal_a_table_of_all_numbers() -> None:
    # The oracle: every prefix of the number asked of a dict, longest first.
    generator = random.Random(20260301)
    prefixes = {str(generator.randrange(10 ** generator.randint(1, 6))) for _ in range(20_000)}
    rates = {prefix: rate(prefix) for prefix in prefixes}
    deck = Deck("r", rates.values())
    for _ in range(1_000_000):
        number = str(generator.randrange(10**9))
        expected = next((number[:end] for end in range(len(number), 0, -1) if number[:end] in rates), None)
        found = deck.match(number, AT)
        assert (found and found.prefix) == expected, number


@pytest.mark.parametrize("number", ["0", "00", "12", "120", "9", "9" * 17, "0" * 17, "9" * 16 + "8"])
def test_only_what_a_number_begins_with_is_its_prefix(number: str) -> None:
    # Those that are padded alike, that sort next to the number, and those at the ends of all keys.
    prefixes = ("0", "000", "1", "1199999", "120", "1200", "13", "99", "9" * 16, "9" * 17, "0" * 17)
    rates = [rate(prefix) for prefix in prefixes]
    assert Deck("r", rates).match(number, AT) == naive_match(rates, number, AT)


def test_periods_are_half_open_and_follow_each_other_without_a_gap() -> None:
    change = datetime(2026, 7, 1, tzinfo=UTC)
    deck = Deck("r", [rate("49", "old", effective_to=change), rate("49", "new", effective_from=change)])
    before, after = deck.match("491", change - timedelta(microseconds=1)), deck.match("491", change)
    assert before is not None
    assert after is not None
    assert (before.destination, after.destination) == ("old", "new")


def test_candidates_are_all_rates_that_could_apply_longest_first() -> None:
    deck = Deck("r", [rate(prefix) for prefix in ("", "4", "49", "491", "492", "5")])
    assert [one.prefix for one in deck.candidates("49151", AT)] == ["491", "49", "4", ""]


def test_the_default_row_has_an_empty_prefix() -> None:
    deck = Deck("r", [rate("", "elsewhere"), rate("49")])
    found = deck.match("1", AT)
    assert found is not None
    assert found.destination == "elsewhere"
    assert Deck("r", [rate("49")]).match("1", AT) is None
    assert Deck("r").match("1", AT) is None


def test_a_number_longer_than_any_key_is_still_found() -> None:
    deck = Deck("r", [rate("4" * 17), rate("4" * 16)])
    found = deck.match("4" * 40, AT)
    assert found is not None
    assert len(found.prefix) == 17


@pytest.mark.parametrize("length", [15, 16, 17, 18, 19, 20, 40])
@pytest.mark.parametrize("tail", ["0", "4", "9"])
def test_a_number_of_any_length_finds_its_longest_prefix(length: int, tail: str) -> None:
    """A key holds 17 digits; what follows them says nothing."""
    rates = [rate("4" * digits) for digits in (1, 15, 16, 17)]
    for number in (
        "4" * (length - 1) + tail,
        "4" * 15 + tail * (length - 15),
        "4" * 16 + tail * (length - 16),
    ):
        assert Deck("r", rates).match(number, AT) == naive_match(rates, number, AT)
        assert Deck("r", rates[:1]).match(number, AT) == rates[0]


@pytest.mark.parametrize("text", ["0:0.2/60/60;60:0.1/60/1", "0:1/60/12;12:1/60/13", "0:0/1/1"])
def test_steps_are_read_back_as_they_were_written(text: str) -> None:
    assert format_steps(parse_steps(text)) == text


def test_equal_prices_are_equal_texts() -> None:
    assert format_steps(parse_steps("0:0.20/60/60")) == "0:0.2/60/60"
    assert format_steps(parse_steps("0:100.000/60/60")) == "0:100/60/60"


def test_minutes_and_increments_become_steps() -> None:
    assert per_minute_steps(Decimal("0.1"), 60, 6) == parse_steps("0:0.1/60/60;60:0.1/60/6")
    assert per_minute_steps(Decimal("0.1"), 1, 1) == parse_steps("0:0.1/60/1")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "step 1"),
        ("0:0.1/60", "step 1"),
        ("0:0.1/60/60;", "step 2"),
        ("0:0.1/60/60;30:0.1/60/1", "whole number of 60 s increments"),
        ("30:0.1/60/60", "gap"),
        ("0:0.1/60/60;60:0.1/60/60;60:0.2/60/1", "overlap"),
        ("0:0.1/60/60;120:0.1/60/60;60:0.2/60/1", "overlap"),
        ("0:NaN/60/60", "not an amount"),
        ("0:1e3/60/60", "not an amount"),
        ("0:-1/60/60", "not an amount"),
        ("0:1_0/60/60", "not an amount"),
        ("0:0.1/0/60", "per_s"),
        ("0:0.1/60/0", "increment_s"),
        ("0:0.1/60/1.5", "whole number"),
        ("0:0.1/60/\u0661", "whole number"),
        (";".join(f"{n}:1/1/1" for n in range(65)), "65 steps"),
    ],
)
def test_illegal_steps_are_refused_with_the_reason(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_steps(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "Infinity",
        "-1",
        "+1",
        "1e400",
        "1E2",
        "1_0",
        "\u0661",
        "1,5",
        "1.",
        ".5",
        " 1",
        "1\n",
        "1" * 10,
    ],
)
def test_only_plain_amounts_are_read(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_amount(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix": "49x"},
        {"prefix": "\u0664"},
        {"prefix": "4" * 18},
        {"currency": "XXX"},
        {"currency": "eur"},
        {"connect_fee": Decimal(-1)},
        {"connect_fee": Decimal("NaN")},
        {"connect_fee": Decimal("Infinity")},
        {"connect_fee": Decimal("1e400")},
        {"connect_fee": Decimal("1e-13")},
        {"steps": ()},
        {"destination": "a\nb"},
        {"destination": "a" * 201},
        {"max_duration_s": 0},
        {"effective_from": AT.replace(tzinfo=None)},
        {"effective_from": AT, "effective_to": AT},
    ],
)
def test_an_illegal_rate_cannot_be_built(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {"prefix": "49", "currency": "EUR", "steps": STEPS}
    with pytest.raises(ValueError, match=r"[a-z]"):
        Rate(**(good | changes))


def test_an_illegal_step_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="start_s"):
        RateStep.of(-1, Decimal(1), 60, 60)
    with pytest.raises(ValueError, match="price"):
        RateStep.of(0, Decimal("Infinity"), 60, 60)


def test_two_rows_of_one_prefix_in_the_same_period_are_refused() -> None:
    with pytest.raises(ValueError, match="'49'"):
        Deck("r", [rate("49"), rate("4"), rate("49", effective_from=AT, effective_to=AT + DAY)])


def test_a_rate_survives_being_frozen_into_a_journal_entry() -> None:
    one = rate("49", "Germany", effective_from=AT, connect_fee=Decimal("0.050"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Rate) == one
    assert msgspec.json.decode(msgspec.json.encode(one), type=Rate) == one


def test_the_bounds_of_a_rate_can_be_built() -> None:
    longest = rate("4" * 17, "a" * 200, max_duration_s=86_400 * 366)
    assert (longest.prefix, longest.destination, longest.max_duration_s) == ("4" * 17, "a" * 200, 31_622_400)
    assert rate("", "", max_duration_s=1).max_duration_s == 1
    rate("49", effective_from=AT, effective_to=AT + timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"prefix": "4" * 18}, "^prefix '4{18}' has more than 17 digits$"),
        ({"prefix": "49x"}, "^prefix '49x' has something else than the digits 0-9$"),
        ({"prefix": "\u0664"}, "has something else than the digits 0-9$"),
        ({"destination": "a" * 201}, "^destination has more than 200 characters$"),
        ({"destination": "a\nb"}, "^destination 'a.+b' has control characters$"),
        ({"currency": "XXX"}, "^currency 'XXX'"),
        ({"connect_fee": Decimal(-1)}, "^connect_fee -1 is not within"),
        ({"steps": ()}, "^0 steps: 1-64 are allowed$"),
        ({"max_duration_s": 0}, "^max_duration_s 0 is not within 1-31622400$"),
        ({"effective_from": AT.replace(tzinfo=None)}, "^effective_from 2026-03-01T00:00:00 has no offset"),
        ({"effective_to": AT.replace(tzinfo=None)}, "^effective_to 2026-03-01T00:00:00 has no offset"),
        ({"effective_from": AT, "effective_to": AT}, "^effective_from .* is not before 2026-03-01"),
    ],
)
def test_an_illegal_rate_is_refused_with_the_reason(changes: dict[str, Any], error: str) -> None:
    good: dict[str, Any] = {"prefix": "49", "currency": "EUR", "steps": STEPS}
    with pytest.raises(ValueError, match=error):
        Rate(**(good | changes))


DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("since", "until", "held"),
    [
        (None, None, (True, True, True, True)),
        (AT, None, (False, True, True, True)),
        (None, AT + DAY, (True, True, True, False)),
        (AT, AT + DAY, (False, True, True, False)),
    ],
)
def test_a_rate_holds_from_its_first_moment_up_to_its_last(
    since: datetime | None, until: datetime | None, held: tuple[bool, ...]
) -> None:
    one = rate("49", effective_from=since, effective_to=until)
    moments = (AT - MOMENT, AT, AT + DAY - MOMENT, AT + DAY)
    assert tuple(one.holds_at(at) for at in moments) == held
    assert tuple(Deck("r", [one]).match("49", at) == one for at in moments) == held


@pytest.mark.parametrize(
    ("first", "second", "until"),
    [
        ((None, AT), (AT, None), AT),
        ((None, AT + MOMENT), (AT, None), AT),
        ((None, None), (AT, None), AT),
        ((AT, None), (AT + DAY, None), AT + DAY),
        ((AT, AT + DAY), (AT + DAY, AT + 2 * DAY), AT + DAY),
        ((AT, AT + DAY), (AT + DAY / 2, AT + 2 * DAY), AT + DAY / 2),
        ((AT, AT + DAY / 4), (AT + DAY / 2, AT + DAY), AT + DAY / 4),
    ],
)
def test_a_newer_row_ends_the_older_one_of_its_prefix(
    first: tuple[datetime | None, datetime | None],
    second: tuple[datetime | None, datetime | None],
    until: datetime,
) -> None:
    rows = [rate("49", effective_from=since, effective_to=end) for since, end in (first, second)]
    for several in (rows, rows[::-1]):
        older, newer = Deck("r", [*several, rate("5"), rate("1")]).periods("49")[:2]
        assert (older.effective_from, older.effective_to) == (first[0], until)
        assert (newer.effective_from, newer.effective_to) == second


def test_each_of_many_rows_of_a_prefix_ends_with_the_next_and_one_that_is_there_twice_counts_once() -> None:
    rows = [rate("49", effective_from=at) for at in (None, AT, AT, AT + DAY)]
    deck = Deck("r", [*rows[::-1], rate("49")])
    assert [one.effective_to for one in deck] == [AT, AT + DAY, None]


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ((None, None), (None, None), "begin at the same time"),
        ((AT, None), (AT, AT + DAY), "begin at the same time"),
        ((None, None), (AT, AT + DAY), "goes on: which holds then"),
        ((AT, AT + 3 * DAY), (AT + DAY, AT + 2 * DAY), "goes on: which holds then"),
    ],
)
def test_rows_of_one_prefix_that_contradict_are_named(
    first: tuple[datetime | None, datetime | None], second: tuple[datetime | None, datetime | None], text: str
) -> None:
    rows = [
        Rate(
            prefix="49",
            currency="EUR",
            steps=parse_steps(f"0:{price}/60/60"),
            effective_from=since,
            effective_to=until,
        )
        for price, (since, until) in ((1, first), (2, second))
    ]
    for several in (rows, rows[::-1]):
        builder = DeckBuilder()
        for one in (rate("5"), *several, rate("1")):
            builder.add(one.prefix, 0, *builder.kind(one))
        (found,) = builder.sort()
        assert (sorted(found[:2]), found.prefix) == ([1, 2], "49")
        assert text in found.reason


def test_a_row_that_ends_where_the_next_begins_ends_the_one_before_for_good() -> None:
    rows = [
        rate("49", effective_from=since, effective_to=until)
        for since, until in ((None, None), (AT, AT + DAY), (AT + DAY, None))
    ]
    assert [one.effective_to for one in Deck("r", rows)] == [AT, AT + DAY, None]


@pytest.mark.parametrize(
    "text",
    [
        "0:0.1/60/60",
        "0:0.000000001/60/60",
        "0:0.0000000015/60/60",
        "0:0.000000127/60/60",
        "0:0.000000000001/60/60",
        "0:999999999.999999999/60/60",
        "0:0.1/60/60;60:0.1/60/6",
        "0:0.1/60/60;60:0.2/60/6",
        "0:0.1/30/60",
        "0:0.3/60/60@Mo UTC|0.1/60/60",
    ],
)
def test_a_deck_gives_back_the_rate_that_it_was_made_of(text: str) -> None:
    rows = [
        Rate(
            prefix=prefix,
            currency=currency,
            steps=parse_steps(text),
            destination=f"to {prefix}",
            connect_fee=Decimal(fee),
            effective_from=AT,
            effective_to=AT + DAY,
            max_duration_s=90,
        )
        for prefix, currency, fee in (("49", "EUR", "0.05"), ("491", "USD", "0"), ("5", "EUR", "0.05"))
    ]
    deck = Deck("of today", rows)
    assert deck.revision == "of today"
    assert (len(deck), list(deck)) == (3, rows)
    assert [deck.match(one.prefix + "0", AT) for one in rows] == rows
    assert deck.candidates("4915", AT) == (rows[1], rows[0])


def test_what_rows_have_in_common_is_kept_once() -> None:
    deck = Deck(
        "r", [rate("49", "Germany"), rate("4915", "Germany"), rate("44", "UK"), rate("1", max_duration_s=60)]
    )
    assert deck.destinations == ("Germany", "UK", "")
    assert len(deck.kinds) == 2
    assert [(prefix, deck.destinations[one], kind, price) for prefix, one, kind, price in deck.rows()] == [
        ("1", "", 1, 100_000_000),
        ("44", "UK", 0, 100_000_000),
        ("49", "Germany", 0, 100_000_000),
        ("4915", "Germany", 0, 100_000_000),
    ]


@pytest.mark.parametrize("text", ["0:{}/60/60", "0:{}/60/60;60:{}/60/1", "0:{}/30/60"])
def test_each_row_has_a_price_and_a_destination_of_its_own(text: str) -> None:
    rows = [
        Rate(prefix=prefix, currency="EUR", steps=parse_steps(text.replace("{}", price)), destination=place)
        for prefix, price, place in (
            ("1", "0.1", "north"),
            ("12", "0.2", "east"),
            ("123", "0.3", "south"),
            ("2", "0.4", "west"),
        )
    ]
    builder = DeckBuilder()
    for one in (rows[2], rows[0], rows[3], rows[1]):
        builder.add(one.prefix, builder.destination(one.destination), *builder.kind(one))
    assert builder.sort() == []
    built = Deck.built("r", builder)
    for deck in (built, Deck("r", rows[::-1])):
        assert list(deck) == rows
        assert deck.revision == "r"
        assert [deck.match(number, AT) for number in ("1", "10", "129", "1239", "29", "3")] == [
            rows[0],
            rows[0],
            rows[1],
            rows[2],
            rows[3],
            None,
        ]
        assert deck.candidates("1239", AT) == (rows[2], rows[1], rows[0])
        assert len(deck.kinds) == (4 if "/30/" in text else 1), "prices per minute are a matter of the row"
        assert {(kind.prefix, kind.destination) for kind in deck.kinds} == {("", "")}


def test_the_periods_of_one_prefix_are_put_in_order_where_all_rows_have_one() -> None:
    rows = [
        rate("49", f"from {day}", effective_from=AT + day * DAY, effective_to=AT + (day + 1) * DAY)
        for day in range(3)
    ]
    for several in (rows, rows[::-1], [rows[1], rows[2], rows[0]]):
        deck = Deck("r", several)
        assert list(deck) == rows
        assert [deck.match("49", AT + day * DAY) for day in range(4)] == [*rows, None]


def test_a_deck_may_have_many_destinations_and_many_kinds_of_rows() -> None:
    rows = [rate(f"{number}", f"place {number}", max_duration_s=number) for number in range(1000, 1200)]
    deck = Deck("r", rows)
    assert list(deck) == rows
    assert [deck.match(f"{one.prefix}7", AT) for one in rows] == rows
    assert (len(deck.destinations), len(deck.kinds)) == (200, 200)


def test_a_rate_that_says_nothing_more_has_no_fee_destination_period_or_longest_call() -> None:
    one = Rate(prefix="49", currency="EUR", steps=STEPS)
    assert (one.destination, one.connect_fee, one.max_duration_s) == ("", Decimal(0), None)
    assert (one.effective_from, one.effective_to) == (None, None)
