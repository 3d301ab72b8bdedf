"""Codes as carriers write them, as the fewest prefixes: lists, ranges, two columns, what stands in front."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sidecar.core.tariff import PREFIX_DIGITS_MAX

PREFIXES_OF_A_CELL_MAX = 20_000
CELL_CHARS_MAX = 100_000
BLANKS = " \t\u00a0\u2007\u2009\u202f\r\n"
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"

_SCIENTIFIC = re.compile(r"[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+")
_RANGE = re.compile(rf"([+]?[0-9]+)[{DASHES}]([+]?[0-9]+)")


class Codes:
    """How one template writes codes. `strip`: what is taken off the front, such as `+`, `00`, `011`;
    `drop`: characters that mean nothing, such as blanks and dashes; `split`: characters between the codes
    of one cell; `ranges`: whether `4470-4479` is a range.
    """

    def __init__(
        self, strip: Iterable[str] = (), drop: str = "", split: str = "", ranges: bool = False
    ) -> None:
        self._strip = tuple(sorted(strip, key=len, reverse=True))
        blanks = BLANKS if " " in drop else ""
        dashes = DASHES if "-" in drop else ""
        self._drop = str.maketrans("", "", drop + blanks + dashes)
        splitting = split + (BLANKS if " " in split else "")
        self._split = re.compile(f"[{re.escape(splitting)}]+") if splitting else None
        self._dashes = re.compile(f"[{DASHES}]")
        self._ranges = ranges

    def prefixes(self, text: str, country: str = "") -> list[str]:
        """The prefixes of a cell, behind the country code of another. ValueError says what is wrong."""
        if len(text) > CELL_CHARS_MAX:
            raise ValueError(f"has more than {CELL_CHARS_MAX} characters")
        text = text.strip(BLANKS)
        if text.isascii() and text.isdigit() and not self._strip:
            return [_checked(country + text)]
        if _SCIENTIFIC.fullmatch(text):
            raise ValueError(
                "is a spreadsheet's short form of a number, digits are lost: format the column as text"
            )
        if self._ranges:
            text = "-".join(part.strip(BLANKS) for part in self._dashes.split(text))
        parts = self._split.split(text) if self._split else [text]
        found: list[str] = []
        for part in filter(None, (one.strip(BLANKS) for one in parts)):
            found += self._part(part, country)
            if len(found) > PREFIXES_OF_A_CELL_MAX:
                raise ValueError(f"is more than {PREFIXES_OF_A_CELL_MAX} prefixes")
        return found

    def country(self, text: str) -> str:
        """A country code of its own column; an empty cell is none."""
        code = self._plain(text.strip(BLANKS))
        if code and not (code.isascii() and code.isdigit()):
            raise ValueError("is no country code")
        return code

    def _part(self, part: str, country: str) -> list[str]:
        found = _RANGE.fullmatch(part) if self._ranges else None
        if found:
            first, last = self._front(found[1], country), self._front(found[2], country)
            if len(last) < len(first):
                last = first[: len(first) - len(last)] + last  # 7700-02
            return [_checked(country + one) for one in fewest_prefixes(first, last)]
        plain = self._plain(part) if not country else part.translate(self._drop)
        if not (plain.isascii() and plain.isdigit()):
            raise ValueError("is no code of digits")
        return [_checked(country + plain)]

    def _plain(self, part: str) -> str:
        return self._front(part.translate(self._drop), "")

    def _front(self, part: str, country: str) -> str:
        if not country:
            for front in self._strip:
                if part.startswith(front):
                    return part[len(front) :]
        return part


def fewest_prefixes(first: str, last: str) -> Iterator[str]:
    """The fewest prefixes that begin exactly the numbers from `first` to `last`, of equally many digits."""
    if not f"{first}{last}".isdigit() or len(first) != len(last):
        raise ValueError(f"is a range from {first} to {last}, which are not of one length")
    width, low, high = len(first), int(first), int(last)
    if low > high:
        raise ValueError(f"is a range that ends before it begins: {first} to {last}")
    while low <= high:
        zeros = 0  # that many digits may be any
        while zeros < width - 1 and low % 10 ** (zeros + 1) == 0 and low + 10 ** (zeros + 1) - 1 <= high:
            zeros += 1
        yield str(low // 10**zeros).zfill(width - zeros)
        low += 10**zeros


def _checked(prefix: str) -> str:
    if len(prefix) > PREFIX_DIGITS_MAX:
        raise ValueError(f"has more than {PREFIX_DIGITS_MAX} digits")
    return prefix
