"""CSV files and spreadsheets as rows of text, with the columns of a carrier put under ours by a template."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
from python_calamine import CalamineError, CalamineWorkbook

from sidecar.adapters.deck_files.columns import COLUMNS
from sidecar.adapters.deck_files.reading import Reading

FILE_BYTES_MAX = 2**30
SHEET_BYTES_MAX = 2**27  # a spreadsheet is held in memory, unpacked
TEMPLATE_BYTES_MAX = 2**16
PRICES = ("connect_fee", "price_per_minute")
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


class TemplateError(Exception):
    """A column template that cannot be used; the text says why."""


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one carrier writes decks. Columns of the file that are not named here are ignored.

    `columns`: ours to theirs, the latter compared without case and outer blanks. `values`: ours to what
    holds for every row. `numeric_prefixes`: prefixes stored as numbers are taken as they are; whoever says
    so knows that none of them ever began with 0.
    """

    columns: dict[str, str] = {}
    values: dict[str, str] = {}
    delimiter: str = ","
    decimal_comma: bool = False
    sheet: str | None = None
    numeric_prefixes: bool = False

    def __post_init__(self) -> None:
        for name in (*self.columns, *self.values):
            if name not in COLUMNS:
                raise ValueError(f"{name!r} is not a column of a deck")
        if both := sorted(self.columns.keys() & self.values.keys()):
            raise ValueError(f"{both[0]!r} has both a column and a value")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError(f"delimiter {self.delimiter!r} is not one character")
        if self.decimal_comma and self.delimiter == ",":
            raise ValueError("a decimal comma needs another delimiter")


def read_template(path: Path) -> Template:
    """A template in TOML, as `template_text` writes it."""
    try:
        if path.stat().st_size > TEMPLATE_BYTES_MAX:
            raise TemplateError(f"{path}: has more than {TEMPLATE_BYTES_MAX} bytes")
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Template)
    except OSError as error:
        raise TemplateError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise TemplateError(f"{path}: {error}") from None


def template_text(template: Template) -> str:
    """The template as TOML."""
    lines = [
        f"{name} = {msgspec.json.encode(value).decode()}"
        for name, value in msgspec.structs.asdict(template).items()
        if value is not None and not isinstance(value, dict)
    ]
    for table, content in (("columns", template.columns), ("values", template.values)):
        lines += ["", f"[{table}]"]
        lines += [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in content.items()]
    return "\n".join(lines) + "\n"


@contextmanager
def open_rows(path: Path, reading: Reading, template: Template | None) -> Iterator[Iterator[list[str]]]:
    """The rows of a file as text, the names of the columns first. What is no such file is refused in
    `reading`.
    """
    if path.suffix.lower() in SPREADSHEETS:
        yield _mapped(_sheet_rows(path, reading, template or Template()), reading, template)
    elif _file_is_good(path, reading):
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = template.delimiter if template else ","
            yield _mapped(csv.reader(file, strict=True, delimiter=delimiter), reading, template)
    else:
        yield iter(())


def find_bad_bytes(path: Path, reading: Reading) -> None:
    """Refuses each line of the file that is not UTF-8."""
    with path.open("rb") as file:
        for row, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                reading.refuse(row, None, f"byte {error.start + 1} of the line is not UTF-8")


def _file_is_good(path: Path, reading: Reading) -> bool:
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        reading.refuse(None, None, f"has {size} bytes: at most {FILE_BYTES_MAX} are allowed")
        return False
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            reading.refuse(None, None, "is UTF-16: save it as CSV UTF-8")
            return False
    return True


def _mapped(rows: Iterator[list[str]], reading: Reading, template: Template | None) -> Iterator[list[str]]:
    """The rows with our columns: those of the template in its order, then its values."""
    if template is None or not (template.columns or template.values):
        yield from _with_points(rows, template)
        return
    theirs = [name.strip().lower() for name in next(rows, [])]
    places = []
    for ours, wanted in template.columns.items():
        if theirs.count(wanted.strip().lower()) == 1:
            places.append(theirs.index(wanted.strip().lower()))
        else:
            reading.refuse(1, ours, f"the file has no column {wanted!r}, or several")
    if len(places) < len(template.columns):
        return
    values = list(template.values.values())

    def picked() -> Iterator[list[str]]:
        yield [*template.columns, *template.values]
        for cells in rows:
            # A row of another length keeps a wrong length, so that it is refused.
            short = len(cells) != len(theirs)
            yield [] if not cells else cells[:1] if short else [*[cells[place] for place in places], *values]

    yield from _with_points(picked(), template)


def _with_points(rows: Iterator[list[str]], template: Template | None) -> Iterator[list[str]]:
    if template is None or not template.decimal_comma:
        yield from rows
        return
    names = [name.strip().lower() for name in next(rows, [])]
    yield names
    prices = [names.index(name) for name in PRICES if name in names]
    for cells in rows:
        for place in prices:
            if place < len(cells) and "." not in cells[place]:
                cells[place] = cells[place].replace(",", ".")
        yield cells


def _sheet_rows(path: Path, reading: Reading, template: Template) -> Iterator[list[str]]:
    if path.stat().st_size > SHEET_BYTES_MAX:
        reading.refuse(None, None, f"is larger than {SHEET_BYTES_MAX} bytes: save it as CSV UTF-8")
        return
    try:
        book = CalamineWorkbook.from_path(str(path))
        name = template.sheet or book.sheet_names[0]
        if name not in book.sheet_names:
            reading.refuse(None, None, f"has no sheet {name!r}, but {', '.join(book.sheet_names)}")
            return
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (CalamineError, IndexError) as error:
        reading.refuse(None, None, f"is not a spreadsheet that can be read: {error}")
        return
    names = [str(cell).strip() for cell in rows[0]] if rows else []
    wanted = template.columns.get("prefix", "prefix").strip().lower()
    prefix_at = next((place for place, text in enumerate(names) if text.lower() == wanted), -1)
    yield names
    for row, cells in enumerate(rows[1:], 2):
        texts = [_cell_text(cell) for cell in cells]
        if 0 <= prefix_at < len(cells) and isinstance(cells[prefix_at], (int, float)):
            texts[prefix_at] = _prefix_text(cells[prefix_at], template, row, reading)
        yield texts if any(texts) else []


def _prefix_text(cell: object, template: Template, row: int, reading: Reading) -> str:
    text = _cell_text(cell)
    if not template.numeric_prefixes:
        reading.refuse(
            row,
            "prefix",
            f"is the number {text}, not text: zeros in front are lost, and long ones are rounded; store the "
            f"column as text",
        )
        return "0"  # any prefix: it is refused already
    return text


def _cell_text(cell: object) -> str:
    """A cell as it would stand in CSV. A number has the 15 digits that a spreadsheet keeps and shows."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{Decimal(f'{cell:.15g}'):f}"
    if isinstance(cell, date):
        return cell.isoformat()  # without an offset: refused, and the operator sees which time was meant
    return str(cell)
