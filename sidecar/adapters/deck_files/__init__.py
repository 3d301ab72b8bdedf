"""Deck files: CSV and spreadsheets in, one deck or all errors out.

lists       the one way in: a file, and a template or a guess, to a deck and what was taken for what
template    how one carrier writes: a TOML file
files       what a file is by its first bytes; gz, zip; its bounds
workbook    XLSX, XLS and ODS, in a child process
tables      where the table is: sheet, title, header, end
records     a carrier's records of calls, or invoice lines
row         the cells of one row by the template (cells, prefixes, by_time)
translate   a carrier's rows to ours
columns     what a deck file may have in it
reading     rows of text in our own spelling to a deck, or to errors
errors      the errors
canonical   the deck as the one file that its revision names
built       the deck ready for use, as a file beside that
exchange    exchange rates, read by the same rules

One bad row refuses the deck, and every error is listed with row and column. Rows are counted as a spreadsheet
does: the names are row 1.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from sidecar.adapters.deck_files.canonical import canonical_chunks, with_revision
from sidecar.adapters.deck_files.columns import COLUMNS, MEANINGS, OPTIONAL
from sidecar.adapters.deck_files.errors import DeckError, DeckRefusedError
from sidecar.adapters.deck_files.exchange import read_exchange_rates
from sidecar.adapters.deck_files.files import FILE_BYTES_MAX, SPREADSHEETS
from sidecar.adapters.deck_files.lists import AmbiguousListError, Choice, ListRead, read_list
from sidecar.adapters.deck_files.reading import Reading, parse_stamp, refuse_bad_bytes
from sidecar.adapters.deck_files.records import RecordsRead, read_records
from sidecar.adapters.deck_files.template import (
    Template,
    TemplateError,
    find_template,
    read_template,
    shipped_templates,
    template_text,
)
from sidecar.core.tariff import Deck

__all__ = (
    "COLUMNS",
    "MEANINGS",
    "OPTIONAL",
    "AmbiguousListError",
    "Choice",
    "DeckError",
    "DeckRefusedError",
    "ListRead",
    "RecordsRead",
    "Template",
    "TemplateError",
    "canonical_chunks",
    "find_template",
    "parse_stamp",
    "read_deck",
    "read_exchange_rates",
    "read_list",
    "read_records",
    "read_template",
    "shipped_templates",
    "template_text",
    "with_revision",
)


def read_deck(
    path: Path, template: Template | None = None, name_of: Callable[[str], str] | None = None
) -> Deck:
    """The deck in a file with our own columns, in our own spelling; or in any file, by a template.
    DeckRefusedError lists what is wrong with it.

    `name_of` gives the destination of a prefix whose row names none.
    """
    if template is not None or path.suffix.lower() in SPREADSHEETS:
        return read_list(path, Choice(template=template or "own"), name_of).deck
    reading = Reading(str(path), name_of)
    try:
        if (size := path.stat().st_size) > FILE_BYTES_MAX:
            reading.refuse(None, None, f"has {size} bytes: at most {FILE_BYTES_MAX} are allowed")
        elif _is_utf_16(path):
            reading.refuse(None, None, "is UTF-16: save it as CSV UTF-8")
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reading.take(csv.reader(file, strict=True))
    except OSError as error:
        reading.refuse(None, None, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        refuse_bad_bytes(path, reading)
    except csv.Error as error:
        reading.refuse(reading.row + 1, None, f"is not CSV: {error}")
    return reading.deck()


def _is_utf_16(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"\xff\xfe", b"\xfe\xff")
