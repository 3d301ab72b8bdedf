"""The store of one node on PostgreSQL (see NodeStore)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import msgspec
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
    found_refusals,
    hold,
    refuse_other_versions,
)
from sidecar.adapters.postgresql.bringing import bring, is_known, return_tranches
from sidecar.adapters.postgresql.chain import head_of
from sidecar.adapters.postgresql.chain_check import wrong_chains
from sidecar.adapters.postgresql.checking import Rounds
from sidecar.adapters.postgresql.dsn import name_of
from sidecar.adapters.postgresql.leases import other_nodes, take_over
from sidecar.adapters.postgresql.migrations import migrate
from sidecar.adapters.postgresql.neighbours import PostgresqlNeighbours, SharedAccounts
from sidecar.adapters.postgresql.outbox import PostgresqlOutbox
from sidecar.adapters.postgresql.records import PostgresqlRecords, by_invite, ledger_check
from sidecar.adapters.postgresql.replay import PostgresqlReplays
from sidecar.adapters.postgresql.retention import PostgresqlRetention
from sidecar.adapters.postgresql.salvage import put_aside
from sidecar.adapters.postgresql.server import CONFLICTS, FAULTS, Reader, Server, looking
from sidecar.adapters.postgresql.spool import FileSpool, begin_anew, found_in, set_aside
from sidecar.adapters.postgresql.stored import settings_revision, stored_rows
from sidecar.adapters.postgresql.writer import Alone, Writer
from sidecar.adapters.store.chain import by_id
from sidecar.adapters.store.keys import add_key, read_keys
from sidecar.adapters.store.store import BaseStore, Left, Pace, StoreAwayError, StoreError, nothing
from sidecar.adapters.store.stored import KeptEntries
from sidecar.adapters.store.work import Job, nobody
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.chain import ChainKey
from sidecar.core.events import StrayBye
from sidecar.core.takeover import Node
from sidecar.ports import Brought, Clock, Salvage, Seen, UnavailableError

NO_TENANT = "_"


def _no_record(_: Call) -> NoReturn:
    raise StoreError("its record cannot be made here")


class PostgresqlStore(BaseStore):
    """Opened by `open`, in the event loop that it then reports to; `close` before that loop ends."""

    def __init__(
        self,
        conninfo: str,
        server: Server,
        own: Own,
        marks: Marks,
        left: Left,
        clock: Clock,
        pace: Pace,
        keys: Sequence[ChainKey],
        tenant: str,
        spool: FileSpool | None = None,
        alone: Alone | None = None,
    ) -> None:
        reader = Reader(conninfo, _application(own.node, "reads"))
        super().__init__(clock, own.boot, reader, left, pace)
        self._conninfo = conninfo
        self._own = own
        self._keys = keys
        self._tenant = tenant
        self._folder: Path | None = None  # for what is put aside
        self._watching = Reader(conninfo, _application(own.node, "watches"))
        self._neighbours = PostgresqlNeighbours(
            lambda: Server(conninfo, _application(own.node, "hears")), self._watching, own
        )
        self.accounts = SharedAccounts(reader, self._write, self._neighbours)
        self.outbox = PostgresqlOutbox(reader, self._write, own)
        self.stored = KeptEntries(
            reader,
            self._write,
            rows=lambda server: stored_rows(server, own.node),
            revision=lambda server: settings_revision(server, own.node),
        )
        self.records = PostgresqlRecords(reader, own.node)
        self.replays = PostgresqlReplays(reader, own)
        self.retention = PostgresqlRetention(reader, self._write, keys)
        self._writer = Writer(
            server,
            connect=lambda: _connected(conninfo, own.node),
            own=own,
            marks=marks,
            clock=clock,
            report=self._report_soon,
            commit_interval_ms=pace.commit_interval_ms,
            spool=spool,
            alone=alone,
        )
        self._begin(self._writer, self.outbox)

    @classmethod
    def open(
        cls,
        conninfo: str,
        *,
        node: str,
        boot_id: str,
        clock: Clock,
        key_file: Path,
        tenant: str = NO_TENANT,
        pace: Pace = Pace(),  # noqa: B008 - it is frozen
        seen: Seen | None = None,
        kept_in: Path | None = None,
        record_of: Callable[[Call], Cdr] = _no_record,
        alone: Alone | None = None,
    ) -> PostgresqlStore:
        """`conninfo` as libpq takes it, with `sslmode=verify-full` and `sslrootcert` where the server is not
        on this machine. `seen`: what the broker has of what this node published last. `key_file`: of
        the chain and of pseudonyms, made where there is none; best the same for all nodes. `kept_in`: the
        file of this node for what must be written while the database is away; without one it is lost with the
        process, and no call goes on meanwhile, whatever `alone` says. Raises StoreError, with what to do,
        where the database cannot be used; StoreAwayError where that may pass."""
        name = name_of(conninfo)
        try:
            server = _connected(conninfo, node)
        except psycopg.Error as error:
            raise StoreAwayError(f"{name}: cannot be reached ({' '.join(str(error).split())})") from error
        try:
            migrate(server)
            hold(server, node)
            refuse_other_versions(server, node)
            keys = _keys(server, node, key_file)
            own, is_new, loss = begin_boot(server, node, boot_id, clock, seen, tenant, keys[-1])
            spool, brought = None, None
            if kept_in is not None:
                brought = _brought(server, own, clock, kept_in, record_of)
                spool = FileSpool(kept_in, own.boot.epoch)
            return_tranches(server, own, clock)
            folder = None if kept_in is None else kept_in.parent
            marks, left, salvage = _left(server, own, clock, folder)
            store = cls(conninfo, server, own, marks, left, clock, pace, keys, tenant, spool, alone)
            store.brought, store.salvage, store._folder = brought, salvage, folder
            store._neighbours.begin(server)
            store.is_new = is_new
            store._lost(loss, own.boot.epoch)
            return store
        except psycopg.Error as error:
            server.close()
            text = f"{name}: cannot be used ({' '.join(str(error).split())})"
            raise (StoreAwayError if isinstance(error, FAULTS) else StoreError)(text) from error
        except BaseException:
            server.close()
            raise

    def _stop(self) -> None:
        self._writer.stop()
        self._reader.close()
        self._watching.close()
        self._neighbours.close()

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

    # --- several nodes (see Nodes) --------------------------------------------------------------------------

    @property
    def nodes(self) -> PostgresqlStore:
        return self

    @property
    def neighbours(self) -> PostgresqlNeighbours:
        return self._neighbours

    async def serve(self, heard_at: Sequence[str], lease_s: float) -> None:
        await self._write(lambda batch: batch.serve(heard_at, lease_s), lasting=True)

    def note_stray(self, bye: StrayBye) -> None:
        self._pacing.add(Job(run=lambda batch: batch.note_stray(bye), done=nobody), may_wait=True)

    async def strays(self) -> Sequence[StrayBye]:
        await self._write(nothing)  # what this node has noted is among them
        rows = await self._reader.ask(lambda server: server.run("SELECT body FROM stray_byes"))
        now_ns = self._clock.mono_ns() - self._clock.wall_ns()
        byes = [msgspec.json.decode(body, type=StrayBye) for (body,) in rows]
        return [replace(bye, mono_ns=bye.wall_ns + now_ns) for bye in byes]

    async def others(self) -> Sequence[Node]:
        return await self._watching.ask(lambda server: other_nodes(server, self._tenant, self._own.node))

    async def take(self, dead: Node) -> PostgresqlStore | None:
        begun = await asyncio.to_thread(self._taken, dead)
        if begun is None:
            return None
        server, own, marks, left, salvage = begun
        store = PostgresqlStore(
            self._conninfo, server, own, marks, left, self._clock, self._pace, self._keys, self._tenant
        )
        store.salvage = salvage
        return store

    def _taken(self, dead: Node) -> tuple[Server, Own, Marks, Left, Salvage | None] | None:
        try:
            server = _connected(self._conninfo, dead.name)
            try:
                refuse_other_versions(server, dead.name)
                if own := take_over(
                    server,
                    dead,
                    self._tenant,
                    self._own.node,
                    self._own.boot.boot_id,
                    self._clock,
                    self._own.key,
                ):
                    return server, own, *_left(server, own, self._clock, self._folder)
            except BaseException:
                server.close()
                raise
            server.close()
        except CONFLICTS:  # with somebody who wants the same
            return None
        except FAULTS as error:
            raise UnavailableError(f"{dead.name}: {' '.join(str(error).split())}") from error
        except StoreError as error:
            raise UnavailableError(f"{dead.name}: {error}") from error
        return None

    async def contradicts(self, seen: Seen) -> str:
        return await self._reader.ask(lambda server: contradicted(server, self._own.node, seen))

    def _rounds(self) -> Rounds:
        return Rounds(Reader(self._conninfo, _application(self._own.node, "checks")), self._own.node)

    @contextmanager
    def by_invite(self, since: datetime, calls_max: int) -> Iterator[Iterator[Cdr]]:
        with looking(self._conninfo, self._own.node) as server, server.unhurried():
            yield by_invite(server, self._own.node, since, calls_max)

    async def ledger_check(self) -> Sequence[str]:
        """Empty where everything adds up and is as it was written, over all nodes."""
        return await self._reader.ask(self._wrong)

    def _wrong(self, server: Server) -> Sequence[str]:
        with server.unhurried(), server.moment():
            found = wrong_chains(server, by_id(self._keys))
        return [*found, *ledger_check(server)]


def _keys(server: Server, node: str, file: Path) -> Sequence[ChainKey]:
    """Those of the file; a new one where there is neither file nor chain of this node."""
    if file.exists():
        return read_keys(file)
    if (head := head_of(server, node)) is not None and head[1].number:
        raise StoreError(
            f"{file}: the keys of the chain of node {node} are gone: put the file back, or take that of"
            " another node. Without it nobody can tell whether the books are as they were written;"
            " `sidecar journal new-key` makes one for what comes from now on"
        )
    return [add_key(file)]


def _left(server: Server, own: Own, clock: Clock, folder: Path | None) -> tuple[Marks, Left, Salvage | None]:
    """Once nobody else writes as this node."""
    salvage = None
    with server.transaction():
        marks = fence(server, own)
        calls, damaged = found_open(server, own.node)
        refusals = found_refusals(server, own)
    if damaged:
        salvage = put_aside(server, own, clock, damaged, folder)
        with server.transaction():
            marks = fence(server, own)
    return marks, Left(calls, refusals), salvage


def _brought(
    server: Server, own: Own, clock: Clock, file: Path, record_of: Callable[[Call], Cdr]
) -> Brought | None:
    """What an earlier process kept in the file is in the database then; None: nothing."""
    found = found_in(file)
    if found is None:
        return None
    damage, brought = found.damage, Brought()
    if found.steps and not is_known(server, own.node, found.epoch):
        damage = damage or f"it is of epoch {found.epoch or 'unknown'}, which this database never had"
    elif found.steps:
        brought = bring(server, own, clock, found.steps, record_of)
    if damage or brought.left:
        damage = damage or "not all of it could be written"
        brought = replace(brought, damage=damage, set_aside=set_aside(file, clock.wall_ns()))
    begin_anew(file)
    return brought if brought.steps or brought.damage else None


def _connected(conninfo: str, node: str) -> Server:
    return Server(conninfo, _application(node, "writes"), writes=True)


def _application(node: str, does: str) -> str:
    return f"sidecar {node} {does}"
