"""Where the table is in a file: which sheet, under which title, with which columns, and where it ends."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

from sidecar.adapters.deck_files.cells import Cell, clean_name, header_name, shown
from sidecar.adapters.deck_files.columns import ROWS_MAX
from sidecar.adapters.deck_files.files import FileRefusedError, Source
from sidecar.adapters.deck_files.template import Template
from sidecar.adapters.deck_files.workbook import COLUMNS_MAX, sheet_names, sheet_rows

HEADER_WITHIN = 100  # rows
HEAD_BYTES = 1 << 16
LINE_CHARS_MAX = 1 << 20
SHEETS_MAX = 200
DELIMITERS = (",", ";", "\t", "|")
FIRST_OF = frozenset(
    {"destination", "network", "status"}
)  # of several columns the first in the template's order

Row = tuple[int, list[Cell]]

_WORDS = re.compile(r"[^\W\d_]{3}")
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class BadRowError(Exception):
    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


class Grid(NamedTuple):
    """A sheet, or a text as CSV: its first rows, and all of them from the beginning."""

    sheet: str
    head: list[Row]
    rows: Iterator[Row]


class Header(NamedTuple):
    """`columns`: ours to the place (from 0) of theirs. `names`: all that there are; `row`: 0 where there is
    no header."""

    row: int
    names: tuple[str, ...]
    columns: dict[str, int]


class Misfit(NamedTuple):
    """Why a header is not the template's: `missing` and `double` name columns of ours."""

    row: int
    names: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    double: dict[str, tuple[str, ...]]


def workbook_grids(source: Source, patterns: Sequence[str]) -> Iterator[Grid]:
    """The sheets that match, in their order; all of them where there are no patterns."""
    assert source.workbook is not None
    names = sheet_names(source.workbook)
    wanted = [name for name in names if not patterns or any(is_like(name, one) for one in patterns)]
    if not wanted:
        listed = ", ".join(map(repr, names[:20]))
        raise FileRefusedError(f"has no sheet {' or '.join(map(repr, patterns))}, but {listed}")
    for name in wanted[:SHEETS_MAX]:
        rows = sheet_rows(source.workbook, name)
        head = list(islice(rows, HEADER_WITHIN))
        yield Grid(name, head, chain(head, rows))


class Text(NamedTuple):
    """A text file as its first bytes show it. `delimiter` is that of a `sep=` line; empty: none says."""

    encoding: str
    delimiter: str
    head: list[str]


def text_head(stream: BinaryIO, fallback: str) -> Text:
    """`fallback` is the encoding of what is neither UTF-8 nor UTF-16; empty: UTF-8 it has to be."""
    start = stream.read(HEAD_BYTES)
    encoding = _encoding(start, fallback)
    text = start.decode(encoding, "replace")
    lines = list(io.StringIO(text, newline=""))[: HEADER_WITHIN + 1]
    found = _SEP.fullmatch(lines[0]) if lines else None
    if len(start) == HEAD_BYTES and len(lines) > 1:
        lines.pop()  # it may be cut
    return Text(encoding, found[1] if found else "", lines)


def _encoding(start: bytes, fallback: str) -> str:
    if start.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    nulls = Counter(place % 2 for place, byte in enumerate(start[:HEADER_WITHIN]) if byte == 0)
    if nulls[1] > 20 and not nulls[0]:
        return "utf-16-le"
    if nulls[0] > 20 and not nulls[1]:
        return "utf-16-be"
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if fallback and error.start < len(start) - 4:
            return fallback
    return "utf-8"


def text_grid(stream: BinaryIO, encoding: str, delimiter: str, quote: str) -> Grid:
    rows = _csv_rows(stream, encoding, delimiter, quote)
    head = list(islice(rows, HEADER_WITHIN))
    return Grid("", head, chain(head, rows))


def head_grid(text: Text, delimiter: str, quote: str) -> Grid:
    """The first rows alone, as far as they can be read so."""
    rows: list[Row] = []
    try:
        rows = list(_numbered(iter(text.head), delimiter, quote))
    except BadRowError:
        rows = list(_numbered(iter(text.head), delimiter, ""))
    return Grid("", rows, iter(rows))


def _csv_rows(stream: BinaryIO, encoding: str, delimiter: str, quote: str) -> Iterator[Row]:
    text = io.TextIOWrapper(stream, encoding=encoding, newline="")
    try:
        yield from _numbered(_lines(text), delimiter, quote)
    finally:
        text.detach()


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LINE_CHARS_MAX):
        if len(line) == LINE_CHARS_MAX and line[-1] not in "\r\n":
            raise FileRefusedError(f"has a line of more than {LINE_CHARS_MAX} characters")
        yield line


