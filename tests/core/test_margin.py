from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
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


def test_a_rate_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"^rate -1 is not within"):
        rate("-1")


def test_two_rates_of_one_moment_are_refused_wherever_they_stand() -> None:
    for days in ((0, 1, 1), (0, 0, 1), (1, 0, 1)):
        with pytest.raises(ValueError, match="two rates of USD in EUR from 2026-03-0"):
            ExchangeTable([rate("0.9", one) for one in days])
    assert len(ExchangeTable([rate("0.9"), rate("1.1", base="GBP"), rate("0.9", quote="GBP")])) == 3


def test_a_table_is_its_rates_in_any_order() -> None:
    rates = [rate("0.9"), rate("0.8", 1), rate("1.1", base="GBP")]
    table = ExchangeTable(rates)
    assert table == ExchangeTable(rates[::-1])
    assert table != ExchangeTable(rates[:2])
    assert table != ExchangeTable([*rates[:2], rate("1.2", base="GBP")])
    assert table != rates
    assert (len(table), len(ExchangeTable())) == (3, 0)
    assert table.pairs() == {("USD", "EUR"), ("GBP", "EUR")}


def test_what_a_rate_holds_for_is_its_pair_and_the_time_from_its_first_moment_on() -> None:
    table = ExchangeTable([rate("0.9"), rate("0.8", 1), rate("1.1", base="GBP")])
    moments = (AT - timedelta(microseconds=1), AT, AT + timedelta(days=1, microseconds=-1), AT + timedelta(1))
    assert [table.rate("USD", "EUR", at) for at in moments] == [
        None,
        rate("0.9"),
        rate("0.9"),
        rate("0.8", 1),
    ]
    assert table.rate("GBP", "EUR", AT + timedelta(days=9)) == rate("1.1", base="GBP")
    assert table.rate("EUR", "USD", AT) is table.rate("CHF", "EUR", AT) is None


def test_a_cost_in_another_currency_loses_no_digit() -> None:
    found = margin(
        eur("1"), usd("31622399999999.999999999"), AT, ExchangeTable([rate("123456789.123456789012")])
    )
    assert found is not None
    exact = 1 - Fraction("31622399999999.999999999") * Fraction("123456789.123456789012")
    assert Fraction(found.amount.amount) == exact
    assert found.amount.currency == "EUR"
    assert margin(eur("1"), eur("0.4"), AT, ExchangeTable()) == Margin(amount=eur("0.6"), exchange=None)
