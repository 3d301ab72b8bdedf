from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sidecar.core.margin import ExchangeRate, ExchangeTable, Margin, margin, reaches_floor
from sidecar.core.terms import Money

AT = datetime(2026, 3, 1, tzinfo=UTC)


def rate(text: str, days: int = 0, base: str = "USD", quote: str = "EUR") -> ExchangeRate:
    return ExchangeRate(base=base, quote=quote, rate=Decimal(text), valid_from=AT + timedelta(days=days))


def eur(text: str) -> Money:
    return Money(Decimal(text), "EUR")


def usd(text: str) -> Money:
    return Money(Decimal(text), "USD")


def test_a_margin_within_one_currency_is_the_difference() -> None:
    assert margin(eur("0.10"), eur("0.12"), AT, ExchangeTable()) == Margin(amount=eur("-0.02"))


def test_between_currencies_the_rate_of_the_day_is_used_and_kept() -> None:
    table = ExchangeTable([rate("0.9", 10), rate("0.917", 0)])
    for days, text, kept in ((0, "0.0083", "0.917"), (9, "0.0083", "0.917"), (10, "0.01", "0.9")):
        found = margin(eur("0.10"), usd("0.10"), AT + timedelta(days=days), table)
        assert found is not None
        assert found.exchange is not None
        assert (found.amount.amount, found.exchange.rate) == (Decimal(text), Decimal(kept))


def test_without_a_rate_the_margin_is_unknown() -> None:
    table = ExchangeTable([rate("0.9")])
    assert margin(eur("1"), usd("1"), AT - timedelta(microseconds=1), table) is None
    assert margin(usd("1"), eur("1"), AT, table) is None, "the other direction is no rate of the table"


def test_a_margin_is_exact() -> None:
    found = margin(eur("1"), usd("0.123456789"), AT, ExchangeTable([rate("0.123456789012")]))
    assert found is not None
    assert found.amount.amount == 1 - Decimal("0.123456789") * Decimal("0.123456789012")


def test_a_floor_is_a_share_of_the_sale() -> None:
    sold = eur("0.10")
    for bought, reached in (("0.08", True), ("0.09", True), ("0.0901", False), ("0.2", False)):
        found = margin(sold, eur(bought), AT, ExchangeTable())
        assert reaches_floor(found, sold, Decimal("0.1")) is reached
    assert not reaches_floor(None, sold, Decimal(-1))


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "XXX"},
        {"quote": "usd"},
        {"quote": "USD"},
        {"rate": Decimal(0)},
        {"rate": Decimal(-1)},
        {"rate": Decimal("NaN")},
        {"valid_from": AT.replace(tzinfo=None)},
    ],
)
def test_an_illegal_rate_cannot_be_built(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {"base": "USD", "quote": "EUR", "rate": Decimal(1), "valid_from": AT}
    with pytest.raises(ValueError, match=r"currency|itself|rate|valid_from"):
        ExchangeRate(**(good | changes))


def test_two_rates_of_one_moment_are_refused() -> None:
    with pytest.raises(ValueError, match="two rates of USD in EUR"):
        ExchangeTable([rate("0.9"), rate("0.8")])
