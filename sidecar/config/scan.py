"""The line on which each key of a TOML document stands, which `tomllib` does not tell.

The document has been accepted by `tomllib` before: this scanner checks nothing and only has to find its way.
A key is named by its path, with the index of an array's element where there is one: ("routes", 0, "prefix").
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BARE_END = frozenset(" \t.=]")
_VALUE_END = frozenset(",]}#\n")
_BLANK = re.compile(r"[ \t\n]*(?:#[^\n]*[ \t\n]*)*")
# What most lines are: read at once, because a settings file may have 100,000 accounts.
_PLAIN_HEADER = re.compile(r"\[([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\] *\n")
_PLAIN_LINE = re.compile(r"""([A-Za-z0-9_-]+) *= *(?:[a-z0-9]+|"[^"\\\n]+") *\n""")


def key_lines(text: str) -> dict[Path, int]:
    """Every key and table of a valid document, with its line from 1: the first, where it has several."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._array_lengths: dict[Path, int] = {}  # of the arrays of tables, so far
        self._found: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip_blank()
            if self._at >= len(self._text):
                return self._found
            if line := _PLAIN_LINE.match(self._text, self._at):
                self._note((*table, line[1]), self._at)
                self._at = line.end()
                continue
            if line := _PLAIN_HEADER.match(self._text, self._at):
                parts = line[1].split(".")
                table = (*self._within(parts[:-1], self._at), parts[-1])
                self._note(table, self._at)
                self._at = line.end()
                continue
            table = self._header() if self._text[self._at] == "[" else self._statement(table)

    def _header(self) -> Path:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        parts = self._key()
        self._at += 2 if is_array else 1
        parent = self._within(parts[:-1], start)
        table: Path = (*parent, parts[-1])
        self._note(table, start)
        if is_array:
            index = self._array_lengths.get(table, 0)
            self._array_lengths[table] = index + 1
            table = (*table, index)
            self._note(table, start)
        return table

    def _within(self, parts: list[str], start: int) -> Path:
        """The path of the tables named by `parts`, each array of tables meaning its last element."""
        path: Path = ()
        for part in parts:
            path = (*path, part)
            self._note(path, start)
            if path in self._array_lengths:
                path = (*path, self._array_lengths[path] - 1)
        return path

    def _statement(self, table: Path) -> Path:
        start = self._at
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._value(path)
        return table

    def _key(self) -> list[str]:
        """A dotted key, and the blanks after it."""
        parts = []
        while True:
            self._skip_spaces()
            char = self._text[self._at]
            start = self._at
            if char in "\"'":
                self._string()
                parts.append(str(tomllib.loads(f"key = {self._text[start : self._at]}")["key"]))
            else:
                while self._text[self._at] not in _BARE_END:
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip_spaces()
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip_spaces()
        char = self._text[self._at]
        if char in "\"'":
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in _VALUE_END:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip_blank()
            match self._text[self._at]:
                case "]":
                    self._at += 1
                    return
                case ",":
                    self._at += 1
                case _:
                    element: Path = (*path, index)
                    self._note(element, self._at)
                    self._value(element)
                    index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip_blank()
            match self._text[self._at]:
                case "}":
                    self._at += 1
                    return
                case ",":
                    self._at += 1
                case _:
                    self._statement(path)

    def _string(self) -> None:
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            self._at += 3
            while not self._text.startswith(quote * 3, self._at):
                self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
            self._at += 3
            while self._text.startswith(
                quote, self._at
            ):  # up to two quotes may stand before the closing three
                self._at += 1
        else:
            self._at += 1
            while self._text[self._at] != quote:
                self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
            self._at += 1

    def _skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1

    def _skip_blank(self) -> None:
        self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too

    def _note(self, path: Path, at: int) -> None:
        self._found.setdefault(path, bisect_right(self._line_starts, at))
