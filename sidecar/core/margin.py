"""What is left of a sale after the purchase: within one currency, or through a dated exchange rate.

Taxes are neither revenue nor cost, so margins are of net amounts. Where two currencies have no rate for the
day the margin is unknown (null in the record), never a guess.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec

from sidecar.core.amounts import EXACT, check_currency, plain_amount
from sidecar.core.terms import Money


class ExchangeRate(msgspec.Struct, frozen=True, kw_only=True):
    """From `valid_from` on, 1 unit of `base` is worth `rate` units of `quote`. As copied into the record."""

    base: Annotated[str, "Bought in."]
    quote: Annotated[str, "Sold in."]
    rate: Annotated[Decimal, "1 base = rate quote."]
    valid_from: Annotated[datetime, "From then on."]

    def __post_init__(self) -> None:
        check_currency(self.base)
        check_currency(self.quote)
        if self.base == self.quote:
            raise ValueError(f"{self.base} against itself")
        if not plain_amount("rate", self.rate):
            raise ValueError("rate is 0")
        if self.valid_from.utcoffset() is None:
            raise ValueError(f"valid_from {self.valid_from.isoformat()} has no offset from UTC")


class ExchangeTable:
    """Dated rates. A pair holds in the direction given only: 1 / rate has no exact decimal form."""

    def __init__(self, rates: Iterable[ExchangeRate] = ()) -> None:
        self._rates: dict[tuple[str, str], list[ExchangeRate]] = {}
        for rate in sorted(rates, key=lambda rate: rate.valid_from):
            known = self._rates.setdefault((rate.base, rate.quote), [])
            if known and known[-1].valid_from == rate.valid_from:
                raise ValueError(
                    f"two rates of {rate.base} in {rate.quote} from {rate.valid_from.isoformat()} on"
                )
            known.append(rate)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExchangeTable) and self._rates == other._rates

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return sum(map(len, self._rates.values()))

    def pairs(self) -> frozenset[tuple[str, str]]:
        """(base, quote) of all rates, whenever they hold."""
        return frozenset(self._rates)

    def rate(self, base: str, quote: str, at: datetime) -> ExchangeRate | None:
        """The rate that holds at `at` (aware): the latest that is valid by then."""
        rates = self._rates.get((base, quote), [])
        number = bisect_right(rates, at, key=lambda rate: rate.valid_from)
        return rates[number - 1] if number else None


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """`amount` in the currency of the sale; `exchange` if one was needed."""

    amount: Money
    exchange: ExchangeRate | None = None


def margin(sold: Money, bought: Money, at: datetime, table: ExchangeTable) -> Margin | None:
    """Net sold minus net bought, exactly; None where the currencies differ and no rate holds at `at`."""
    exchange = None
    cost = bought.amount
    if bought.currency != sold.currency:
        exchange = table.rate(bought.currency, sold.currency, at)
        if exchange is None:
            return None
        cost = EXACT.multiply(cost, exchange.rate)
    return Margin(amount=Money(EXACT.subtract(sold.amount, cost), sold.currency), exchange=exchange)


def reaches_floor(found: Margin | None, sold: Money, floor: Decimal) -> bool:
    """Whether a margin is at least `floor` (0.1 is 10 %) of the sale. An unknown margin does not.

    Asked before a call with the prices of its first minute, and for each gateway: one that fails is not
    tried.
    """
    return found is not None and found.amount.amount >= EXACT.multiply(sold.amount, floor)
