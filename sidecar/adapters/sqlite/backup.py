"""A copy of the journal that is whole and proved, made while the daemon runs, and the way back from one.

    DIR/journal.db      as it stood at one moment: one file, without a WAL
    DIR/decks/...       imported decks, and which are in force
    DIR/settings/...    the files that the settings are made of
    DIR/manifest.json   what is in it, each file with its digest; written last: without it DIR is no backup

Secrets are not in it: the manifest names the keys of the chain by their ids. Whoever restores needs the key
file, and the files that the settings name (passwords, certificates), from where such things are kept.

A backup is older than what was published after it. So a restored journal begins a new epoch, above every
number that anything still knows of, and a call that was up at the backup gets its record under a message id
of its own (`loss`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import apsw
import msgspec

from sidecar.adapters.sqlite.chain import begin_chain
from sidecar.adapters.sqlite.chain_check import verify
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.file import FILE_NAME, DataDir, connect_reader, move_wal
from sidecar.adapters.sqlite.file import verify as verify_pages
from sidecar.adapters.sqlite.loss import begin_after_loss
from sidecar.adapters.sqlite.migrations import SCHEMA_VERSION, open_migrated, refuse_other
from sidecar.adapters.sqlite.told import Told, ToldFile, read_told
from sidecar.adapters.store.chain import by_id
from sidecar.adapters.store.disk import synced
from sidecar.adapters.store.store import StoreError
from sidecar.core.chain import ChainKey, Link

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
# A part of the file at a time, with a rest after each, so that a disk that calls wait for is never busy with
# us for long. All of it is of one moment: the reader's transaction is open from the first page to the last.
PAGES_PER_STEP = 1_024
REST_S = 0.005
_BESIDE = ("", "-wal", "-shm")


class BackupError(Exception):
    """It did not come about, or is none; the text says why."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # below the folder of the backup
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `head_seq`: the last number that was given; what a subscriber has of this epoch
    above it was published later."""

    manifest_version: int = MANIFEST_VERSION
    product: str
    taken_at: datetime
    tenant: str
    node: str
    schema: int
    store_epoch: str
    epochs: tuple[str, ...]  # all that it knows of, this one among them
    head_seq: int
    commit: int
    commit_hash: str
    key_ids: tuple[str, ...]  # of the chain, the oldest first
    records: int
    open_calls: int
    files: tuple[Entry, ...]


# --- taking one ---------------------------------------------------------------------------------------------


def take(
    data_dir: Path,
    folder: Path,
    *,
    tenant: str,
    node: str,
    keys: Sequence[ChainKey],
    settings: Mapping[str, Path | bytes],
    product: str,
    taken_at: datetime,
) -> Manifest:
    """Into `folder`, which is made, or empty. `settings`: files, or what is to
    be in them, by the name that they get. The copy is read
    back: its pages, its chain, its sums. BackupError, StoreError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BackupError(f"{folder}: is not empty; nothing is ever written over a backup")
        copied = _copied(data_dir / FILE_NAME, folder / FILE_NAME)
        names: dict[str, Path | bytes] = {f"settings/{name}": path for name, path in settings.items()}
        decks = data_dir / "decks"
        names |= {
            str(path.relative_to(data_dir)): path
            for path in sorted(decks.rglob("*"))
            if path.is_file() and not path.name.startswith(".") and path.name != "lock"
        }
        for name, content in names.items():
            if isinstance(content, bytes):
                _write(folder / name, content)
            else:
                _copy_file(content, folder / name)
        found = _proved(folder / FILE_NAME, keys)
        if found.wrong:
            raise BackupError(f"{folder}: the copy does not hold: {'; '.join(found.wrong[:10])}")
        if found.link != copied:
            raise BackupError(f"{folder}: the copy ends at commit {found.link.number}, not {copied.number}")
        manifest = Manifest(
            product=product,
            taken_at=taken_at,
            tenant=tenant,
            node=node,
            schema=SCHEMA_VERSION,
            store_epoch=found.epoch,
            epochs=found.epochs,
            head_seq=found.head_seq,
            commit=found.link.number,
            commit_hash=found.link.hash.hex(),
            key_ids=found.key_ids,
            records=found.records,
            open_calls=found.open_calls,
            files=tuple(_entry(folder, name) for name in (FILE_NAME, *names)),
        )
        _write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        return manifest
    except OSError as error:
        raise BackupError(f"{error.filename or folder}: {error.strerror}") from error
    except apsw.Error as error:
        raise BackupError(f"{folder}: {error}") from error


