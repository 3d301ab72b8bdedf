"""A PostgreSQL of the test's own: a cluster in a folder of its own, on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from sidecar.demo.children import free_ports

WITHIN_S = 60.0
DEBIAN = Path("/usr/lib/postgresql")  # one folder per version; its programs are not on PATH


class Postgres:
    """Started by `start`, again after `kill`."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self.port = free_ports("127.0.0.1", 1)[0]
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        if (self._data / "PG_VERSION").exists():  # a base backup
            return
        self._run("initdb", "-D", str(self._data), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C")
        # Its own authority. TLS is there for who asks for it; `conninfo` does not.
        self.certificate = self._data / "server.crt"
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
        name = "-addext subjectAltName=IP:127.0.0.1"
        files = f"-keyout {self._data / 'server.key'} -out {self.certificate}"
        self._run("openssl", *words.split(), *name.split(), *files.split())

    @property
    def conninfo(self) -> str:
        return self.database("postgres")

    @property
    def pid(self) -> int:
        """Of the server; each connection is a child of it."""
        assert self._child is not None
        return self._child.pid

    def database(self, name: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=test dbname={name} sslmode=disable"

    def new_database(self, name: str) -> str:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.database(name)

    def new_database_with_roles(self, name: str) -> tuple[str, str]:
        """As the reference has it: for its owner, and for a node with the rights of one. `page1` is there
        too."""
        roles = (
            *("sidecar_owner LOGIN", "sidecar_node", "sidecar_reader", "sidecar_page"),
            *("node1 LOGIN IN ROLE sidecar_node", "page1 LOGIN IN ROLE sidecar_page"),
        )
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for role in roles:
                with contextlib.suppress(psycopg.errors.DuplicateObject):
                    connection.execute(f"CREATE ROLE {role}".encode())
            connection.execute(f'CREATE DATABASE "{name}" OWNER sidecar_owner'.encode())
        to = self.database(name)
        return make_conninfo(to, user="sidecar_owner"), make_conninfo(to, user="node1")

    def start(self, **more: str) -> None:
        """`more`: settings of the server."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "ssl": "on",
            **more,
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                [*_as_nobody_special(), _program("postgres"), "-D", str(self._data), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        until_s = time.monotonic() + WITHIN_S
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.conninfo):
                return
            assert self._child.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < until_s, "PostgreSQL does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """Its connections end in the middle of whatever they do; what was committed stays."""
        assert self._child is not None
        self._child.send_signal(signal.SIGQUIT)  # PostgreSQL's "immediate": as a crash, and its children too
        self._child.wait(WITHIN_S)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nobody answers in the block, and no link ends: the kernel keeps them."""
        assert self._child is not None
        postmaster = self._child.pid
        os.kill(postmaster, signal.SIGSTOP)  # first: it starts no other
        backends = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        every = [postmaster, *map(int, backends)]
        try:
            for pid in every[1:]:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(every):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def dump(self, database: str) -> Path:
        """By pg_dump, whoever uses it meanwhile."""
        file = self._folder / f"{database}.dump"
        self._run("pg_dump", "-Fc", "-f", str(file), self.database(database))
        return file

    def put_back(self, file: Path, database: str) -> str:
        """By pg_restore, in a new database."""
        conninfo = self.new_database(database)
        self._run("pg_restore", "--exit-on-error", "-d", conninfo, str(file))
        return conninfo

    # --- back to a moment, as the reference has it ----------------------------------------------------------

    @property
    def archive(self) -> Path:
        """Where its log goes, segment by segment, once it was started with `archiving`."""
        return self._folder / "archive"

    def archiving(self) -> dict[str, str]:
        self._run("mkdir", str(self.archive))
        to = f"{self.archive}/%f"  # never there in part
        command = f"test ! -f {to} && cp %p {to}.part && mv {to}.part {to}"
        return {"archive_mode": "on", "archive_command": command}

    def base_backup(self, folder: Path) -> None:
        """By pg_basebackup, whoever uses it meanwhile. In a new folder, which a server may be made of."""
        self._run("mkdir", str(folder))
        to = f"host=127.0.0.1 port={self.port} user=test sslmode=disable"
        self._run("pg_basebackup", "-d", to, "-D", str(folder / "data"), "-c", "fast")

    def archived(self) -> None:
        """All of its log so far is in the archive."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            asked = "SELECT pg_walfile_name(pg_switch_wal())"
            ((segment,),) = connection.execute(asked.encode()).fetchall()
        until_s = time.monotonic() + WITHIN_S
        while not (self.archive / segment).exists():
            assert time.monotonic() < until_s, (self._folder / "log").read_text()
            time.sleep(0.05)

    def recover(self, archive: Path, until: str) -> None:
        """A server that is made of a base backup, as it stood at a moment; from then on it is used."""
        self._run("touch", str(self._data / "recovery.signal"))
        self.start(
            restore_command=f"cp {archive}/%f %p",
            recovery_target_time=until,
            recovery_target_action="promote",
        )
        until_s = time.monotonic() + WITHIN_S
        while True:
            with psycopg.connect(self.conninfo) as connection:
                ((is_behind,),) = connection.execute(b"SELECT pg_is_in_recovery()").fetchall()
            if not is_behind:
                return
            assert time.monotonic() < until_s, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self.kill()

    def _run(self, *command: str) -> None:
        words = [*_as_nobody_special(), _program(command[0]), *command[1:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=self._folder)
        assert done.returncode == 0, done.stderr


def _program(name: str) -> str:
    for folder in sorted(DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed: apt-get install postgresql"
    return found


def _as_nobody_special() -> Sequence[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--")


@contextlib.contextmanager
def postgres_folder() -> Iterator[Path]:
    # Not below pytest's folders, which are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="sidecar-postgres-"))
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    with postgres_folder() as folder:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
