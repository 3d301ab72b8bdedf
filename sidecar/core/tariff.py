"""Rates, and the deck that finds the one for a number: the longest prefix whose period holds.

A deck of a million prefixes is four flat arrays sorted by prefix (see `Deck`), not a million objects.
Measured on two shared cores with 1,000,000 prefixes of 4-9 digits, random 12-digit numbers (`python -m
tests.bench_rating`).
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import msgspec
from msgspec.structs import force_setattr

AMOUNT_MAX = Decimal(10) ** 9  # exclusive; one price, fee or minimum
AMOUNT_DECIMALS_MAX = 12
AMOUNT_E12_MAX = 10**21  # AMOUNT_MAX in units of 10^-12
OWN_PRICES = 2**64 - 1  # in the place of a row's price: its kind has the prices
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


class RateStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From second `start_s` of the call on: `price` per `per_s` seconds, counted in whole increments.

    The price is kept as a whole number of 10^-12 of the currency unit, which is what `charge` reckons with.
    """

    start_s: int
    price_e12: int
    per_s: int
    increment_s: int

    @classmethod
    def of(cls, start_s: int, price: Decimal, per_s: int, increment_s: int) -> RateStep:
        return cls(
            start_s=start_s, price_e12=amount_e12("price", price), per_s=per_s, increment_s=increment_s
        )

    def __post_init__(self) -> None:
        _check_seconds("start_s", self.start_s, 0)
        if not 0 <= self.price_e12 < AMOUNT_E12_MAX:
            raise ValueError(f"price {self.price} is not within 0-{AMOUNT_MAX:f}")
        _check_seconds("per_s", self.per_s, 1)
        _check_seconds("increment_s", self.increment_s, 1)

    @property
    def price(self) -> Decimal:
        return amount_of_e12(self.price_e12)