def _copied(file: Path, copy: Path) -> Link:
    """The journal as it stands now; its last commit."""
    if not file.exists():
        raise StoreError(f"{file}: there is no journal")
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with closing(connect_reader(file)) as source, closing(apsw.Connection(str(copy))) as target:
        source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        source.execute("BEGIN")
        refuse_other(source, file)
        ((number, digest),) = source.execute("SELECT commit_number, commit_hash FROM store")
        backup = target.backup("main", source, "main")
        try:
            while not backup.done:
                backup.step(PAGES_PER_STEP)
                time.sleep(REST_S)
        finally:
            backup.close(force=True)
        target.execute("PRAGMA journal_mode = DELETE")  # one file
    synced(copy)
    return Link(number, digest)


class _Proof(msgspec.Struct, kw_only=True):
    epoch: str
    epochs: tuple[str, ...]
    head_seq: int
    link: Link
    key_ids: tuple[str, ...]
    records: int
    open_calls: int
    wrong: list[str]


def _proved(file: Path, keys: Sequence[ChainKey]) -> _Proof:
    """Read from the disk, as whoever restores it will."""
    with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        wrong: list[str] = []
        try:
            verify_pages(connection)
        except apsw.CorruptError as error:
            raise BackupError(f"{file}: damaged ({error})") from error
        refuse_other(connection, file)
        with connection:
            wrong += verify(connection, by_id(keys)).wrong
            wrong += ledger_check(connection)
            ((epoch, head_seq, number, digest),) = connection.execute(
                "SELECT epoch, head_seq, commit_number, commit_hash FROM store"
            )
            ((records, open_calls),) = connection.execute(
                "SELECT (SELECT count(*) FROM cdrs) + (SELECT count(*) FROM suppressed),"
                " (SELECT count(*) FROM open_calls)"
            )
            epochs = tuple(name for (name,) in connection.execute("SELECT DISTINCT epoch FROM boots"))
            key_ids = tuple(name for (name,) in connection.execute("SELECT id FROM chain_keys ORDER BY key"))
    return _Proof(
        epoch=epoch,
        epochs=epochs,
        head_seq=head_seq,
        link=Link(number, digest),
        key_ids=key_ids,
        records=records,
        open_calls=open_calls,
        wrong=wrong,
    )


# --- the way back -------------------------------------------------------------------------------------------


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """`aside`: the journal that was there before. `head_seq`: numbers go on above it."""

    epoch: str
    head_seq: int
    open_calls: int
    aside: Path | None
    files: tuple[Path, ...]  # decks that were put in their place


