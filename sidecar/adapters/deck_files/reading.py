"""Rows of text to a deck: whole or not at all. What is equal in many rows is parsed once."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import msgspec

from sidecar.adapters.deck_files.canonical import revision_of
from sidecar.adapters.deck_files.cells import clean_name
from sidecar.adapters.deck_files.columns import (
    COLUMNS,
    KINDS_KEPT_MAX,
    PER_MINUTE,
    PRICES_KEPT_MAX,
    REQUIRED,
    ROW_BY_ROW,
    ROWS_MAX,
)
from sidecar.adapters.deck_files.errors import ERRORS_LISTED_MAX, DeckError, DeckRefusedError
from sidecar.core.amounts import SECONDS_MAX, check_currency, parse_amount, parse_integer
from sidecar.core.steps import RateStep, parse_steps, per_minute, per_minute_steps
from sidecar.core.tariff import (
    OWN_PRICES,
    PREFIX_DIGITS_MAX,
    Deck,
    DeckBuilder,
    Rate,
    check_caller_prefix,
    check_destination,
    check_prefix,
)

_STAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


_SCIENTIFIC = re.compile(r"[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+")
_T = TypeVar("_T")
_BAD, _NONE, _FINE = -1, -2, -3  # in place of a number: wrong, empty, more than 9 decimals
_NO_FEE = Decimal(0)
_ROW_BITS = 24  # of a row's number, below that of its sheet
_ROW = 2**_ROW_BITS - 1


class Reading:
    """One reading of one file: collects rows in a builder, and errors."""

    def __init__(self, file: str, name_of: Callable[[str], str] | None = None) -> None:
        self.row = 0
        self._file = file
        self._name_of = name_of  # of a prefix, where the file gives it none
        self.shown_columns: dict[str, tuple[str, int]] = {}  # ours to what the file calls it, and its place
        self._sheet = ""
        self._sheets = [""]
        self._errors: dict[tuple[str, str | None, str], DeckError] = {}
        self._count = 0  # of different faults
        self._faults = 0
        self._builder = DeckBuilder()
        self._row_numbers = array("I")
        self._term_names: list[str] = []
        self._kinds: dict[tuple[str, ...], tuple[int, int]] = {}
        self._destinations: dict[str, int] = {}
        self._prices: dict[str, int] = {}

    def begin_sheet(self, name: str) -> None:
        """What follows is in that sheet of a workbook."""
        self._sheet = name
        self._sheets.append(name)

    def refuse(self, row: int | None, column: str | None, reason: str, cause: str | None = None) -> None:
        """One fault. A `cause` that was in this column before is only counted (default: the same reason)."""
        self._faults += 1
        key = (self._sheet, column, cause or reason)
        known = self._errors.get(key)
        if known is not None:
            self._errors[key] = msgspec.structs.replace(known, more=known.more + 1)
            return
        self._count += 1
        if len(self._errors) < ERRORS_LISTED_MAX:
            named = self._named(row, column)
            self._errors[key] = DeckError(self._file, row, named, reason, self._sheet or None)

    @property
    def rates(self) -> int:
        """How many rows were taken."""
        return len(self._row_numbers)

    @property
    def is_refused(self) -> bool:
        return self._faults > 0

    def _named(self, row: int | None, column: str | None) -> str | None:
        """The column as the file has it, and the cell of a workbook."""
        if column is None or column not in self.shown_columns:
            return column
        theirs, place = self.shown_columns[column]
        return f"{theirs} ({cell_name(row, place)})" if self._sheet and row else theirs

    def take(self, rows: Iterable[list[str]]) -> None:
        """Reads the rows, names first. What is equal in many rows is parsed once."""
        source = iter(rows)
        names = [name.strip().lower() for name in next(source, [])]
        self.row = 1
        if not self._names_are_good(names):
            return
        width = len(names)
        prefix_at, destination_at = names.index("prefix"), names.index("destination")
        default_at = names.index("default") if "default" in names else None
        price_at = names.index("price_per_minute") if "price_per_minute" in names else None
        self._term_names = [name for name in names if name not in ROW_BY_ROW]
        terms_of: Callable[[list[str]], tuple[str, ...]] = itemgetter(*map(names.index, self._term_names))
        kinds, destinations, prices = self._kinds, self._destinations, self._prices
        add, add_number = self._builder.add, self._row_numbers.append
        for self.row, cells in enumerate(source, 2):
            if len(cells) != width:
                if cells:
                    self.refuse(self.row, None, f"{len(cells)} cells, but {width} columns are named")
                continue
            if price_at is not None and (default_at is None or not cells[default_at]):
                # Nearly every row: a plain prefix, and nothing else that was not seen and found good before.
                prefix, price_e9 = cells[prefix_at], prices.get(cells[price_at], _NONE)
                name, kind = destinations.get(cells[destination_at]), kinds.get(terms_of(cells))
                plain = prefix.isascii() and prefix.isdigit() and len(prefix) <= PREFIX_DIGITS_MAX
                if plain and name is not None and kind is not None and kind[1] == _NONE and price_e9 >= 0:
                    add(prefix, name, kind[0], price_e9)
                    add_number(self.row)
                    continue
            self._take_row(
                cells[prefix_at],
                cells[destination_at],
                "" if price_at is None else cells[price_at],
                terms_of(cells),
                "" if default_at is None else cells[default_at],
            )
        if self.row > ROWS_MAX:
            self.refuse(None, None, f"has {self.row} rows: at most {ROWS_MAX} are allowed")

    def begin(self, term_names: Sequence[str]) -> None:
        """Rows by `add` follow, with the cells of these columns as their terms."""
        self._term_names = list(term_names)

    def add(self, prefix: str, destination: str, price: str, terms: tuple[str, ...], default: str) -> None:
        """The row at `row`, in our own spelling."""
        price_e9, name = self._prices.get(price, _NONE), self._destinations.get(destination)
        kind = self._kinds.get(terms)
        seen = name is not None and kind is not None and kind[1] == _NONE and price_e9 >= 0
        if seen and not default and 0 < len(prefix) <= PREFIX_DIGITS_MAX:
            self._builder.add(prefix, name, kind[0], price_e9)  # type: ignore[arg-type,index]
            self._row_numbers.append(len(self._sheets) - 1 << _ROW_BITS | self.row)
        else:
            self._take_row(prefix, destination, price, terms, default)

    def _take_row(
        self, prefix: str, destination: str, price: str, terms: tuple[str, ...], default: str
    ) -> None:
        prefix = prefix.strip()
        good = self._prefix_is_good(prefix, default.strip())
        if self._name_of is not None and good and not destination.strip():
            destination = self._name_of(prefix)
        name = self._destinations.get(destination)
        if name is None:
            name = self._destination(destination)
        price_e9 = self._prices.get(price)
        if price_e9 is None:
            price_e9 = self._price(price)
        kind, own_price_e9 = self._kinds.get(terms) or self._kind(terms)
        if kind < 0 or name < 0 or price_e9 == _BAD:
            return
        if self._builder.kinds[kind].blocked:
            if price_e9 != _NONE:
                self.refuse(self.row, "price_per_minute", "is given, but the row is blocked: leave it empty")
                return
            price_e9 = OWN_PRICES
        elif own_price_e9 != _NONE:
            if price_e9 != _NONE:
                self.refuse(self.row, "steps", "and price_per_minute are both given: one of them only")
                return
            price_e9 = own_price_e9
        elif price_e9 == _NONE:
            self.refuse(self.row, "price_per_minute", "is empty")
            return
        elif price_e9 == _FINE:
            kind, price_e9 = self._fine_kind(kind, price)
        if good:
            self._builder.add(prefix, name, kind, price_e9)
            self._row_numbers.append(len(self._sheets) - 1 << _ROW_BITS | self.row)

    def _place(self, number: int) -> str:
        sheet = self._sheets[number >> _ROW_BITS]
        return f"row {number & _ROW}" + (f" of sheet {sheet}" if sheet else "")

    def deck(self) -> Deck:
        """The deck, if nothing was refused."""
        for found in self._builder.sort():
            rows = sorted((self._row_numbers[found.first], self._row_numbers[found.second]))
            self._sheet = self._sheets[rows[1] >> _ROW_BITS]
            reason = f"{found.prefix!r} is in {self._place(rows[0])} already: {found.reason}"
            self.refuse(rows[1] & _ROW, "prefix", reason)
        self.check()
        deck = Deck.built("", self._builder)
        deck.revision = revision_of(deck)
        return deck

    def check(self) -> None:
        """DeckRefusedError, if anything was refused."""
        if self._count:
            errors = sorted(self._errors.values(), key=lambda error: error.row or 0)
            raise DeckRefusedError(errors, self._count)

    def _names_are_good(self, names: list[str]) -> bool:
        before = self._faults
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.refuse(1, name, "is named twice")
        for number, name in enumerate(names, 1):
            if not name:
                self.refuse(1, None, f"column {number} has no name")
            elif name not in COLUMNS:
                self.refuse(1, name, "is not a column of a deck")
        wanted = REQUIRED if "steps" in names else REQUIRED + PER_MINUTE
        missing = [name for name in wanted if name not in names]
        per_minute = [name for name in PER_MINUTE if name in names]
        if "steps" in names and per_minute:
            missing += [name for name in PER_MINUTE if name not in names]
        for name in missing:
            self.refuse(1, name, "is missing")
        return self._faults == before

    def _prefix_is_good(self, prefix: str, default: str) -> bool:
        before = self._faults
        try:
            check_prefix(prefix)
        except ValueError as error:
            lost = "; this is a spreadsheet's scientific notation, digits are lost: store the column as text"
            self.refuse(self.row, "prefix", f"{error}{lost if _SCIENTIFIC.fullmatch(prefix) else ''}")
        if default not in ("", "yes", "no"):
            self.refuse(self.row, "default", f"{default!r} is neither yes nor no nor empty")
        elif not prefix and default != "yes":
            self.refuse(self.row, "prefix", "is empty; the default row needs default = yes")
        elif prefix and default == "yes":
            self.refuse(self.row, "default", "is yes, but the prefix is not empty")
        return self._faults == before

    def _destination(self, text: str) -> int:
        try:
            text_kept = clean_name(text)
            check_destination(text_kept)
        except ValueError as error:
            self.refuse(self.row, "destination", str(error))
            return _BAD
        known = self._builder.destination(text_kept)
        if text_kept or self._name_of is None:  # an empty cell may have another name in each row
            self._destinations[text] = known
        return known

    def _price(self, text: str) -> int:
        """In units of 10^-9, or _NONE for an empty cell, _FINE if it needs more decimals, _BAD if it is
        wrong.
        """
        try:
            price_e9 = _parse_e9(text.strip())
        except ValueError as error:
            self.refuse(self.row, "price_per_minute", str(error))
            return _BAD
        if len(self._prices) == PRICES_KEPT_MAX:
            self._prices.clear()
        self._prices[text] = price_e9
        return price_e9

    def _fine_kind(self, kind: int, price: str) -> tuple[int, int]:
        bare = self._builder.kinds[kind]
        found = per_minute(bare.steps)
        assert found is not None
        steps = per_minute_steps(parse_amount(price.strip()), *found[1:])
        return self._builder.kind(msgspec.structs.replace(bare, steps=steps))

    def _kind(self, cells: tuple[str, ...]) -> tuple[int, int]:
        """(kind, own price or _NONE) of the cells that are no row's own; kind is _BAD if they are wrong.

        Wrong cells are not remembered: they are listed for each row that has them.
        """
        before = self._faults
        values = {name: text.strip() for name, text in zip(self._term_names, cells, strict=True)}
        currency = self._cell("currency", values, _currency, None)
        fee = self._cell("connect_fee", values, parse_amount, _NO_FEE)
        blocked = self._cell("blocked", values, _yes_or_no, False)
        steps = self._no_price(values) if blocked else self._steps(values)
        since = self._cell("effective_from", values, parse_stamp, None)
        until = self._cell("effective_to", values, parse_stamp, None)
        if since is not None and until is not None and since >= until:
            self.refuse(self.row, "effective_to", f"{until.isoformat()} is not after effective_from")
        longest_s = self._cell("max_duration_s", values, _positive, None)
        grace_s = self._cell("grace_s", values, _seconds, 0)
        included_s = self._cell("included_s", values, _seconds, None)
        minimum = self._cell("minimum_charge", values, parse_amount, None)
        caller = self._cell("caller_prefix", values, _caller_prefix, "")
        if not values["currency"]:
            self.refuse(self.row, "currency", "is empty")
        if self._faults > before or currency is None or fee is None or steps is None or grace_s is None:
            return _BAD, _NONE
        rate = Rate(
            prefix="",
            currency=currency,
            steps=steps,
            connect_fee=fee,
            effective_from=since,
            effective_to=until,
            max_duration_s=longest_s,
            grace_s=grace_s,
            included_s=included_s,
            minimum_charge=minimum,
            blocked=bool(blocked),
            caller_prefix=caller or "",
        )
        kind, price_e9 = self._builder.kind(rate)
        if len(self._kinds) == KINDS_KEPT_MAX:
            self._kinds.clear()
        known = self._kinds[cells] = (kind, price_e9 if blocked or values.get("steps") else _NONE)
        return known

    def _cell(
        self, name: str, values: dict[str, str], parse: Callable[[str], _T], empty: _T | None
    ) -> _T | None:
        text = values.get(name, "")
        if not text:
            return empty
        try:
            return parse(text)
        except ValueError as error:
            self.refuse(self.row, name, str(error))
            return None

    def _no_price(self, values: dict[str, str]) -> tuple[RateStep, ...]:
        for name in ("steps", "initial_s", "increment_s", "connect_fee", "minimum_charge"):
            if values.get(name, "") not in ("", "0"):
                self.refuse(self.row, name, "is given, but the row is blocked: leave it empty")
        return ()

    def _steps(self, values: dict[str, str]) -> tuple[RateStep, ...] | None:
        given = [name for name in ("initial_s", "increment_s") if values.get(name)]
        if values.get("steps"):
            if given:
                self.refuse(self.row, "steps", f"and {', '.join(given)} are both given: one of them only")
            return self._cell("steps", values, parse_steps, None)
        for name in ("initial_s", "increment_s"):
            if name not in given:
                self.refuse(self.row, name if name in values else "steps", "is empty")
        initial_s = self._cell("initial_s", values, _positive, None)
        increment_s = self._cell("increment_s", values, _positive, None)
        if initial_s is None or increment_s is None:
            return None
        return per_minute_steps(_NO_FEE, initial_s, increment_s)


def _caller_prefix(text: str) -> str:
    check_caller_prefix(text)
    return text


def refuse_bad_bytes(path: Path, reading: Reading) -> None:
    """Refuses each line of the file that is not UTF-8."""
    with path.open("rb") as file:
        for row, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                reading.refuse(row, None, f"byte {error.start + 1} of the line is not UTF-8")


def cell_name(row: int | None, place: int) -> str:
    """`B7` of row 7 and place 1."""
    letters = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"{letters}{row}"


def parse_stamp(text: str) -> datetime:
    """An ISO 8601 time with offset, such as 2026-07-01T00:00:00+02:00, in UTC."""
    if not _STAMP.fullmatch(text):
        raise ValueError(f"{text!r} is not a time such as 2026-07-01T00:00:00+02:00 (the offset is needed)")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time that exists") from None


def _currency(text: str) -> str:
    check_currency(text)
    return text


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no nor empty")
    return text == "yes"


def _seconds(text: str) -> int:
    seconds = parse_integer(text)
    if seconds > SECONDS_MAX:
        raise ValueError(f"{text!r} is above {SECONDS_MAX} s")
    return seconds


def _positive(text: str) -> int:
    seconds = parse_integer(text)
    if not 1 <= seconds <= SECONDS_MAX:
        raise ValueError(f"{text!r} is not within 1-{SECONDS_MAX} s")
    return seconds


def _parse_e9(text: str) -> int:
    if not text:
        return _NONE
    parse_amount(text)
    whole, _, decimals = text.partition(".")
    if len(decimals) > 9 and decimals[9:].strip("0"):
        return _FINE
    return int(whole + decimals[:9].ljust(9, "0"))
