"""A carrier's rows to those of a deck: every cell by the template, every fault with its place and words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple

from sidecar.adapters.deck_files.by_time import Part, steps_of
from sidecar.adapters.deck_files.cells import Cell, shown
from sidecar.adapters.deck_files.columns import KINDS_KEPT_MAX, ROWS_MAX
from sidecar.adapters.deck_files.files import FileRefusedError
from sidecar.adapters.deck_files.reading import Reading
from sidecar.adapters.deck_files.row import BY_TIME, TERM_NAMES, BadCellError, Priced, RowReader, Terms
from sidecar.adapters.deck_files.tables import Header, Row
from sidecar.adapters.deck_files.template import Template
from sidecar.core.steps import format_steps

FIRST_ROWS = 5
_OWN = ("prefix", "country_code", "destination", "network", "price_per_minute", "next_price", "default")


class Ended(NamedTuple):
    """A prefix that the list says to end: at that time, or (None) at once."""

    prefix: str
    at: datetime | None


class Translation(RowReader):
    """Of one file; its tables may be several. `counts` is what people are told."""

    def __init__(self, template: Template, reading: Reading, orders: dict[str, str]) -> None:
        super().__init__(template, reading, orders)
        self.ended: list[Ended] = []
        self.first: list[tuple[int, dict[str, str]]] = []
        self._terms: dict[tuple[Any, ...], Terms] = {}
        self._groups: dict[tuple[str, ...], tuple[int, str, list[Part]]] = {}

    # --- a table

    def take(self, header: Header, rows: Iterator[Row], currency: str) -> None:
        """All rows of a table. `currency` is what sheet or header say; empty: nothing."""
        reading, columns = self._reading, header.columns
        reading.shown_columns = {name: (header.names[place], place) for name, place in columns.items()}
        self._columns, self._currency = columns, currency
        self._terms.clear()
        self._prices.clear()
        width = len(header.names)
        key_of = _key(columns)
        code_at, price_at = columns.get("prefix"), columns.get("price_per_minute")
        plain_codes = (
            "country_code" not in (columns.keys() | self._template.values.keys()) and code_at is not None
        )
        fronts = tuple(front for front in self._template.prefix_strip if front[:1].isdigit())
        by_time = any(name in columns or name in self._template.values for name in BY_TIME)
        plain = plain_codes and price_at is not None and "next_price" not in columns and not by_time
        names, prices, terms, taken = self._names, self._prices, self._terms, 0
        name_at, default_at = columns.get("destination"), columns.get("default")
        plain = plain and name_at is not None and "network" not in columns
        add = reading.add
        for number, cells in rows:
            reading.row = number
            if len(cells) != width:
                if len(cells) > width and not any(shown(cell).strip() for cell in cells[width:]):
                    cells = cells[:width]
                else:
                    reading.refuse(number, None, f"{len(cells)} cells, but {width} columns are named")
                    continue
            taken += 1
            if plain and (default_at is None or not cells[default_at]):
                # Nearly every row: a plain code, and nothing else that was not seen and found good before.
                code, priced = cells[code_at], prices.get(cells[price_at])  # type: ignore[index]
                known, name = terms.get(key_of(cells)), names.get(cells[name_at])  # type: ignore[index]
                if (
                    priced is not None
                    and known is not None
                    and name is not None
                    and known.action == "replace"
                    and not (priced.currency or priced.rounded)
                    and priced.text
                    and code.__class__ is str
                    and code.isascii()
                    and code.isdigit()
                    and not code.startswith(fronts)
                    and len(self.first) == FIRST_ROWS
                ):
                    add(code, name, priced.text, known.values, "")
                    continue
            self._cells = cells
            try:
                self._row(number, key_of(cells))
            except BadCellError:
                continue
        self.counts["rows"] += taken

    def finish(self) -> None:
        """What can be said only now: prices by time, and dates that nothing settled."""
        for key, (number, destination, parts) in self._groups.items():
            self._reading.row = number
            try:
                steps = steps_of(parts)
            except ValueError as error:
                self._reading.refuse(number, "price_per_minute", f"prefix {key[0]}: {error}")
                continue
            values = dict(zip(TERM_NAMES, key[1:], strict=True)) | {"initial_s": "", "increment_s": ""}
            values["steps"] = format_steps(steps)
            self._reading.add(key[0], destination, "", tuple(values[name] for name in TERM_NAMES), "")
        self._refuse_unsettled_dates()

    # --- a row

    def _row(self, number: int, key: tuple[Any, ...]) -> None:
        default = self._text("default")
        action = self._action()
        if action == "leave_out":
            self.counts[f"rows left out: {self._text('status')}"] += 1
            return
        prefixes = self._prefixes(default)
        priced = self._priced("price_per_minute")
        cached = (key, priced.currency) if priced.currency else key
        terms = self._terms.get(cached)
        if terms is None:
            terms = self._read_terms(action, priced.currency)
            if len(self._terms) == KINDS_KEPT_MAX:
                self._terms.clear()
            self._terms[cached] = terms
        if priced.rounded:
            self.counts["prices rounded"] += 1
        destination = self._destination()
        if terms.action == "end":
            self._end(prefixes, priced, terms)
            if terms.ends_at is None or not priced.text:
                return
        elif terms.action == "block":
            priced = Priced("", "", False)
            self.counts["blocked"] += 1
        elif not priced.text and "steps" not in self._columns:
            self._refuse("price_per_minute", "", "is empty")
        if len(prefixes) > 1:
            if self._reading.rates + len(prefixes) > ROWS_MAX:
                raise FileRefusedError(f"has more than {ROWS_MAX} rates, with its lists and ranges")
            self.counts["prefixes of lists and ranges"] += len(prefixes)
        for prefix in prefixes:
            if len(self.first) < FIRST_ROWS:
                self.first.append((number, self._told(prefix, destination, priced.text, terms.values)))
            if terms.window is not None and terms.action != "block":
                self._part(number, prefix, destination, priced, terms)
            else:
                self._add(prefix, destination, priced, terms, default)

    def _add(self, prefix: str, destination: str, priced: Priced, terms: Terms, default: str) -> None:
        add, values = self._reading.add, terms.values
        following = self._next(terms)
        if following is None or terms.next_from is None:
            add(prefix, destination, priced.text, values, default)
            return
        moment = terms.next_from.isoformat()
        add(prefix, destination, priced.text, _with(values, effective_to=moment), default)
        later = _with(values, effective_from=moment, blocked="")
        add(prefix, destination, following.text, later, default)
        self.counts["rows to come"] += 1

    def _next(self, terms: Terms) -> Priced | None:
        if "next_price" not in self._columns:
            return None
        priced = self._priced("next_price")
        if bool(priced.text) != (terms.next_from is not None):
            self._refuse(
                "next_from", self._text("next_from"), "is given where next_price is not, or the other way"
            )
        return priced if priced.text else None

    def _part(self, number: int, prefix: str, destination: str, priced: Priced, terms: Terms) -> None:
        by_name = dict(zip(TERM_NAMES, terms.values, strict=True))
        part = Part(
            row=number,
            start_s=terms.step_start_s,
            window=terms.window or "",
            price=Decimal(priced.text),
            initial_s=int(by_name["initial_s"]),
            increment_s=int(by_name["increment_s"]),
        )
        key = (prefix, *_with(terms.values, initial_s="", increment_s=""))
        _, _, parts = self._groups.setdefault(key, (number, destination, []))
        parts.append(part)

    def _end(self, prefixes: list[str], priced: Priced, terms: Terms) -> None:
        self.counts["ended"] += len(prefixes)
        self.ended += [Ended(prefix, terms.ends_at) for prefix in prefixes]

    def _told(self, prefix: str, destination: str, price: str, values: tuple[str, ...]) -> dict[str, str]:
        said = {"prefix": prefix, "destination": destination, "price_per_minute": price}
        return {
            name: text for name, text in (said | dict(zip(TERM_NAMES, values, strict=True))).items() if text
        }


def _key(columns: dict[str, int]) -> Callable[[list[Cell]], tuple[Any, ...]]:
    places = [place for name, place in columns.items() if name not in _OWN]
    if not places:
        return lambda _: ()
    if len(places) == 1:
        only = places[0]
        return lambda cells: (cells[only],)
    return itemgetter(*places)


def _with(values: tuple[str, ...], **changed: str) -> tuple[str, ...]:
    return tuple(changed.get(name, text) for name, text in zip(TERM_NAMES, values, strict=True))
