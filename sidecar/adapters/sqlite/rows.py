"""Many rows in one statement.

Each step of a statement gives up the interpreter lock and takes it again. While the event loop is busy that
costs the writer up to `sys.getswitchinterval()` each time, so a statement per row makes a commit of fifty
calls take seconds. One statement takes up to 64 rows; only four lengths occur, so that the prepared
statements stay in apsw's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TypeVar

import apsw

LENGTHS = (64, 16, 4, 1)

_T = TypeVar("_T")
Row = tuple[object, ...]


class Table:
    """A table as one insert sees it. `replace`: a row of the same key gives way."""

    def __init__(self, name: str, columns: Sequence[str], *, replace: bool = False) -> None:
        self._head = f"INSERT {'OR REPLACE ' if replace else ''}INTO {name} ({', '.join(columns)}) VALUES "  # noqa: S608
        self._row = f"({', '.join('?' * len(columns))})"
        self._sql = {length: self._head + ", ".join([self._row] * length) for length in LENGTHS}

    def write(self, connection: apsw.Connection, rows: Sequence[Row]) -> None:
        for part in _parts(rows):
            bindings = part[0] if len(part) == 1 else [value for row in part for value in row]
            connection.execute(self._sql[len(part)], bindings)


def delete_keys(connection: apsw.Connection, table: str, column: str, keys: Sequence[int]) -> None:
    for part in _parts(keys):
        connection.execute(_delete_sql(table, column, len(part)), part)


@cache
def _delete_sql(table: str, column: str, length: int) -> str:
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join('?' * length)})"  # noqa: S608


def _parts(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    start = 0
    for length in LENGTHS:
        while len(rows) - start >= length:
            yield rows[start : start + length]
            start += length
