from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sidecar.core.doctor import DeckFinding, NumberingPlan, Standing, Symptom, deck_findings
from sidecar.core.tariff import Deck, Rate, parse_steps

AT = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = NumberingPlan(
    standing=lambda _: Standing.VALID,
    country_code=lambda number: next((code for code in ("44", "49") if number.startswith(code)), ""),
    area=lambda _: "",
)


def rate(prefix: str, price: str, destination: str = "", **terms: Any) -> Rate:
    steps = parse_steps(price if ":" in price else f"0:{price}/60/1")
    return Rate(prefix=prefix, currency="EUR", destination=destination, **{"steps": steps, **terms})


def deck(prices: dict[str, str]) -> Deck:
    return Deck(str(prices), [rate(prefix, price) for prefix, price in prices.items()])


def findings(now: list[Rate], before: dict[str, str] | None = None) -> list[DeckFinding]:
    return deck_findings("sell", Deck("now", now), None if before is None else deck(before), PLAN, AT)


def found(
    now: dict[str, str], before: dict[str, str] | None = None
) -> list[tuple[str, str, tuple[str, ...]]]:
    rows = [rate(prefix, price) for prefix, price in now.items()]
    return [(one.symptom.value, one.text, one.examples) for one in findings(rows, before)]


def test_prefixes_with_an_exit_code_are_named() -> None:
    """Neither an exit code without a country behind it, nor a country code behind something else."""
    rows = [rate(prefix, "0.01") for prefix in ("0044", "01144", "44", "0800", "0033", "0949")]
    assert findings(rows) == [
        DeckFinding(
            symptom=Symptom.EXIT_CODE_IN_DECK,
            deck="sell",
            revision="now",
            text="2 prefixes begin with an exit code: a number in E.164 never matches them",
            rows=2,
            of=6,
            examples=("0044", "01144"),
            fix="import the list with `prefix_strip` in its template; or, if numbers are meant to be "
            "rated with the code on them, strip nothing",
        )
    ]


def test_the_first_ten_rows_are_shown() -> None:
    rows = [rate(f"0044{number}", "0.01") for number in range(20, 32)]
    [coded] = findings(rows)
    assert (coded.rows, coded.examples) == (12, tuple(f"0044{number}" for number in range(20, 30)))
    dear = {f"44{number}": "1" for number in range(20, 32)}
    [(_, text, examples)] = found(dear, dict.fromkeys(dear, "0.1"))
    assert (text[:9], examples) == ("12 prices", tuple(f"44{number}" for number in range(20, 30)))


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ("1.2", "10 times"),
        ("7.2", "60 times"),
        ("12", "100 times"),
        ("0.0012", "1/100 of"),
        ("0.002", "1/60 of"),
    ],
)
def test_a_price_that_is_another_by_a_factor_than_before_is_named(price: str, text: str) -> None:
    ((symptom, said, examples),) = found({"44": price, "49": "0.03"}, {"44": "0.12", "49": "0.02"})
    assert (symptom, examples) == ("price_factor_before", ("44",))
    assert said == f"1 prices are {text} those of the revision before"


def test_a_price_that_is_another_by_a_factor_than_its_neighbours_is_named() -> None:
    rows = {"441": "0.012", "442": "0.012", "443": "1.2", "444": "0.013"}
    ((symptom, text, examples),) = found(rows)
    assert (symptom, examples) == ("price_factor_neighbours", ("443",))
    assert text == "1 prices are 100 times those of their neighbours"


def test_prices_that_differ_as_prices_do_are_not_named() -> None:
    assert found({"441": "0.01", "442": "0.02", "447": "0.08", "448": "0.12"}, {"441": "0.03"}) == []


def test_each_factor_is_a_finding_of_its_own_the_smallest_first() -> None:
    now = {"1": "10", "2": "1", "3": "0.01", "4": "1"}
    told = findings([rate(prefix, price, prefix) for prefix, price in now.items()], dict.fromkeys(now, "0.1"))
    assert [(one.text, one.examples, one.rows, one.of) for one in told] == [
        ("1 prices are 1/10 of those of the revision before", ("3",), 1, 4),
        ("2 prices are 10 times those of the revision before", ("2", "4"), 2, 4),
        ("1 prices are 100 times those of the revision before", ("1",), 1, 4),
    ]
    assert {one.fix for one in told} == {
        "look at `scale`, `per_s` and decimal commas in the template, or ask the carrier"
    }


@pytest.mark.parametrize(
    ("price", "named"), [("1.212", True), ("1.188", True), ("1.2121", False), ("1.1879", False)]
)
def test_a_factor_fits_to_a_hundredth(price: str, named: bool) -> None:
    assert bool(found({"44": price}, {"44": "0.12"})) == named


def test_what_is_free_is_no_factor_of_anything() -> None:
    assert found({"44": "0", "49": "0.12"}, {"44": "0.12", "49": "0"}) == []
    assert found({"44": "0"}, {"44": "0"}) == []


@pytest.mark.parametrize(
    "terms",
    [
        {"blocked": True, "steps": ()},
        {"caller_prefix": "49"},
        {"effective_from": AT + timedelta(seconds=1)},
        {"effective_to": AT},
    ],
    ids=str,
)
def test_rows_that_do_not_hold_or_not_for_any_caller_are_not_compared(terms: dict[str, Any]) -> None:
    assert findings([rate("44", "1.2", **terms)], {"44": "0.12"}) == []
    was = Deck("was", [rate("44", "1.2", **terms)])
    assert deck_findings("sell", deck({"44": "0.12"}), was, PLAN, AT) == []


def test_prices_are_those_of_a_minute_however_they_are_written_and_without_fees() -> None:
    [one] = findings([rate("44", "0:0.02/1/1")], {"44": "0.12"})  # by the second
    assert one.text == "1 prices are 10 times those of the revision before"
    assert findings([rate("44", "0.12", connect_fee=Decimal("1.08"))], {"44": "0.12"}) == []


# --- neighbours ---------------------------------------------------------------------------------------------


def test_rows_of_one_destination_are_neighbours_whatever_their_digits() -> None:
    rows = [rate("44", "0.01", "Alpha"), rate("4930", "0.01", "Alpha"), rate("61", "1", "Alpha")]
    assert [one.examples for one in findings(rows)] == [("61",)]
    assert findings(rows[1:]) == [], "two are too few to say which is usual"


def test_rows_that_differ_in_their_last_digit_alone_are_neighbours() -> None:
    def apart(*prefixes: str) -> list[Rate]:
        return [
            rate(prefix, price, prefix) for prefix, price in zip(prefixes, ("0.01", "0.01", "1"), strict=True)
        ]

    assert [one.examples for one in findings(apart("44", "45", "46"))] == [("46",)]
    assert findings(apart("4", "5", "6")) == [], "countries have nothing in common"
    assert findings(apart("441", "452", "463")) == []


def test_a_row_that_is_usual_for_its_destination_is_compared_with_its_other_neighbours_too() -> None:
    rows = [
        rate("3", "1", "Sea"),
        rate("441", "0.01", "A"),
        rate("442", "0.01", "B"),
        rate("443", "1", "Sea"),
    ]
    assert [one.examples for one in findings([*rows, rate("5", "1", "Sea")])] == [("443",)]