def _numbered(lines: Iterator[str], delimiter: str, quote: str) -> Iterator[Row]:
    first = next(lines, None)
    if first is None:
        return
    skipped = 0
    if _SEP.fullmatch(first):
        skipped = 1
    else:
        lines = chain((first,), lines)
    if quote:
        reader = csv.reader(lines, strict=True, delimiter=delimiter, quotechar=quote)
    else:
        reader = csv.reader(lines, strict=True, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    number = skipped
    try:
        for number, cells in enumerate(reader, 1 + skipped):
            if number > ROWS_MAX:
                raise FileRefusedError(f"has more than {ROWS_MAX} rows")
            if len(cells) > COLUMNS_MAX:
                raise FileRefusedError(f"has more than {COLUMNS_MAX} columns in row {number}")
            yield number, cells  # type: ignore[misc]  # a list of texts is one of cells
    except csv.Error as error:
        raise BadRowError(number + 1, f"is not CSV: {error}") from None


def find_header(grid: Grid, template: Template) -> Header | Misfit:
    """The header in the first rows; else the row that is most like it, and what it lacks."""
    if not template.header:
        return _places(grid, template)
    nearest: Misfit | None = None
    matcher = _Names(template)
    for number, cells in grid.head:
        found = matcher.match(number, cells)
        if isinstance(found, Header):
            return found
        if nearest is None or (
            (len(nearest.missing), -len(nearest.names)) > (len(found.missing), -len(found.names))
        ):
            nearest = found
    needed = [name for name in template.columns if name not in template.optional]
    return nearest or Misfit(1, (), {name: template.names_of(name) for name in needed}, {})


def _places(grid: Grid, template: Template) -> Header | Misfit:
    columns = {name: place - 1 for name, place in template.columns.items() if isinstance(place, int)}
    number, cells = next(((n, row) for n, row in grid.head if any(map(shown, row))), (1, []))
    width = max(columns.values(), default=0) + 1
    if len(cells) < width or (template.cells and len(cells) != template.cells):
        wanted = f"{template.cells} cells" if template.cells else f"at least {width} cells"
        return Misfit(number, tuple(map(shown, cells)), {"prefix": (wanted,)}, {})
    return Header(0, tuple(str(place) for place in range(1, len(cells) + 1)), columns)


class _Names:
    """A template's names of columns, ready to be looked for in many rows."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._plain: dict[str, list[tuple[str, int]]] = {}
        self._patterns: list[tuple[re.Pattern[str], str, int]] = []
        for field in template.columns:
            for rank, name in enumerate(template.names_of(field)):
                text = header_name(name)
                if "*" in text:
                    pattern = re.compile(".*".join(map(re.escape, text.split("*"))))
                    self._patterns.append((pattern, field, rank))
                else:
                    self._plain.setdefault(text, []).append((field, rank))

    def match(self, number: int, cells: list[Cell]) -> Header | Misfit:
        names = [header_name(cell) for cell in cells]
        found: dict[str, list[tuple[int, int]]] = {}
        for place, name in enumerate(names):
            if not name:
                continue
            for field, rank in self._plain.get(name, ()):
                found.setdefault(field, []).append((rank, place))
            for pattern, field, rank in self._patterns:
                if pattern.fullmatch(name):
                    found.setdefault(field, []).append((rank, place))
        template = self._template
        missing = {
            field: template.names_of(field)
            for field in template.columns
            if field not in found and field not in template.optional
        }
        double, columns = {}, {}
        for field, places in found.items():
            several = {place for _, place in places}
            if len(several) > 1 and field in FIRST_OF:
                rank, first = min(places)
                several = {place for one, place in places if one == rank} or {first}
            if len(several) > 1:
                double[field] = tuple(clean_name(shown(cells[place])) for place in sorted(several))
            else:
                columns[field] = several.pop()
        shown_names = tuple(clean_name(shown(cell)) for cell in cells)
        if missing or double:
            return Misfit(number, tuple(filter(None, shown_names)), missing, double)
        return Header(number, shown_names, columns)


def table_rows(grid: Grid, header: Header, template: Template, counts: Counter[str]) -> Iterator[Row]:
    """The rows below the header, without those that are blank, repeat the header, or are notes."""
    rows: Iterator[Row] = grid.rows
    columns = header.columns
    first_at, code_at = min(columns.values(), default=0), columns.get("prefix", columns.get("called", 0))
    money_at = columns.get("price_per_minute", columns.get("amount"))
    names = [header_name(name) for name in header.names]
    ends = [header_name(one) for one in template.end]
    for number, cells in rows:
        if number <= header.row:
            continue
        code = cells[code_at] if code_at < len(cells) else ""
        if code.__class__ is str and not code.isdigit():  # nearly every code is
            texts = [text for cell in cells if (text := shown(cell).strip())]
            if not texts:
                if template.blank_row_ends:
                    return
                counts["blank rows"] += 1
                continue
            first = shown(cells[first_at]) if first_at < len(cells) else ""
            repeats = header.row and header_name(first) == names[first_at]
            if repeats and [header_name(cell) for cell in cells[: len(names)]] == names[: len(cells)]:
                counts["repeated headers"] += 1
                continue
            if ends and any(fnmatchcase(header_name(texts[0]), one) for one in ends):
                return
            is_note = len(texts) == 1 and (not code or _WORDS.search(code))
            if template.notes and is_note and (money_at is None or not _at(cells, money_at)):
                counts["notes"] += 1
                continue
        yield number, cells


def _at(cells: list[Cell], place: int) -> str:
    return shown(cells[place]).strip() if place < len(cells) else ""


def is_like(name: str, pattern: str) -> bool:
    return fnmatchcase(clean_name(name).casefold(), clean_name(pattern).casefold())
