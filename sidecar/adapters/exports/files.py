"""One file of an export: written beside its name, hashed on the way, and in its place only when it is whole
and on disk."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from sidecar.adapters.exports.columns import COLUMNS, row_of
from sidecar.core.cdr import Cdr
from sidecar.wire.cdr_codec import encode_json
from sidecar.wire.csv_text import harmless

PART = ".part"
MODE = 0o600  # numbers of people
BUFFER_BYTES = 1 << 20


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A finished file, as the manifest names it."""

    name: str
    sha256: str
    bytes: int
    records: int


class RecordFile(Protocol):
    """What writes one file. `finish` or `abandon` ends it."""

    def add(self, cdr: Cdr) -> None: ...
    def finish(self) -> FileEntry: ...
    def abandon(self) -> None: ...


Maker = Callable[[Path], RecordFile]


class HashedFile:
    """Bytes into `path`, through a file beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        self._digest = hashlib.sha256()
        self._bytes = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.part, flags, MODE)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=BUFFER_BYTES)

    def write(self, content: bytes) -> None:
        self._digest.update(content)
        self._bytes += len(content)
        self._file.write(content)

    def finish(self, records: int) -> FileEntry:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.part.rename(self.path)
        return FileEntry(
            name=self.path.name, sha256=self._digest.hexdigest(), bytes=self._bytes, records=records
        )

    def abandon(self) -> None:
        self._file.close()
        self.part.unlink(missing_ok=True)


class CsvFile:
    """RFC 4180: a header, then a row per record. An empty field is null or an empty text; no text is a
    formula (wire/csv_text)."""

    def __init__(self, path: Path) -> None:
        self._file = HashedFile(path)
        self._records = 0
        # Not for its own sake: csv quotes a text that holds a CR only where CR is part of the line end.
        self._rows = csv.writer(_Text(self._file), lineterminator="\r\n")
        self._rows.writerow([column.name for column in COLUMNS])

    def add(self, cdr: Cdr) -> None:
        self._rows.writerow([_cell(value) for value in row_of(cdr)])
        self._records += 1

    def finish(self) -> FileEntry:
        return self._file.finish(self._records)

    def abandon(self) -> None:
        self._file.abandon()


class JsonLinesFile:
    """The whole record as its JSON Schema has it, one on each line."""

    def __init__(self, path: Path) -> None:
        self._file = HashedFile(path)
        self._records = 0

    def add(self, cdr: Cdr) -> None:
        self._file.write(encode_json(cdr) + b"\n")
        self._records += 1

    def finish(self) -> FileEntry:
        return self._file.finish(self._records)

    def abandon(self) -> None:
        self._file.abandon()


class _Text:
    """What csv writes to."""

    def __init__(self, file: HashedFile) -> None:
        self._file = file

    def write(self, text: str) -> int:
        self._file.write(text.encode("utf-8", "backslashreplace"))
        return len(text)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return harmless(value)
    return ("true" if value else "false") if isinstance(value, bool) else value
