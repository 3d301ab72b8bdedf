"""Decks that were imported, and which of them is, was or will be in force under which name.

    decks/<revision>.csv    a deck in its canonical form; the revision is the SHA-256 of the file, so
                            `sha256sum` checks it, and a deck once stored is never changed
    decks/<revision>.json   where it came from: source, time, number of rates
    decks/<revision>.sources  of a derived deck where its rows come from, CSV
    decks/active.json       for each name its activations (core/deck_history), those to come too
    decks/settings.json     for each name of the settings the revision that the last start found there
    decks/.built-<revision> the deck ready for use (deck_files.built); made again where it is missing
    decks/lock              held while something is written

`active.json` is replaced whole: a reader, and a start after a crash at any point, finds either the old
state or the new. A crash during an import leaves a file `.part-*`, which the next import removes. While a
daemon runs it alone writes activations, at the word of whoever asks it; a call keeps the deck that it began
with.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TypeVar

import msgspec
from msgspec.structs import replace

from sidecar.core.deck_history import SETTINGS, Activation, Import, before, in_force, pending, with_activation
from sidecar.ports import DeckError

REVISION_SHORT_MIN = 6
HISTORY_MAX = 1000  # activations kept per name; the oldest go
_REVISION = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{1,64}")
_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class DeckStoreError(DeckError):
    """What was asked of the store cannot be done."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A stored deck. `names` are those under which it is in force. `made_of`: the decks that it was derived
    from or merged into. `by`: None where the settings name it."""

    revision: str
    rates: int
    source: str
    imported_at: datetime
    names: tuple[str, ...] = ()
    made_of: tuple[str, ...] = ()
    by: Import | None = None


class DeckStore:
    """The folder `decks` of a data directory. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(
        self,
        revision: str,
        content: Iterable[bytes],
        *,
        rates: int,
        source: str,
        at: datetime,
        made_of: tuple[str, ...] = (),
        by: Import | None = None,
    ) -> Imported:
        """Stores a deck durably. A deck that is there already stays as it is, with its first source."""
        for folder in (*reversed(self._folder.parents), self._folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        known = self._folder / f"{revision}.csv"
        imported = Imported(
            revision=revision, rates=rates, source=source, imported_at=at, made_of=made_of, by=by
        )
        with self._locked():
            if known.exists():
                return self._imported(revision, self._names(at))
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

    def unnoted(self) -> list[tuple[str, str, Import]]:
        """Revision and source of what commands have stored and the audit trail does not know of."""
        return [
            (one.revision, one.source, one.by)
            for path in self._folder.glob("*.csv")
            if _REVISION.fullmatch(path.stem)
            and (one := self._imported(path.stem, {})).by is not None
            and not one.by.noted
        ]

    def mark_noted(self, revision: str) -> None:
        with self._locked():
            one = self._imported(revision, {})
            if one.by is not None:
                noted = replace(one, by=replace(one.by, noted=True))
                self._replace(self._folder / f"{revision}.json", msgspec.json.encode(noted))
                self._sync_folder()

    def put_sources(self, revision: str, content: Iterable[bytes]) -> None:
        """Where the rows of a derived deck come from, beside it; what is there stays."""
        path = self._folder / f"{revision}.sources"
        with self._locked():
            if not path.exists():
                self._replace(path, b"".join(content))
                self._sync_folder()

    def sources(self, revision: str) -> bytes:
        try:
            return (self._folder / f"{revision}.sources").read_bytes()
        except FileNotFoundError:
            raise DeckStoreError(f"deck {revision[:12]} was not derived from others") from None

    def decks(self, at: datetime) -> list[Imported]:
        """All stored decks, the latest import last, with their names at a time."""
        names = self._names(at)
        found = [
            self._imported(path.stem, names)
            for path in self._folder.glob("*.csv")
            if _REVISION.fullmatch(path.stem)
        ]
        return sorted(found, key=lambda one: (one.imported_at, one.revision))

    def find(self, text: str, at: datetime) -> str:
        """The revision that `text` begins (at least 6 digits), or that is in force under the name `text`."""
        names = self._names(at)
        if text in names:
            return names[text]
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

    def built_path(self, revision: str) -> Path:
        """Where the deck is, or would be, in the form of `deck_files.built`."""
        return self._folder / f".built-{revision}"

    def forget_built(self, now: datetime) -> None:
        """Of decks that are neither in force nor to come: they can be built again."""
        kept = {one.revision for one in self.active(now).values()}
        for history in self.histories().values():
            kept |= {one.revision for one in pending(history, now)}
        for path in self._folder.glob(".built-*"):
            if path.name.removeprefix(".built-") not in kept:
                path.unlink(missing_ok=True)

    def active(self, at: datetime) -> dict[str, Activation]:
        """By name, what a command has put in force at a time."""
        found = ((name, in_force(history, at)) for name, history in self.histories().items())
        return {name: one for name, one in found if one is not None and one.revision != SETTINGS}

    def of_settings(self) -> dict[str, str]:
        """By name, the revisions that the settings named when the daemon started last."""
        return self._read("settings.json", dict[str, str]) or {}

    def keep_settings(self, revisions: Mapping[str, str]) -> None:
        with self._locked():
            if self.of_settings() != revisions:
                self._replace(self._folder / "settings.json", msgspec.json.encode(revisions))
                self._sync_folder()

    def histories(self) -> dict[str, list[Activation]]:
        """By name, what was, is and will be in force, the earliest first."""
        return self._read("active.json", dict[str, list[Activation]]) or {}

    def history(self, name: str) -> list[Activation]:
        return self.histories().get(name, [])

    def activate(self, name: str, wanted: Activation, now: datetime) -> Activation:
        """Puts a stored deck in force under a name, now or at a time to come; again, where it is so already,
        changes nothing."""
        if not _NAME.fullmatch(name):
            raise DeckStoreError(f"{name!r} is not a name for a deck: 1-64 letters, digits, '_', '.', '-'")
        self.path(wanted.revision)
        with self._locked():
            return self._append(name, wanted, now)

    def rollback(self, name: str, wanted: Activation, now: datetime, *, settings_have_it: bool) -> Activation:
        """Puts in force what was in force under the name before the present deck: again, back to the
        present. Before the first there was that of the settings. The revision of `wanted` is not looked
        at."""
        with self._locked():
            history = self.history(name)
            earlier = before(history, now)
            if in_force(history, now) is None or (earlier is None and not settings_have_it):
                raise DeckStoreError(f"no other deck was in force under {name!r} before")
            revision = SETTINGS if earlier is None else earlier.revision
            if revision != SETTINGS:
                self.path(revision)
            return self._append(name, replace(wanted, revision=revision), now)

    def cancel(self, name: str, now: datetime, why: str, revision: str | None = None) -> list[Activation]:
        """Takes back what is to come under a name, or of it one deck alone."""
        with self._locked():
            gone = [
                one
                for one in pending(self.history(name), now)
                if revision is None or one.revision == revision
            ]
            if not gone:
                raise DeckStoreError(
                    f"nothing is to come under {name!r}" + (" of that deck" if revision else "")
                )
            self._change(name, lambda one: replace(one, refused=why) if one in gone else one)
            return gone

    def refuse(self, name: str, activation: Activation, why: str) -> None:
        """It has not come into force, and does not any more."""
        with self._locked():
            self._change(name, lambda one: replace(one, refused=why) if one == activation else one)

    def mark(self, name: str, activation: Activation, *, came: bool) -> Activation:
        """The command is in the audit trail; with `came`, also that it came into force."""
        done = replace(activation, noted=True, came=came or activation.came)
        with self._locked():
            self._change(name, lambda one: done if one == activation else one)
        return done

    def _append(self, name: str, wanted: Activation, now: datetime) -> Activation:
        histories = self.histories()
        history = histories.get(name, [])
        present = in_force(history, now)
        if wanted.at <= now:
            if present is not None and present.revision == wanted.revision:
                return present
            if present is not None and present.at > wanted.at:  # the clock went back
                wanted = replace(wanted, at=present.at)
        else:
            for one in pending(history, now):
                if (one.revision, one.at) == (wanted.revision, wanted.at):
                    return one
        histories[name] = with_activation(history, wanted, HISTORY_MAX)
        self._write(histories)
        return wanted

    def _change(self, name: str, change: Callable[[Activation], Activation]) -> None:
        histories = self.histories()
        histories[name] = [change(one) for one in histories.get(name, [])]
        self._write(histories)

    def _write(self, histories: Mapping[str, list[Activation]]) -> None:
        self._replace(self._folder / "active.json", msgspec.json.encode(histories))
        self._sync_folder()

    def _names(self, at: datetime) -> dict[str, str]:
        return self.of_settings() | {name: one.revision for name, one in self.active(at).items()}

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        path = self._folder / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise DeckStoreError(f"{path} is damaged: {error}") from None

    def _imported(self, revision: str, names: Mapping[str, str]) -> Imported:
        found = self._read(f"{revision}.json", Imported)
        if found is None:
            raise DeckStoreError(f"{self._folder / revision}.json is missing or damaged")
        return replace(found, names=tuple(sorted(name for name, one in names.items() if one == revision)))

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
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
