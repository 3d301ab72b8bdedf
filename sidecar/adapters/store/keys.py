"""The keys of the chain, in a file of their own: whoever has only the journal cannot forge it.

One key on a line, 64 hexadecimal digits; the last one is in force, those before it are needed to verify what
was written under them. The file is made with a new key where there is none, and is for this user alone.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sidecar.adapters.store.disk import synced
from sidecar.adapters.store.store import StoreError
from sidecar.core.chain import SECRET_BYTES, ChainKey

KEY_FILE_NAME = "journal.key"


class _Places(Protocol):
    """Of the settings."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def journal_key_file(self) -> Path | None: ...


def key_file_of(node: _Places) -> Path:
    return node.journal_key_file or node.data_dir / KEY_FILE_NAME


def read_keys(path: Path) -> Sequence[ChainKey]:
    """The oldest first. StoreError says what is wrong with the file, and never what is in it."""
    try:
        mode = path.stat().st_mode
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not text"
        raise StoreError(f"{path}: the keys of the journal cannot be read ({said})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise StoreError(f"{path}: others may read the keys of the journal: chmod 0600 {path}")
    keys = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            keys.append(ChainKey(bytes.fromhex(line.strip())))
        except ValueError:
            text = f"{path}: line {number}: not {2 * SECRET_BYTES} hexadecimal digits"
            raise StoreError(text) from None
    if not keys:
        raise StoreError(f"{path}: there is no key in it")
    return keys


def key_at(path: Path) -> ChainKey:
    """The one in force; a new one where there is no file."""
    return read_keys(path)[-1] if path.exists() else add_key(path)


def add_key(path: Path) -> ChainKey:
    """A new key, in force from the next start on. On disk when this returns."""
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        before = path.read_bytes() if path.exists() else b""
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            joint = b"\n" if before and not before.endswith(b"\n") else b""
            os.write(descriptor, before + joint + secret.hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.rename(path)
        synced(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: a key cannot be written ({error.strerror})") from error
    return ChainKey(secret)
