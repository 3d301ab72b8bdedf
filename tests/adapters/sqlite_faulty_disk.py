"""A disk that fails on command: a VFS of SQLite's own, between the store and the real files.

So many writes or syncs fail from now on, with the given code; -1: all of them. A failed sync still leaves
what was written in the page cache, as Linux does: that is what makes it dangerous.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

FULL = apsw.SQLITE_FULL
WRITE = apsw.SQLITE_IOERR_WRITE
FSYNC = apsw.SQLITE_IOERR_FSYNC


class Disk:
    def __init__(self) -> None:
        self.code = 0
        self.errors = 0
        self.failed = 0

    def break_down(self, code: int, errors: int = -1) -> None:
        self.code, self.errors = code, errors

    def repair(self) -> None:
        self.errors = 0

    def check(self, *codes: int) -> None:
        if self.errors and self.code in codes:
            self.errors -= 1
            self.failed += 1
            raise apsw.exception_for(self.code)


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: Disk, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.check(FULL, WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.check(FSYNC)
        super().xSync(flags)


class FaultyVfs(apsw.VFS):
    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:  # noqa: N802
        return FaultyFile(self._disk, "", name, flags)


@contextmanager
def faulty_disk(name: str = "faulty") -> Iterator[Disk]:
    disk = Disk()
    vfs = FaultyVfs(disk, name)
    yield disk
    vfs.unregister()
