"""The words of the doctor: what it may find, what a finding holds, and what it must be told of numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from uuid import UUID

import msgspec

from sidecar.core.terms import ChargeSide


class Symptom(StrEnum):
    """`partial_strip`: the strip ends in the middle of an access code (011 by 2). `under_stripped`: it leaves
    a whole one on the number; on the buy side, it leaves anything."""

    NOT_STRIPPED = "not_stripped"
    OVER_STRIPPED = "over_stripped"
    UNDER_STRIPPED = "under_stripped"
    PARTIAL_STRIP = "partial_strip"
    MIXED_PREFIXES = "mixed_prefixes"
    TRUNK_WITHOUT_COUNTRY_CODE = "trunk_without_country_code"
    IMPLAUSIBLE_NUMBERS = "implausible_numbers"
    UNRATED_DESTINATION = "unrated_destination"
    UNRATED_CALLS = "unrated_calls"
    CARRIED_UNRATED = "carried_unrated"
    IMPLAUSIBLE_RATE = "implausible_rate"
    EXIT_CODE_IN_DECK = "exit_code_in_deck"
    PRICE_FACTOR_BEFORE = "price_factor_before"
    PRICE_FACTOR_NEIGHBOURS = "price_factor_neighbours"


class Standing(IntEnum):
    """How well digits read as an E.164 number."""

    NONE = 0  # no assigned country code, or a length that its country does not have
    POSSIBLE = 1
    VALID = 2  # in a range that its country has given out


class NumberingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbering plans of the world say of digits in E.164 without `+`. It needs large tables, so it
    is passed in.

    `country_code`: the assigned one that they begin with, or "". `area`: country and region, for people.
    """

    standing: Callable[[str], Standing]
    country_code: Callable[[str], str]
    area: Callable[[str], str]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a finding, as its record has it."""

    call_id: UUID
    number: str  # received (sell) or sent (buy), normalised
    billed: str | None
    prefix: str | None
    should_be: str | None = None  # the number that ought to be rated


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A setting and the value to give it, as in the settings file. No `setting`: what to do is in `text`."""

    text: str
    setting: str = ""
    value: str = ""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What the fix would do to the calls that were looked at. Amounts are totals per currency, before and
    after both by the decks in force now, so that the difference is the number's alone."""

    calls: int
    changed: int  # calls whose charge or rate would be another
    rated_before: int
    rated_after: int
    before: dict[str, Decimal]
    after: dict[str, Decimal]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`calls` of the `of` calls of one sender show the symptom.

    `subject` is whose numbers they are: `peer proxy`, `account acme`, `gateway carrier-2`, `rule trunk`;
    for destinations, the deck. `digits`: what stands in front of the numbers. `strip`, `should_strip`: how
    many digits were stripped, and how many should have been.
    """

    symptom: Symptom
    side: ChargeSide
    subject: str
    text: str
    calls: int
    of: int
    numbers: int  # different ones among the calls
    first_at: datetime
    last_at: datetime
    examples: tuple[Example, ...]
    fixes: tuple[Fix, ...]
    digits: str = ""
    strip: int | None = None
    should_strip: int | None = None
    effect: Effect | None = None

    @property
    def share(self) -> float:
        return self.calls / self.of
