"""Rates, and the deck that finds the one for a number: the longest prefix whose period holds.

A deck of a million prefixes is a few flat arrays sorted by prefix (see `Deck`), not a million objects.
Measured with 1,000,000 prefixes of 4-9 digits and random longer numbers, on two busy cores, a look-up of
the row alone:

    these arrays           1.2 µs    36 MB, prices and names of destinations included
    marisa-trie            2.0 µs    51 MB, row numbers only
    dict of prefixes       2.5 µs   153 MB, row numbers only (each length asked, longest first)

`python -m tests.bench_rating` measures the whole: import, memory, ratings per second.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import NamedTuple

import msgspec
from msgspec.structs import force_setattr

from sidecar.core.amounts import check_currency, check_seconds, parse_amount, parse_integer, plain_amount
from sidecar.core.steps import (
    RateStep,
    check_steps,
    format_steps,
    parse_steps,
    per_minute,
    per_minute_steps,
)

__all__ = (
    "Deck",
    "DeckBuilder",
    "Rate",
    "RateStep",
    "check_currency",
    "format_steps",
    "parse_amount",
    "parse_integer",
    "parse_steps",
    "per_minute",
    "per_minute_steps",
)

OWN_PRICES = 2**64 - 1  # in the place of a row's price: its kind has the prices
PREFIX_DIGITS_MAX = 17  # E.164 has 15; 17 is what an 8-byte key holds (see Deck)
DESTINATION_MAX = 200
CALLER_DIGITS_MAX = 15  # of E.164
SURCHARGE = "surcharge"  # in the place of a caller prefix: callers that have no number to go by


class Rate(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One row of a deck. The period is half-open: from `effective_from` up to, not including, `effective_to`.

    An empty prefix is the default row. `max_duration_s` is the longest call that this rate is sold for, if
    the deck says so. A call of at most `grace_s` seconds is charged as one of none; `included_s` takes the
    place of the free seconds, `minimum_charge` that of the account's or gateway's. A `blocked` row has no
    price at all, so that nothing can take it for free. `caller_prefix` is how the caller's number begins, or
    SURCHARGE; empty: it is for any caller. Whoever holds a Rate holds all that a charge needs: it can be
    frozen into a call.
    """

    prefix: str
    currency: str
    steps: tuple[RateStep, ...] = ()
    destination: str = ""
    connect_fee: Decimal = Decimal(0)
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    max_duration_s: int | None = None
    grace_s: int = 0
    included_s: int | None = None
    minimum_charge: Decimal | None = None
    blocked: bool = False
    caller_prefix: str = ""

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        check_caller_prefix(self.caller_prefix)
        check_destination(self.destination)
        check_currency(self.currency)
        force_setattr(self, "connect_fee", plain_amount("connect_fee", self.connect_fee))
        if not self.blocked:
            check_steps(self.steps)
        elif self.steps or self.connect_fee or self.minimum_charge:
            raise ValueError("a blocked row has a price")
        check_period(self.effective_from, self.effective_to)
        if self.max_duration_s is not None:
            check_seconds("max_duration_s", self.max_duration_s, 1)
        check_seconds("grace_s", self.grace_s, 0)
        if self.included_s is not None:
            check_seconds("included_s", self.included_s, 0)
        if self.minimum_charge is not None:
            force_setattr(self, "minimum_charge", plain_amount("minimum_charge", self.minimum_charge))

    def holds_at(self, at: datetime) -> bool:
        """Whether `at` (aware) lies in the half-open period of this rate."""
        return (self.effective_from is None or self.effective_from <= at) and (
            self.effective_to is None or at < self.effective_to
        )


