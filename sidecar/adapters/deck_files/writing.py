"""Decks as files for others: CSV or XLSX, with our columns or those of a template."""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from xml.sax.saxutils import escape

from msgspec.structs import replace

from sidecar.adapters.deck_files.canonical import canonical_chunks
from sidecar.adapters.deck_files.columns import COLUMNS
from sidecar.adapters.deck_files.template import STATUS_WORDS, Template
from sidecar.core.tariff import Deck
from sidecar.wire.csv_text import harmless

XLSX_ROWS_MAX = 1_048_576  # of one sheet
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_AMOUNTS = ("connect_fee", "price_per_minute", "minimum_charge")

_PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Target="xl/workbook.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
    ),
    "xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
        '<sheet name="Rates" sheetId="1" r:id="rId1"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Target="worksheets/sheet1.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/></Relationships>'
    ),
}


class WriteError(Exception):
    """The file was not written; the text says why."""


def write_deck(
    path: Path,
    deck: Deck,
    *,
    names: Mapping[str, str] | None = None,
    template: Template | None = None,
    delimiter: str = ",",
    decimal_comma: bool = False,
    at: datetime | None = None,
) -> int:
    """Writes a new file, CSV or by its name XLSX; returns the number of rates. `names`: ours to theirs;
    only these columns, in this order. `template`: as it would be read by it, instead. `at`: what holds
    then, without dates. Nothing is written over a file, or through a link."""
    is_book = path.suffix.lower() == ".xlsx"
    if template is not None:
        decimal_comma = bool(template.decimal_comma)
        delimiter = template.delimiter or (";" if decimal_comma else ",")
    header, cells_of = _layout(deck, names, template, decimal_comma and not is_book)
    rates = 0

    def rows() -> Iterator[list[str]]:
        nonlocal rates
        if header is not None:
            yield header
        for values in _values(deck, at):
            rates += 1
            if not is_book:  # there a text is a text
                values["destination"] = harmless(values["destination"])
            yield cells_of(values)

    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
            try:
                if is_book:
                    if len(deck) >= XLSX_ROWS_MAX:
                        raise WriteError(f"{len(deck)} rates: a sheet has {XLSX_ROWS_MAX} rows; write CSV")
                    _write_xlsx(file, rows())
                else:
                    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows())
            except WriteError:
                path.unlink()
                raise
    except OSError as error:
        raise WriteError(f"{path}: {error.strerror}") from None
    return rates


def _values(deck: Deck, at: datetime | None) -> Iterator[dict[str, str]]:
    """The rows by our columns, as texts."""
    if at is not None:
        holding = (rate for rate in deck if rate.holds_at(at))
        deck = Deck("", (replace(rate, effective_from=None, effective_to=None) for rate in holding))
    lines = (line for chunk in canonical_chunks(deck) for line in chunk.decode().splitlines())
    empty = dict.fromkeys(COLUMNS, "")
    return ({**empty, **row} for row in csv.DictReader(lines))


def _layout(
    deck: Deck, names: Mapping[str, str] | None, template: Template | None, decimal_comma: bool
) -> tuple[list[str] | None, Callable[[dict[str, str]], list[str]]]:
    """(the header, the cells of a row)"""

    def amount(text: str) -> str:
        return text.replace(".", ",") if decimal_comma else text

    if template is not None:
        return _by_template(deck, template, amount)
    ours = list(names or {name: name for name in COLUMNS})
    for name in ours:
        if name not in COLUMNS:
            raise WriteError(f"{name!r} is not a column of a deck")
    return list((names or {}).values()) or ours, lambda values: [
        amount(values[name]) if name in _AMOUNTS else values[name] for name in ours
    ]


def _by_template(
    deck: Deck, template: Template, amount: Callable[[str], str]
) -> tuple[list[str] | None, Callable[[dict[str, str]], list[str]]]:
    scale = Decimal(template.scale)
    words = {action: word for word, action in reversed([*STATUS_WORDS.items(), *template.status.items()])}
    told = {*template.columns, "default"}
    currencies = sorted({kind.currency for kind in deck.kinds})
    if len(currencies) == 1 and any("*" in name for name in template.names_of("price_per_minute")):
        told.add("currency")  # its header says it
    if "increments" in told:
        told |= {"initial_s", "increment_s"}
    fixed = {name: value for name, value in template.values.items() if name in COLUMNS}
    if (increments := template.values.get("increments")) is not None:
        fixed["initial_s"], _, fixed["increment_s"] = increments.partition("/")
    for name in ("initial_s", "increment_s", "currency"):
        if name not in told and name not in fixed:
            raise WriteError(f"the template says nothing of {name}: a file of it could not be read back")

    def scaled(text: str, seconds: int) -> str:
        return amount(f"{(Decimal(text) * seconds / 60 / scale).normalize():f}") if text else ""

    def cell(field: str, values: dict[str, str]) -> str:
        match field:
            case "price_per_minute":
                return scaled(values[field], template.per_s)
            case "connect_fee" | "minimum_charge":
                return scaled(values[field], 60)
            case "increments":
                return "" if values["blocked"] else f"{values['initial_s']}/{values['increment_s']}"
            case "status":
                return words["block" if values["blocked"] else "replace"]
            case "blocked":
                return values[field]
        return values.get(field, "")

    def cells(values: dict[str, str]) -> list[str]:
        for name, value in values.items():
            if name in told or not value or name == "destination" or (name == "connect_fee" and value == "0"):
                continue
            if name == "blocked" and "status" in told:
                continue
            if fixed.get(name) != value:
                raise WriteError(
                    f"prefix {values['prefix']}: the template has no column for {name} ({value})"
                    + ("; --at writes what holds at a time" if name.startswith("effective") else "")
                )
        if template.header:
            return [cell(field, values) for field in template.columns]
        places = {place: field for field, place in template.columns.items() if isinstance(place, int)}
        size = max(template.cells, *places)
        return [cell(places[n], values) if n in places else "" for n in range(1, size + 1)]

    if not template.header:
        return None, cells
    return [
        template.names_of(field)[0].replace("*", " ".join(currencies)) for field in template.columns
    ], cells


def _write_xlsx(file: io.BufferedWriter, rows: Iterable[list[str]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in _PARTS.items():
            book.writestr(name, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{content}')
        with book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(
                b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><worksheet xmlns='
                b'"http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
            )
            for cells in rows:
                sheet.write(f"<row>{''.join(map(_xlsx_cell, cells))}</row>".encode())
            sheet.write(b"</sheetData></worksheet>")


def _xlsx_cell(text: str) -> str:
    """A text, whatever it looks like: codes keep their zeros, names are no formulas."""
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(_NOT_XML.sub("", text))}</t></is></c>'
