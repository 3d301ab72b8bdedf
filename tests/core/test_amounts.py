from __future__ import annotations

from decimal import Decimal, Inexact, InvalidOperation, localcontext
from fractions import Fraction

import pytest

from sidecar.core.amounts import (
    AMOUNT_LARGEST,
    AMOUNT_MAX,
    EXACT,
    SECONDS_MAX,
    amount_e12,
    amount_of_e12,
    check_currency,
    check_seconds,
    exact_text,
    parse_amount,
    parse_integer,
    plain_amount,
)

E12 = Decimal("0.000000000001")


@pytest.mark.parametrize("text", ["0", "0.015", "999999999", "0.000000000001", "999999999.999999999999"])
def test_an_amount_of_nine_digits_and_twelve_decimals_is_read(text: str) -> None:
    assert parse_amount(text) == Decimal(text)


@pytest.mark.parametrize("text", ["1000000000", "0.0000000000001", "0.", "0.1.1", "0.1\n"])
def test_an_amount_of_more_digits_or_decimals_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount \(up to 9 digits, then up to 12 decimals\)"):
        parse_amount(text)


def test_a_whole_number_has_up_to_eight_digits() -> None:
    assert (parse_integer("0"), parse_integer("12345678"), parse_integer("00000060")) == (0, 12345678, 60)
    for text in ("", "123456789", "-1", "+1", " 1", "1\n", "1.0"):
        with pytest.raises(ValueError, match="whole number of up to 8 digits"):
            parse_integer(text)


@pytest.mark.parametrize(
    ("amount", "plain"),
    [
        ("0", "0"),
        ("0.000", "0"),
        ("0.050", "0.05"),
        ("100", "100"),
        ("100.000", "100"),
        ("1E+2", "100"),
        ("120", "120"),
        ("0.000000000001", "1E-12"),
        ("999999999.999999999999", "999999999.999999999999"),
    ],
)
def test_equal_amounts_are_equal_texts_without_trailing_zeros(amount: str, plain: str) -> None:
    assert str(plain_amount("fee", Decimal(amount))) == plain


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        ("1000000000", "^fee 1000000000 is not within 0-1000000000$"),
        ("-0.01", "^fee -0.01 is not within"),
        ("-0", "^fee -0 is not within"),
        ("NaN", "^fee NaN is not within"),
        ("Infinity", "^fee Infinity is not within"),
        ("0.0000000000001", "^fee 1E-13 has more than 12 decimals$"),
    ],
)
def test_an_amount_out_of_bounds_is_refused_by_its_name(amount: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        plain_amount("fee", Decimal(amount))
    with pytest.raises(ValueError, match=error):
        amount_e12("fee", Decimal(amount))


def test_the_largest_amount_is_the_last_below_the_bound() -> None:
    assert plain_amount("fee", AMOUNT_LARGEST) == AMOUNT_LARGEST == AMOUNT_MAX - E12
    assert amount_e12("fee", AMOUNT_LARGEST) == 10**21 - 1
    assert amount_of_e12(10**21 - 1) == AMOUNT_LARGEST
    for units in (10**21, -1):
        with pytest.raises(ValueError, match=r"^amount -?\S+ is not within 0-1000000000$"):
            amount_of_e12(units)


@pytest.mark.parametrize(
    ("units", "text"), [(0, "0"), (1, "1E-12"), (50_000_000_000, "0.05"), (20 * 10**12, "20")]
)
def test_units_of_a_millionth_of_a_millionth_are_read_back(units: int, text: str) -> None:
    assert str(amount_of_e12(units)) == text
    assert amount_e12("fee", Decimal(text)) == units


def test_no_digit_is_lost_whatever_the_context_of_the_caller() -> None:
    net, tax_rate = Decimal("31622399999999.999999999999"), Decimal("9.999999999999")
    with localcontext(prec=3):
        product = EXACT.multiply(net, tax_rate)
        assert amount_e12("fee", Decimal("123456789.123456789012")) == 123456789123456789012
        assert str(plain_amount("fee", Decimal("123456789.1230"))) == "123456789.123"
    assert Fraction(product) == Fraction(net) * Fraction(tax_rate)
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))
    with pytest.raises(InvalidOperation):
        EXACT.subtract(Decimal("Infinity"), Decimal("Infinity"))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(5), "5"),
        (Fraction(100), "100"),
        (Fraction(1, 2), "0.5"),
        (Fraction(1, 5), "0.2"),
        (Fraction(1, 20), "0.05"),
        (Fraction(123, 100), "1.23"),
        (Fraction(1, 1024), "0.0009765625"),
        (Fraction(201, 2), "100.5"),
        (Fraction(1, 3), "1/3"),
        (Fraction(31, 600), "31/600"),
        (Fraction(1, 7), "1/7"),
    ],
)
def test_an_exact_amount_is_a_decimal_where_there_is_one(amount: Fraction, text: str) -> None:
    assert exact_text(amount) == text


def test_seconds_reach_from_the_least_to_a_leap_year() -> None:
    assert SECONDS_MAX == 366 * 24 * 60 * 60
    for seconds, least in ((0, 0), (1, 1), (SECONDS_MAX, 1)):
        check_seconds("per_s", seconds, least)
    for seconds, least in ((-1, 0), (0, 1), (SECONDS_MAX + 1, 1)):
        with pytest.raises(ValueError, match=f"^per_s {seconds} is not within {least}-31622400$"):
            check_seconds("per_s", seconds, least)


@pytest.mark.parametrize("currency", ["EUR", "USD", "JPY", "HRK"])
def test_a_currency_of_the_list_is_known_even_if_withdrawn(currency: str) -> None:
    check_currency(currency)


@pytest.mark.parametrize("currency", ["", "eur", "XAU", "XXX", "XTS", "EURO"])
def test_metals_and_what_is_no_currency_are_refused(currency: str) -> None:
    with pytest.raises(ValueError, match=f"^currency '{currency}' is not a code of ISO 4217$"):
        check_currency(currency)
