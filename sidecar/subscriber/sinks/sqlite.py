"""Records in an SQLite file, by Python's own sqlite3."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from sidecar.subscriber.progress import Position
from sidecar.subscriber.record import Record
from sidecar.subscriber.sink import Committed, Rejected, SinkError
from sidecar.subscriber.sinks.tables import Tables

BUSY_S = 30.0  # a reader's or a backup's lock is waited for


class SqliteSink:
    """A Sink (see sink). Others may read the file meanwhile."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock: BinaryIO | None = None
        self._connection: sqlite3.Connection | None = None
        self._tables = Tables(self._execute)
        self.client_id = ""

    def open(self) -> Sequence[Position]:
        self.close()
        try:
            return self._opened()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | sqlite3.Error):
                raise SinkError(f"{self._file}: {error}") from error
            raise

    def _opened(self) -> Sequence[Position]:
        self._lock = locked(self._file.with_name(self._file.name + ".lock"))
        self._connection = sqlite3.connect(self._file, timeout=BUSY_S, isolation_level=None)
        # FULL: what is committed is on disk before the broker hears of it.
        self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        with self.transaction():
            self._tables.create(time="TEXT", json="TEXT", payload="BLOB")
        self.client_id = self._tables.value("client_id") or ""
        return self._tables.positions()

    def commit(
        self, records: Sequence[Record], rejected: Sequence[Rejected], positions: Sequence[Position]
    ) -> Committed:
        try:
            with self.transaction():
                return self._tables.write(records, rejected, positions, lambda record: record.text)
        except sqlite3.Error as error:
            raise SinkError(f"{self._file}: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Tables]:
        self._execute("BEGIN IMMEDIATE", ())
        try:
            yield self._tables
            self._execute("COMMIT", ())
        except BaseException:
            if self._connection is not None and self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._execute("ROLLBACK", ())
            raise

    def _execute(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if self._connection is None:
            raise SinkError(f"{self._file}: not open")
        return self._connection.execute(sql, values).fetchall()


def locked(file: Path) -> BinaryIO:
    """Held until it is closed, or the process ends however it ends. Raises SinkError."""
    handle = file.open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise SinkError(f"{file}: another subscriber writes there") from error
    return handle
