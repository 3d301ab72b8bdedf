"""What is wrong with a deck file: every error with its row and column, as a spreadsheet counts rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

ERRORS_LISTED_MAX = 1000


class DeckError(msgspec.Struct, frozen=True):
    """One cause to refuse a deck, at the first place where it shows. Row and column are None where the whole
    file or row is meant.
    """

    file: str
    row: int | None
    column: str | None
    reason: str
    sheet: str | None = None
    more: int = 0  # rows with the same fault

    def __str__(self) -> str:
        place = self.file
        if self.sheet:
            place += f", sheet {self.sheet}"
        if self.row is not None:
            place += f", row {self.row}"
        if self.column is not None:
            place += f", column {self.column}"
        more = f" (and in {self.more} more rows)" if self.more else ""
        return f"{place}: {self.reason}{more}"


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
