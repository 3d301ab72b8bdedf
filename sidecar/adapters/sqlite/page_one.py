"""The schema of the journal, kept in a file beside it: with page 1 lost, no reader finds a single table,
though every row is there.

Tables stay at their root pages for as long as a file lives (nothing here vacuums), so it is written once for
each schema. A damaged file gets a page 1 made anew, in a copy, with the tables at the roots that they had.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import apsw
import msgspec

KEPT_NAME = "journal.schema"
PAGE_BYTES = 4096

_ROWS = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1, 2"
_TABLES = (
    "SELECT name, rootpage, sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema"
    " WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
)


class KeptTable(msgspec.Struct, frozen=True):
    name: str
    root: int
    sql: str  # as short as a reader of rows needs it: all of them go into one page


class KeptSchema(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    crc: int  # of the statements that made it
    tables: tuple[KeptTable, ...]


def schema_of(connection: apsw.Connection) -> KeptSchema:
    rows = [tuple(row) for row in connection.execute(_ROWS)]
    return KeptSchema(
        version=int(connection.pragma("user_version")),
        crc=crc32(msgspec.msgpack.encode(rows)),
        tables=tuple(
            KeptTable(name, root, _short(connection, name, without_rowid))
            for name, root, without_rowid in list(connection.execute(_TABLES))
        ),
    )


def keep_schema(connection: apsw.Connection, data_dir: Path) -> None:
    """Not synced: a machine that loses power now has the one of before, or none."""
    found = schema_of(connection)
    if found == kept_schema(data_dir):
        return
    body = msgspec.json.encode(found)
    part = data_dir / f"{KEPT_NAME}.part"
    part.write_bytes(f"{crc32(body):08x}\n".encode() + body)
    part.chmod(0o600)
    part.rename(data_dir / KEPT_NAME)


def kept_schema(data_dir: Path) -> KeptSchema | None:
    with suppress(OSError, ValueError):  # msgspec's errors are ValueErrors
        crc, _, body = (data_dir / KEPT_NAME).read_bytes().partition(b"\n")
        if int(crc, 16) == crc32(body):
            return msgspec.json.decode(body, type=KeptSchema)
    return None


def is_damaged(connection: apsw.Connection, kept: KeptSchema | None) -> bool:
    """Whether page 1 is not what it was. A file of another version, as it is put back by hand, differs in
    both its number and its tables; one that was vacuumed only in the roots."""
    if kept is None:
        return False
    try:
        found = schema_of(connection)
    except (apsw.Error, UnicodeDecodeError):
        return True
    return (found.version == kept.version) != (found.crc == kept.crc)


def give_page_one(copy: Path, kept: KeptSchema) -> None:
    """In the place of the first page of the copy: one with these tables alone, for reading."""
    pages = max(1, -(-copy.stat().st_size // PAGE_BYTES))
    made = copy.with_name(f"{copy.name}.page")
    made.unlink(missing_ok=True)
    connection = apsw.Connection(str(made))
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"PRAGMA user_version = {kept.version}")
        rows = [("table", table.name, table.name, table.root, table.sql) for table in kept.tables]
        connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", rows)
    finally:
        connection.close()
    page = bytearray(made.read_bytes()[:PAGE_BYTES])
    made.unlink()
    page[28:32] = struct.pack(">I", pages)  # file format, offset 28: how many pages there are
    with copy.open("r+b") as target:
        target.write(page)


def _short(connection: apsw.Connection, name: str, without_rowid: int) -> str:
    columns: Sequence[tuple[str, str, int]] = [
        (column, kind, place)
        for _, column, kind, _, _, place in connection.execute(f"PRAGMA table_info({name})")
    ]
    key = [column for column, _, place in sorted(columns, key=lambda one: one[2]) if place]
    if without_rowid:
        return f"CREATE TABLE {name}({_listed(columns)},PRIMARY KEY({','.join(key)}))WITHOUT ROWID"
    texts = [
        f"{column} INTEGER PRIMARY KEY" if place and kind == "INTEGER" and len(key) == 1 else column
        for column, kind, place in columns
    ]
    return f"CREATE TABLE {name}({','.join(texts)})"


def _listed(columns: Iterable[tuple[str, str, int]]) -> str:
    return ",".join(column for column, _, _ in columns)
