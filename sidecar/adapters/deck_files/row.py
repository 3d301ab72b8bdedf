"""One row of a carrier's list: what each cell says by the template, or why it cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, NoReturn, TypeVar

from sidecar.adapters.deck_files import cells as read
from sidecar.adapters.deck_files.cells import Cell, clean_name, shown
from sidecar.adapters.deck_files.columns import COLUMNS, PRICES_KEPT_MAX, ROW_BY_ROW
from sidecar.adapters.deck_files.prefixes import Codes
from sidecar.adapters.deck_files.reading import Reading
from sidecar.adapters.deck_files.template import STATUS_WORDS, Template
from sidecar.core.steps import parse_steps
from sidecar.core.tariff import SURCHARGE
from sidecar.wire.csv_text import restored

TERM_NAMES = tuple(name for name in COLUMNS if name not in ROW_BY_ROW)
CELL_CHARS_MAX = 200  # of a price, a time, a number of seconds
DATES = ("effective_from", "effective_to", "next_from", "started_at")
BY_TIME = ("days", "hours", "hours_from", "hours_to", "period", "step_start_s")

_T = TypeVar("_T")


class RereadError(Exception):
    """A date further down shows how those above have to be read: `orders` by column of ours."""

    def __init__(self, orders: dict[str, str]) -> None:
        super().__init__(orders)
        self.orders = orders


class BadCellError(Exception):
    """The cell was refused; its row is not taken."""


class Priced(NamedTuple):
    text: str  # per minute, plain; empty: no price
    currency: str  # that the cell names
    rounded: bool


class Terms(NamedTuple):
    """What the cells of a row say beside code, name and price."""

    values: tuple[str, ...]  # of TERM_NAMES
    action: str
    ends_at: datetime | None
    next_from: datetime | None
    window: str | None  # None: not by time
    step_start_s: int


class RowReader:
    """Reads the cells of the row that `_cells` holds, under the columns that `_columns` has."""

    def __init__(self, template: Template, reading: Reading, orders: dict[str, str]) -> None:
        self.counts: Counter[str] = Counter()
        self._template = template
        self._reading = reading
        self._orders = dict.fromkeys(DATES, template.dates) | orders
        self._assumed: dict[str, tuple[int, str, str]] = {}
        self._comma = template.decimal_comma
        self._scale = Decimal(template.scale)
        self._codes = Codes(
            template.prefix_strip, template.prefix_drop, template.prefix_split, template.prefix_ranges
        )
        self._status = STATUS_WORDS | {
            clean_name(word).casefold(): one for word, one in template.status.items()
        }
        self._callers = {clean_name(word).casefold(): one for word, one in template.callers.items()}
        self._periods = {clean_name(word).casefold(): one for word, one in template.periods.items()}
        self._columns: dict[str, int] = {}
        self._cells: list[Cell] = []
        self._currency = ""
        self._prices: dict[Cell, Priced] = {}
        self._names: dict[Cell, str] = {}

    # --- cells

    def _cell(self, field: str) -> Cell:
        place = self._columns.get(field)
        return self._template.values.get(field, "") if place is None else self._cells[place]

    def _text(self, field: str) -> str:
        return shown(self._cell(field)).strip()

    def _refuse(self, field: str, words: str, reason: str) -> NoReturn:
        said = f"{words!r} {reason}" if words else reason
        self._reading.refuse(self._reading.row, field, said, cause=reason)
        raise BadCellError

    def _read(self, field: str, parse: Callable[[Cell], _T], empty: _T) -> _T:
        cell = self._cell(field)
        if shown(cell).strip() in read.NOTHING:
            return empty
        self._bound(field, cell)
        try:
            return parse(cell)
        except ValueError as error:
            self._refuse(field, shown(cell), str(error))

    def _bound(self, field: str, cell: Cell) -> None:
        """What is longer than any price or time is neither; nothing is looked for in it."""
        if isinstance(cell, str) and len(cell) > CELL_CHARS_MAX:
            self._refuse(field, f"{cell[:20]}...", f"has more than {CELL_CHARS_MAX} characters")

    def _action(self) -> str:
        if "blocked" in self._columns and self._read("blocked", read.parse_yes, False):
            return "block"
        word = clean_name(self._text("status")).casefold()
        if word in read.NOTHING:
            return "replace"
        action = self._status.get(word)
        if action is None:
            self._refuse("status", self._text("status"), "is no word of [status]: add it to the template")
        return "replace" if action == "add" else str(action)

    def _prefixes(self, default: str) -> list[str]:
        cell = self._cell("prefix")
        if not isinstance(cell, str):
            cell = self._numeric_code(cell)
        country = ""
        field = "country_code"
        try:
            if "country_code" in self._columns or "country_code" in self._template.values:
                country = self._codes.country(shown(self._cell("country_code")))
            field = "prefix"
            found = self._codes.prefixes(cell, country)
        except ValueError as error:
            self._refuse(field, self._text(field), str(error))
        if not found and country:
            return [country]
        if not found and default != "yes":
            self._refuse("prefix", "", "is empty")
        return list(dict.fromkeys(found)) or [""]

    def _numeric_code(self, cell: Cell) -> str:
        text = shown(cell)
        if not isinstance(cell, float) or isinstance(cell, bool):
            self._refuse("prefix", text, "is no code of digits")
        if len(text.lstrip("-")) > read.DIGITS_OF_A_NUMBER_MAX:
            self._refuse("prefix", text, "is a number of more than 15 digits: a spreadsheet has rounded it")
        if not self._template.numeric_prefixes:
            self._refuse(
                "prefix",
                text,
                "is a number, not text: zeros in front are lost, and long ones are rounded; store the column"
                " as text, or take them so with numeric_prefixes",
            )
        return text

    def _destination(self) -> str:
        cell = self._cell("destination")
        name = self._names.get(cell)
        if name is None:
            name = clean_name(restored(shown(cell)))
            if len(self._names) >= PRICES_KEPT_MAX:
                self._names.clear()
            self._names[cell] = name
        network = clean_name(self._text("network"))
        return f"{name} {network}".strip() if network else name

    def _priced(self, field: str) -> Priced:
        cell = self._cell(field)
        known = self._prices.get(cell) if field == "price_per_minute" and not isinstance(cell, bool) else None
        if known is not None:
            return known
        if shown(cell).strip() in read.NOTHING:
            return Priced("", "", False)
        amount, currency, per_s = self._money(field, cell)
        per_s = per_s or self._template.per_s
        priced = self._rounded(field, cell, amount * 60 / per_s, currency)
        if field == "price_per_minute":
            if len(self._prices) >= PRICES_KEPT_MAX:
                self._prices.clear()
            self._prices[cell] = priced
        return priced

    def _rounded(self, field: str, cell: Cell, amount: Decimal, currency: str) -> Priced:
        try:
            found, was_rounded = read.rounded(amount, self._template.decimals)
        except ValueError as error:
            self._refuse(field, shown(cell), str(error))
        return Priced(read.plain(found), currency, was_rounded)

    def _money(self, field: str, cell: Cell) -> tuple[Decimal, str, int]:
        """(amount in the currency, currency that the cell names, seconds that it is for or 0)."""
        self._bound(field, cell)
        try:
            price = read.parse_price(cell, self._comma)
        except ValueError as error:
            self._refuse(field, shown(cell), str(error))
        if self._comma is None and isinstance(cell, str):
            self._settle_comma(field, cell)
        scale = self._scale
        if price.hundredths and scale not in (Decimal(1), Decimal("0.01")):
            self._refuse(
                field, shown(cell), f"is in hundredths, and the template's scale is {self._template.scale}"
            )
        if price.hundredths:
            scale = Decimal("0.01")
        if price.currency and scale != 1 and not price.hundredths:
            self._refuse(
                field, shown(cell), f"names a currency, and the template's scale is {self._template.scale}"
            )
        return price.amount * scale, price.currency, price.per_s

    def _settle_comma(self, field: str, cell: str) -> None:
        """In one file a comma is a decimal one everywhere, or nowhere."""
        mark = "," if cell.rfind(",") > cell.rfind(".") else "." if "." in cell else ""
        if mark:
            self._comma = mark == ","
            self._prices.clear()

    # --- terms

    def _read_terms(self, action: str, named: str) -> Terms:
        since = self._date("effective_from")
        until = self._date("effective_to")
        if (
            until is not None
            and self._template.end_inclusive
            and until.hour == until.minute == until.second == 0
        ):
            until += timedelta(days=1)
        ends_at = None
        if action == "end":
            since, until, ends_at = None, since, since
        if since is not None and until is not None and since >= until:
            self._refuse("effective_to", self._text("effective_to"), "is not after effective_from")
        blocked = action == "block"
        initial_s, increment_s = ("", "") if blocked else self._increments()
        values = {
            "currency": self._currency_of(named),
            "connect_fee": "" if blocked else self._fee("connect_fee"),
            "initial_s": initial_s,
            "increment_s": increment_s,
            "steps": "" if blocked else self._steps(),
            "effective_from": "" if since is None else since.isoformat(),
            "effective_to": "" if until is None else until.isoformat(),
            "max_duration_s": self._seconds("max_duration_s"),
            "grace_s": self._seconds("grace_s"),
            "included_s": self._seconds("included_s"),
            "minimum_charge": "" if blocked else self._fee("minimum_charge"),
            "blocked": "yes" if blocked else "",
            "caller_prefix": self._caller(),
        }
        if values["steps"]:
            values["initial_s"] = values["increment_s"] = ""
        texts = tuple(values.get(name, "") or "" for name in TERM_NAMES)
        start_s = self._read("step_start_s", read.parse_seconds, 0)
        window = None
        if any(name in self._columns or name in self._template.values for name in BY_TIME):
            window = self._window()
        return Terms(texts, action, ends_at, self._date("next_from"), window, start_s)

    def _steps(self) -> str:
        text = self._text("steps")
        if text:
            try:
                parse_steps(text)
            except ValueError as error:
                self._refuse("steps", text, str(error))
        return text

    def _caller(self) -> str:
        """Digits, SURCHARGE, or empty: any caller."""
        text = self._text("caller_prefix")
        word = clean_name(text).casefold()
        if word in self._callers:
            return self._callers[word]
        if word in read.NOTHING or word == SURCHARGE:
            return word.strip("-–—")
        try:
            found = self._codes.prefixes(text)
        except ValueError:
            found = []
        if len(found) != 1:
            self._refuse(
                "caller_prefix", text, "is no beginning of a caller's number, and no word of [callers]"
            )
        return found[0]

    def _seconds(self, field: str) -> str:
        found = self._read(field, read.parse_seconds, -1)
        return "" if found < 0 else str(found)

    def _fee(self, field: str) -> str:
        cell = self._cell(field)
        if shown(cell).strip() in read.NOTHING:
            return ""
        amount, named, _ = self._money(field, cell)
        if named and not read.same_currency(named, self._currency_of("")):
            self._refuse(field, shown(cell), "is in another currency than the price")
        priced = self._rounded(field, cell, amount, named)
        if priced.rounded:
            self.counts["fees rounded"] += 1
        return priced.text

    def _increments(self) -> tuple[str, str]:
        if self._text("steps"):
            return "", ""
        together = self._read("increments", read.parse_increments, (0, 0))
        initial_s = self._read("initial_s", read.parse_seconds, together[0])
        increment_s = self._read("increment_s", read.parse_seconds, together[1] or initial_s)
        initial_s = initial_s or increment_s
        field = next(
            (name for name in ("increments", "initial_s", "increment_s") if name in self._columns), ""
        )
        if not increment_s:
            self._refuse(
                field or "increments",
                self._text(field) if field else "",
                "is no increment"
                if field
                else "is nowhere: --set increments=60/60 says what holds for all rows",
            )
        try:
            found = read.with_minimum(self._read("minimum_s", read.parse_seconds, 0), initial_s, increment_s)
        except ValueError as error:
            self._refuse(field or "increments", self._text(field), str(error))
        return str(found[0]), str(found[1])

    def _currency_of(self, named: str) -> str:
        text = self._text("currency")
        known = _currency_code(text) if text else self._currency
        if text and not known:
            self._refuse("currency", text, "is no currency such as EUR")
        if not known and named in ("", "$", "?"):
            self._refuse(
                "currency",
                "",
                "is nowhere: --set currency=EUR says which"
                if not named
                else f"is only named as {named}: --set currency=USD says which",
            )
        if known and not read.same_currency(named, known):
            self._refuse("price_per_minute", self._text("price_per_minute"), f"is not in {known}")
        return known or named

    def _window(self) -> str:
        word = clean_name(self._text("period")).casefold()
        if word:
            if word not in self._periods:
                self._refuse("period", word, "is no word of [periods]: add it to the template")
            times = self._periods[word]
        else:
            days = self._read("days", read.parse_days, "")
            hours = self._hours()
            times = " ".join(filter(None, (days, hours)))
        return f"{times} {self._template.zone}" if times else ""

    def _hours(self) -> str:
        for field in ("hours", "hours_from", "hours_to"):
            self._bound(field, self._cell(field))
        text = self._text("hours")
        if text:
            first, dash, last = text.replace("–", "-").partition("-")
            if not dash:
                self._refuse("hours", text, "is no span such as 08:00-18:00")
            field, ends = "hours", (first.strip(), last.strip())
        else:
            field, ends = "hours_from", (self._cell("hours_from"), self._cell("hours_to"))  # type: ignore[assignment]
            if all(shown(end).strip() in read.NOTHING for end in ends):
                return ""
        try:
            begin, end = read.parse_clock(ends[0], False), read.parse_clock(ends[1], True)
        except ValueError as error:
            self._refuse(field, f"{shown(ends[0])}-{shown(ends[1])}", str(error))
        return "" if (begin, end) == ("00:00", "24:00") else f"{begin}-{end}"

    @property
    def settled(self) -> dict[str, str]:
        """Columns of dates that one of their own dates settled, and how they are read."""
        return {field: order for field, order in self._orders.items() if order and not self._template.dates}

    def _refuse_unsettled_dates(self) -> None:
        for field, (number, words, reason) in self._assumed.items():
            self._reading.refuse(number, field, f"{words!r} {reason}")

    def _date(self, field: str) -> datetime | None:
        cell = self._cell(field)
        if shown(cell).strip() in read.NOTHING:
            return None
        self._bound(field, cell)
        text = shown(cell)
        proved = read.date_order(text)
        if proved and field in self._assumed:
            del self._assumed[field]
            self._orders[field] = proved
            if proved != read.DATE_ORDERS[0]:
                raise RereadError({name: order for name, order in self._orders.items() if order})
        try:
            at = read.parse_date(cell, self._orders[field], self._template.zone)
            if proved:
                self._orders[field] = proved
            return at
        except read.TwoWaysError as error:
            self._assumed.setdefault(field, (self._reading.row, text, str(error)))
            return read.parse_date(cell, read.DATE_ORDERS[0], self._template.zone)
        except ValueError as error:
            self._refuse(field, text, str(error))


def _currency_code(text: str) -> str:
    found = text.strip().upper()
    if len(found) == 3 and found.isascii() and found.isalpha():
        return found
    try:
        named = read.parse_price(f"{text.strip()}1", None).currency
    except ValueError:
        return ""
    return "" if named in ("$", "?") else named
