"""`export`: records into a folder, file by file, then the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from sidecar.adapters.exports import parquet
from sidecar.adapters.exports.columns import COLUMNS
from sidecar.adapters.exports.files import CsvFile, FileEntry, HashedFile, JsonLinesFile, Maker, RecordFile
from sidecar.core.cdr import Cdr
from sidecar.core.totals import ControlTotals
from sidecar.wire.cdr_codec import CONTENT_VERSION
from sidecar.wire.plain import plain

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
MANIFEST_VERSION = 1
ROWS_PER_FILE = 500_000


class ExportError(Exception):
    """The export did not come about; the text says why. No manifest was written."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class EpochRange(msgspec.Struct, kw_only=True):
    """Of one life of the journal: the least and the greatest `seq` among the records; null where they have
    none, because they were kept back."""

    store_epoch: str
    records: int = 0
    first_seq: int | None = None
    last_seq: int | None = None

    def add(self, seq: int | None) -> None:
        self.records += 1
        if seq is not None:
            self.first_seq = seq if self.first_seq is None else min(self.first_seq, seq)
            self.last_seq = seq if self.last_seq is None else max(self.last_seq, seq)


class JournalHead(msgspec.Struct, frozen=True, kw_only=True):
    """How far the journal had come: a journal that was cut or changed later does not have this commit."""

    epoch: str
    commit: int
    commit_hash: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    manifest_version: int = MANIFEST_VERSION
    cdr_version: int = CONTENT_VERSION
    product: str
    generated_at: datetime
    format: Format
    filters: dict[str, Any]
    columns: tuple[dict[str, str], ...]  # none for JSON lines, which follow the JSON Schema
    files: tuple[FileEntry, ...]
    epochs: tuple[EpochRange, ...]
    journal: JournalHead | None = None  # what it was made of; see `sidecar journal verify --head`
    control_totals: ControlTotals


_MAKERS: Mapping[Format, Maker] = {
    Format.CSV: CsvFile,
    Format.JSONL: JsonLinesFile,
    Format.PARQUET: parquet.ParquetFile,
}


def export(
    records: Iterable[Cdr],
    folder: Path,
    wanted: Format,
    *,
    filters: Mapping[str, Any],
    product: str,
    generated_at: datetime,
    journal: JournalHead | None = None,
    rows_per_file: int = ROWS_PER_FILE,
) -> Manifest:
    """Writes `records`, one call each, in the order given. The folder is made; where it holds an export
    already nothing is written."""
    if wanted is Format.PARQUET and not parquet.is_available():
        raise ExportError(f"Parquet needs duckdb, which is not installed: pip install '{parquet.EXTRA}'")
    try:
        _prepare(folder)
        totals, epochs, files = ControlTotals(), dict[str, EpochRange](), list[FileEntry]()
        current: RecordFile | None = None
        rows = 0
        try:
            for cdr in records:
                if current is None:
                    current = _MAKERS[wanted](folder / f"cdrs-{len(files) + 1:05}.{wanted}")
                current.add(cdr)
                rows += 1
                totals.add(cdr)
                epochs.setdefault(cdr.store_epoch, EpochRange(store_epoch=cdr.store_epoch)).add(cdr.seq)
                if rows == rows_per_file:
                    files.append(current.finish())
                    current, rows = None, 0
            if current is None and not files:
                current = _MAKERS[wanted](folder / f"cdrs-00001.{wanted}")
            if current is not None:
                files.append(current.finish())
                current = None
        except BaseException:
            if current is not None:
                current.abandon()
            raise
        manifest = Manifest(
            product=product,
            generated_at=generated_at,
            format=wanted,
            filters=dict(filters),
            columns=()
            if wanted is Format.JSONL
            else tuple({"name": column.name, "kind": column.kind} for column in COLUMNS),
            files=tuple(files),
            epochs=tuple(sorted(epochs.values(), key=lambda one: one.store_epoch)),
            journal=journal,
            control_totals=totals,
        )
        _seal(folder, manifest)
    except OSError as error:
        raise ExportError(f"{error.filename or folder}: {error.strerror}") from error
    except parquet.ParquetError as error:
        raise ExportError(str(error)) from error
    return manifest


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = next(
        (path for path in folder.iterdir() if path.name in (MANIFEST, SUMS) or path.match("cdrs-*")), None
    )
    if there is not None:
        raise ExportError(
            f"{folder} holds an export already ({there.name}): nothing is ever written over one"
        )


def _seal(folder: Path, manifest: Manifest) -> None:
    body = msgspec.json.format(msgspec.json.encode(plain(manifest)), indent=2) + b"\n"
    file = HashedFile(folder / SUMS)
    try:
        sealed = HashedFile(folder / MANIFEST)
    except OSError:
        file.abandon()
        raise
    sealed.write(body)
    # A crash between the two: sums without a manifest, so no export.
    for entry in (*manifest.files, _entry_of(body)):
        file.write(f"{entry.sha256}  {entry.name}\n".encode())
    file.finish(0)
    sealed.finish(0)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entry_of(body: bytes) -> FileEntry:
    return FileEntry(name=MANIFEST, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body), records=0)
