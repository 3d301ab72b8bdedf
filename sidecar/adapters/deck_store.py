"""Decks that were imported, and which of them is in force under which name.

    decks/<revision>.csv    a deck in its canonical form; the revision is the SHA-256 of the file, so
                            `sha256sum` checks it, and a deck once stored is never changed
    decks/<revision>.json   where it came from: source, time, number of rates
    decks/active.json       for each name, which revision was in force from when on, the latest last
    decks/lock              held while something is written

`active.json` is replaced whole: a reader, and a start after a crash at any point, finds either the old
state or the new. A crash during an import leaves a file `.part-*`, which the next import removes. Whoever
activates a deck then tells the daemon; a call keeps the deck that it began with.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

REVISION_SHORT_MIN = 6
HISTORY_MAX = 1000  # activations kept per name; the oldest go
_REVISION = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class DeckStoreError(Exception):
    """What was asked cannot be done; the text says why."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A stored deck. `names` are those under which it is in force."""

    revision: str
    rates: int
    source: str
    imported_at: datetime
    names: tuple[str, ...] = ()


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on, `revision` was in force under a name."""

    revision: str
    at: datetime


class DeckStore:
    """The folder `decks` of a data directory. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(
        self, revision: str, content: Iterable[bytes], *, rates: int, source: str, at: datetime
    ) -> Imported:
        """Stores a deck durably. A deck that is there already stays as it is, with its first source."""
        for folder in (*reversed(self._folder.parents), self._folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        known = self._folder / f"{revision}.csv"
        imported = Imported(revision=revision, rates=rates, source=source, imported_at=at)
        with self._locked():
            if known.exists():
                return self._imported(revision, self.active())
            for left_over in self._folder.glob(".part-*"):
                left_over.unlink()
            digest = hashlib.sha256()
            part = self._folder / ".part-deck"
            with _created(part) as file:
                for chunk in content:
                    digest.update(chunk)
                    file.write(chunk)
                _sync(file)
            if digest.hexdigest() != revision:
                raise DeckStoreError(f"the content of deck {revision} has the digest {digest.hexdigest()}")
            # The description first: a deck exists from the moment that its .csv does.
            self._replace(self._folder / f"{revision}.json", msgspec.json.encode(imported))
            part.replace(known)
            self._sync_folder()
        return imported

    def decks(self) -> list[Imported]:
        """All stored decks, the latest import last."""
        active = self.active()
        found = [
            self._imported(path.stem, active)
            for path in self._folder.glob("*.csv")
            if _REVISION.fullmatch(path.stem)
        ]
        return sorted(found, key=lambda one: (one.imported_at, one.revision))

    def find(self, text: str) -> str:
        """The revision that `text` begins (at least 6 digits), or that is in force under the name `text`."""
        active = self.active()
        if text in active:
            return active[text].revision
        if _BEGINNING.fullmatch(text) and len(text) >= REVISION_SHORT_MIN:
            found = [path.stem for path in self._folder.glob(f"{text}*.csv")]
            if len(found) == 1:
                return found[0]
            if found:
                raise DeckStoreError(f"{len(found)} decks begin with {text}: give more of the revision")
        raise DeckStoreError(f"there is no deck {text!r}, neither a name in force nor a revision's beginning")

    def path(self, revision: str) -> Path:
        """The file of a stored deck."""
        path = self._folder / f"{revision}.csv"
        if not _REVISION.fullmatch(revision) or not path.exists():
            raise DeckStoreError(f"there is no deck {revision!r}")
        return path

    def active(self) -> dict[str, Activation]:
        """By name, what is in force now."""
        return {name: history[-1] for name, history in self._histories().items() if history}

    def history(self, name: str) -> list[Activation]:
        """What was in force under a name, the latest last."""
        return self._histories().get(name, [])

    def activate(self, name: str, revision: str, at: datetime) -> Activation:
        """Puts a stored deck in force under a name; again, where it is in force already, changes nothing."""
        if not _NAME.fullmatch(name):
            raise DeckStoreError(f"{name!r} is not a name for a deck: 1-64 letters, digits, '_', '.', '-'")
        self.path(revision)
        with self._locked():
            histories = self._histories()
            history = histories.get(name, [])
            if history and history[-1].revision == revision:
                return history[-1]
            return self._append(histories, name, Activation(revision=revision, at=at))

    def rollback(self, name: str, at: datetime) -> Activation:
        """Puts in force what was in force under the name before the present deck: again, back to the
        present.
        """
        with self._locked():
            histories = self._histories()
            history = histories.get(name, [])
            if len(history) < 2:
                raise DeckStoreError(f"no other deck was in force under {name!r} before")
            self.path(history[-2].revision)
            return self._append(histories, name, Activation(revision=history[-2].revision, at=at))

    def _append(
        self, histories: dict[str, list[Activation]], name: str, activation: Activation
    ) -> Activation:
        histories[name] = [*histories.get(name, []), activation][-HISTORY_MAX:]
        self._replace(self._folder / "active.json", msgspec.json.encode(histories))
        self._sync_folder()
        return activation

    def _histories(self) -> dict[str, list[Activation]]:
        path = self._folder / "active.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, list[Activation]])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise DeckStoreError(f"{path} is damaged: {error}") from None

    def _imported(self, revision: str, active: dict[str, Activation]) -> Imported:
        path = self._folder / f"{revision}.json"
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Imported)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise DeckStoreError(f"{path} is missing or damaged: {error}") from None
        names = tuple(sorted(name for name, one in active.items() if one.revision == revision))
        return msgspec.structs.replace(found, names=names)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _created(self._folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _replace(self, path: Path, content: bytes) -> None:
        part = self._folder / f".part-{path.name}"
        with _created(part) as file:
            file.write(content)
            _sync(file)
        part.replace(path)

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _created(path: Path) -> IO[bytes]:
    """For this user alone, whatever the umask."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
