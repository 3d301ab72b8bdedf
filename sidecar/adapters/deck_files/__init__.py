"""Deck files: CSV and spreadsheets in, one deck or all errors out.

columns     what a deck file may have in it
sources     CSV, XLSX and column templates to rows of text
reading     rows of text to a deck, or to errors
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
from sidecar.adapters.deck_files.reading import Reading, parse_stamp
from sidecar.adapters.deck_files.sources import (
    Template,
    TemplateError,
    find_bad_bytes,
    open_rows,
    read_template,
    template_text,
)
from sidecar.core.tariff import Deck

__all__ = (
    "COLUMNS",
    "MEANINGS",
    "OPTIONAL",
    "DeckError",
    "DeckRefusedError",
    "Template",
    "TemplateError",
    "canonical_chunks",
    "parse_stamp",
    "read_deck",
    "read_exchange_rates",
    "read_template",
    "template_text",
    "with_revision",
)


def read_deck(
    path: Path, template: Template | None = None, name_of: Callable[[str], str] | None = None
) -> Deck:
    """The deck in a CSV file or spreadsheet; DeckRefusedError lists what is wrong with it.

    `name_of` gives the destination of a prefix whose row names none.
    """
    reading = Reading(str(path), name_of)
    try:
        with open_rows(path, reading, template) as rows:
            reading.take(rows)
    except OSError as error:
        reading.refuse(None, None, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        find_bad_bytes(path, reading)
    except csv.Error as error:
        reading.refuse(reading.row + 1, None, f"is not CSV: {error}")
    return reading.deck()
