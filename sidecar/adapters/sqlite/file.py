"""The file of the store: who may open it, how it is opened, what is checked first, and which epoch and boot
write to it.

Settings of SQLite, each for a reason:
- WAL with synchronous=FULL: a commit is on disk when it returns, and costs one fsync.
- No automatic checkpoints: SQLite ignores their errors (sqlite3WalDefaultHook drops the result). The writer
  asks for each one itself and treats its failure as what it is.
- Calls are personal data: what is in the data directory is for this user alone, whatever the umask and
  whatever was there.
- The data directory is locked with flock for as long as the daemon lives: the lock goes with the process,
  however it dies, and the file names the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import apsw

from sidecar.adapters.store.known import Boot
from sidecar.adapters.store.store import StoreError
from sidecar.ports import Clock

FILE_NAME = "journal.db"
LOCK_NAME = "journal.lock"
BUSY_MS_MAX = 5_000
JOURNAL_BYTES_KEPT_MAX = 64 * 1024 * 1024
CACHE_KIB = 32 * 1024
VERIFIED_WHOLE_BYTES_MAX = 1024 * 1024 * 1024

# What the disk, or another process, can do to us; any other error of SQLite is a defect of ours.
DISK_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ProtocolError,
    apsw.NoMemError,
)


class DamagedFileError(StoreError):
    """SQLite does not take the file for its own."""


class DataDir:
    """The data directory, held by this process alone until `release`.

    Folders in it are 0700 and files 0600: looser ones are tightened, and `tightened` names them with the mode
    that they had. Not sockets: who opens one decides who may use it. The directory itself is 0700 too, or,
    where a group (its number) may use a socket in it, 0710: that group may pass, and see nothing.
    """

    def __init__(self, path: Path, passed_by: int | None = None) -> None:
        self.path = path
        self.tightened: dict[str, int] = {}
        try:
            for folder in (*reversed(path.parents), path):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"data_dir {path}: not writable ({error.strerror}); give it to this user"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise StoreError(
                f"data_dir {path}: in use by process {holder}; stop it or choose another"
            ) from None
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise StoreError(f"data_dir {path}: not writable ({error.strerror})") from error
        try:
            self._tighten(passed_by)
        except StoreError:
            os.close(self._lock)
            raise
        except OSError as error:
            os.close(self._lock)
            text = f"cannot be made private ({error.strerror}): give it to this user, or move it away"
            raise StoreError(f"{error.filename}: {text}") from error

    def _tighten(self, passed_by: int | None) -> None:
        if passed_by is not None and self.path.stat().st_gid != passed_by:
            self._keep_to(self.path, 0o700)  # or the group that it had could pass for a moment
            try:
                os.chown(self.path, -1, passed_by)
            except OSError as error:
                raise StoreError(
                    f"data_dir {self.path}: cannot be given to group {passed_by} of control.group"
                    f" ({error.strerror}): only root, or a user in that group, can"
                ) from error
        self._keep_to(self.path, 0o700 if passed_by is None else 0o710)
        if passed_by is not None:
            self.path.chmod(0o710)
        for parent, folders, files in os.walk(self.path):
            for names, allowed in ((folders, 0o700), (files, 0o600)):
                for name in names:
                    self._keep_to(Path(parent, name), allowed)

    def _keep_to(self, path: Path, allowed: int) -> None:
        found = path.stat(follow_symlinks=path == self.path).st_mode
        if stat.S_ISLNK(found) or stat.S_ISSOCK(found):
            return
        mode = stat.S_IMODE(found)
        if mode & ~allowed:
            path.chmod(mode & allowed)
            self.tightened[str(path)] = mode

    @property
    def file(self) -> Path:
        return self.path / FILE_NAME

    def release(self) -> None:
        os.close(self._lock)


def connect(file: Path, vfs: str | None = None) -> apsw.Connection:
    """The writer's connection. A new file is for this user alone, and so is what SQLite puts beside it, which
    gets the file's mode."""
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(file), vfs=vfs)
    connection.set_busy_timeout(BUSY_MS_MAX)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES_KEPT_MAX}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def connect_reader(file: Path, vfs: str | None = None) -> apsw.Connection:
    """A connection that sees the last commit and can change nothing."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(BUSY_MS_MAX)
    connection.execute("PRAGMA query_only = ON")
    return connection


def verify(connection: apsw.Connection) -> None:
    """Raises apsw.CorruptError where the file is damaged.

    A GiB takes 1.6 s from the page cache. Of a larger file the bodies are left out, nine tenths of it: they
    have checksums, which are asked whenever one is read.
    """
    size = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").get
    questions = ["PRAGMA quick_check(1)"]
    if size > VERIFIED_WHOLE_BYTES_MAX:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'cdr_bodies'"
        )
        questions = [f"PRAGMA quick_check({name})" for (name,) in tables]
    for question in questions:
        verdict = connection.execute(question).get
        if verdict != "ok":
            raise apsw.CorruptError(str(verdict))


def move_wal(connection: apsw.Connection) -> None:
    """Everything into the database itself, synced, and the WAL begun anew; raises apsw.BusyError where it
    cannot be."""
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def begin_boot(connection: apsw.Connection, node: str, boot_id: str, clock: Clock) -> Boot:
    """Make the row that everything written by this process refers to."""
    wall_ns, mono_ns = clock.wall_ns(), clock.mono_ns()
    if not connection.execute("SELECT epoch FROM store").get:
        renew_epoch(connection, wall_ns)
    with connection:
        ((epoch, base),) = connection.execute("SELECT epoch, epoch_base_seq FROM store")
        last_ns = connection.execute("SELECT coalesce(max(heartbeat_wall_ns), 0) FROM boots").get
        connection.execute(
            "INSERT INTO boots (node, epoch, boot_id, started_wall_ns, heartbeat_wall_ns, heartbeat_mono_ns)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (node, epoch, boot_id, wall_ns, wall_ns, mono_ns),
        )
    return Boot(connection.last_insert_rowid(), boot_id, epoch, base, last_ns)


def renew_epoch(connection: apsw.Connection, wall_ns: int) -> str:
    """For a new file and after a restore: sequence numbers go on, under a new epoch, so that subscribers do
    not take them for a replay. What is on disk may be older than what was published: the record of a call
    that is open here may have left already."""
    epoch = str(uuid4())
    connection.execute("UPDATE open_calls SET maybe_told = 1")
    connection.execute("UPDATE refusals SET maybe_told = 1")
    connection.execute(
        "UPDATE store SET epoch = ?, epoch_base_seq = head_seq, created_wall_ns = ?", (epoch, wall_ns)
    )
    return epoch
