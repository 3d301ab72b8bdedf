from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sidecar.core.doctor import NumberingPlan, Standing, deck_findings
from sidecar.core.tariff import Deck, Rate, parse_steps

AT = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = NumberingPlan(
    standing=lambda _: Standing.VALID,
    country_code=lambda number: next((code for code in ("44", "49") if number.startswith(code)), ""),
    area=lambda _: "",
)


def deck(prices: dict[str, str], destination: str = "") -> Deck:
    return Deck(
        str(prices),
        [
            Rate(prefix=prefix, currency="EUR", destination=destination, steps=parse_steps(f"0:{price}/60/1"))
            for prefix, price in prices.items()
        ],
    )


def found(
    now: dict[str, str], before: dict[str, str] | None = None
) -> list[tuple[str, str, tuple[str, ...]]]:
    earlier = None if before is None else deck(before)
    return [
        (one.symptom.value, one.text, one.examples)
        for one in deck_findings("sell", deck(now), earlier, PLAN, AT)
    ]


def test_prefixes_with_an_exit_code_are_named() -> None:
    ((symptom, text, examples),) = found({"0044": "0.01", "01144": "0.01", "44": "0.02", "0800": "0.03"})
    assert (symptom, examples) == ("exit_code_in_deck", ("0044", "01144"))
    assert text.startswith("2 prefixes")


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
    assert text in said


def test_a_price_that_is_another_by_a_factor_than_its_neighbours_is_named() -> None:
    rows = {"441": "0.012", "442": "0.012", "443": "1.2", "444": "0.013"}
    ((symptom, text, examples),) = found(rows)
    assert (symptom, examples) == ("price_factor_neighbours", ("443",))
    assert "100 times those of their neighbours" in text


def test_prices_that_differ_as_prices_do_are_not_named() -> None:
    assert found({"441": "0.01", "442": "0.02", "447": "0.08", "448": "0.12"}, {"441": "0.03"}) == []
