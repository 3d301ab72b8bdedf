"""Exchange rates from CSV: base, quote, rate, valid_from (1 base = rate quote). Refused whole, as a deck
is.
"""

from __future__ import annotations

import csv
from pathlib import Path

from sidecar.adapters.deck_files.errors import ERRORS_LISTED_MAX, DeckError, DeckRefusedError
from sidecar.adapters.deck_files.reading import parse_stamp
from sidecar.core.amounts import check_currency, parse_amount
from sidecar.core.margin import ExchangeRate, ExchangeTable

COLUMNS = ("base", "quote", "rate", "valid_from")
FILE_BYTES_MAX = 2**26


def read_exchange_rates(path: Path) -> ExchangeTable:
    """The table in a file; DeckRefusedError lists what is wrong with it."""
    errors: list[DeckError] = []

    def refuse(row: int | None, column: str | None, reason: str) -> None:
        errors.append(DeckError(str(path), row, column, reason))

    rates: list[ExchangeRate] = []
    seen: dict[tuple[str, str, str], int] = {}
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            refuse(None, None, f"has more than {FILE_BYTES_MAX} bytes")
        lines = [] if errors else path.read_text(encoding="utf-8-sig").splitlines()
        rows = list(csv.reader(lines, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        refuse(None, None, f"cannot be read: {error}")
        rows = []
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if not errors and sorted(names) != sorted(COLUMNS):
        refuse(1, None, f"the columns must be {', '.join(COLUMNS)}")
    for row, cells in enumerate([] if errors else rows[1:], 2):
        if not cells:
            continue
        if len(cells) != len(names):
            refuse(row, None, f"{len(cells)} cells, but {len(names)} columns are named")
            continue
        before = len(errors)
        values = dict(zip(names, (cell.strip() for cell in cells), strict=True))
        for column, check in (
            ("base", check_currency),
            ("quote", check_currency),
            ("rate", parse_amount),
            ("valid_from", parse_stamp),
        ):
            try:
                check(values[column])
            except ValueError as error:
                refuse(row, column, str(error))
        if len(errors) > before:
            continue
        key = (values["base"], values["quote"], parse_stamp(values["valid_from"]).isoformat())
        if key in seen:
            refuse(row, "valid_from", f"{key[0]} in {key[1]} from then on is in row {seen[key]} already")
        seen.setdefault(key, row)
        try:
            rates.append(
                ExchangeRate(
                    base=values["base"],
                    quote=values["quote"],
                    rate=parse_amount(values["rate"]),
                    valid_from=parse_stamp(values["valid_from"]),
                )
            )
        except ValueError as error:
            refuse(row, None, str(error))
    if errors:
        raise DeckRefusedError(errors[:ERRORS_LISTED_MAX], len(errors))
    return ExchangeTable(rates)
