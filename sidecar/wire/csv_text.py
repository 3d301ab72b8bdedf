"""Text in the CSV that leaves us: a spreadsheet takes a cell that begins with one of `= + - @`, tab or CR for
a formula, and runs what a stranger wrote into a name or a header. Such a text gets an apostrophe in front,
which spreadsheets take for the mark of a text; `restored` takes it off again. Numbers (`+4930123`, `-0.25`)
never change.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def harmless(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def restored(text: str) -> str:
    """What `harmless` made the text of."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text
