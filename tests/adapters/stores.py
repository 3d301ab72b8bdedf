"""A place for the books of one node on either engine: for the tests of tests/adapters/test_store*.py."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, closing
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import psycopg

from sidecar.adapters import postgresql, sqlite
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.postgresql.books import PostgresqlBooks
from sidecar.adapters.postgresql.writer import Alone
from sidecar.adapters.sqlite.books import SqliteBooks
from sidecar.adapters.store.books import Books
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.adapters.store.store import Pace
from sidecar.core.records import cdr_of
from sidecar.core.stored import StoredEntry
from sidecar.ports import Seen
from tests.adapters import sqlite_stores
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import BOOT_ID, POLICY


class Stores(Protocol):
    bodies: str  # the table of the records' bodies
    marks: str  # that of the marks of the outbox

    @property
    def place(self) -> tuple[str, str, str]:
        """The engine's name, where, and the file of its keys; for a process of its own."""

    def opened(
        self, *, boot_id: str = BOOT_ID, queue_steps_max: int = 1_000, seen: Seen | None = None
    ) -> AbstractAsyncContextManager[AnyWatched]:
        """The node's store, and what it told."""

    def books(self) -> AbstractContextManager[Books]:
        """As the page reads them."""

    def stored_entries(self) -> Sequence[StoredEntry]: ...
    def asked(self, sql: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        """Rows, read by a connection of our own."""

    def forced(self, sql: str, *values: str | int | bytes) -> None:
        """Done even to what is never changed."""


class SqliteStores:
    bodies, marks = "cdr_bodies", "store"

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.place = ("sqlite", str(data_dir), str(data_dir / KEY_FILE_NAME))

    def opened(
        self, *, boot_id: str = BOOT_ID, queue_steps_max: int = 1_000, seen: Seen | None = None
    ) -> AbstractAsyncContextManager[AnyWatched]:
        return sqlite_stores.opened(
            self._data_dir, boot_id=boot_id, queue_steps_max=queue_steps_max, seen=seen
        )

    def books(self) -> AbstractContextManager[Books]:
        return closing(SqliteBooks(self._data_dir))

    def stored_entries(self) -> Sequence[StoredEntry]:
        return sqlite.stored_entries(self._data_dir)

    def asked(self, sql: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        return sqlite_stores.asked(self._data_dir, sql, *values)

    def forced(self, sql: str, *values: str | int | bytes) -> None:
        self.asked(sql, *values)


@cache
def shared_key_file() -> Path:
    """For who has no folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="sidecar-key-"))
    atexit.register(shutil.rmtree, folder)
    return folder / "key"


class PostgresqlStores:
    """`schema`: a new one of the database, of this test alone."""

    bodies, marks = "cdrs", "epochs"

    def __init__(self, conninfo: str, schema: str, key_file: Path | None = None) -> None:
        self.key_file = key_file or shared_key_file()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
        self.conninfo = f"{conninfo} options='-c search_path={schema}'"
        self.place = ("postgresql", self.conninfo, str(self.key_file))

    @asynccontextmanager
    async def opened(
        self,
        *,
        boot_id: str = BOOT_ID,
        queue_steps_max: int = 1_000,
        seen: Seen | None = None,
        node: str = "n1",
        conninfo: str | None = None,
        kept_in: Path | None = None,
        alone: Alone | None = None,
    ) -> AsyncIterator[AnyWatched]:
        store = PostgresqlStore.open(
            conninfo or self.conninfo,
            node=node,
            boot_id=boot_id,
            clock=SystemClock(),
            pace=Pace(queue_steps_max, 0, 0),
            seen=seen,
            key_file=self.key_file,
            kept_in=kept_in,
            record_of=partial(cdr_of, policy=POLICY),
            alone=alone,
        )
        try:
            yield AnyWatched(store)
        finally:
            await store.close()

    def books(self) -> AbstractContextManager[Books]:
        return closing(PostgresqlBooks(self.conninfo, "n1"))

    def stored_entries(self) -> Sequence[StoredEntry]:
        return postgresql.stored_entries(self.conninfo, "n1")

    def asked(self, sql: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(sql.replace("?", "%s").encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def forced(self, sql: str, *values: str | int | bytes) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")  # no trigger is asked
            connection.execute(sql.replace("?", "%s").encode(), values or None)
