"""Rates, and the deck that finds the one for a number: the longest prefix whose period holds.

A deck of a million prefixes is four flat arrays sorted by prefix (see `Deck`), not a million objects.
Measured on two shared cores with 1,000,000 prefixes of 4-9 digits, random 12-digit numbers (`python -m
tests.bench_rating`).
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import msgspec
from msgspec.structs import force_setattr

AMOUNT_MAX = Decimal(10) ** 9  # exclusive; one price, fee or minimum
AMOUNT_DECIMALS_MAX = 12
SECONDS_MAX = 86_400 * 366  # of a start, an increment, a unit or a maximum duration
STEPS_MAX = 64
PREFIX_DIGITS_MAX = 17  # E.164 has 15; 17 is what an 8-byte key holds (see Deck)
TEXT_MAX = 200

_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
_INTEGER = re.compile(r"[0-9]{1,8}")
_STEP = re.compile(r"(?P<start>[^:/]*):(?P<price>[^:/]*)/(?P<per>[^:/]*)/(?P<increment>[^:/]*)")

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


class RateStep(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """From second `start_s` of the call on: `price` per `per_s` seconds, counted in whole increments."""

    start_s: int
    price: Decimal
    per_s: int
    increment_s: int

    def __post_init__(self) -> None:
        _check_seconds("start_s", self.start_s, 0)
        force_setattr(self, "price", plain_amount("price", self.price))
        _check_seconds("per_s", self.per_s, 1)
        _check_seconds("increment_s", self.increment_s, 1)


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a deck. The period is half-open: from `effective_from` up to, not including, `effective_to`.

    An empty prefix is the default row. `max_duration_s` is the longest call that this rate is sold for, if
    the deck says so. Whoever holds a Rate holds all that a charge needs: it can be frozen into a call.
    """

    prefix: str
    currency: str
    steps: tuple[RateStep, ...]
    destination: str = ""
    connect_fee: Decimal = Decimal(0)
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    max_duration_s: int | None = None

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        check_destination(self.destination)
        check_currency(self.currency)
        force_setattr(self, "connect_fee", plain_amount("connect_fee", self.connect_fee))
        check_steps(self.steps)
        check_period(self.effective_from, self.effective_to)
        if self.max_duration_s is not None:
            _check_seconds("max_duration_s", self.max_duration_s, 1)

    def holds_at(self, at: datetime) -> bool:
        """Whether `at` (aware) lies in the half-open period of this rate."""
        return (self.effective_from is None or self.effective_from <= at) and (
            self.effective_to is None or at < self.effective_to
        )


class Deck:
    """An immutable set of rates, asked by number and time.

    Rows are sorted by prefix. A row's key is its prefix padded with zeros to 17 digits, times 18, plus its
    length, so that keys sort exactly as the prefixes do as text. `_parents[row]` is the row to ask next
    when this one does not apply: an earlier row of the same prefix (another period), else the last row of
    the longest prefix that is a proper prefix of this one, else -1. The answer for a number is found on the
    chain that starts at the greatest key not above the number's own: a prefix of the number sorts before
    it, and nothing sorts between the two but longer prefixes that begin with the shorter.

    `kinds` holds each distinct (price, fee, currency, period, maximum) once, as a Rate without prefix and
    destination.
    """

    __slots__ = ("_destination_of", "_keys", "_kind_of", "_parents", "destinations", "kinds", "revision")

    def __init__(self, revision: str, rates: Iterable[Rate] = ()) -> None:
        builder = DeckBuilder()
        for rate in rates:
            builder.add(rate.prefix, builder.destination(rate.destination), builder.kind(rate))
        conflicts = builder.sort()
        if conflicts:
            raise ValueError(f"two rates for the prefix {conflicts[0][2]!r} hold at the same time")
        self._take(revision, builder)

    @classmethod
    def built(cls, revision: str, builder: DeckBuilder) -> Deck:
        """The deck of a builder that was sorted without conflicts."""
        deck = cls.__new__(cls)
        deck._take(revision, builder)
        return deck

    def _take(self, revision: str, builder: DeckBuilder) -> None:
        self.revision = revision
        self._keys = builder.keys
        self._parents = builder.parents
        self._kind_of = builder.kind_of
        self._destination_of = builder.destination_of
        self.kinds = tuple(builder.kinds)
        self.destinations = tuple(builder.destinations)

    def match(self, billed: str, at: datetime) -> Rate | None:
        """The rate of the longest prefix of `billed` (ASCII digits) whose period holds at `at` (aware)."""
        digits, key = _number_key(billed)
        keys = self._keys
        row = bisect_right(keys, key) - 1
        while row >= 0:
            padded, length = divmod(keys[row], _BASE)
            scale = _SCALE[length]
            if padded // scale == digits // scale:
                kind = self.kinds[self._kind_of[row]]
                if kind.holds_at(at):
                    return self._rate(row, kind, billed[:length])
            row = self._parents[row]
        return None

    def candidates(self, billed: str, at: datetime) -> tuple[Rate, ...]:
        """Every rate that could apply to `billed` at `at`, longest prefix first: the first is `match`."""
        digits, key = _number_key(billed)
        found = []
        row = bisect_right(self._keys, key) - 1
        while row >= 0:
            padded, length = divmod(self._keys[row], _BASE)
            kind = self.kinds[self._kind_of[row]]
            if padded // _SCALE[length] == digits // _SCALE[length] and kind.holds_at(at):
                found.append(self._rate(row, kind, billed[:length]))
            row = self._parents[row]
        return tuple(found)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Rate]:
        """All rates, by prefix and then by start of the period."""
        for row, key in enumerate(self._keys):
            yield self._rate(row, self.kinds[self._kind_of[row]], _prefix_of(key))

    def rows(self) -> Iterator[tuple[str, int, int]]:
        """(prefix, index into `destinations`, index into `kinds`) of all rows, in the order of iteration."""
        return zip(map(_prefix_of, self._keys), self._destination_of, self._kind_of, strict=True)

    def _rate(self, row: int, kind: Rate, prefix: str) -> Rate:
        # A copy of a checked Rate with two checked fields needs no second check; building one anew costs
        # four times as much as the look-up.
        rate: Rate = kind.__copy__()  # type: ignore[attr-defined]
        force_setattr(rate, "prefix", prefix)
        force_setattr(rate, "destination", self.destinations[self._destination_of[row]])
        return rate


