"""Names of countries and regions for prefixes, and which numbers can exist, from the tables of phonenumbers.

    4930   Germany, Berlin        1416   Canada, Ontario        4912   Germany

The tables are large (60 MB) and slow to load (a second): whoever needs no names does not import this.
"""

from __future__ import annotations

from functools import lru_cache

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE
from phonenumbers.geodata import GEOCODE_DATA, GEOCODE_LONGEST_PREFIX
from phonenumbers.geodata.locale import LOCALE_DATA

from sidecar.core.doctor import NumberingPlan, Standing

NATIONAL_DIGITS = 10  # of a number that is made up to ask which country of a shared code a prefix is in


@lru_cache(maxsize=100_000)
def destination_name(prefix: str) -> str:
    """`Country, Region` for a prefix in E.164 without `+`; "" where the code is not assigned."""
    code = country_code(prefix)
    if not code:
        return ""
    country = _country(prefix, code)
    area = _area(prefix, code)
    return f"{country}, {area}" if area and area != country else country


@lru_cache(maxsize=200_000)
def standing(number: str) -> Standing:
    """How well the digits read as a number in E.164 without `+`."""
    if not (number.isascii() and number.isdigit()) or number.startswith("0"):
        return Standing.NONE
    try:
        parsed = phonenumbers.parse(f"+{number}")
    except phonenumbers.NumberParseException:
        return Standing.NONE
    if phonenumbers.is_valid_number(parsed):
        return Standing.VALID
    # Not IS_POSSIBLE_LOCAL_ONLY: a subscriber's number without its area code is none of E.164.
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    return Standing.POSSIBLE if reason == phonenumbers.ValidationResult.IS_POSSIBLE else Standing.NONE


def country_code(number: str) -> str:
    """The assigned country code that the digits begin with, or ""."""
    return next((number[:size] for size in (1, 2, 3) if _regions(number[:size])), "")


NUMBERING_PLAN = NumberingPlan(standing=standing, country_code=country_code, area=destination_name)


def _regions(code: str) -> tuple[str, ...]:
    if not (code.isascii() and code.isdigit()) or code.startswith("0"):
        return ()
    regions: tuple[str, ...] = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    return regions


def _country(prefix: str, code: str) -> str:
    regions = _regions(code)
    region = regions[0]
    if len(regions) > 1:
        region = _region_of_shared_code(prefix, code) or region
    names: dict[str, str] = LOCALE_DATA.get(region, {})
    name = names.get("en", "")
    if name.startswith("*"):  # "*aa": the same as in language aa
        name = names.get(name[1:], "")
    return name or f"+{code}"


@lru_cache(maxsize=10_000)
def _region_of_shared_code(prefix: str, code: str) -> str | None:
    # Made up: the prefix and then twos, which every numbering plan allows for subscribers.
    national = prefix[len(code) :].ljust(NATIONAL_DIGITS, "2")
    number = phonenumbers.PhoneNumber(country_code=int(code), national_number=int(national))
    region: str | None = phonenumbers.region_code_for_number(number)
    return region


def _area(prefix: str, code: str) -> str:
    for size in range(min(len(prefix), GEOCODE_LONGEST_PREFIX), len(code), -1):
        names: dict[str, str] | None = GEOCODE_DATA.get(prefix[:size])
        if names:
            return names.get("en", "")
    return ""
