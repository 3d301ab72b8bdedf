"""What the page reads of a journal (see store/books)."""

from __future__ import annotations

from pathlib import Path

from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.sqlite.users import known_user
from sidecar.core.users import User


class SqliteBooks:
    is_shared = False

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def look(self) -> Snapshot:
        return Snapshot(self._data_dir)

    def user(self, name: str) -> User | None:
        return known_user(self._data_dir, name)

    def close(self) -> None:
        """Each look has opened the file anew."""