class DeckBuilder:
    """Collects the rows of a deck in any order; `sort` puts them in order and finds the rows that
    contradict.
    """

    def __init__(self) -> None:
        self.keys = array("Q")
        self.parents = array("i")
        self.kind_of = array("I")
        self.destination_of = array("I")
        self.kinds: list[Rate] = []
        self.destinations: list[str] = []
        self._kind_ids: dict[Rate, int] = {}
        self._destination_ids: dict[str, int] = {}

    def kind(self, rate: Rate) -> int:
        """The number of `rate`'s terms, whatever its prefix and destination."""
        bare = msgspec.structs.replace(rate, prefix="", destination="")
        known = self._kind_ids.get(bare)
        if known is None:
            known = self._kind_ids[bare] = len(self.kinds)
            self.kinds.append(bare)
        return known

    def destination(self, text: str) -> int:
        """The number of a destination name, checked by the caller."""
        known = self._destination_ids.get(text)
        if known is None:
            known = self._destination_ids[text] = len(self.destinations)
            self.destinations.append(text)
        return known

    def add(self, prefix: str, destination: int, kind: int) -> None:
        """One row; the caller has checked the prefix."""
        self.keys.append(int(prefix.ljust(PREFIX_DIGITS_MAX, "0")) * _BASE + len(prefix))
        self.destination_of.append(destination)
        self.kind_of.append(kind)

    def sort(self) -> list[tuple[int, int, str]]:
        """Sorts the rows; returns pairs of rows (numbered as added) that hold at one time, with their
        prefix.
        """
        order = self._order()
        keys = self.keys
        conflicts = [
            (first, second, _prefix_of(keys[first]))
            for first, second in pairwise(order)
            if keys[first] == keys[second] and self._overlap(first, second)
        ]
        self.keys = array("Q", [keys[row] for row in order])
        self.kind_of = array("I", [self.kind_of[row] for row in order])
        self.destination_of = array("I", [self.destination_of[row] for row in order])
        self.parents = _parents(self.keys)
        self._kind_ids.clear()
        self._destination_ids.clear()
        return conflicts

    def _order(self) -> list[int]:
        keys = self.keys
        if any(kind.effective_from is not None for kind in self.kinds):
            starts = [
                float("-inf") if kind.effective_from is None else kind.effective_from.timestamp()
                for kind in self.kinds
            ]
            kind_of = self.kind_of
            return sorted(range(len(keys)), key=lambda row: (keys[row], starts[kind_of[row]]))
        return sorted(range(len(keys)), key=keys.__getitem__)

    def _overlap(self, first: int, second: int) -> bool:
        # Sorted by start, so two neighbours overlap exactly if the earlier is still open when the later
        # begins.
        ends = self.kinds[self.kind_of[first]].effective_to
        starts = self.kinds[self.kind_of[second]].effective_from
        return ends is None or starts is None or starts < ends


_BASE = PREFIX_DIGITS_MAX + 1
_SCALE = tuple(10 ** (PREFIX_DIGITS_MAX - length) for length in range(_BASE))


def _number_key(billed: str) -> tuple[int, int]:
    digits = int(billed[:PREFIX_DIGITS_MAX].ljust(PREFIX_DIGITS_MAX, "0"))
    return digits, digits * _BASE + min(len(billed), PREFIX_DIGITS_MAX)


def _prefix_of(key: int) -> str:
    padded, length = divmod(key, _BASE)
    return str(padded).zfill(PREFIX_DIGITS_MAX)[:length]


