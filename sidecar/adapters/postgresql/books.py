"""What the page reads of the books of all nodes (see store/books), on connections that stay, each for one
look at a time.

They can only read, lock nothing that a commit waits for, and each statement has READ_S_MAX: whatever a person
asks for, no call is slower for it. At most LOOKS_MAX are open.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psycopg

from sidecar.adapters.postgresql.dsn import name_of
from sidecar.adapters.postgresql.looks import PostgresqlLook
from sidecar.adapters.postgresql.migrations import refuse_other
from sidecar.adapters.postgresql.server import FAULTS, READ_S_MAX, Server
from sidecar.adapters.store.store import StoreAwayError, StoreError
from sidecar.adapters.store.users import user
from sidecar.core.users import User

LOOKS_MAX = 6
WAIT_S_MAX = 5.0
# Then it is made anew: another server may have its place, its schema may be another one.
KEPT_S = 60.0
IDLE_MS_MAX = 60_000  # sums are written between two questions


class _Kept(NamedTuple):
    server: Server
    until_s: float


class PostgresqlBooks:
    """Threads may share it."""

    is_shared = True

    def __init__(self, conninfo: str, node: str) -> None:
        self._conninfo = conninfo
        self._name = name_of(conninfo)
        self._node = node
        self._places = threading.BoundedSemaphore(LOOKS_MAX)
        self._kept: list[_Kept] = []  # free ones; an append and a pop are whole

    @contextmanager
    def look(self) -> Iterator[PostgresqlLook]:
        with self._server() as server:
            yield PostgresqlLook(server)

    def user(self, name: str) -> User | None:
        with self._server() as server:
            return user(server, name)

    def close(self) -> None:
        while self._kept:
            self._kept.pop().server.close()

    @contextmanager
    def _server(self) -> Iterator[Server]:
        """In a transaction."""
        if not self._places.acquire(timeout=WAIT_S_MAX):
            raise StoreAwayError("the page asks the database too much at once: try again")
        kept = None
        try:
            with ExitStack() as moment:
                kept = self._begun(moment)
                yield kept.server
        except psycopg.Error as error:
            text = f"{self._name}: cannot be read ({' '.join(str(error).split())})"
            raise (StoreAwayError if isinstance(error, FAULTS) else StoreError)(text) from error
        finally:
            if kept is not None and not kept.server.broken and kept.until_s > time.monotonic():
                self._kept.append(kept)
            elif kept is not None:
                kept.server.close()
            self._places.release()

    def _begun(self, moment: ExitStack) -> _Kept:
        """One that the server has closed meanwhile is not asked again."""
        while self._kept:
            kept = self._kept.pop()
            try:
                moment.enter_context(kept.server.moment())
                return kept
            except FAULTS:
                kept.server.close()
        server = Server(self._conninfo, f"sidecar {self._node} page", READ_S_MAX)
        try:
            server.run("SET default_transaction_read_only = on")
            server.run(f"SET idle_in_transaction_session_timeout = {IDLE_MS_MAX}")
            if not refuse_other(server):
                raise StoreError(f"{self._name}: no node has begun there")
            moment.enter_context(server.moment())
        except BaseException:
            server.close()
            raise
        return _Kept(server, time.monotonic() + KEPT_S)
