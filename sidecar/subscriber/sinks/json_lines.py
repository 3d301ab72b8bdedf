"""Records as lines of a file, each one record as JSON, for whatever reads lines.

Beside it lies `<file>.index`, an SQLite file with the keys of the records and how long the file is as far as
they tell. Lines are on disk before the index tells of them. A crash in between leaves lines that the index
does not know: they are read back at the next start, and a line that was cut off is taken away. So every
record is one line, whatever was killed when.

To begin a new file: stop the subscriber, move the file away, leave the index. Without its index a file is
read back whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from sidecar.subscriber.progress import Position, Progress
from sidecar.subscriber.record import Record, RecordError, from_line
from sidecar.subscriber.sink import Committed, Rejected, SinkError
from sidecar.subscriber.sinks.sqlite import SqliteSink

_READ_BACK_LINES = 1_000  # in one transaction
_BYTES = "bytes"  # the length of the file that the index tells of


class JsonLinesSink:
    """A Sink (see sink)."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._index = SqliteSink(file.with_name(file.name + ".index"))
        self._file: BinaryIO | None = None
        self._bytes = 0

    @property
    def client_id(self) -> str:
        return self._index.client_id

    def open(self) -> Sequence[Position]:
        self.close()
        try:
            positions = self._index.open()
            with self._index.transaction() as tables:
                self._bytes = int(tables.value(_BYTES) or 0)
            self._file = self._path.open("a+b")
            _sync_folder(self._path)
            return self._read_back(positions)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | sqlite3.Error):
                raise SinkError(f"{self._path}: {error}") from error
            raise

    def commit(
        self, records: Sequence[Record], rejected: Sequence[Rejected], positions: Sequence[Position]
    ) -> Committed:
        file = self._file
        if file is None:
            raise SinkError(f"{self._path}: not open")
        try:
            with self._index.transaction() as tables:
                done = tables.write(records, rejected, positions, _nothing)
                if done.new:
                    lines = b"".join(record.text.encode() + b"\n" for record in done.new)
                    _append(file.fileno(), lines)
                    tables.set(_BYTES, str(self._bytes + len(lines)))
            self._bytes += sum(len(record.text.encode()) + 1 for record in done.new)
            return done
        except (OSError, sqlite3.Error) as error:
            # What of the lines is in the file, the next `open` reads back.
            raise SinkError(f"{self._path}: {error}") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._index.close()

    def _read_back(self, positions: Sequence[Position]) -> Sequence[Position]:
        """Lines behind those that the index tells of."""
        file = self._file
        assert file is not None
        size = file.seek(0, os.SEEK_END)
        if size < self._bytes:
            if size:
                raise SinkError(
                    f"{self._path} has {size} bytes, and {self._path.name}.index tells of {self._bytes}: "
                    "put back what was cut off; or move both away, and begin anew"
                )
            self._bytes = 0  # moved away: a new file
        progress = Progress(positions)
        file.seek(self._bytes)
        while True:
            records, length, cut = self._lines(file)
            if cut:
                file.truncate(self._bytes + length)
                os.fsync(file.fileno())
            with self._index.transaction() as tables:
                for record in records:
                    progress.take(record.source, record.seq)
                told = [progress.positions[source] for source in progress.changed]
                tables.write(records, (), told, _nothing)
                tables.set(_BYTES, str(self._bytes + length))
            self._bytes += length
            if not records:
                break
        file.seek(0, os.SEEK_END)
        return [*progress.positions.values()]

    def _lines(self, file: BinaryIO) -> tuple[list[Record], int, bool]:
        """The next records, their bytes, and whether what follows was cut off by a crash."""
        records: list[Record] = []
        length = 0
        while len(records) < _READ_BACK_LINES and (line := file.readline()):
            try:
                if not line.endswith(b"\n"):
                    raise RecordError("cut off")
                records.append(from_line(line))
            except RecordError as error:
                if file.read(1):
                    at = self._bytes + length
                    raise SinkError(f"{self._path}: no record at byte {at}: {error}") from error
                return records, length, True
            length += len(line)
        return records, length, False


def _append(fd: int, lines: bytes) -> None:
    """Past Python's buffer: it would write again at the close what a full disk refused."""
    rest = memoryview(lines)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.fsync(fd)


def _nothing(_: Record) -> None:
    return None


def _sync_folder(file: Path) -> None:
    folder = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
