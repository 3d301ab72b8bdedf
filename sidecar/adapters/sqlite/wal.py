"""The WAL as it lies on the disk, read before SQLite opens it.

SQLite takes a WAL up to its last commit before the first frame whose checksum is wrong, and says nothing of
what lies behind. Checksums run on from frame to frame, so one flipped bit hides every commit after it. Here
they are found: frames of the same life of the file (its salts), with a commit among them, behind the place
where SQLite stops. What they hold is not thrown away: `composed` puts them into a copy of the database, from
which rows are salvaged, each by its own checksum.

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682  # its lowest bit: whether checksums are of big-endian words
_MASK = 0xFFFFFFFF
_PAGE_BYTES = frozenset(1 << power for power in range(9, 17))
_PAGE_BYTES_USUAL = 4096
_PAGES_MAX = 1 << 24  # 64 GiB: a page number above it is damage


class Frame(NamedTuple):
    at: int  # where its page begins in the WAL
    page: int
    pages_after: int  # of the database after this commit; 0: not the last frame of one


class Hidden(NamedTuple):
    """A WAL of which SQLite takes only a part. `frames`: all of its life, up to the last commit."""

    page_bytes: int
    frames: list[Frame]
    taken: int  # frames that SQLite takes

    @property
    def cause(self) -> str:
        return f"the WAL is damaged: of its {len(self.frames)} pages SQLite takes {self.taken}"


def hidden(file: Path) -> Hidden | None:
    """None where SQLite takes all commits that are in the WAL of this database, or there is none."""
    wal = file.with_name(f"{file.name}-wal")
    try:
        with wal.open("rb") as opened:
            return _hidden(opened, os.fstat(opened.fileno()).st_size)
    except FileNotFoundError:
        return None


def copied(file: Path, into: Path) -> None:
    """The database as SQLite takes it, its WAL beside it."""
    for suffix in ("", "-wal"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            to = into.with_name(into.name + suffix)
            shutil.copyfile(part, to)
            to.chmod(0o600)


def composed(file: Path, found: Hidden, into: Path) -> None:
    """The database with every commit of its WAL, as far as it can be read."""
    shutil.copyfile(file, into)
    into.chmod(0o600)
    size = 0
    with file.with_name(f"{file.name}-wal").open("rb") as wal, into.open("r+b") as target:
        for frame in found.frames:
            wal.seek(frame.at)
            target.seek((frame.page - 1) * found.page_bytes)
            target.write(wal.read(found.page_bytes))
            size = frame.pages_after or size
        if size:
            target.truncate(size * found.page_bytes)
        # As a database without a WAL (file format, offsets 18 and 19): it would look for one beside it.
        target.seek(18)
        target.write(b"\x01\x01")


def _hidden(wal: BinaryIO, size: int) -> Hidden | None:
    header = wal.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    magic, _, page_bytes, _, salt_1, salt_2, *sums = struct.unpack(">8I", header)
    order = ">" if magic & 1 else "<"
    running, salts = (sums[0], sums[1]), (salt_1, salt_2)
    # Where the header itself is wrong SQLite takes nothing at all: the first frame says what it is of.
    is_taken = magic & ~1 == _MAGIC and running == _checksum(header[:24], (0, 0), order)
    if page_bytes not in _PAGE_BYTES:
        page_bytes = _PAGE_BYTES_USUAL
    heads = list(_heads(wal, size, page_bytes))
    if not is_taken and heads:
        salts = heads[0][2], heads[0][3]
    # Frames of this life of the file are in one piece; those of an earlier one may lie behind it.
    last = max((at for at, head in enumerate(heads, 1) if (head[2], head[3]) == salts and head[1]), default=0)
    taken = 0
    for at, (page, pages_after, one, two, *said) in enumerate(heads[:last], 1):
        if not is_taken or not page or (one, two) != salts:
            break
        wal.seek(_place(at - 1, page_bytes) - FRAME_HEADER_BYTES)
        head, body = wal.read(8), wal.read(16 + page_bytes)[16:]
        running = _checksum(body, _checksum(head, running, order), order)
        if running != tuple(said):
            break
        taken = at if pages_after else taken
    if taken == last:
        return None
    frames = [
        Frame(_place(at, page_bytes), page, after)
        for at, (page, after, *_) in enumerate(heads[:last])
        if 0 < page <= _PAGES_MAX
    ]
    return Hidden(page_bytes, frames, taken)


def _heads(wal: BinaryIO, size: int, page_bytes: int) -> Iterator[tuple[int, ...]]:
    """The frame headers: page, pages after the commit, both salts, both sums."""
    for number in range((size - HEADER_BYTES) // (FRAME_HEADER_BYTES + page_bytes)):
        wal.seek(_place(number, page_bytes) - FRAME_HEADER_BYTES)
        yield struct.unpack(">6I", wal.read(FRAME_HEADER_BYTES))


def _place(number: int, page_bytes: int) -> int:
    """Of the page of a frame, counted from 0."""
    return HEADER_BYTES + number * (FRAME_HEADER_BYTES + page_bytes) + FRAME_HEADER_BYTES


def _checksum(content: bytes, begin: tuple[int, int], order: str) -> tuple[int, int]:
    s0, s1 = begin
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for one, two in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + one + s1) & _MASK
        s1 = (s1 + two + s0) & _MASK
    return s0, s1
