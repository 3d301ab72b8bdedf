"""Decks as files for others: CSV or XLSX, with our columns or those of a template."""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from sidecar.adapters.deck_files.canonical import canonical_chunks
from sidecar.adapters.deck_files.columns import COLUMNS
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
    delimiter: str = ",",
    decimal_comma: bool = False,
) -> int:
    """Writes a new file, CSV or by its name XLSX; returns the number of rates. `names`: ours to theirs; only
    these columns, in this order. Nothing is written over a file, or through a link."""
    is_book = path.suffix.lower() == ".xlsx"
    rows = _rows(deck, names, decimal_comma=decimal_comma, is_book=is_book)
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
            if is_book:
                if len(deck) >= XLSX_ROWS_MAX:
                    raise WriteError(f"{len(deck)} rates: a sheet has {XLSX_ROWS_MAX} rows; write CSV")
                _write_xlsx(file, rows)
            else:
                with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise WriteError(f"{path}: {error.strerror}") from None
    return len(deck)


def _rows(
    deck: Deck, names: Mapping[str, str] | None, *, decimal_comma: bool, is_book: bool
) -> Iterator[list[str]]:
    lines = (line for chunk in canonical_chunks(deck) for line in chunk.decode().splitlines())
    ours = csv.reader(lines)
    known = next(ours)
    names = names or {name: name for name in known}
    for name in names:
        if name not in COLUMNS:
            raise WriteError(f"{name!r} is not a column of a deck")
    places = [known.index(name) if name in known else -1 for name in names]  # -1: no row has anything there
    amounts = [place for place in places if place >= 0 and known[place] in _AMOUNTS]
    destination = known.index("destination")
    yield list(names.values())
    for cells in ours:
        if not is_book:  # there a text is a text
            cells[destination] = harmless(cells[destination])
        if decimal_comma:
            for place in amounts:
                cells[place] = cells[place].replace(".", ",")
        yield [cells[place] if place >= 0 else "" for place in places]


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
