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

NATIONAL_DIGITS = 10  # of a number that is made up to ask which country of a shared code a prefix is in


@lru_cache(maxsize=100_000)
def destination_name(prefix: str) -> str:
    """`Country, Region` for a prefix in E.164 without `+`; "" where the code is not assigned."""
    code = next((prefix[:size] for size in (1, 2, 3) if _regions(prefix[:size])), None)
    if code is None:
        return ""
    country = _country(prefix, code)
    area = _area(prefix, code)
    return f"{country}, {area}" if area and area != country else country


def is_plausible(number: str) -> bool:
    """Whether the digits are a number that could exist: an assigned country code and a length possible
    there.
    """
    if not (number.isascii() and number.isdigit()) or number.startswith("0"):
        return False
    try:
        parsed = phonenumbers.parse(f"+{number}")
    except phonenumbers.NumberParseException:
        return False
    possible: bool = phonenumbers.is_possible_number(parsed)
    return possible


def _regions(code: str) -> tuple[str, ...]:
    regions: tuple[str, ...] = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ()) if code else ()
    return regions if not code.startswith("0") else ()


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
