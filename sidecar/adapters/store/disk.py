"""What is on disk, when this returns."""

from __future__ import annotations

import os
from pathlib import Path


def synced(path: Path) -> None:
    """What was written to the file, or renamed in the folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
