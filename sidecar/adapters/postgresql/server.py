"""Connections to the server, and how SQL is put to it: `?` and `?1` as SQLite writes them, so that what both
engines understand stands once."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg import RawCursor, RawServerCursor
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.types.string import StrDumperUnknown

from sidecar.adapters.postgresql.dsn import name_of
from sidecar.adapters.store.store import StoreAwayError, StoreError
from sidecar.ports import UnavailableError

CONNECT_S_MAX = 5
# Without a sign of life for so long while we wait for an answer, a server is away: the kernel of its machine
# goes on answering for one that was stopped.
ANSWER_S_MAX = 5.0
READ_S_MAX = 10.0  # readers look at more, and no call waits for them
# Before that the server itself gives a statement up, and its locks with it. It notices within so long that we
# have hung up on one.
_EARLIER_S = 1.0
HUNG_UP_MS_MAX = 1_000
# A node that was stopped in the middle of a transaction does not hold up the others.
IDLE_IN_TRANSACTION_MS_MAX = 2_000
FAR_S = 0.1  # a way of so much there and back is part of each pause that the server sees

# What the server, or the way to it, can do to us; any other error is a defect of ours. A server that goes
# down ends what runs with AdminShutdown or CrashShutdown, a full disk is DiskFull: OperationalError, all.
FAULTS: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError)
# What whoever runs the server can do to a node that writes: the steps that it refuses are kept, not dropped.
REFUSALS: tuple[type[Exception], ...] = (
    psycopg.errors.ReadOnlySqlTransaction,  # it has become a standby
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.IdleInTransactionSessionTimeout,  # we stood still
)
# Two nodes were in one another's way: the transaction was rolled back, and may be tried again at once.
CONFLICTS: tuple[type[Exception], ...] = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.UniqueViolation,  # both made the same account, or booked the same reference
)

ROWS_PER_FETCH = 5_000

_T = TypeVar("_T")
Rows = list[tuple[Any, ...]]


class SilentError(psycopg.OperationalError):
    """No sign of life: whoever asks again at once waits as long."""


class _Text(StrDumperUnknown):
    """What the network or JSON may say and no text of PostgreSQL can hold."""

    def dump(self, obj: str) -> Any:
        return super().dump(as_text(obj))


def as_text(text: str) -> str:
    return text.replace("\x00", "\\x00")


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    answer_s_max: float | None = None

    def wait(self, gen: PQGen[_T], *args: Any, **words: Any) -> _T:
        return super().wait(self._while_it_lives(gen), *args, **words)

    def _while_it_lives(self, gen: PQGen[_T]) -> PQGen[_T]:
        heard_s = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # nothing, now and then, while nothing comes
                now_s = time.monotonic()
                if ready:
                    heard_s = now_s
                elif self.answer_s_max is not None and now_s - heard_s > self.answer_s_max:
                    self.pgconn.finish()
                    raise SilentError(f"no answer within {self.answer_s_max:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the generator returns


class Server:
    """One connection, for one thread at a time."""

    def __init__(
        self, conninfo: str, application: str, answer_s_max: float = ANSWER_S_MAX, *, writes: bool = False
    ) -> None:
        """Raises one of FAULTS where nobody answers; nor does a standby answer who `writes`."""
        self._answer_s_max = answer_s_max
        self.name = name_of(conninfo)
        self._connection = _Connection.connect(
            make_conninfo(conninfo, target_session_attrs="read-write") if writes else conninfo,
            autocommit=True,
            connect_timeout=CONNECT_S_MAX,
            application_name=application,
            cursor_factory=RawCursor,
            # The link is proved by the kernel, or a server that is cut off would never be missed.
            keepalives_idle=2,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=5_000,
        )
        self._connection.prepare_threshold = 0
        self._connection.adapters.register_dumper(str, _Text)
        # What is committed is on disk when we hear of it, whatever the server's default.
        asked_s = time.monotonic()
        self.run("SET synchronous_commit = on")
        self.round_trip_s = time.monotonic() - asked_s  # as it was last
        self.run(f"SET client_connection_check_interval = {HUNG_UP_MS_MAX}")
        self._hurry()
        self.run("SET TIME ZONE 'UTC'")

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """What takes as long as it takes."""
        self.run("SET statement_timeout = 0")
        self.run("SET idle_in_transaction_session_timeout = 0")
        self._connection.answer_s_max = None
        try:
            yield
        finally:
            if not self.broken:
                self._hurry()

    def _hurry(self) -> None:
        self._connection.answer_s_max = self._answer_s_max
        self.run(f"SET statement_timeout = {int(1_000 * (self._answer_s_max - _EARLIER_S))}")
        self.run(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS_MAX}")

    def run(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """The rows of it, if it has any."""
        # Several statements at once (a migration) cannot be prepared; those have no values.
        cursor = self._connection.execute(native(sql).encode(), values or None, prepare=bool(values))
        if cursor.description is None and not self._is_piped:
            return []
        return cursor.fetchall()

    def stream(
        self, sql: str, values: Sequence[Any] = (), name: str = "stream"
    ) -> Generator[tuple[Any, ...]]:
        """In a transaction: the rows of it, however many they are, some at a time. `name`: of those that are
        read side by side each has its own."""
        with RawServerCursor(self._connection, name) as cursor:
            cursor.itersize = ROWS_PER_FETCH
            cursor.execute(native(sql).encode(), values or None, binary=True)
            yield from cursor

    execute = run  # as readers of SQLite call it

    def ask(self, sql: str, values: Sequence[Any]) -> Callable[[], Rows]:
        """In a pipeline: what gives the rows, once the pipeline is over."""
        return self._connection.execute(native(sql).encode(), values, prepare=True).fetchall

    def send(self, sql: str, values: Sequence[Any] = ()) -> None:
        """In a pipeline: what it answers is not asked for."""
        self._connection.execute(native(sql).encode(), values or None, prepare=bool(values))

    def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Any number of rows, within a transaction."""
        sql = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def notified(self, within_s: float) -> bool:
        """After a LISTEN: whether anything was told within that time."""
        return bool(list(self._connection.notifies(timeout=within_s, stop_after=1)))

    def transaction(self) -> AbstractContextManager[object]:
        return self._connection.transaction()

    def begin(self) -> None:
        """In a pipeline: a transaction, in which the server waits for us as long as the way is."""
        self.send("BEGIN")
        if self.round_trip_s > FAR_S:
            idle_ms = IDLE_IN_TRANSACTION_MS_MAX + int(1_000 * self.round_trip_s)
            self.send(f"SET LOCAL idle_in_transaction_session_timeout = {idle_ms}")

    @contextmanager
    def moment(self) -> Iterator[None]:
        """All that is read in it is as of one moment."""
        with self.transaction():
            self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield

    def pipeline(self) -> AbstractContextManager[object]:
        return self._connection.pipeline()

    @property
    def _is_piped(self) -> bool:
        return self._connection.pgconn.pipeline_status != psycopg.pq.PipelineStatus.OFF

    @property
    def broken(self) -> bool:
        return self._connection.closed or self._connection.broken

    def close(self) -> None:
        self._connection.close()