class Deck:
    """An immutable set of rates, asked by number and time.

    Rows are sorted by prefix. A row's key is its prefix padded with zeros to 17 digits, times 32, plus its
    length, so that keys sort exactly as the prefixes do as text. `_parents[row]` is the row to ask next
    when this one does not apply: an earlier row of the same prefix (another period), else the last row of
    the longest prefix that is a proper prefix of this one, else -1. The answer for a number is found on the
    chain that starts at the greatest key not above the number's own: a prefix of the number sorts before
    it, and nothing sorts between the two but longer prefixes that begin with the shorter.

    `_table` has, for each possible beginning of a key, its first row: it spares the search the first steps,
    which are the ones that miss every cache.

    Of the rows of one prefix those for the longest prefix of the caller come first, in the same way: they are
    sorted by it, and found by `_callers`, the same keys for them, and `_caller_parents`, which stays within
    the prefix. Both are empty in a deck that does not ask who calls.

    `kinds` holds what rows have in common, once, as rates without prefix and destination. A row of one
    price per minute has its price in `_prices`, and the steps of its kind have the price 0; other rows have
    OWN_PRICES there.
    """

    __slots__ = (
        "_caller_parents",
        "_callers",
        "_keys",
        "_parents",
        "_shift",
        "_table",
        "_terms",
        "destinations",
        "has_blocked",
        "kinds",
        "revision",
    )

    def __init__(self, revision: str, rates: Iterable[Rate] = ()) -> None:
        builder = DeckBuilder()
        for rate in rates:
            builder.add(rate.prefix, builder.destination(rate.destination), *builder.kind(rate))
        conflicts = builder.sort()
        if conflicts:
            raise ValueError(f"prefix {conflicts[0].prefix!r}: {conflicts[0].reason}")
        self._take(revision, builder)

    @classmethod
    def built(cls, revision: str, builder: DeckBuilder) -> Deck:
        """The deck of a builder that was sorted without conflicts."""
        deck = cls.__new__(cls)
        deck._take(revision, builder)
        return deck

    @classmethod
    def of_arrays(
        cls, revision: str, arrays: DeckArrays, kinds: Iterable[Rate], destinations: Iterable[str]
    ) -> Deck:
        """The deck of which `arrays` gave the second, with what it had beside them."""
        deck = cls.__new__(cls)
        deck._set(revision, arrays, kinds, destinations)
        return deck

    def arrays(self) -> DeckArrays:
        """The rows as numbers, for a file."""
        return DeckArrays(self._keys, self._terms, self._parents, self._table, self._shift)

    def _take(self, revision: str, builder: DeckBuilder) -> None:
        shift, table = _lead_table(builder.keys)
        arrays = DeckArrays(builder.keys, builder.terms, _parents(builder.keys), table, shift)
        self._set(revision, arrays, builder.kinds, builder.destinations)

    def _set(
        self, revision: str, arrays: DeckArrays, kinds: Iterable[Rate], destinations: Iterable[str]
    ) -> None:
        self.revision = revision
        self._keys, self._terms, self._parents, self._table, self._shift = arrays
        self.kinds = tuple(kinds)
        self.has_blocked = any(kind.blocked for kind in self.kinds)
        self._callers, self._caller_parents = _callers_of(self.kinds, self._terms), array("i")
        if self._callers:
            self._parents, self._caller_parents = _with_callers(self._keys, self._parents, self._callers)
        self.destinations = tuple(destinations)

    @property
    def asks_who_calls(self) -> bool:
        return bool(self._callers)

    def match(self, billed: str, at: datetime, caller: str = "") -> Rate | None:
        """The rate of the longest prefix of `billed` (ASCII digits) whose period holds at `at` (aware), and
        of its rows the one of the longest prefix of `caller` (E.164 digits, or SURCHARGE). With no caller
        the rows for any caller alone."""
        length = len(billed)
        if length > PREFIX_DIGITS_MAX:
            billed, length = billed[:PREFIX_DIGITS_MAX], PREFIX_DIGITS_MAX
        key = int(billed or "0") * _KEY_SCALE[length] + length
        keys, table, lead = self._keys, self._table, key >> self._shift
        row = bisect_right(keys, key, table[lead], table[lead + 1]) - 1
        key |= _LENGTH  # from here on only the digits count
        if self._callers:
            return self._match_caller(billed, key, row, at, _caller_key(caller))
        while row >= 0:
            row_key = keys[row]
            length = row_key & _LENGTH
            if key - row_key < _KEY_SCALE[length]:
                place = row + row
                row_kind = self._terms[place]
                kind = self.kinds[row_kind >> 32]
                if kind.effective_from is kind.effective_to is None or kind.holds_at(at):
                    destination = self.destinations[row_kind & _LOW]
                    return _rate(kind, billed[:length], destination, self._terms[place + 1])
            row = self._parents[row]
        return None

    def _match_caller(self, billed: str, key: int, row: int, at: datetime, caller: int) -> Rate | None:
        """`row` is the last of its prefix, and so are those that `_parents` leads to."""
        keys, callers, within = self._keys, self._callers, caller | _LENGTH
        while row >= 0:
            row_key = keys[row]
            length = row_key & _LENGTH
            if key - row_key < _KEY_SCALE[length]:
                found = bisect_right(callers, caller, bisect_left(keys, row_key, 0, row), row + 1) - 1
                while found >= 0 and keys[found] == row_key:
                    of = callers[found]
                    if within - of < _CALLER_SCALE[of & _LENGTH]:
                        row_kind = self._terms[2 * found]
                        kind = self.kinds[row_kind >> 32]
                        if kind.holds_at(at):
                            destination = self.destinations[row_kind & _LOW]
                            return _rate(kind, billed[:length], destination, self._terms[2 * found + 1])
                    found = self._caller_parents[found]
            row = self._parents[row]
        return None

    def candidates(self, billed: str, at: datetime, caller: str = "") -> tuple[Rate, ...]:
        """The rates that could apply to `billed` at `at`, one for each prefix, the longest first: the first
        is `match`."""
        found = []
        rate = self.match(billed, at, caller)
        while rate is not None:
            found.append(rate)
            rate = self.match(rate.prefix[:-1], at, caller) if rate.prefix else None
        return tuple(found)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Rate]:
        """All rates, by prefix, then by caller prefix, then by start of the period."""
        return map(self.rate_of, self.rows())

    def rate_of(self, row: tuple[str, int, int, int]) -> Rate:
        """The rate of one of `rows`."""
        prefix, destination, kind, price_e9 = row
        return _rate(self.kinds[kind], prefix, self.destinations[destination], price_e9)

    def periods(self, billed: str) -> tuple[Rate, ...]:
        """Every rate whose prefix begins `billed`, whenever it holds; the longest prefix first."""
        found = []
        for length in range(min(len(billed), PREFIX_DIGITS_MAX), -1, -1):
            key = int(billed[:length] or "0") * _KEY_SCALE[length] + length
            row = bisect_right(self._keys, key) - 1
            rows = []
            while row >= 0 and self._keys[row] == key:
                rows.append(row)
                row -= 1
            for one in reversed(rows):
                terms = self._terms[2 * one]
                kind, name = self.kinds[terms >> 32], self.destinations[terms & _LOW]
                found.append(_rate(kind, billed[:length], name, self._terms[2 * one + 1]))
        return tuple(found)

    def rows(self) -> Iterator[tuple[str, int, int, int]]:
        """(prefix, index into `destinations`, index into `kinds`, price_e9 or OWN_PRICES) of all rows,
        sorted.
        """
        terms = iter(self._terms)
        for key, row_kind, price_e9 in zip(self._keys, terms, terms, strict=True):
            yield _prefix_of(key), row_kind & _LOW, row_kind >> 32, price_e9


