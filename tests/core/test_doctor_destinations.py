"""From how many calls on a place, a rate or a number is spoken of, and what is said; by a small plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.doctor import Finding, NumberingPlan, Observed, Standing, diagnose
from sidecar.core.doctor.destinations import (
    carried_unrated,
    implausible_numbers,
    implausible_rates,
    unrated_calls,
    unrated_destinations,
)
from sidecar.core.doctor.strips import Sender
from sidecar.core.terms import ChargeSide

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
REVISION = "0123456789abcdef"
SELL, BUY = ChargeSide.SELL, ChargeSide.BUY
NOTHING: frozenset[tuple[UUID, ChargeSide]] = frozenset()


def standing(number: str) -> Standing:
    """Numbers of 49 and of 262 have ten digits; those that end in 9 are not given out."""
    if not country_code(number) or len(number) != 10:
        return Standing.NONE
    return Standing.POSSIBLE if number.endswith("9") else Standing.VALID


def country_code(number: str) -> str:
    return next((code for code in ("49", "262") if number.startswith(code)), "")


PLAN = NumberingPlan(
    standing=standing, country_code=country_code, area=lambda number: f"land {country_code(number)}"
)


def one(place: int, number: str, **fields: Any) -> Observed:
    known: dict[str, Any] = {
        "call_id": UUID(int=place + 1),
        "side": SELL,
        "sender": "proxy",
        "account": "acme",
        "rule": "global",
        "number": number,
        "billed": number,
        "prefix": "49",
        "deck_revision": REVISION,
        "at": AT + timedelta(seconds=place),
    }
    return Observed(**{**known, **fields})


def numbers(count: int, begin: str = "49", end: str = "0") -> list[str]:
    """Of ten digits; different in the last but one and before."""
    return [f"{begin}{place:0{9 - len(begin)}}{end}" for place in range(count)]


def calls(of: list[str], first: int = 0, **fields: Any) -> list[Observed]:
    return [one(first + place, number, **fields) for place, number in enumerate(of)]


# --- places without a rate ----------------------------------------------------------------------------------


def unrated(*observed: Observed) -> list[Finding]:
    return unrated_destinations(observed, NOTHING, PLAN)


@pytest.mark.parametrize(
    ("unpriced", "different", "priced", "found"),
    [(20, 5, 19, 1), (20, 5, 20, 0), (19, 5, 0, 0), (20, 4, 0, 0), (21, 6, 20, 1)],
)
def test_a_place_without_a_rate_is_named_from_so_many_calls_and_numbers_on(
    unpriced: int, different: int, priced: int, found: int
) -> None:
    some = (numbers(different) * unpriced)[:unpriced]
    rated = calls(numbers(priced, "491"), 100)
    assert len(unrated(*calls(some, prefix=None), *rated)) == found


def test_what_is_said_of_a_place_without_a_rate() -> None:
    [finding] = unrated(*calls(numbers(20, "4917"), prefix=None), *calls(numbers(5), 100))
    assert finding.text == "no rate for land 49: all unrated numbers begin with 4917000"
    assert [fix.text for fix in finding.fixes] == [
        "add rates for land 49 to the sell deck of these calls (deck 0123456789ab)"
    ]
    assert (finding.subject, finding.side, finding.symptom) == (
        "sell deck 0123456789ab",
        "sell",
        "unrated_destination",
    )
    assert (finding.calls, finding.of, finding.numbers) == (20, 25, 20)
    assert (finding.first_at, finding.last_at) == (AT, AT + timedelta(seconds=19))


def test_calls_without_a_deck_are_told_to_name_one() -> None:
    [finding] = unrated(*calls(numbers(20), prefix=None, deck_revision=None))
    assert finding.subject == "sell no deck"
    assert [fix.text for fix in finding.fixes] == [
        "these calls have no sell deck: name one for their account, or as billing.deck"
    ]


def test_numbers_that_begin_alike_in_no_digit_are_told_without_a_beginning() -> None:
    sea = replace(PLAN, area=lambda _: "the sea")
    [finding] = unrated_destinations(
        [*calls(numbers(10, "262"), prefix=None), *calls(numbers(10), 100, prefix=None)], NOTHING, sea
    )
    assert finding.text == "no rate for the sea"


def test_each_side_deck_and_place_is_apart_and_in_order() -> None:
    found = unrated(
        *calls(numbers(20), 400, prefix=None, deck_revision=None),
        *calls(numbers(20, "262"), prefix=None),
        *calls(numbers(20), 100, prefix=None),
        *calls(numbers(20), 200, prefix=None, deck_revision="fedc"),
        *calls(numbers(20), 300, prefix=None, side=BUY),
    )
    assert [(one.subject, one.text[:18]) for one in found] == [
        ("buy deck 0123456789ab", "no rate for land 4"),
        ("sell no deck", "no rate for land 4"),
        ("sell deck 0123456789ab", "no rate for land 2"),
        ("sell deck 0123456789ab", "no rate for land 4"),
        ("sell deck fedc", "no rate for land 4"),
    ]


@pytest.mark.parametrize(
    "fields",
    [{"free": True}, {"billed": None}, {"billed": ""}, {"billed": "4900"}, {"billed": "4900000009"}],
    ids=str,
)
def test_free_calls_and_numbers_that_are_not_sound_lack_no_rate(fields: dict[str, Any]) -> None:
    assert unrated(*calls(numbers(30), prefix=None, **fields)) == []


def test_what_a_wrong_strip_explains_is_not_told_again() -> None:
    few = calls(numbers(20), prefix=None)
    other = frozenset((call.call_id, BUY) for call in few)
    assert len(unrated_destinations(few, other, PLAN)) == 1
    assert unrated_destinations(few, frozenset({(few[3].call_id, SELL)}), PLAN) == []


# --- rates by less than a country code ----------------------------------------------------------------------


def short(*observed: Observed) -> list[Finding]:
    return implausible_rates(observed, NOTHING, PLAN)


@pytest.mark.parametrize(
    ("odd", "different", "right", "found"),
    [(20, 5, 19, 1), (20, 5, 20, 0), (19, 5, 0, 0), (20, 4, 0, 0)],
)
def test_a_prefix_shorter_than_the_country_code_is_named_from_so_many_calls_on(
    odd: int, different: int, right: int, found: int
) -> None:
    some = (numbers(different, "262") * odd)[:odd]
    assert len(short(*calls(some, prefix="26"), *calls(numbers(right), 100, prefix="26"))) == found


@pytest.mark.parametrize(
    ("prefix", "found"), [("2", 1), ("26", 1), ("262", 0), ("2620", 0), ("", 0), (None, 0)]
)
def test_a_prefix_as_long_as_the_country_code_and_the_default_row_are_meant(
    prefix: str | None, found: int
) -> None:
    assert len(short(*calls(numbers(20, "262"), prefix=prefix))) == found
    assert short(*calls(numbers(20, "262", end="9"), prefix=prefix)) == []


def test_what_is_said_of_a_short_prefix() -> None:
    [finding] = short(
        *calls(numbers(15, "262"), prefix="4"), *calls(numbers(15), 100, prefix="4"), *calls(["4900"], 200)
    )
    assert finding.text == "prefix 4 is shorter than the country code (262, 49) of what it prices"
    assert [fix.text for fix in finding.fixes] == [
        "add rows for 262, 49 to the sell deck, or take out prefix 4"
    ]
    assert (finding.subject, finding.calls, finding.of) == ("sell deck 0123456789ab", 30, 30)


def test_each_deck_and_prefix_is_apart_and_in_order_with_the_codes_in_order() -> None:
    codes = [f"4{last}" for last in range(8)]
    many = replace(PLAN, standing=lambda _: Standing.VALID, country_code=lambda number: number[:2])
    observed = calls([number for code in codes for number in numbers(20, code)], prefix="4")
    found = implausible_rates(
        [
            *[replace(one, deck_revision="fedc") for one in observed],
            *observed,
            *[replace(one, prefix="40") for one in observed[:1]],
        ],
        NOTHING,
        many,
    )
    assert [one.subject for one in found] == ["sell deck 0123456789ab", "sell deck fedc"]
    assert f"country code ({', '.join(codes)}) of" in found[0].text


def test_calls_that_the_prefix_prices_rightly_are_counted_and_not_shown() -> None:
    [finding] = short(*calls(numbers(20, "262"), prefix="26"), *calls(numbers(5), 100, prefix="26"))
    assert (finding.calls, finding.of, finding.last_at) == (20, 25, AT + timedelta(seconds=19))
    assert finding.symptom == "implausible_rate"


# --- numbers that cannot exist ------------------------------------------------------------------------------


def impossible(*observed: Observed, explained: frozenset[tuple[UUID, ChargeSide]] = NOTHING) -> list[Finding]:
    return implausible_numbers(
        Sender(side=SELL, kind="global", name="proxy", calls=tuple(observed)), explained, PLAN
    )


@pytest.mark.parametrize(("bad", "good", "found"), [(20, 180, 1), (20, 181, 0), (19, 0, 0), (30, 270, 1)])
def test_so_many_different_numbers_and_a_tenth_of_all_must_be_impossible(
    bad: int, good: int, found: int
) -> None:
    assert len(impossible(*calls(numbers(bad, "77")), *calls(numbers(good), 1_000))) == found
    assert impossible(*calls(numbers(19, "77") * 2), *calls(numbers(good), 1_000)) == []


def test_what_is_said_of_numbers_that_cannot_exist() -> None:
    wrong = [*calls(numbers(12, "77") * 2), *calls([f"77{number}" for number in numbers(8)], 100)]
    [finding] = impossible(*wrong, *calls(numbers(50), 1_000))
    assert finding.text == (
        "billed numbers that cannot exist: 32 calls begin with no assigned country code, 0 have a length "
        "that their country does not have; all begin with 77"
    )
    assert (finding.subject, finding.calls, finding.of, finding.numbers) == ("peer proxy", 32, 82, 20)
    assert finding.symptom == "implausible_numbers"
    assert [fix.text for fix in finding.fixes] == [
        "ask peer proxy in which format it sends numbers: no strip length makes these right"
    ]
    [finding] = impossible(*calls([f"{number}0" for number in numbers(20)]), *calls(numbers(9, "8"), 100))
    assert "9 calls begin with no assigned country code, 20 have a length" in finding.text
    assert "all begin with" not in finding.text


def test_the_calls_to_them_are_all_told_of_also_those_that_had_nothing_left_to_bill() -> None:
    wrong = calls(numbers(20, "77"))
    [finding] = impossible(*wrong, one(-1, wrong[0].number, billed=None))
    assert finding.calls == 21
    assert finding.text == (
        "billed numbers that cannot exist: 21 calls begin with no assigned country code, 0 have a length "
        "that their country does not have"
    )
    [finding] = impossible(*calls(["770" + "1" * more for more in range(20)]))
    assert finding.text.endswith("; all begin with 770")


def test_numbers_that_are_possible_not_billed_or_explained_are_not_impossible() -> None:
    assert impossible(*calls(numbers(30, end="9"))) == []
    assert impossible(*calls(numbers(30, "77"), billed=None)) == []
    bad = calls(numbers(20, "77"))
    assert impossible(*bad, explained=frozenset({(bad[0].call_id, SELL)})) == []
    assert len(impossible(*bad, explained=frozenset({(bad[0].call_id, BUY)}))) == 1


def spread(count: int, unrated: int) -> list[Observed]:
    """Calls to two numbers in each of many places, some of them without a rate."""
    plan_numbers = [f"49{place:05d}{number}" for place in range(count // 2) for number in range(2)]
    return [
        one(place, number, prefix=None if place < unrated else "49")
        for place, number in enumerate(plan_numbers)
    ]


BY_PLACE = NumberingPlan(
    standing=lambda _: Standing.VALID, country_code=lambda _: "49", area=lambda number: f"land {number[:7]}"
)


@pytest.mark.parametrize(("unrated", "found"), [(73, 1), (20, 1), (19, 0)])
def test_calls_without_a_rate_are_counted_over_all_places(unrated: int, found: int) -> None:
    findings = diagnose(spread(100, unrated), BY_PLACE)
    assert [(one.symptom, one.calls, one.of) for one in findings] == [("unrated_calls", unrated, 100)] * found


def over_all(
    *observed: Observed, told: Sequence[Finding] = (), plan: NumberingPlan = BY_PLACE
) -> list[Finding]:
    return unrated_calls(observed, NOTHING, told, plan)


def test_what_is_said_of_calls_without_a_rate() -> None:
    [finding] = over_all(*spread(100, 73))
    places = ", ".join(f"land 490000{place}: 2" for place in range(5))
    assert finding.text == f"no rate for 73 of 100 calls, to 37 places ({places}, and 32 more)"
    assert [fix.text for fix in finding.fixes] == [
        "complete the sell deck of these calls (deck 0123456789ab), or look which list was put in force"
    ]
    assert (finding.subject, finding.side, finding.symptom) == (
        "sell deck 0123456789ab",
        "sell",
        "unrated_calls",
    )
    five = [f"49{place:05d}{number}" for place in range(5) for number in range(4)]
    [finding] = over_all(*calls(five, prefix=None))
    assert finding.text.endswith("to 5 places (" + ", ".join(f"land 490000{n}: 4" for n in range(5)) + ")")
    nowhere = replace(BY_PLACE, area=lambda _: "")
    [finding] = over_all(*calls(five, prefix=None, deck_revision=None), plan=nowhere)
    assert finding.text == "no rate for 20 of 20 calls, to 1 places (no country: 20)"
    assert finding.subject == "sell no deck"
    assert [fix.text for fix in finding.fixes] == [
        "these calls have no sell deck: name one for their account, or as billing.deck"
    ]


def test_twenty_different_numbers_that_are_not_free_must_lack_a_rate() -> None:
    assert over_all(*calls(numbers(20), prefix=None, free=True)) == []
    assert over_all(*calls(numbers(19), prefix=None), *calls(numbers(19), 100, prefix=None)) == []
    assert len(over_all(*calls(numbers(20), prefix=None))) == 1
    some = calls(numbers(25), prefix=None)
    assert len(over_all(*some, *calls(numbers(475, "262"), 100))) == 1
    assert over_all(*some, *calls(numbers(476, "262"), 100)) == [], "less than a twentieth of all"


def test_numbers_that_may_exist_and_that_nothing_explains_are_counted() -> None:
    assert len(over_all(*calls(numbers(20, end="9"), prefix=None), plan=PLAN)) == 1
    assert over_all(*calls(numbers(20, "77"), prefix=None), plan=PLAN) == []
    every = replace(PLAN, standing=lambda _: Standing.VALID)
    assert over_all(*calls(numbers(20), prefix=None, billed=""), plan=every) == []
    some = calls(numbers(20), prefix=None)
    assert unrated_calls(some, {(some[0].call_id, BUY)}, (), PLAN) != []
    assert unrated_calls(some, {(some[0].call_id, SELL)}, (), PLAN) == []


def test_each_side_and_deck_is_counted_apart_and_in_order() -> None:
    found = over_all(
        *calls(numbers(20), prefix=None, deck_revision="fedc"),
        *calls(numbers(20), 100, prefix=None, deck_revision=None),
        *calls(numbers(20), 200, prefix=None),
        *calls(numbers(20), 300, prefix=None, side=BUY),
    )
    assert [one.subject for one in found] == [
        "buy deck 0123456789ab",
        "sell no deck",
        "sell deck 0123456789ab",
        "sell deck fedc",
    ]


def test_one_place_without_a_rate_is_not_told_twice() -> None:
    findings = diagnose(calls(numbers(30), prefix=None), PLAN)
    assert [one.symptom for one in findings] == ["unrated_destination"]


def test_the_most_calls_come_first() -> None:
    found = diagnose([*calls(numbers(20, "262"), prefix=None), *calls(numbers(30), 100, prefix=None)], PLAN)
    assert [one.text[:16] for one in found] == ["no rate for land"] * 2
    assert [one.calls for one in found] == [30, 20]


def test_digits_that_a_gateway_s_calls_prove_are_no_impossible_numbers_besides() -> None:
    bought = [
        one(place, f"{800 + place}{number}", side=BUY, rule="gateway", other=number, prefix=None)
        for place, number in enumerate(numbers(20))
    ]
    found = diagnose(bought, PLAN)
    assert [(one.symptom, one.digits) for one in found] == [
        ("under_stripped", str(800 + place)) for place in range(20)
    ]


# --- calls that were carried without a price ----------------------------------------------------------------


def test_one_call_that_was_carried_without_a_price_is_told_whatever_its_number() -> None:
    lost = one(7, "12", prefix=None, carried_unrated=True, billable_ms=1)
    observed = [*calls(numbers(5)), one(6, "12", prefix=None), lost]
    assert diagnose(observed, PLAN) == []
    [found] = carried_unrated(observed, (), PLAN)
    assert (found.symptom, found.subject, found.calls, found.of) == (
        "carried_unrated",
        "sell deck 0123456789ab",
        1,
        7,
    )
    assert [example.call_id for example in found.examples] == [lost.call_id]
    assert found.text == "1 calls were answered and have no rate (land ): nothing was charged"
    assert [fix.text for fix in found.fixes] == [
        "add the rates to the sell deck of these calls (deck 0123456789ab), then `sidecar rerate` them"
    ]
    [bought] = carried_unrated([replace(lost, side=BUY, deck_revision=None)], (), PLAN)
    assert bought.subject == "buy no deck"
    assert bought.text == "1 calls were answered and have no rate (land ): what they cost is not known"
    assert [fix.text for fix in bought.fixes] == [
        "name a buy deck for these calls, then `sidecar rerate` them"
    ]


def test_the_places_of_such_calls_are_those_of_the_numbers_that_were_billed() -> None:
    def lost(*called: tuple[str, str | None], deck: str | None = REVISION) -> list[Observed]:
        return [
            one(place, number, billed=billed, prefix=None, carried_unrated=True, deck_revision=deck)
            for place, (number, billed) in enumerate(called)
        ]

    by_digit = replace(PLAN, area=lambda number: "" if number[0] == "0" else f"land {number[0]}")
    called = [(f"00{digit}", f"{digit}00") for digit in (7, 3, 6, 1, 5, 4)]
    found = carried_unrated(
        [*lost(*called, deck="fedc"), *lost(("012", None)), *lost(("8", None), deck=None)], (), by_digit
    )
    assert [one.subject for one in found] == ["sell no deck", "sell deck 0123456789ab", "sell deck fedc"]
    assert [one.text.partition(" rate ")[2] for one in found] == [
        "(land 8): nothing was charged",
        "(no country): nothing was charged",
        "(land 1, land 3, land 4, land 5, land 6): nothing was charged",
    ]


def test_calls_of_which_it_is_told_why_are_not_told_again() -> None:
    observed = calls(numbers(40), prefix=None, carried_unrated=True, billable_ms=1)
    told = diagnose(observed, PLAN)
    assert [found.symptom for found in told] == ["unrated_destination"]
    assert carried_unrated(observed, told, PLAN) == []
    [apart] = carried_unrated([*observed, replace(observed[0], deck_revision="fedc")], told, PLAN)
    assert (apart.subject, apart.calls) == ("sell deck fedc", 1)
    of_the_peer = [replace(told[0], subject="peer proxy")]
    assert carried_unrated(observed, of_the_peer, PLAN) == []
