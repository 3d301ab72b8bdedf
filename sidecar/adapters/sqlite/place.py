"""Whether the files that are open are still those under their names.

A journal that was deleted or swapped under the daemon takes every commit, and none of them is found at the
next start. Names and inodes say so at once. (Nothing here opens the files: closing any descriptor of a file
drops the locks that SQLite holds on it, POSIX fcntl.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import apsw

_Identity = tuple[int, int]  # device, inode


class Place:
    """Of the files that a connection has open now: the database and its WAL."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._files: Mapping[Path, _Identity] = {}
        self.settle()

    def settle(self) -> None:
        """They are those that are there now."""
        paths = (self._file, self._file.with_name(f"{self._file.name}-wal"))
        self._files = {path: found for path in paths if (found := _identity(path)) is not None}

    def displaced(self) -> str:
        """What happened to them; empty: they are where they were."""
        for path, identity in self._files.items():
            found = _identity(path)
            if found is None:
                return f"{path} was deleted or moved away: what is written now is lost at the next start"
            if found != identity:
                return f"{path} is another file: what is written now is not in it"
        return ""

    def put_back(self, connection: apsw.Connection) -> None:
        """The database, which only this connection has any more, under its name again; where another file
        has it, beside that. Complete, or not there."""
        if self.database_is_ours():
            return
        copy = self._file.with_name(f"{self._file.name}.rescued")
        copy.unlink(missing_ok=True)
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        target = apsw.Connection(str(copy))
        try:
            with target.backup("main", connection, "main") as backup:
                backup.step(-1)
            target.execute("PRAGMA journal_mode = DELETE")
        finally:
            target.close()
        if not self._file.exists():
            copy.rename(self._file)

    def database_is_ours(self) -> bool:
        return _identity(self._file) == self._files.get(self._file)


def _identity(path: Path) -> _Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - each heartbeat: no path object is made for it
    except OSError:
        return None
    return found.st_dev, found.st_ino
