"""From how many calls on a place, a rate or a number is spoken of, and what is said; by a small plan."""

from __future__ import annotations

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


def test_each_side_deck_and_place_is_apart_and_in_order() -> None:
    found = unrated(
        *calls(numbers(20, "262"), prefix=None),
        *calls(numbers(20), 100, prefix=None),
        *calls(numbers(20), 200, prefix=None, deck_revision="fedc"),
        *calls(numbers(20), 300, prefix=None, side=BUY),
    )
    assert [(one.subject, one.text[:18]) for one in found] == [
        ("buy deck 0123456789ab", "no rate for land 4"),
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


def test_what_is_said_of_a_short_prefix() -> None:
    [finding] = short(
        *calls(numbers(15, "262"), prefix="4"), *calls(numbers(15), 100, prefix="4"), *calls(["4900"], 200)
    )
    assert finding.text == "prefix 4 is shorter than the country code (262, 49) of what it prices"
    assert [fix.text for fix in finding.fixes] == [
        "add rows for 262, 49 to the sell deck, or take out prefix 4"
    ]
    assert (finding.subject, finding.calls, finding.of) == ("sell deck 0123456789ab", 30, 30)


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
    assert [fix.text for fix in finding.fixes] == [
        "ask peer proxy in which format it sends numbers: no strip length makes these right"
    ]
    [finding] = impossible(*calls([f"{number}0" for number in numbers(20)]), *calls(numbers(9, "8"), 100))
    assert "9 calls begin with no assigned country code, 20 have a length" in finding.text
    assert "all begin with" not in finding.text


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


def test_one_place_without_a_rate_is_not_told_twice() -> None:
    findings = diagnose(calls(numbers(30), prefix=None), PLAN)
    assert [one.symptom for one in findings] == ["unrated_destination"]


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
    assert "nothing was charged" in found.text
    assert "sidecar rerate" in found.fixes[0].text
    [bought] = carried_unrated([replace(lost, side=BUY, deck_revision=None)], (), PLAN)
    assert bought.subject == "buy no deck"
    assert "what they cost is not known" in bought.text


def test_calls_of_which_it_is_told_why_are_not_told_again() -> None:
    observed = calls(numbers(40), prefix=None, carried_unrated=True, billable_ms=1)
    told = diagnose(observed, PLAN)
    assert [found.symptom for found in told] == ["unrated_destination"]
    assert carried_unrated(observed, told, PLAN) == []
    [apart] = carried_unrated([*observed, replace(observed[0], deck_revision="fedc")], told, PLAN)
    assert (apart.subject, apart.calls) == ("sell deck fedc", 1)
    of_the_peer = [replace(told[0], subject="peer proxy")]
    assert carried_unrated(observed, of_the_peer, PLAN) == []
