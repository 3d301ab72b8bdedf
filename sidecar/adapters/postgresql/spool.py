"""What must be written while the database is away, in a file of the node's own, so that it outlives the
process too: SQLite, synced before anything else is done with it. Empty, but in such a time.

One file, for this user alone. A start brings what it finds into the database (see bringing), then begins it
anew. A file that is damaged is set aside; what of it is sound is brought in.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import apsw

from sidecar.adapters.store.bodies import crc_of
from sidecar.adapters.store.work import Step
from sidecar.wire.entries import EntryError
from sidecar.wire.steps import decode_step, encode_forgotten, encode_step

FILE_NAME = "kept.db"
BYTES_MAX = 1024 * 1024 * 1024  # a call has 4 KB at most at a time: more than any node can carry
_PAGE_BYTES = 4096
_BUSY_MS_MAX = 1_000  # somebody looks at it
_SCHEMA = """
CREATE TABLE IF NOT EXISTS epoch (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL);
"""


class FileSpool:
    """For one thread at a time."""

    def __init__(self, file: Path, epoch: str) -> None:
        """A new file, for what is kept of this epoch."""
        self._file = file
        self._epoch = epoch
        self._connection: apsw.Connection | None = None
        self._due: dict[int, bytes] = {}  # not in the file yet
        self._gone: set[int] = set()  # and those still in it
        self._complaint = ""
        self._is_over = False
        self._write()

    def put(self, works: Mapping[int, Step | UUID]) -> None:
        for number, work in works.items():
            self._due[number] = encode_forgotten(work) if isinstance(work, UUID) else encode_step(work)
        self._gone -= works.keys()
        self._write()

    def remove(self, numbers: Collection[int]) -> None:
        for number in numbers:
            self._due.pop(number, None)
        self._gone.update(numbers)
        self._write()

    def complaint(self) -> str:
        return "another process writes in our place" if self._is_over else self._complaint

    def is_over(self) -> None:
        """Another process writes in our place: what is there stays, nothing is added."""
        self._is_over = True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close(force=True)
            self._connection = None

    def _write(self) -> None:
        if self._is_over:
            return
        try:
            if self._connection is None:
                self._connection = _connected(self._file, self._epoch)
            self._write_to(self._connection)
            self._due.clear()
            self._gone.clear()
            self._complaint = ""
        except (apsw.Error, OSError) as error:
            self._complaint = (
                f"what is kept meanwhile is in memory alone ({self._file}: {type(error).__name__}: {error})"
            )
            with suppress(apsw.Error):
                self.close()

    def _write_to(self, connection: apsw.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        rows = [(number, body, crc_of(body)) for number, body in self._due.items()]
        connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
        connection.executemany("DELETE FROM kept WHERE number = ?", [(number,) for number in self._gone])
        connection.execute("COMMIT")


class Found(NamedTuple):
    """What an earlier process has left, in order."""

    epoch: str  # of which; empty: the file does not say
    steps: Sequence[Step | UUID]
    damage: str  # why not all of it can be read


def found_in(file: Path) -> Found | None:
    """None: there is no file."""
    if not file.exists():
        return None
    epoch, damage, steps = "", "", list[Step | UUID]()
    try:
        connection = apsw.Connection(str(file))
    except apsw.Error as error:
        return Found("", (), str(error))
    try:
        connection.set_busy_timeout(_BUSY_MS_MAX)
        damage = "; ".join(row[0] for row in connection.execute("PRAGMA quick_check(3)") if row[0] != "ok")
        epoch = next((name for (name,) in connection.execute("SELECT name FROM epoch")), "")
        for number, body, crc in connection.execute("SELECT number, body, crc FROM kept ORDER BY number"):
            if not isinstance(body, bytes) or crc_of(body) != crc:
                damage = damage or f"step {number}: its checksum is not that of its bytes"
                continue
            try:
                steps.append(decode_step(body))
            except EntryError as error:
                damage = damage or f"step {number}: {error}"
    except (apsw.Error, ValueError) as error:  # also a text that is none
        damage = damage or f"{type(error).__name__}: {error}"
    finally:
        connection.close(force=True)
    return Found(epoch, steps, damage)


def set_aside(file: Path, wall_ns: int) -> Path:
    """Under another name, with the journal that SQLite may have of it."""
    aside = file.with_name(f"{file.name}.damaged-{wall_ns // 1_000_000_000}")
    for suffix in ("", "-journal"):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def begin_anew(file: Path) -> None:
    for suffix in ("-journal", ""):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _connected(file: Path, epoch: str) -> apsw.Connection:
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(file))
    try:
        connection.set_busy_timeout(_BUSY_MS_MAX)
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute(f"PRAGMA max_page_count = {BYTES_MAX // _PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SCHEMA)
        connection.execute("DELETE FROM epoch")
        connection.execute("INSERT INTO epoch VALUES (?)", (epoch,))
        connection.execute("COMMIT")
    except BaseException:
        connection.close(force=True)
        raise
    return connection