class Reader:
    """A connection of its own, opened when it is first asked, in a thread of its own: no reader delays a
    commit, and what waits for a server that does not answer holds up nobody else."""

    def __init__(self, conninfo: str, application: str) -> None:
        self._conninfo = conninfo
        self._application = application
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "store-reader")
        self._server: Server | None = None

    async def ask(self, question: Callable[[Any], _T]) -> _T:
        """UnavailableError while nobody answers."""
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self.ask_now, question)
        except FAULTS as error:
            text = " ".join(str(error).split())
            raise UnavailableError(f"the database cannot be read ({text})") from error

    def ask_now(self, question: Callable[[Any], _T]) -> _T:
        """A link that was lost since it was last asked is made anew, once."""
        with self._lock:
            if self._server is not None:
                try:
                    return question(self._server)
                except FAULTS:
                    self._close()
            self._server = Server(self._conninfo, self._application, READ_S_MAX)
            self._server.run("SET default_transaction_read_only = on")
            return question(self._server)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._close()

    def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()


@contextmanager
def looking(conninfo: str, node: str) -> Iterator[Server]:
    """A connection for one look at what a node has there, whether or not it runs. StoreError where that
    cannot be read."""
    try:
        server = Server(conninfo, f"sidecar {node} looks", READ_S_MAX)
        try:
            server.run("SET default_transaction_read_only = on")
            yield server
        finally:
            server.close()
    except psycopg.Error as error:
        text = f"{name_of(conninfo)}: cannot be read ({' '.join(str(error).split())})"
        raise (StoreAwayError if isinstance(error, FAULTS) else StoreError)(text) from error


class Table:
    """A table as one insert sees it: any number of rows in one statement, which is prepared once.
    `conflict`: what becomes of a row whose key is there."""

    def __init__(
        self,
        name: str,
        columns: Mapping[str, str],
        conflict: str = "",
        same: Sequence[str] = (),
        last: str = "",
    ) -> None:
        """`columns`: their names and types. Of them `same` is what all rows of one insert have, `last` what
        its last row alone has: an array costs more than the same value once."""
        own = [column for column in columns if column != last and column not in same]
        arrays = ", ".join(f"${at}::{columns[column]}[]" for at, column in enumerate(own, 1))
        given = [f"${at}::{columns[column]}" for at, column in enumerate(same, len(own) + 1)]
        names, source = [*own, *same], f"unnest({arrays}) AS one ({', '.join(own)})"
        if last:
            source = f"unnest({arrays}) WITH ORDINALITY AS one ({', '.join(own)}, place)"
            count = len(names)
            given.append(f"CASE WHEN place = ${count + 1}::bigint THEN ${count + 2}::{columns[last]} END")
            names.append(last)
        self._has_last = bool(last)
        self._sql = (
            f"INSERT INTO {name} ({', '.join(names)})"  # noqa: S608
            f" SELECT {', '.join((*own, *given))} FROM {source} {conflict}"
        )

    def send(
        self, server: Server, rows: Sequence[Sequence[object]], *same: object, last: object = None
    ) -> None:
        """`rows`: without what is the same for all, or of the last."""
        if rows:
            more = (len(rows), last) if self._has_last else ()
            server.send(self._sql, [*map(list, zip(*rows, strict=True)), *same, *more])


@cache
def native(sql: str) -> str:
    """`?` and `?1` as PostgreSQL has them, `$1`. No text of ours has a question mark in it."""
    numbers = count(1)
    return re.sub(r"\?(\d*)", lambda found: f"${found[1] or next(numbers)}", sql)
