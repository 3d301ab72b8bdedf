"""A file of strangers: what it is by its first bytes, unpacked where it is packed, and bounded before memory
is. Nothing in it is run: no formula, no link, no macro."""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

FILE_BYTES_MAX = 2**30
TEXT_BYTES_MAX = 2**31  # unpacked
SHEET_BYTES_MAX = 2**27  # of a workbook as it is
PARTS_BYTES_MAX = 2**31  # of a workbook, unpacked, as its directory says
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
HEAD = 4096

_ZIP, _GZIP, _OLE = b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WORKBOOK_PARTS = frozenset({"xl/workbook.xml", "xl/workbook.bin", "content.xml"})


class FileRefusedError(Exception):
    """The file as a whole cannot be read; the text says why."""


class Source(NamedTuple):
    """`workbook` is the path of a workbook; else `text` gives the bytes of a text, from their beginning."""

    workbook: Path | None
    text: BinaryIO | None


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """FileRefusedError says why a file is none that could hold a list; OSError as `open` raises it."""
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise FileRefusedError(f"has {size} bytes: at most {FILE_BYTES_MAX} are allowed")
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(0)
        if _is_workbook(path, head):
            _check_workbook(path, size)
            yield Source(path, None)
        elif path.suffix.lower() in SPREADSHEETS:
            what = (
                "an HTML page"
                if head.lstrip().lower().startswith((b"<html", b"<!doc", b"<table"))
                else "text"
            )
            raise FileRefusedError(f"is not a spreadsheet that can be read: it is {what}")
        elif head.startswith(_GZIP):
            try:
                with gzip.open(path) as packed:
                    yield from _unpacked(cast("BinaryIO", packed), path.stem)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise FileRefusedError(f"is not gzip that can be read: {error}") from None
        elif head.startswith(_ZIP):
            try:
                with zipfile.ZipFile(path) as archive, archive.open(_only(archive)) as packed:
                    yield from _unpacked(cast("BinaryIO", packed), archive.namelist()[0])
            except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
                raise FileRefusedError(f"is not a zip file that can be read: {error}") from None
        else:
            yield Source(None, file)


def _unpacked(packed: BinaryIO, name: str) -> Iterator[Source]:
    bounded = _Bounded(packed, TEXT_BYTES_MAX)
    buffered = io.BufferedReader(cast("io.RawIOBase", bounded), 1 << 16)
    head = buffered.peek(HEAD)[:HEAD]
    if not head.startswith((_ZIP, _OLE)):
        yield Source(None, cast("BinaryIO", buffered))
        return
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as copy:
        left = SHEET_BYTES_MAX
        while block := buffered.read(1 << 16):
            left -= len(block)
            if left < 0:
                raise FileRefusedError(
                    f"holds a workbook of more than {SHEET_BYTES_MAX} bytes: save it as CSV UTF-8"
                )
            copy.write(block)
        copy.flush()
        inner = Path(copy.name)
        if not _is_workbook(inner, head):
            raise FileRefusedError("holds another packed file: unpack it")
        _check_workbook(inner, inner.stat().st_size)
        yield Source(inner, None)


class _Bounded(io.RawIOBase):
    """A packed text as it comes out, up to a limit: the sizes that the file names may be anything."""

    def __init__(self, packed: BinaryIO, limit: int) -> None:
        self._packed = packed
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        block = self._packed.read(min(len(view), 1 << 16))
        self._left -= len(block)
        if self._left < 0:
            raise FileRefusedError(f"has more than {TEXT_BYTES_MAX} bytes, unpacked")
        view[: len(block)] = block
        return len(block)


def _only(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [
        one
        for one in archive.infolist()
        if not one.is_dir()
        and not one.filename.startswith("__MACOSX/")
        and not one.filename.endswith(".DS_Store")
    ]
    if len(files) != 1:
        names = ", ".join(repr(one.filename) for one in files[:5])
        raise FileRefusedError(f"holds {len(files)} files, not one: {names or 'none'}")
    if files[0].flag_bits & 1:
        raise FileRefusedError("is encrypted")
    return files[0]


def _is_workbook(path: Path, head: bytes) -> bool:
    if head.startswith(_OLE):
        return True
    if not head.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return not _WORKBOOK_PARTS.isdisjoint(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _check_workbook(path: Path, size: int) -> None:
    if size > SHEET_BYTES_MAX:
        raise FileRefusedError(f"is larger than {SHEET_BYTES_MAX} bytes: save it as CSV UTF-8")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > PARTS_BYTES_MAX:
        raise FileRefusedError(f"has {unpacked} bytes, unpacked: at most {PARTS_BYTES_MAX} are allowed")
