"""What is wrong with a deck file: every error with its row and column, as a spreadsheet counts rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

ERRORS_LISTED_MAX = 1000


class DeckError(msgspec.Struct, frozen=True):
    """One reason to refuse a deck. Row and column are None where the whole file or row is meant."""

    file: str
    row: int | None
    column: str | None
    reason: str

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.column is not None:
            place += f", column {self.column}"
        return f"{place}: {self.reason}"


class DeckRefusedError(Exception):
    """The deck has errors: `errors` lists the first ERRORS_LISTED_MAX of `count`."""

    def __init__(self, errors: Sequence[DeckError], count: int) -> None:
        super().__init__(errors, count)
        self.errors = tuple(errors)
        self.count = count

    def __str__(self) -> str:
        lines = [str(error) for error in self.errors]
        if self.count > len(lines):
            lines.append(f"and {self.count - len(lines)} more errors")
        return "\n".join(lines)
