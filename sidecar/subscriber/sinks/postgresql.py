"""Records in PostgreSQL, by psycopg: the extra `postgresql`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from sidecar.subscriber.progress import Position
from sidecar.subscriber.record import Record
from sidecar.subscriber.sink import Committed, Rejected, SinkError
from sidecar.subscriber.sinks.tables import Tables

LOCK = 0x51DECA12  # of pg_try_advisory_lock: one subscriber writes these tables
LOCK_WAIT_S = 10.0  # the server may not have noticed yet that the last one was killed


class PostgresqlSink:
    """A Sink (see sink). `conninfo` as libpq takes it: a URI, or `host=... dbname=...`; what is left out
    comes from PGHOST, PGPASSWORD and so on. The tables are in the first schema of the search path."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection[Any] | None = None
        self._tables = Tables(self._execute)
        self.client_id = ""

    def open(self) -> Sequence[Position]:
        self.close()
        try:
            return self._opened()
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise SinkError(f"PostgreSQL: {error}") from error
            raise

    def _opened(self) -> Sequence[Position]:
        self._connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=10)
        # What is committed is on disk before the broker hears of it, whatever the server's default.
        self._execute("SET synchronous_commit = on", ())
        self._take_lock()
        with self._connection.transaction():
            self._execute("SET LOCAL client_min_messages = warning", ())
            # JSON, not JSONB: it keeps the text as it came, \u0000 too.
            self._tables.create(time="TIMESTAMPTZ", json="JSON", payload="BYTEA")
        self.client_id = self._tables.value("client_id") or ""
        return self._tables.positions()

    def commit(
        self, records: Sequence[Record], rejected: Sequence[Rejected], positions: Sequence[Position]
    ) -> Committed:
        if self._connection is None:
            raise SinkError("PostgreSQL: not open")
        try:
            with self._connection.transaction():
                return self._tables.write(records, rejected, positions, lambda record: record.text)
        except psycopg.Error as error:
            # Whether a COMMIT whose answer is lost was done, the keys tell when it is tried again.
            raise SinkError(f"PostgreSQL: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _take_lock(self) -> None:
        until_s = time.monotonic() + LOCK_WAIT_S
        while not self._execute("SELECT pg_try_advisory_lock(?)", (LOCK,))[0][0]:
            if time.monotonic() > until_s:
                raise SinkError("PostgreSQL: another subscriber writes to this database")
            time.sleep(0.1)

    def _execute(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if self._connection is None:
            raise SinkError("PostgreSQL: not open")
        cursor = self._connection.execute(sql.replace("?", "%s"), values)
        return cursor.fetchall() if cursor.description is not None else []