def _parents(keys: array[int]) -> array[int]:
    """For each sorted key the row to ask next, see `Deck`."""
    parents = array("i", bytes(4 * len(keys)))
    scale = _SCALE
    prefixes: list[tuple[int, int]] = []  # (padded, scale) of the open chain
    chain: list[int] = []
    for row, key in enumerate(keys):
        padded, length = divmod(key, _BASE)
        while chain and padded // prefixes[-1][1] != prefixes[-1][0]:
            chain.pop()
            prefixes.pop()
        parents[row] = chain[-1] if chain else -1
        chain.append(row)
        prefixes.append((padded // scale[length], scale[length]))
    return parents


def parse_steps(text: str) -> tuple[RateStep, ...]:
    """`0:0.2/60/60;60:0.1/60/1` (start_s:price/per_s/increment_s) as steps. ValueError says which step and
    why.
    """
    steps = []
    for number, part in enumerate(text.split(";"), 1):
        found = _STEP.fullmatch(part.strip())
        if not found:
            raise ValueError(f"step {number}: {part!r} is not start_s:price/per_s/increment_s")
        try:
            step = RateStep(
                start_s=parse_integer(found["start"]),
                price=parse_amount(found["price"]),
                per_s=parse_integer(found["per"]),
                increment_s=parse_integer(found["increment"]),
            )
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None
        steps.append(step)
    check_steps(tuple(steps))
    return tuple(steps)


def format_steps(steps: tuple[RateStep, ...]) -> str:
    """The text that `parse_steps` reads back to equal steps."""
    return ";".join(f"{step.start_s}:{step.price:f}/{step.per_s}/{step.increment_s}" for step in steps)


def per_minute_steps(price_per_minute: Decimal, initial_s: int, increment_s: int) -> tuple[RateStep, ...]:
    """Steps of the usual notation "60/6": at least `initial_s` seconds, then increments of `increment_s`."""
    first = RateStep(start_s=0, price=price_per_minute, per_s=60, increment_s=initial_s)
    if initial_s == increment_s:
        return (first,)
    return (first, RateStep(start_s=initial_s, price=price_per_minute, per_s=60, increment_s=increment_s))


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


def check_prefix(prefix: str) -> None:
    if prefix and not (prefix.isascii() and prefix.isdigit()):
        raise ValueError(f"prefix {prefix!r} has something else than the digits 0-9")
    if len(prefix) > PREFIX_DIGITS_MAX:
        raise ValueError(f"prefix {prefix!r} has more than {PREFIX_DIGITS_MAX} digits")


def check_destination(destination: str) -> None:
    if len(destination) > TEXT_MAX:
        raise ValueError(f"destination has more than {TEXT_MAX} characters")
    if not destination.isprintable():
        raise ValueError(f"destination {destination!r} has control characters")


def check_currency(currency: str) -> None:
    if currency not in CURRENCIES:
        raise ValueError(f"currency {currency!r} is not a code of ISO 4217")


def plain_amount(name: str, amount: Decimal) -> Decimal:
    """`amount` without trailing zeros, so that equal amounts are equal texts; ValueError outside the
    bounds.
    """
    if not amount.is_finite() or amount.is_signed() or amount >= AMOUNT_MAX:
        raise ValueError(f"{name} {amount} is not within 0-{AMOUNT_MAX:f}")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -AMOUNT_DECIMALS_MAX:
        raise ValueError(f"{name} {amount} has more than {AMOUNT_DECIMALS_MAX} decimals")
    shortest = amount.normalize()
    return shortest.quantize(Decimal(1)) if shortest == shortest.to_integral_value() else shortest


def check_steps(steps: tuple[RateStep, ...]) -> None:
    if not 1 <= len(steps) <= STEPS_MAX:
        raise ValueError(f"{len(steps)} steps: 1-{STEPS_MAX} are allowed")
    if steps[0].start_s != 0:
        raise ValueError(f"gap: the first step starts at {steps[0].start_s} s, not at 0")
    for number, (before, step) in enumerate(pairwise(steps), 2):
        if step.start_s <= before.start_s:
            raise ValueError(
                f"overlap: step {number} starts at {step.start_s} s, not after {before.start_s} s"
            )
        if (step.start_s - before.start_s) % before.increment_s:
            raise ValueError(
                f"step {number} starts at {step.start_s} s, not a whole number of "
                f"{before.increment_s} s increments after {before.start_s} s"
            )


def check_period(effective_from: datetime | None, effective_to: datetime | None) -> None:
    for name, at in (("effective_from", effective_from), ("effective_to", effective_to)):
        if at is not None and at.utcoffset() is None:
            raise ValueError(f"{name} {at.isoformat()} has no offset from UTC")
    if effective_from is not None and effective_to is not None and effective_from >= effective_to:
        raise ValueError(
            f"effective_from {effective_from.isoformat()} is not before {effective_to.isoformat()}"
        )


def _check_seconds(name: str, seconds: int, least: int) -> None:
    if not least <= seconds <= SECONDS_MAX:
        raise ValueError(f"{name} {seconds} is not within {least}-{SECONDS_MAX}")
