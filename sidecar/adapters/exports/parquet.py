"""Parquet, through duckdb, which is an extra: rows go to a temporary file of JSON lines, and duckdb writes
that out with the types of the columns. So memory is bounded, by duckdb's own limit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from sidecar.adapters.exports.columns import COLUMNS, Kind, row_of
from sidecar.adapters.exports.files import MODE, PART, FileEntry, HashedFile
from sidecar.core.cdr import Cdr

EXTRA = "sip-billing-sidecar[parquet]"
MEMORY = "512MB"
ROWS_FETCHED = 2_000
# A net has at most 12 decimals and a tax 12 more; of 38 digits, the most that Parquet has, 17 are left in
# front.
DECIMALS_MAX = 21
TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMPTZ",
    "decimal": f"DECIMAL(38, {DECIMALS_MAX})",
    "json": "VARCHAR",
}


class ParquetError(Exception):
    """What Parquet cannot hold."""


def is_available() -> bool:
    return find_spec("duckdb") is not None


class ParquetFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = HashedFile(path.with_name(f".{path.stem}.rows"))
        self._records = 0

    def add(self, cdr: Cdr) -> None:
        row = {column.name: value for column, value in zip(COLUMNS, row_of(cdr), strict=True)}
        for column in COLUMNS:
            if column.kind == "decimal":
                _check(str(row[column.name] or ""), column.name, cdr)
        self._rows.write(msgspec.json.encode(row) + b"\n")
        self._records += 1

    def finish(self) -> FileEntry:
        import duckdb  # noqa: PLC0415 - the extra may be missing

        self._rows.finish(self._records)
        part = self._path.with_name(self._path.name + PART)
        columns = ", ".join(f"'{column.name}': '{TYPES[column.kind]}'" for column in COLUMNS)
        try:
            with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY}) as connection:
                # One thread, in the order of the rows: the same records give the same bytes.
                connection.execute("SET preserve_insertion_order = true")
                rows = f"read_json(?, format = 'newline_delimited', columns = {{{columns}}})"
                connection.execute(
                    f"COPY (SELECT * FROM {rows}) TO ? (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608
                    [str(self._rows.path), str(part)],
                )
        except duckdb.Error as error:
            raise ParquetError(f"{self._path.name}: {error}") from error
        finally:
            self._rows.path.unlink(missing_ok=True)
        part.chmod(MODE)
        digest = hashlib.sha256()
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
            os.fsync(file.fileno())
        part.rename(self._path)
        return FileEntry(
            name=self._path.name,
            sha256=digest.hexdigest(),
            bytes=self._path.stat().st_size,
            records=self._records,
        )

    def abandon(self) -> None:
        self._rows.abandon()
        self._path.with_name(self._path.name + PART).unlink(missing_ok=True)


def rows(path: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The named columns of a file, row by row."""
    if not is_available():
        raise ParquetError(f"needs duckdb, which is not installed: pip install '{EXTRA}'")
    import duckdb  # noqa: PLC0415 - the extra may be missing

    wanted = [column.name for column in COLUMNS if column.name in set(names)]
    try:
        with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY}) as connection:
            connection.execute(f"SELECT {', '.join(wanted)} FROM read_parquet(?)", [str(path)])  # noqa: S608
            while found := connection.fetchmany(ROWS_FETCHED):
                yield from (dict(zip(wanted, row, strict=True)) for row in found)
    except duckdb.Error as error:
        raise ParquetError(str(error)) from error


def _check(amount: str, name: str, cdr: Cdr) -> None:
    decimals = amount.partition(".")[2].rstrip("0")
    if len(decimals) > DECIMALS_MAX:
        # Rounded without a word it would be: rather no file.
        raise ParquetError(
            f"call {cdr.call_id}: {name} {amount} has more than {DECIMALS_MAX} decimals; "
            f"CSV and JSON lines hold it"
        )