class Rate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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

    `_table` has, for each possible beginning of a number, the first row of it: it spares the search the first
    steps, which are the ones that miss every cache.

    `kinds` holds what rows have in common, once, as rates without prefix and destination. A row of one
    price per minute has its price in `_prices`, and the steps of its kind have the price 0; other rows have
    OWN_PRICES there.
    """

    __slots__ = (
        "_keys",
        "_lead",
        "_parents",
        "_table",
        "_terms",
        "destinations",
        "kinds",
        "revision",
    )

    def __init__(self, revision: str, rates: Iterable[Rate] = ()) -> None:
        builder = DeckBuilder()
        for rate in rates:
            builder.add(rate.prefix, builder.destination(rate.destination), *builder.kind(rate))
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
        self._terms = builder.terms
        self._parents = _parents(builder.keys)
        self._lead, self._table = _lead_table(builder.keys)
        self.kinds = tuple(builder.kinds)
        self.destinations = tuple(builder.destinations)

    def match(self, billed: str, at: datetime) -> Rate | None:
        """The rate of the longest prefix of `billed` (ASCII digits) whose period holds at `at` (aware)."""
        digits, key = _number_key(billed)
        keys, table, lead = self._keys, self._table, key // self._lead
        row = bisect_right(keys, key, table[lead], table[lead + 1]) - 1
        while row >= 0:
            padded, length = divmod(keys[row], _BASE)
            if digits - padded < _SCALE[length]:
                row_kind = self._terms[2 * row]
                kind = self.kinds[row_kind >> 32]
                if kind.effective_from is kind.effective_to is None or kind.holds_at(at):
                    destination = self.destinations[row_kind & _LOW]
                    return _rate(kind, billed[:length], destination, self._terms[2 * row + 1])
            row = self._parents[row]
        return None

    def candidates(self, billed: str, at: datetime) -> tuple[Rate, ...]:
        """Every rate that could apply to `billed` at `at`, longest prefix first: the first is `match`."""
        found = (self.match(billed[:length], at) for length in range(len(billed), -1, -1))
        return tuple({rate.prefix: rate for rate in found if rate is not None}.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Rate]:
        """All rates, by prefix and then by start of the period."""
        for prefix, destination, kind, price_e9 in self.rows():
            yield _rate(self.kinds[kind], prefix, self.destinations[destination], price_e9)

    def rows(self) -> Iterator[tuple[str, int, int, int]]:
        """(prefix, index into `destinations`, index into `kinds`, price_e9 or OWN_PRICES) of all rows,
        sorted.
        """
        terms = iter(self._terms)
        for key, row_kind, price_e9 in zip(self._keys, terms, terms, strict=True):
            yield _prefix_of(key), row_kind & _LOW, row_kind >> 32, price_e9


class DeckBuilder:
    """Collects the rows of a deck in any order; `sort` puts them in order and finds the rows that
    contradict.
    """

    def __init__(self) -> None:
        self.keys = array("Q")
        self.terms = array("Q")  # two per row: kind << 32 | destination, then price_e9 or OWN_PRICES
        self.kinds: list[Rate] = []
        self.destinations: list[str] = []
        self._kind_ids: dict[Rate, int] = {}
        self._destination_ids: dict[str, int] = {}

    def kind(self, rate: Rate) -> tuple[int, int]:
        """(kind, price_e9 or OWN_PRICES) of a rate, whatever its prefix and destination.

        The price of a rate per minute is a matter of the row: prices are many, other terms few.
        """
        steps, price_e9 = rate.steps, OWN_PRICES
        found = per_minute(steps)
        if found is not None and found[0] % 1000 == 0:
            price_e9 = found[0] // 1000
            steps = tuple(_priced(step, 0) for step in steps)
        bare = msgspec.structs.replace(rate, prefix="", destination="", steps=steps)
        known = self._kind_ids.get(bare)
        if known is None:
            known = self._kind_ids[bare] = len(self.kinds)
            self.kinds.append(bare)
        return known, price_e9

    def destination(self, text: str) -> int:
        """The number of a destination name, checked by the caller."""
        known = self._destination_ids.get(text)
        if known is None:
            known = self._destination_ids[text] = len(self.destinations)
            self.destinations.append(text)
        return known

    def add(self, prefix: str, destination: int, kind: int, price_e9: int) -> None:
        """One row; the caller has checked the prefix. With a price, it replaces the price of each step of
        the kind.
        """
        length = len(prefix)
        self.keys.append(int(prefix or "0") * _KEY_SCALE[length] + length)
        self.terms.append(kind << 32 | destination)
        self.terms.append(price_e9)

    def sort(self) -> list[tuple[int, int, str]]:
        """Sorts the rows; returns pairs of rows (numbered as added) that hold at one time, with their
        prefix.
        """
        order, terms = self._order(), self.terms
        self.keys = array("Q", map(self.keys.__getitem__, order))
        self.terms = array("Q", [0]) * len(terms)
        self.terms[::2] = array("Q", map(terms[::2].__getitem__, order))
        self.terms[1::2] = array("Q", map(terms[1::2].__getitem__, order))
        self._kind_ids.clear()
        self._destination_ids.clear()
        twice = [row for row, (key, after) in enumerate(pairwise(self.keys)) if key == after]
        return [
            (order[row], order[row + 1], _prefix_of(self.keys[row]))
            for row in twice
            if self._overlap(self.terms[2 * row] >> 32, self.terms[2 * row + 2] >> 32)
        ]

    def _order(self) -> array[int]:
        # By the first digits first: sorting short lists one after the other needs a fraction of the memory.
        keys, terms = self.keys, self.terms
        leads = [array("I") for _ in range(1000)]
        lead = 10 ** (PREFIX_DIGITS_MAX - 3) * _BASE
        for row, key in enumerate(keys):
            leads[key // lead].append(row)
        starts = [
            kind.effective_from.timestamp() if kind.effective_from else float("-inf") for kind in self.kinds
        ]
        plain = all(kind.effective_from is None for kind in self.kinds)
        by_period = lambda row: (keys[row], starts[terms[2 * row] >> 32])  # noqa: E731
        order = array("I")
        for rows in leads:
            order.extend(sorted(rows, key=keys.__getitem__ if plain else by_period))
        return order

    def _overlap(self, first: int, second: int) -> bool:
        # Sorted by start, so two neighbours overlap exactly if the earlier is still open when the later
        # begins.
        ends, starts = self.kinds[first].effective_to, self.kinds[second].effective_from
        return ends is None or starts is None or starts < ends


_BASE = PREFIX_DIGITS_MAX + 1
_SCALE = tuple(10 ** (PREFIX_DIGITS_MAX - length) for length in range(_BASE))
_KEY_SCALE = tuple(scale * _BASE for scale in _SCALE)
_LOW = 2**32 - 1


def _number_key(billed: str) -> tuple[int, int]:
    length = len(billed)
    if length > PREFIX_DIGITS_MAX:
        billed, length = billed[:PREFIX_DIGITS_MAX], PREFIX_DIGITS_MAX
    digits = int(billed or "0") * _SCALE[length]
    return digits, digits * _BASE + length


def _rate(kind: Rate, prefix: str, destination: str, price_e9: int) -> Rate:
    # Copies of checked values with checked fields need no second check, which would cost more than the
    # look-up.
    rate: Rate = kind.__copy__()  # type: ignore[attr-defined]
    force_setattr(rate, "prefix", prefix)
    force_setattr(rate, "destination", destination)
    if price_e9 != OWN_PRICES:
        steps, price_e12 = rate.steps, price_e9 * 1000
        first = _priced(steps[0], price_e12)
        force_setattr(rate, "steps", (first,) if len(steps) == 1 else (first, _priced(steps[1], price_e12)))
    return rate


def _prefix_of(key: int) -> str:
    padded, length = divmod(key, _BASE)
    return f"{padded:017d}"[:length]


def _parents(keys: array[int]) -> array[int]:
    """For each sorted key the row to ask next, see `Deck`."""
    parents, scale = array("i"), _SCALE
    chain: list[int] = [-1]
    ends: list[int] = [10**PREFIX_DIGITS_MAX]  # exclusive end of the numbers that the chain's row covers
    for row, key in enumerate(keys):
        padded, length = divmod(key, _BASE)
        while padded >= ends[-1]:
            chain.pop()
            ends.pop()
        parents.append(chain[-1])
        chain.append(row)
        ends.append(padded + scale[length])
    return parents


def _lead_table(keys: array[int]) -> tuple[int, array[int]]:
    """(divisor, table): the rows of all keys with key // divisor == lead are table[lead] up to table[lead +
    1].
    """
    digits = max(0, len(str(len(keys) // 8)) - 1)
    lead = 10 ** (PREFIX_DIGITS_MAX - digits) * _BASE
    return lead, array("I", [bisect_left(keys, number * lead) for number in range(10**digits + 1)])


def _priced(step: RateStep, price_e12: int) -> RateStep:
    priced: RateStep = step.__copy__()  # type: ignore[attr-defined]
    force_setattr(priced, "price_e12", price_e12)
    return priced


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
            step = RateStep.of(
                parse_integer(found["start"]),
                parse_amount(found["price"]),
                parse_integer(found["per"]),
                parse_integer(found["increment"]),
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
    first = RateStep.of(0, price_per_minute, 60, initial_s)
    if initial_s == increment_s:
        return (first,)
    return (first, RateStep.of(initial_s, price_per_minute, 60, increment_s))


def per_minute(steps: tuple[RateStep, ...]) -> tuple[int, int, int] | None:
    """(price_e12, initial_s, increment_s) of steps that `per_minute_steps` could have made, else None."""
    first, last = steps[0], steps[-1]
    if len(steps) > 2 or first.price_e12 != last.price_e12 or first.per_s != 60 or last.per_s != 60:
        return None
    if len(steps) == 2 and last.start_s != first.increment_s:
        return None
    return first.price_e12, first.increment_s, last.increment_s


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


def amount_e12(name: str, amount: Decimal) -> int:
    """`amount` in units of 10^-12; ValueError outside the bounds."""
    return int(plain_amount(name, amount).scaleb(AMOUNT_DECIMALS_MAX))


def amount_of_e12(units: int) -> Decimal:
    """The amount of so many units of 10^-12, without trailing zeros."""
    return plain_amount("amount", Decimal(units).scaleb(-AMOUNT_DECIMALS_MAX))


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