class DeckArrays(NamedTuple):
    """The rows of a deck as `Deck` describes them."""

    keys: array[int]  # Q
    terms: array[int]  # Q
    parents: array[int]  # i
    table: array[int]  # I
    shift: int


class RowConflict(NamedTuple):
    """Two rows, numbered as added, of which only one can be meant."""

    first: int
    second: int
    prefix: str
    reason: str


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

    def sort(self) -> list[RowConflict]:
        """Sorts the rows. Of one prefix a row that begins later ends the one before it, and a row that is
        there twice counts once; what contradicts is returned."""
        order, terms = self._order(), self.terms
        self.keys = array("Q", map(self.keys.__getitem__, order))
        self.terms = array("Q", [0]) * len(terms)
        self.terms[::2] = array("Q", (terms[2 * row] for row in order))
        self.terms[1::2] = array("Q", (terms[2 * row + 1] for row in order))
        conflicts = self._end_older(order)
        self._kind_ids.clear()
        self._destination_ids.clear()
        return conflicts

    def _end_older(self, order: array[int]) -> list[RowConflict]:
        keys, terms, kinds = self.keys, self.terms, self.kinds
        conflicts: list[RowConflict] = []
        again: list[int] = []  # rows that say what the row before says
        older = -1  # the row that the next one of its prefix may end
        for row in [row for row, (key, after) in enumerate(pairwise(keys), 1) if key == after]:
            if not self._are_alike(row - 1, row):
                continue
            if older < 0 or not self._are_alike(older, row):
                older = row - 1
            first, second = kinds[terms[2 * older] >> 32], kinds[terms[2 * row] >> 32]
            since, until = second.effective_from, second.effective_to
            if first.effective_to is not None and since is not None and first.effective_to <= since:
                older = row
                continue
            reason = ""
            if first.effective_from == since:
                if terms[2 * older : 2 * older + 2] == terms[2 * row : 2 * row + 2]:
                    again.append(row)
                    continue
                reason = "two rows that differ begin at the same time"
            elif until is not None and (first.effective_to is None or until < first.effective_to):
                has_following = row + 1 < len(keys) and self._are_alike(row, row + 1)
                following = kinds[terms[2 * row + 2] >> 32] if has_following else None
                if following is None or following.effective_from is None or following.effective_from > until:
                    reason = f"ends at {until.isoformat()}, while the row before goes on: which holds then?"
            if reason:
                prefix = _prefix_of(keys[row])
                conflicts.append(RowConflict(order[older], order[row], prefix, reason))
            else:
                ended = msgspec.structs.replace(first, effective_to=since)
                terms[2 * older] = self.kind(ended)[0] << 32 | terms[2 * older] & _LOW
            older = row
        if again:
            gone = frozenset(again)
            kept = [row for row in range(len(keys)) if row not in gone]
            self.keys = array("Q", map(keys.__getitem__, kept))
            self.terms = array("Q", (terms[place] for row in kept for place in (2 * row, 2 * row + 1)))
        return conflicts

    def _order(self) -> array[int]:
        # By the first digits first: sorting short lists one after the other needs a fraction of the memory.
        keys, terms = self.keys, self.terms
        leads = [array("I") for _ in range(1000)]
        lead = _KEY_SCALE[3]
        for row, key in enumerate(keys):
            leads[key // lead].append(row)
        starts = [
            kind.effective_from.timestamp() if kind.effective_from else float("-inf") for kind in self.kinds
        ]
        callers = self._callers_of_kinds()
        plain = all(kind.effective_from is None for kind in self.kinds) and not any(callers)

        def by_caller_and_period(row: int) -> tuple[int, int, float]:
            kind = terms[2 * row] >> 32
            return keys[row], callers[kind], starts[kind]

        order = array("I")
        for rows in leads:
            order.extend(sorted(rows, key=keys.__getitem__ if plain else by_caller_and_period))
        return order

    def _are_alike(self, row: int, other: int) -> bool:
        """Of one prefix, and for the same callers."""
        if self.keys[row] != self.keys[other]:
            return False
        first, second = (self.kinds[self.terms[2 * one] >> 32] for one in (row, other))
        return first.caller_prefix == second.caller_prefix

    def _callers_of_kinds(self) -> list[int]:
        return [_caller_key(kind.caller_prefix) for kind in self.kinds]


_LENGTH_BITS = 5
_LENGTH = 2**_LENGTH_BITS - 1
_KEY_SCALE = tuple(
    10 ** (PREFIX_DIGITS_MAX - length) << _LENGTH_BITS for length in range(PREFIX_DIGITS_MAX + 1)
)
_KEYS_END = 10**PREFIX_DIGITS_MAX << _LENGTH_BITS  # exclusive
_SURCHARGE_KEY = _KEYS_END + PREFIX_DIGITS_MAX  # above all digits, and covering nothing but itself
_CALLER_SCALE = (2 * _KEYS_END, *_KEY_SCALE[1:])  # a row for any caller covers that one, too
_LOW = 2**32 - 1


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
    return f"{key >> _LENGTH_BITS:017d}"[: key & _LENGTH]


def _parents(keys: array[int]) -> array[int]:
    """For each sorted key the row to ask next, see `Deck`."""
    parents, scale = array("i"), _KEY_SCALE
    chain: list[int] = [-1]
    ends: list[int] = [_KEYS_END]  # exclusive end of the keys that the chain's row covers
    for row, key in enumerate(keys):
        while key >= ends[-1]:
            chain.pop()
            ends.pop()
        parents.append(chain[-1])
        chain.append(row)
        length = key & _LENGTH
        ends.append(key - length + scale[length])
    return parents


def _caller_key(prefix: str) -> int:
    length = len(prefix)
    if prefix == SURCHARGE:
        return int(_SURCHARGE_KEY)
    key: int = int(prefix or "0") * _KEY_SCALE[length] + length
    return key


def _callers_of(kinds: Sequence[Rate], terms: Sequence[int]) -> array[int]:
    """The key of the caller prefix of each row; none where no row has one."""
    of_kind = [_caller_key(kind.caller_prefix) for kind in kinds]
    return array("Q", (of_kind[row_kind >> 32] for row_kind in terms[::2]) if any(of_kind) else ())


def _with_callers(
    keys: array[int], parents: array[int], callers: array[int]
) -> tuple[array[int], array[int]]:
    """(parents, parents by caller) of rows that are sorted by both. The former lead past all rows of a
    prefix, the latter stay within them."""
    past, within = array("i"), array("i")
    chain: list[int] = []
    ends: list[int] = []
    for row, (key, caller) in enumerate(zip(keys, callers, strict=True)):
        if row and keys[row - 1] == key:
            past.append(past[row - 1])
        else:
            past.append(parents[row])
            chain, ends = [-1], [2 * _KEYS_END]
        while caller >= ends[-1]:
            chain.pop()
            ends.pop()
        within.append(chain[-1])
        chain.append(row)
        length = caller & _LENGTH
        ends.append(caller - length + _CALLER_SCALE[length])
    return past, within


def _lead_table(keys: array[int]) -> tuple[int, array[int]]:
    """(shift, table): the rows of all keys with key >> shift == lead are table[lead] up to table[lead + 1].

    About as many leads as rows, so that most searches have one row to look at.
    """
    shift = _KEYS_END.bit_length() - len(keys).bit_length()
    counts = array("I", [0]) * ((_KEYS_END >> shift) + 2)
    for key in keys:
        counts[(key >> shift) + 1] += 1
    return shift, array("I", accumulate(counts))


def _priced(step: RateStep, price_e12: int) -> RateStep:
    priced: RateStep = step.__copy__()  # type: ignore[attr-defined]
    force_setattr(priced, "price_e12", price_e12)
    return priced


def check_prefix(prefix: str) -> None:
    if prefix and not (prefix.isascii() and prefix.isdigit()):
        raise ValueError(f"prefix {prefix!r} has something else than the digits 0-9")
    if len(prefix) > PREFIX_DIGITS_MAX:
        raise ValueError(f"prefix {prefix!r} has more than {PREFIX_DIGITS_MAX} digits")


def check_caller_prefix(prefix: str) -> None:
    if prefix and prefix != SURCHARGE and not (prefix.isascii() and prefix.isdigit()):
        raise ValueError(f"caller_prefix {prefix!r} is neither digits nor {SURCHARGE!r}")
    if prefix.startswith("0"):
        raise ValueError(f"caller_prefix {prefix!r} begins with 0, as no country code does")
    if len(prefix) > CALLER_DIGITS_MAX:
        raise ValueError(f"caller_prefix {prefix!r} has more than {CALLER_DIGITS_MAX} digits")


def check_destination(destination: str) -> None:
    if len(destination) > DESTINATION_MAX:
        raise ValueError(f"destination has more than {DESTINATION_MAX} characters")
    if not destination.isprintable():
        raise ValueError(f"destination {destination!r} has control characters")


def check_period(effective_from: datetime | None, effective_to: datetime | None) -> None:
    for name, at in (("effective_from", effective_from), ("effective_to", effective_to)):
        if at is not None and at.utcoffset() is None:
            raise ValueError(f"{name} {at.isoformat()} has no offset from UTC")
    if effective_from is not None and effective_to is not None and effective_from >= effective_to:
        raise ValueError(
            f"effective_from {effective_from.isoformat()} is not before {effective_to.isoformat()}"
        )
