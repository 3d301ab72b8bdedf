"""What a sender's numbers want, from how many of them on; by a small plan."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sidecar.core.doctor import NumberingPlan, Observed, Standing
from sidecar.core.doctor.cohorts import Cohort, Kind, cohorts
from sidecar.core.terms import ChargeSide

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LENGTHS = {"7": (11,), "49": (10,), "262": (10, 11), "351": (13,), "352": (13,), "353": (13,)}
PLAIN = Cohort(kind=Kind.PLAIN)
OF_SOME_COUNTRY = Cohort(kind=Kind.TRUNK, digits="0", strip=1)


def country_code(number: str) -> str:
    return next((code for code in LENGTHS if number.startswith(code)), "")


def standing(number: str) -> Standing:
    """Those that end in 9 are not given out; after 7 comes a 4."""
    code = country_code(number)
    if not code or len(number) not in LENGTHS[code] or (code == "7" and number[1] != "4"):
        return Standing.NONE
    return Standing.POSSIBLE if number.endswith("9") else Standing.VALID


PLAN = NumberingPlan(standing=standing, country_code=country_code, area=country_code)


def numbers(count: int, front: str = "", *, length: int = 10, begin: str = "49", end: str = "0") -> list[str]:
    return [f"{front}{begin}{place:0{length - 1 - len(begin)}}{end}" for place in range(count)]


def national(count: int, end: str = "0") -> list[str]:
    """0 and eight digits."""
    return [f"0{2_000_000 + place}{end}" for place in range(count)]


def wanted(dialled: Iterable[str], callers: Iterable[str] = ()) -> list[Cohort]:
    known = list(callers)
    sample = [
        Observed(
            call_id=UUID(int=place),
            side=ChargeSide.SELL,
            sender="proxy",
            account="acme",
            rule="global",
            number=number,
            billed=number,
            caller=known[place % len(known)] if known else None,
            at=AT + timedelta(seconds=place),
        )
        for place, number in enumerate(dialled)
    ]
    return cohorts(sample, PLAN)


def technical(digits: str) -> Cohort:
    return Cohort(kind=Kind.TECHNICAL, digits=digits, strip=len(digits))


# --- from how many numbers on -------------------------------------------------------------------------------


@pytest.mark.parametrize(("coded", "plain", "found"), [(20, 380, True), (20, 381, False), (19, 81, False)])
def test_twenty_numbers_and_a_twentieth_of_all_make_a_habit(coded: int, plain: int, found: bool) -> None:
    access = Cohort(kind=Kind.ACCESS, digits="00", strip=2)
    assert wanted([*numbers(coded, "00"), *numbers(plain)]) == [*[access] * found, PLAIN]


def test_what_one_number_says_by_itself() -> None:
    assert wanted(numbers(20, "011")) == [Cohort(kind=Kind.ACCESS, digits="011", strip=3)]
    assert wanted(numbers(20, "77#00")) == [technical("77#00")]
    assert wanted(numbers(20, "7#7*")) == [technical("7#7*")]
    assert wanted(numbers(20, "77#", begin="81")) == [], "nothing behind the mark"
    assert wanted(numbers(20, "00", begin="81")) == [], "no access code, and no trunk prefix either"
    assert wanted(numbers(20, end="9")) == [], "possible alone says little"


# --- a single 0 in front ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outside", "expected"), [(14, [technical("0")]), (13, [])])
def test_an_outside_line_is_0_if_e164_follows_in_seven_of_ten(outside: int, expected: list[Cohort]) -> None:
    assert wanted([*numbers(outside, "0"), *national(20 - outside)]) == expected


@pytest.mark.parametrize(("outside", "expected"), [(8, []), (7, [OF_SOME_COUNTRY])])
def test_0_is_no_trunk_prefix_where_many_are_e164_behind_it(outside: int, expected: list[Cohort]) -> None:
    assert wanted([*numbers(outside, "0"), *national(20 - outside)]) == expected


def test_the_country_is_that_of_most_callers_of_three() -> None:
    german = [Cohort(kind=Kind.TRUNK, digits="0", strip=1, add="49")]
    assert wanted(national(20)) == [OF_SOME_COUNTRY]
    assert wanted(national(20), ["4930", "4930", "2629"]) == german
    assert wanted(national(20), ["2629", "2629", "4930"]) == [
        Cohort(kind=Kind.TRUNK, digits="0", strip=1, add="262")
    ]
    others = ["351"] * 4 + ["352"] * 3 + ["353"] * 2
    assert wanted(national(20), [*others, "4930"]) == [OF_SOME_COUNTRY]
    assert wanted(national(20), [*others[:-2], "4930"]) == german


@pytest.mark.parametrize(
    ("valid", "possible", "named"), [(18, 0, True), (17, 0, False), (7, 13, True), (6, 14, False)]
)
def test_its_numbers_must_be_possible_there_and_a_third_given_out(
    valid: int, possible: int, named: bool
) -> None:
    short = [f"01{place:02}" for place in range(20 - valid - possible)]
    dialled = [*national(valid), *national(possible, "9"), *short]
    assert [bool(one.add) for one in wanted(dialled, ["4930"])] == [named]


@pytest.mark.parametrize(("coded", "expected"), [(13, [OF_SOME_COUNTRY]), (14, [])])
def test_010_is_an_access_code_where_e164_follows_it_in_seven_of_ten(
    coded: int, expected: list[Cohort]
) -> None:
    assert wanted([*numbers(coded, "010"), *national(20 - coded)]) == expected


def test_a_small_country_may_be_behind_an_outside_line() -> None:
    island = numbers(20, "0", begin="262", end="9")
    assert wanted(island) == []
    assert wanted([*island[:18], *national(2)]) == []
    assert wanted([*island[:17], *national(3)]) == [OF_SOME_COUNTRY]
    assert wanted(numbers(20, "0", end="9")) == [OF_SOME_COUNTRY], "no island has a code of two digits"
    assert wanted(numbers(20, "0", begin="262", length=9)) == [OF_SOME_COUNTRY], "no number of the island"


# --- digits that are learned --------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["9", "9955", "12345678901"])
def test_up_to_eleven_digits_that_leave_valid_numbers_are_learned(front: str) -> None:
    assert wanted(numbers(20, front)) == [technical(front)]
    assert wanted(numbers(19, front)) == []
    assert wanted([*numbers(10, front), *numbers(10, front, end="9")]) == []


def test_twelve_digits_are_too_many() -> None:
    assert wanted(numbers(20, "123456789012")) == []


@pytest.mark.parametrize(("valid", "others", "found"), [(20, 8, True), (20, 9, False), (21, 9, True)])
def test_they_leave_valid_numbers_in_seven_of_ten(valid: int, others: int, found: bool) -> None:
    assert wanted([*numbers(valid, "9955"), *numbers(others, "9955", begin="81")]) == (
        [technical("9955")] * found
    )


@pytest.mark.parametrize("digits", ["x", "\u0663"])
def test_what_is_no_number_says_nothing_of_them(digits: str) -> None:
    assert wanted([*numbers(20, "9955"), *(f"9955{digits}{place}" for place in range(9))]) == [
        technical("9955")
    ]


def test_the_digits_that_explain_the_most_are_learned_and_of_two_the_shorter() -> None:
    dialled = numbers(20, "557")  # 749... is a number as well
    assert wanted(dialled) == [technical("55")]
    assert wanted([*dialled, *numbers(5, "557", begin="262")]) == [technical("557")]


def test_six_are_learned_of_one_sender() -> None:
    fronts = ("11", "22", "33", "55", "66", "88", "91")
    assert wanted([number for front in fronts for number in numbers(20, front)]) == [
        technical(front) for front in fronts[:6]
    ]
