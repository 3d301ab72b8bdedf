"""Amounts, seconds and currencies as texts and numbers: what is read strictly, and the bounds.

An amount is exact: a Decimal of at most 12 decimals, or a whole number of 10^-12 of the currency unit
("e12"), which is what prices are reckoned with. No float, no exponent, no special value gets in.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction

AMOUNT_MAX = Decimal(10) ** 9  # exclusive; one price, fee or minimum
AMOUNT_DECIMALS_MAX = 12
AMOUNT_E12_MAX = 10**21  # AMOUNT_MAX in units of 10^-12
AMOUNT_LARGEST = Decimal("999999999.999999999999")
SECONDS_MAX = 86_400 * 366  # of a start, an increment, a unit or a maximum duration

# Whatever the caller's own context is: a digit lost raises. A net has at most 26 digits, a tax rate 13.
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])

_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
_INTEGER = re.compile(r"[0-9]{1,8}")

# ISO 4217 list one, without metals, funds codes and testing codes.
# https://www.six-group.com/en/products-services/ financial-information/data-standards.html; codes withdrawn
# since 2020 stay, because old decks are re-rated.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD
    CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD
    KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK
    NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS
    SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST
    XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL
    """.split()  # noqa: SIM905 - a table to be read, not a hundred quoted lines
)


def parse_amount(text: str) -> Decimal:
    """A plain amount such as 0.015: ASCII digits with at most one point. No sign, exponent, group or
    special value.
    """
    if not _AMOUNT.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an amount (up to 9 digits, then up to {AMOUNT_DECIMALS_MAX} decimals)"
        )
    return Decimal(text)


def parse_integer(text: str) -> int:
    """A whole number of seconds: 1-8 ASCII digits."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number of up to 8 digits")
    return int(text)


def plain_amount(name: str, amount: Decimal) -> Decimal:
    """`amount` without trailing zeros, so that equal amounts are equal texts; ValueError outside the
    bounds.
    """
    if not amount.is_finite() or amount.is_signed() or amount >= AMOUNT_MAX:
        raise ValueError(f"{name} {amount} is not within 0-{AMOUNT_MAX:f}")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -AMOUNT_DECIMALS_MAX:
        raise ValueError(f"{name} {amount} has more than {AMOUNT_DECIMALS_MAX} decimals")
    shortest = EXACT.normalize(amount)
    return EXACT.quantize(shortest, Decimal(1)) if shortest == shortest.to_integral_value() else shortest


def amount_e12(name: str, amount: Decimal) -> int:
    """`amount` in units of 10^-12; ValueError outside the bounds."""
    return int(EXACT.scaleb(plain_amount(name, amount), AMOUNT_DECIMALS_MAX))


def amount_of_e12(units: int) -> Decimal:
    """The amount of so many units of 10^-12, without trailing zeros."""
    return plain_amount("amount", EXACT.scaleb(Decimal(units), -AMOUNT_DECIMALS_MAX))


def exact_text(amount: Fraction) -> str:
    """A decimal where there is one, else the fraction: 0.05, 31/600."""
    rest = amount.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{amount.numerator}/{amount.denominator}"
    decimals = 0
    while amount.denominator != 1:
        amount, decimals = amount * 10, decimals + 1
    digits = str(amount.numerator).zfill(decimals + 1)
    return f"{digits[: len(digits) - decimals]}.{digits[len(digits) - decimals :]}" if decimals else digits


def check_currency(currency: str) -> None:
    if currency not in CURRENCIES:
        raise ValueError(f"currency {currency!r} is not a code of ISO 4217")


def check_seconds(name: str, seconds: int, least: int) -> None:
    if not least <= seconds <= SECONDS_MAX:
        raise ValueError(f"{name} {seconds} is not within {least}-{SECONDS_MAX}")
