"""The Store port on PostgreSQL, and what shares its database: `outbox`, `accounts`, `records`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import psycopg
from msgspec.structs import replace

from sidecar.adapters.postgresql.boots import (
    Marks,
    Own,
    begin_boot,
    contradicted,
    fence,
    forget_node,
    found_open,
    hold,
)
from sidecar.adapters.postgresql.checking import Rounds
from sidecar.adapters.postgresql.dsn import name_of
from sidecar.adapters.postgresql.migrations import migrate
from sidecar.adapters.postgresql.outbox import PostgresqlOutbox
from sidecar.adapters.postgresql.records import PostgresqlRecords, by_invite, ledger_check
from sidecar.adapters.postgresql.replay import PostgresqlReplays
from sidecar.adapters.postgresql.retention import PostgresqlRetention
from sidecar.adapters.postgresql.server import Reader, Server, looking
from sidecar.adapters.postgresql.stored import settings_revision, stored_rows
from sidecar.adapters.postgresql.writer import Writer
from sidecar.adapters.store.accounts import StoredAccounts
from sidecar.adapters.store.audit import StoredAudit
from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.adapters.store.keys import key_at
from sidecar.adapters.store.pacing import COMPANY_MS_MAX
from sidecar.adapters.store.revisions import StoredRevisions
from sidecar.adapters.store.store import (
    QUEUE_STEPS_MAX,
    BaseStore,
    FoundOpen,
    StoreError,
    nobody,
    nothing,
)
from sidecar.adapters.store.stored import KeptEntries
from sidecar.adapters.store.suspense import StoredSuspense
from sidecar.adapters.store.users import StoredUsers
from sidecar.adapters.store.work import Job
from sidecar.adapters.store.writer import COMMIT_INTERVAL_MS_MIN
from sidecar.core.cdr import Cdr, message_id
from sidecar.core.chain import ChainKey
from sidecar.ports import Clock, Seen
from sidecar.wire.cdr_codec import CdrError, decode


class PostgresqlStore(BaseStore):
    """Opened by `open`, in the event loop that it then reports to; `close` before that loop ends."""

    def __init__(
        self,
        conninfo: str,
        server: Server,
        own: Own,
        marks: Marks,
        found: Sequence[FoundOpen],
        clock: Clock,
        queue_steps_max: int,
        commit_interval_ms: int,
        company_ms: int,
        key: ChainKey | None,
    ) -> None:
        super().__init__(clock, queue_steps_max)
        self._conninfo = conninfo
        self._own = own
        self._found = found
        self._found_refusals = _found_refusals(server, own)
        self._reader = Reader(conninfo, _application(own.node, "reads"))
        self.outbox = PostgresqlOutbox(self._reader, self._write, own)
        self.accounts = StoredAccounts(self._reader, self._write)
        self.audit = StoredAudit(self._reader, self._write)
        self.stored = KeptEntries(
            self._reader,
            self._write,
            rows=lambda server: stored_rows(server, own.node),
            revision=lambda server: settings_revision(server, own.node),
        )
        self.users = StoredUsers(self._reader, self._write)
        self.records = PostgresqlRecords(self._reader, own.node)
        self.replays = PostgresqlReplays(self._reader, own)
        self.revisions = StoredRevisions(self._write)
        self.retention = PostgresqlRetention(self._reader, self._write, key)
        self.suspense = StoredSuspense(self._reader, self._write)
        self._writer = Writer(
            server,
            connect=lambda: _connected(conninfo, own.node),
            own=own,
            marks=marks,
            clock=clock,
            report=self._report_soon,
            commit_interval_ms=commit_interval_ms,
        )
        self._begin(self._writer, self.outbox, company_ms)

    @classmethod
    def open(
        cls,
        conninfo: str,
        *,
        node: str,
        boot_id: str,
        clock: Clock,
        queue_steps_max: int = QUEUE_STEPS_MAX,
        commit_interval_ms: int = COMMIT_INTERVAL_MS_MIN,
        company_ms: int = COMPANY_MS_MAX,
        seen: Seen | None = None,
        key_file: Path | None = None,
    ) -> PostgresqlStore:
        """`conninfo` as libpq takes it, with `sslmode=verify-full` and `sslrootcert` where the server is not
        on this machine. `seen`: what the broker has of what this node published last. `key_file`:
        of pseudonyms, made where there is none; the same for all nodes. Raises StoreError, with
        what to do, where the database cannot be used."""
        name = name_of(conninfo)
        try:
            server = _connected(conninfo, node)
        except psycopg.Error as error:
            raise StoreError(f"{name}: cannot be reached ({' '.join(str(error).split())})") from error
        try:
            migrate(server)
            hold(server, node)
            found = found_open(server, node)
            own, is_new, loss = begin_boot(server, node, boot_id, clock, seen)
            with server.transaction():
                marks = fence(server, own)
            store = cls(
                conninfo,
                server,
                own,
                marks,
                found,
                clock,
                queue_steps_max,
                commit_interval_ms,
                company_ms,
                None if key_file is None else key_at(key_file),
            )
            store.is_new = is_new
            store._lost(loss, own.boot.epoch)
            return store
        except psycopg.Error as error:
            server.close()
            raise StoreError(f"{name}: cannot be used ({' '.join(str(error).split())})") from error
        except BaseException:
            server.close()
            raise

    async def close(self) -> None:
        """Write what was submitted, then close; once. While the server is away there is one last try: calls
        whose end could not be written are found open at the next start."""
        if self._closed:
            return
        self._closed = True
        self._pacing.hand_over()
        await asyncio.to_thread(self._writer.stop)
        self._reader.close()
        await asyncio.sleep(0)  # the writer's last report runs before the caller goes on

    async def discard(self) -> None:
        await self.close()
        if self.is_new:
            await asyncio.to_thread(self._forget_node)

    def _forget_node(self) -> None:
        server = _connected(self._conninfo, self._own.node)
        try:
            forget_node(server, self._own.node)
        finally:
            server.close()

    @property
    def epoch(self) -> str:
        return self._own.boot.epoch

    @property
    def last_known_wall_ns(self) -> int:
        """When an earlier boot of this node is last known to have lived; 0: there was none."""
        return self._own.boot.last_known_wall_ns

    def found_open(self) -> Sequence[FoundOpen]:
        return self._found

    def found_refusals(self) -> Sequence[Cdr]:
        return self._found_refusals

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """Every commit writes the clocks as they stood when it began; this makes sure that there is one."""
        self._pacing.add(Job(run=nothing, done=nobody), may_wait=True)

    async def contradicts(self, seen: Seen) -> str:
        return await self._reader.ask(lambda server: contradicted(server, self._own.node, seen))

    def _rounds(self) -> Rounds:
        return Rounds(Reader(self._conninfo, _application(self._own.node, "checks")), self._own.node)

    @contextmanager
    def by_invite(self, since: datetime, calls_max: int) -> Iterator[Iterator[Cdr]]:
        with looking(self._conninfo, self._own.node) as server, server.unhurried():
            yield by_invite(server, self._own.node, since, calls_max)

    async def ledger_check(self) -> Sequence[str]:
        """Empty where everything adds up, over all nodes."""
        return await self._reader.ask(ledger_check)


def _connected(conninfo: str, node: str) -> Server:
    return Server(conninfo, _application(node, "writes"))


def _application(node: str, does: str) -> str:
    return f"sidecar {node} {does}"


def _found_refusals(server: Server, own: Own) -> Sequence[Cdr]:
    """What earlier boots left. A damaged one is passed over: it is a count, and no call."""
    found = []
    sql = "SELECT body, crc, maybe_told FROM refusals WHERE node = ? ORDER BY entry"
    for body, crc, maybe_told in server.run(sql, (own.node,)):
        with suppress(DamagedError, CdrError):
            cdr = decode(sound(body, crc, "refusals"))
            if maybe_told:  # another content must not go out under an id that may have been used
                cdr = replace(cdr, message_id=message_id(cdr.call_id, cdr.revision, own.boot.epoch))
            found.append(cdr)
    return found
