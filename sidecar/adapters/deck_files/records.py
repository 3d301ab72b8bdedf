"""A carrier's own records of calls, or the lines of its invoice, by the same templates as price lists."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec

from sidecar.adapters.deck_files import cells as read
from sidecar.adapters.deck_files.cells import clean_name, shown
from sidecar.adapters.deck_files.lists import Choice, settle
from sidecar.adapters.deck_files.reading import Reading
from sidecar.adapters.deck_files.row import BadCellError, RowReader
from sidecar.adapters.deck_files.tables import Header, Row
from sidecar.adapters.deck_files.template import Template
from sidecar.core.reconcile import TheirLine

ROWS_MAX = 2_000_000


class RecordsRead(msgspec.Struct, frozen=True, kw_only=True):
    """As ListRead has it of a price list."""

    lines: tuple[TheirLine, ...]
    template: str
    guessed: bool
    took: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    counts: dict[str, int]


def read_records(path: Path, choice: Choice) -> RecordsRead:
    """DeckRefusedError, AmbiguousListError and TemplateError as `read_list` raises them."""
    attempt, work = settle(path, choice.templates("records"), choice.is_guess, _Records)
    return RecordsRead(
        lines=tuple(work.lines),
        template=attempt.used,
        guessed=choice.is_guess,
        took=tuple(attempt.took.items()),
        notes=tuple(attempt.notes),
        counts=dict(work.counts),
    )


class _Records(RowReader):
    def __init__(self, template: Template, reading: Reading, orders: dict[str, str]) -> None:
        super().__init__(template, reading, orders)
        self.lines: list[TheirLine] = []

    def take(self, header: Header, rows: Iterator[Row], currency: str) -> None:
        reading, self._columns, self._currency = self._reading, header.columns, currency
        reading.shown_columns = {name: (header.names[place], place) for name, place in header.columns.items()}
        for number, cells in rows:
            reading.row, self._cells = number, cells
            if len(cells) != len(header.names):
                reading.refuse(number, None, f"{len(cells)} cells, but {len(header.names)} columns are named")
                continue
            self.counts["rows"] += 1
            if len(self.lines) == ROWS_MAX:
                reading.refuse(number, None, f"has more than {ROWS_MAX} rows")
                return
            try:
                self.lines.append(self._line(number))
            except BadCellError:
                continue

    def finish(self) -> None:
        self._refuse_unsettled_dates()
        if not self.lines and not self._reading.is_refused:
            self._reading.refuse(None, None, "has no records")

    def _line(self, number: int) -> TheirLine:
        cell = self._cell("amount")
        if shown(cell).strip() in read.NOTHING:
            amount, named = Decimal(0), ""
        else:
            amount, named, _ = self._money("amount", cell)
        milliseconds = self._read("seconds", read.parse_duration_ms, 0)
        return TheirLine(
            row=number,
            call_id=self._text("call_id"),
            started_at=self._date("started_at"),
            called=self._number("called"),
            caller=self._number("caller"),
            prefix=self._number("prefix"),
            destination=clean_name(self._text("destination")),
            calls=self._read("calls", read.parse_seconds, 1),
            seconds=-(-milliseconds // 1000),
            amount=amount,
            currency=self._currency_of(named),
        )

    def _number(self, field: str) -> str:
        """Digits without what the template takes off; a number that is none stays as it is."""
        text = self._text(field)
        try:
            return "".join(self._codes.prefixes(text)) if text else ""
        except ValueError:
            return text
