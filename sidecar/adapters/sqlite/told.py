"""How far the journal has come, kept in a file beside it: whatever happens to the journal, a start sees that
it is not the one, or not all of it, that was there before.

Written after each commit, before anybody is told of it, and not synced: a process that is killed loses
nothing of it, and a machine that loses power may keep an older line, which says less and nothing wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from sidecar.core.chain import Link

TOLD_NAME = "journal.head"
_LINE_BYTES = 160


class Told(NamedTuple):
    """The last commit, the last sequence number, and the epoch that they are of."""

    link: Link
    head_seq: int
    epoch: str


class ToldFile:
    """For the writer."""

    def __init__(self, data_dir: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(data_dir / TOLD_NAME, flags, 0o600)

    def tell(self, told: Told) -> None:
        """A disk that does not take it is found by the commits themselves."""
        text = f"{told.link.number} {told.link.hash.hex()} {told.head_seq} {told.epoch}"
        line = f"{text} {crc32(text.encode()):08x}".ljust(_LINE_BYTES - 1) + "\n"
        try:
            os.pwrite(self._descriptor, line.encode(), 0)
        except OSError:
            return

    def close(self) -> None:
        """After a clean stop: now it is to outlast a loss of power too."""
        try:
            os.fsync(self._descriptor)
        except OSError:
            pass
        finally:
            os.close(self._descriptor)


def read_told(data_dir: Path) -> Told | None:
    """None where there is no such file, or a line that nobody wrote."""
    try:
        fields = (data_dir / TOLD_NAME).read_text("ascii").split()
        number, digest, head_seq, epoch, crc = fields
        if int(crc, 16) != crc32(" ".join(fields[:4]).encode()):
            return None
        return Told(Link(int(number), bytes.fromhex(digest)), int(head_seq), epoch)
    except (OSError, ValueError):  # UnicodeDecodeError is one
        return None
