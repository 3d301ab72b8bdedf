"""The emergency numbers of a country, as the tables of phonenumbers have them."""

from __future__ import annotations

import re

from sidecar.config.settings import Sip


def numbers_of(country: str) -> frozenset[str] | None:
    """Every number that they name, none of which is the beginning of what must follow; None: they know no
    such country, or no number there."""
    from phonenumbers.phonemetadata import PhoneMetadata  # noqa: PLC0415 - slow, and seldom needed

    known = PhoneMetadata.short_metadata_for_region(country)
    found = None if known is None else known.emergency
    if found is None or not found.national_number_pattern:
        return None
    pattern = re.compile(found.national_number_pattern)
    numbers = (f"{number:0{length}d}" for length in found.possible_length for number in range(10**length))
    return frozenset(filter(pattern.fullmatch, numbers))


def in_force(sip: Sip) -> frozenset[str]:
    """Those that are listed; where none are, those of the countries."""
    if sip.emergency_numbers is not None:
        return frozenset(sip.emergency_numbers)
    return frozenset().union(*(numbers_of(country) or () for country in sip.countries))