def manifest_of(folder: Path) -> Manifest:
    """BackupError where the folder holds no backup, or not the one that its manifest tells of."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise BackupError(
            f"{folder / MANIFEST}: {error.strerror}: not a backup, or one that did not end"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupError(f"{folder / MANIFEST}: is no manifest of a backup: {error}") from error
    if manifest.manifest_version != MANIFEST_VERSION or manifest.schema > SCHEMA_VERSION:
        raise BackupError(f"{folder}: was made by a newer version, {manifest.product}: restore it with that")
    for entry in manifest.files:
        if Path(entry.name).is_absolute() or ".." in Path(entry.name).parts:
            raise BackupError(f"{folder / MANIFEST}: names {entry.name!r}, which is outside of the backup")
        try:
            found = _entry(folder, entry.name)
        except OSError as error:
            raise BackupError(f"{error.filename}: {error.strerror}") from error
        if found != entry:
            raise BackupError(
                f"{folder / entry.name}: is not the file that was backed up: its digest differs"
            )
    return manifest


def restore(
    folder: Path, data_dir: Path, key: ChainKey, keys: Sequence[ChainKey], heads: Sequence[int], wall_ns: int
) -> Restored:
    """Put the backup in the place of the journal; the daemon must not run. `heads`: numbers of its epoch that
    somebody has; none of them is given again. `key` is in force from now on.

    A crash before the new file has its name: the start is refused, as the journal is gone, and this is
    repeated. What was there before is kept."""
    manifest = manifest_of(folder)
    held = DataDir(data_dir)
    try:
        return _restored(folder, manifest, held.file, key, keys, heads, wall_ns)
    except OSError as error:
        raise BackupError(f"{error.filename or data_dir}: {error.strerror}") from error
    except apsw.Error as error:
        raise BackupError(f"{data_dir}: {error}") from error
    finally:
        held.release()


def _restored(
    folder: Path,
    manifest: Manifest,
    file: Path,
    key: ChainKey,
    keys: Sequence[ChainKey],
    heads: Sequence[int],
    wall_ns: int,
) -> Restored:
    fresh = file.with_name(f"{file.name}.restoring")
    for suffix in _BESIDE:
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    _copy_file(folder / FILE_NAME, fresh)
    told = read_told(file.parent)
    known = Told(
        Link(max(manifest.commit, told.link.number if told else 0), bytes.fromhex(manifest.commit_hash)),
        max([manifest.head_seq, told.head_seq if told else 0, *heads]),
        manifest.store_epoch,
    )
    connection, _ = open_migrated(fresh)
    try:
        if manifest.schema == SCHEMA_VERSION and (wrong := verify(connection, by_id(keys)).wrong):
            raise BackupError(f"{folder}: {wrong[0]}")
        with connection:
            begin_after_loss(connection, known, f"restored from {folder}", wall_ns)
            begin_chain(connection, key, wall_ns)
            ((epoch, head_seq, number, digest),) = connection.execute(
                "SELECT epoch, head_seq, commit_number, commit_hash FROM store"
            )
            open_calls: int = connection.execute("SELECT count(*) FROM open_calls").get
        move_wal(connection)
    finally:
        connection.close(force=True)
    synced(fresh)
    aside = _set_aside(file)
    fresh.rename(file)
    writer = ToldFile(file.parent)
    writer.tell(Told(Link(number, digest), head_seq, epoch))
    writer.close()
    synced(file.parent)
    decks = tuple(_place_decks(folder, manifest, file.parent))
    return Restored(epoch=epoch, head_seq=head_seq, open_calls=open_calls, aside=aside, files=decks)


def _set_aside(file: Path) -> Path | None:
    there = [suffix for suffix in _BESIDE if file.with_name(file.name + suffix).exists()]
    if not there:
        return None
    number = 1
    while (aside := file.with_name(f"{file.name}.before-restore-{number}")).exists():
        number += 1
    # The file itself first: a crash then leaves none, and a start is refused, not one without its WAL.
    for suffix in there:
        file.with_name(file.name + suffix).rename(file.with_name(aside.name + suffix))
    return aside


def _place_decks(folder: Path, manifest: Manifest, data_dir: Path) -> Iterator[Path]:
    """Those that are there stay: a deck's name is its content. Which are in force is as in the backup."""
    for entry in manifest.files:
        if not entry.name.startswith("decks/"):
            continue
        target = data_dir / entry.name
        if target.name != "active.json" and target.exists():
            continue
        part = target.with_name(f".part-{target.name}")
        part.unlink(missing_ok=True)
        _copy_file(folder / entry.name, part)
        part.rename(target)
        yield target


# --- files --------------------------------------------------------------------------------------------------


def _entry(folder: Path, name: str) -> Entry:
    path = folder / name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(name=name, bytes=path.stat().st_size, sha256=digest)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with source.open("rb") as content, os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file)
    synced(target)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    synced(path)
    synced(path.parent)
