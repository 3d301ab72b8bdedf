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
READ_ONLY = apsw.SQLITE_READONLY
FSYNC = apsw.SQLITE_IOERR_FSYNC


class Disk:
    def __init__(self) -> None:
        self.code = 0
        self.errors = 0
        self.failed = 0
        self.database_only = False
        self.synced = 0
        self._again: tuple[int, int] | None = None  # code, and how often it has synced by then

    def break_down(self, code: int, errors: int = -1, *, database_only: bool = False) -> None:
        """`database_only`: not the WAL. The database itself is written and synced by checkpoints alone."""
        self.code, self.errors, self.database_only = code, errors, database_only

    def break_down_again(self, code: int, after_syncs: int) -> None:
        """When the errors of `break_down` are over and so many syncs went well after this: one more."""
        self._again = code, self.synced + after_syncs

    def repair(self) -> None:
        self.errors = 0

    def check(self, database: bool, *codes: int) -> None:
        if self.errors and self.code in codes and (database or not self.database_only):
            self.errors -= 1
            self.failed += 1
            raise apsw.exception_for(self.code)
        if not self.errors and self._again and self._again[0] in codes and self.synced >= self._again[1]:
            (code, _), self._again = self._again, None
            self.failed += 1
            raise apsw.exception_for(code)


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: Disk, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._disk = disk
        self._database = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.check(self._database, FULL, WRITE, READ_ONLY)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.check(self._database, FSYNC)
        super().xSync(flags)
        self._disk.synced += 1


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
