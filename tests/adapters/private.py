"""Whether what is in a folder is for this user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The modes of a folder and of all in it, by their names in it (itself: `.`)."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink()
    }


def loose(folder: Path) -> dict[str, str]:
    """What in a folder, itself included, is not 0700 or, for a file, 0600."""
    found = {}
    for name, mode in modes(folder).items():
        if mode != (0o700 if (folder / name).is_dir() else 0o600):
            found[name] = f"{mode:04o}"
    return found
