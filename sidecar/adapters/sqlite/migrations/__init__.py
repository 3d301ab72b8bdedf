"""The schema of the journal, one numbered file for each step; a new file runs all of them, an older one those
that it lacks. `user_version` is the number of the last step, written in the transaction of that step, so a
crash leaves a file of one version or the next. There is no way down. A landed step is never edited.

Before the first step on a file that holds something, a copy of it is kept beside it, `journal.db.schema-1`
for a file of schema 1. It is not made again after a crash, and never overwritten.

Going back to the version before (README, "upgrade"):

    Stop the daemon. Move `journal.db`, `journal.db-wal` and `journal.db-shm` away and keep them. Rename
    `journal.db.schema-N` to `journal.db` and start the older version.

    What was written since the upgrade is then not in the books: the calls and charges of that time, its
    accounts, top-ups and audit entries, and what was done with dead letters. Enter its accounts and top-ups
    again, under the same references. Records that were published stay with their subscribers. Calls that
    were up at the upgrade are found open again and get a record of a crash, under a message id that
    subscribers have already; what waited for the broker then is sent again.

    So the copy has no epoch: whatever version opens it begins a new one, each time that it is put in place,
    and subscribers do not take its numbers for those that they know.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from importlib import resources
from pathlib import Path

import apsw
import structlog

from sidecar.adapters.sqlite.file import DamagedFileError, connect, verify
from sidecar.adapters.sqlite.page_one import is_damaged, kept_schema
from sidecar.adapters.sqlite.wal import hidden
from sidecar.adapters.store.disk import synced
from sidecar.adapters.store.store import StoreError
from sidecar.ports import Migrated

STEPS = sorted(one.name for one in resources.files(__name__).iterdir() if one.name.endswith(".sql"))
SCHEMA_VERSION = len(STEPS)
LOST_BY_GOING_BACK = (
    "to go back to the version before, put the kept copy in the place of the journal: what was written since"
    " then (calls, charges, accounts, top-ups, audit entries) is not in it, and a new epoch begins"
)

log = structlog.get_logger("sidecar.journal")

_LAST_BOOT = "SELECT boot, boot_id FROM boots ORDER BY boot DESC LIMIT 1"


def open_migrated(file: Path, vfs: str | None = None) -> tuple[apsw.Connection, Migrated | None]:
    """Open or create the file and bring it to our schema; nobody else may have it open for writing.
    DamagedFileError where its contents are not what SQLite wrote; StoreError for all else."""
    connection = None
    try:
        if (passed_over := hidden(file)) is not None:
            raise DamagedFileError(f"{file}: {passed_over.cause}")  # before SQLite makes it its own
        connection = connect(file, vfs)
        if is_damaged(connection, kept_schema(file.parent)):
            raise DamagedFileError(f"{file}: damaged (its tables are not those that were there)")
        refuse_newer(connection, file)  # before anything else: we could not salvage it either
        verify(connection)
        return connection, _migrate(connection, file, vfs)
    except BaseException as error:
        if connection is not None:
            with suppress(apsw.Error):
                # Whoever closes a file last writes the WAL into it: a damaged one stays as it is.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.close(force=True)
        is_other_format = isinstance(error, apsw.SQLError) and "file format" in str(error)
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)) or is_other_format:
            raise DamagedFileError(f"{file}: damaged ({error})") from error
        if isinstance(error, (apsw.Error, OSError)):
            raise StoreError(f"{file}: cannot be opened for writing ({error})") from error
        raise


def run_steps(connection: apsw.Connection, until: int = SCHEMA_VERSION) -> None:
    """Those that the file lacks, each in a transaction of its own."""
    for number in range(connection.pragma("user_version") + 1, until + 1):
        step = resources.files(__name__).joinpath(STEPS[number - 1]).read_text("utf-8")
        with connection:
            connection.execute(step)
            connection.execute(f"PRAGMA user_version = {number}")


def refuse_newer(connection: apsw.Connection, file: Path) -> None:
    """StoreError where the file has a schema that this program does not know."""
    version = int(connection.pragma("user_version"))
    if version > SCHEMA_VERSION:
        kept = ", ".join(map(str, _copies(file)))
        raise StoreError(
            f"{file}: written by a newer version (its schema is {version}, ours is {SCHEMA_VERSION});"
            f" start that version. {LOST_BY_GOING_BACK.capitalize()} (kept: {kept or 'none'})"
        )


def refuse_other(connection: apsw.Connection, file: Path) -> None:
    """For those who only read: StoreError where the file has not our schema."""
    refuse_newer(connection, file)
    version = int(connection.pragma("user_version"))
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{file}: its schema is {version}, ours is {SCHEMA_VERSION}: start the daemon of this version"
            " once (`sidecar run`): it brings the file up to date, and keeps a copy"
        )


def _migrate(connection: apsw.Connection, file: Path, vfs: str | None) -> Migrated | None:
    version = int(connection.pragma("user_version"))
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise StoreError(f"{file}: written by another program (no schema of ours); choose another data_dir")
    kept = None
    if 0 < version < SCHEMA_VERSION:
        kept = _kept(connection, file, version, vfs)
    run_steps(connection)
    if kept is None:
        return None
    return Migrated(
        schema_before=version, schema_after=SCHEMA_VERSION, kept=kept, going_back=LOST_BY_GOING_BACK
    )


# --- the copy -----------------------------------------------------------------------------------------------


def _kept(connection: apsw.Connection, file: Path, version: int, vfs: str | None) -> Path:
    """A copy of the file as it is now: complete under its name, or not there."""
    last_boot = connection.execute(_LAST_BOOT).fetchone()
    for copy in _copies(file):
        # Each process that writes begins with a boot: none since then, so this is what is in the file, before
        # the steps that were taken since. A start that fails again and again does not fill the disk.
        if _last_boot(copy) == last_boot:
            return copy
    begun = file.with_name(f"{file.name}.copying")
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):
            begun.with_name(begun.name + suffix).unlink(missing_ok=True)
        _check_room(connection, file)
        # The rest that SQLite makes takes its mode from this file.
        os.close(os.open(begun, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _copy(connection, begun, version, vfs)
        synced(begun)
        kept = _free_name(file, version)
        begun.rename(kept)
        synced(file.parent)
    except (OSError, apsw.FullError, apsw.IOError) as error:
        raise StoreError(f"{file}: no copy can be kept before it is brought up to date ({error})") from error
    return kept


def _copies(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{file.name}.schema-*"))


def _free_name(file: Path, version: int) -> Path:
    name, number = f"{file.name}.schema-{version}", 1
    while (kept := file.with_name(name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return kept


def _last_boot(copy: Path) -> object:
    try:
        connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return connection.execute(_LAST_BOOT).fetchone()
        finally:
            connection.close(force=True)
    except apsw.Error:
        return "not to be read"


def _check_room(connection: apsw.Connection, file: Path) -> None:
    """For the copy, and as much again for what the steps may write."""
    size: int = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    ).get
    free = shutil.disk_usage(file.parent).free
    log.info("journal_copy_begins", file=str(file), mb=_mb(size), mb_free=_mb(free))
    if free < 2 * size:
        raise StoreError(
            f"{file}: to bring it from schema {connection.pragma('user_version')} to {SCHEMA_VERSION} takes"
            f" {_mb(2 * size)} MB, for a copy that is kept and for the changes; {file.parent} has"
            f" {_mb(free)} MB free: make room"
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _copy(connection: apsw.Connection, begun: Path, version: int, vfs: str | None) -> None:
    copy = apsw.Connection(str(begun), vfs=vfs)
    try:
        backup = copy.backup("main", connection, "main")
        try:
            backup.step(-1)
        finally:
            backup.close(force=True)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
        # Schema 1 begins an epoch where the row is missing, later ones where the epoch is empty.
        copy.execute("DELETE FROM store" if version == 1 else "UPDATE store SET epoch = ''")
    finally:
        copy.close(force=True)
