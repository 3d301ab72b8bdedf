"""Whose books this process writes: its node's epoch, and the boot that it is in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid4

import psycopg

from sidecar.adapters.postgresql.server import Rows, Server
from sidecar.adapters.store.bodies import DamagedError, crc_of
from sidecar.adapters.store.known import Boot, Known, Slot, open_call_of
from sidecar.adapters.store.refusals import kept_refusals
from sidecar.adapters.store.store import FoundOpen, StoreAwayError, StoreError, found_call
from sidecar.core.cdr import Cdr
from sidecar.core.chain import ORIGIN, ChainKey, Link
from sidecar.ports import Clock, Loss, Seen
from sidecar.wire.entries import ENTRY_VERSION, EntryError, decode_call

HELD_S_MAX = 10.0  # the server may not have noticed yet that the process before was killed
_HELD_PAUSE_S = 0.1
# Held while the connection lives: one process writes as a node. The server may keep it for hours where the
# machine is gone, or sleeps: then the lease says so.
_HOLD = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ' ' || ?, 1))"
_IS_OVER = "SELECT leased_until < clock_timestamp() FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ?"
# Until when the process lives, as far as the others know.
LEASED = "leased_until = clock_timestamp() + {} * interval '1 second'"
START_LEASE_S = 60.0  # a start commits at no regular times
_FENCE = (
    "SELECT boot, commits, head_seq, acknowledged_seq, link, link_hash FROM epochs WHERE epoch = ?"
    " FOR NO KEY UPDATE"
)


# Other than what an epoch was written to last: a dump was put back (another table, database or cluster), or a
# standby has taken over, or the server was recovered to a moment (another timeline). What was acknowledged
# since may be missing, and nobody can tell.
_PLACE = (
    "SELECT concat_ws(' ', system_identifier, 'epochs'::regclass::oid,"
    " left(pg_walfile_name(pg_current_wal_lsn()), 8)) FROM pg_control_system()"
)


class FencedError(Exception):
    """Another process has taken this node's books over: nothing that this one writes may count."""


class Own(NamedTuple):
    """What this process writes as."""

    node: str
    epoch: int
    boot: Boot
    key: ChainKey  # of the chain
    writer: str = ""  # as which node it was started, where that is another one: it has taken over

    @property
    def is_taken(self) -> bool:
        return bool(self.writer)


# The numbers of a node go on over its epochs: each is one record's.
OF_NODE = "epoch IN (SELECT epoch FROM epochs WHERE node = {})"


class Marks(NamedTuple):
    commits: int
    head_seq: int
    acknowledged_seq: int
    link: Link  # how far the chain of the node goes


def hold(server: Server, node: str) -> None:
    """StoreAwayError where another process writes as this node: it may be gone, with its machine, only the
    server has not noticed, and its lease is longer than we wait."""
    until_s = time.monotonic() + HELD_S_MAX
    while not server.run(_HOLD, (node,))[0][0] and server.run(_IS_OVER, (node,)) != [(True,)]:
        if time.monotonic() > until_s:
            raise StoreAwayError(
                f"{server.name}: another process writes as node {node}: give each its own node name"
            )
        time.sleep(_HELD_PAUSE_S)


class Begun(NamedTuple):
    own: Own
    is_new: bool  # nothing of this node was here
    loss: Loss | None


def begin_boot(
    server: Server, node: str, boot_id: str, clock: Clock, seen: Seen | None, tenant: str, key: ChainKey
) -> Begun:
    """Make the row that everything written by this process refers to. An epoch goes on over starts: the
    database forgets nothing that it has acknowledged. Where the broker has `seen` more, it was restored. Who
    has taken over for this node is fenced by it."""
    wall_ns = clock.wall_ns()
    loss = None
    with server.transaction():
        found = server.run(
            "SELECT epoch, name, base_seq FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ?"
            " FOR UPDATE",
            (node,),
        )
        if is_new := not found:
            found = begin_epoch(server, node, wall_ns, 0)
        elif cause := contradicted(server, node, seen) or elsewhere(server, found[0][0]):
            loss, head_seq = _leave_epoch(server, node, found[0][0], cause, seen)
            found = begin_epoch(server, node, wall_ns, head_seq)
        own = boot_in(server, node, found, boot_id, clock, tenant, key, "")
    return Begun(own, is_new, loss)


def boot_in(
    server: Server,
    node: str,
    found: Rows,
    boot_id: str,
    clock: Clock,
    tenant: str,
    key: ChainKey,
    writer: str,
) -> Own:
    ((epoch, name, base_seq),) = found
    ((last_ns,),) = server.run(
        "SELECT coalesce(max(heartbeat_wall_ns), 0) FROM boots JOIN epochs USING (epoch) WHERE node = ?",
        (node,),
    )
    ((boot,),) = server.run(
        "INSERT INTO boots (epoch, boot_id, started_wall_ns, heartbeat_wall_ns, heartbeat_mono_ns, chain_key)"
        " VALUES (?1, ?2, ?3, ?3, ?4, ?5) RETURNING boot",
        (epoch, boot_id, clock.wall_ns(), clock.mono_ns(), key.id),
    )
    server.run(
        "UPDATE epochs SET boot = ?1, tenant = ?2, writer = ?3, heard_at = '', lease_s = ?4,"  # noqa: S608
        f" {LEASED.format('?4')}, place = ?6 WHERE epoch = ?5",
        (boot, tenant, writer or node, START_LEASE_S, epoch, _place(server)),
    )
    return Own(node, epoch, Boot(boot, boot_id, name, base_seq, last_ns), key, writer)


def contradicted(server: Server, node: str, seen: Seen | None) -> str:
    """Why what the broker has seen is not of these books of the node; empty: it is, or nobody knows."""
    if seen is None:
        return ""
    found = server.run(
        "SELECT head_seq, nodes.epoch FROM epochs LEFT JOIN nodes USING (epoch)"
        " WHERE epochs.node = ? AND name = ?",
        (node, seen.epoch),
    )
    if not found:
        return f"the broker has the status of epoch {seen.epoch}, which this node never had"
    head_seq, current = found[0]
    if current is None or seen.head_seq is None or seen.head_seq <= head_seq:
        return ""
    return f"the broker was told of record {seen.head_seq}, and {head_seq} is the last one here"


def _place(server: Server) -> str:
    return str(server.run(_PLACE)[0][0])


def elsewhere(server: Server, epoch: int) -> str:
    """Why these books may not be all that was written in that epoch; empty: they are where they were."""
    ((place,),) = server.run("SELECT place FROM epochs WHERE epoch = ?", (epoch,))
    if place in ("", now := _place(server)):
        return ""
    where = f"written to {place} (system, table, timeline), now {now}"
    return f"the books were put back, or a standby has taken over: {where}"


def forget_node(server: Server, node: str) -> None:
    """What `begin_boot` has made of a new one, where nothing refers to it yet."""
    with suppress(psycopg.errors.ForeignKeyViolation), server.transaction():
        server.run("DELETE FROM nodes WHERE node = ?", (node,))
        server.run(f"DELETE FROM boots WHERE {OF_NODE.format('?')}", (node,))  # noqa: S608
        server.run("DELETE FROM epochs WHERE node = ?", (node,))


def _leave_epoch(server: Server, node: str, epoch: int, cause: str, seen: Seen | None) -> tuple[Loss, int]:
    """Nothing is written in it any more; what waits in it still goes to the broker. Returns the highest
    number that is known to have been given."""
    head_seq = end_epoch(server, node, epoch)
    told_seq = max(head_seq, seen.head_seq or 0) if seen is not None else head_seq
    doubt(server, node)
    ((calls,),) = server.run("SELECT count(*) FROM open_calls WHERE node = ?", (node,))
    loss = Loss(
        cause=cause,
        commits_lost=0,  # nobody has counted them elsewhere
        numbers_lost=told_seq - head_seq,
        calls_maybe_told=calls,
    )
    return loss, told_seq


def end_epoch(server: Server, node: str, epoch: int) -> int:
    """Its records that wait do so behind the mark. Returns the highest number that the node has given."""
    server.run(
        "INSERT INTO outbox_behind (epoch, seq, queued_wall_ns)"
        " SELECT epoch, seq, written_wall_ns FROM cdrs JOIN epochs USING (epoch)"
        " WHERE epoch = ? AND seq > acknowledged_seq ON CONFLICT DO NOTHING",
        (epoch,),
    )
    server.run("UPDATE epochs SET acknowledged_seq = head_seq, boot = NULL WHERE epoch = ?", (epoch,))
    ((head_seq,),) = server.run("SELECT max(head_seq) FROM epochs WHERE node = ?", (node,))
    return int(head_seq)


def doubt(server: Server, node: str) -> None:
    """The records that it owes may have left already, with another content."""
    for table in ("open_calls", "refusals"):
        server.run(f"UPDATE {table} SET maybe_told = 1 WHERE node = ?", (node,))  # noqa: S608


def begin_epoch(server: Server, node: str, wall_ns: int, base_seq: int) -> Rows:
    """With numbers behind `base_seq`. The chain goes on."""
    before = server.run(
        "SELECT link, link_hash FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ?", (node,)
    )
    found = server.run(
        "INSERT INTO epochs"
        " (node, name, created_wall_ns, base_seq, head_seq, acknowledged_seq, link, link_hash)"
        " VALUES (?1, ?2, ?3, ?4, ?4, ?4, ?5, ?6) RETURNING epoch, name, base_seq",
        (node, str(uuid4()), wall_ns, base_seq, *(before[0] if before else Link(0, ORIGIN))),
    )
    server.run(
        "INSERT INTO nodes (node, epoch) VALUES (?, ?)"
        " ON CONFLICT (node) DO UPDATE SET epoch = EXCLUDED.epoch",
        (node, found[0][0]),
    )
    return found


def fence(server: Server, own: Own) -> Marks:
    """Within a transaction: the epoch is ours until its end. Whoever wants to end it waits for us; an earlier
    transaction of ours whose outcome is not known is over when this returns."""
    return fenced(own, server.run(_FENCE, (own.epoch,)))


def ask_fence(server: Server, own: Own) -> Callable[[], Marks]:
    """The same in a pipeline, known once that is over."""
    found = server.ask(_FENCE, (own.epoch,))
    return lambda: fenced(own, found())


def fenced(own: Own, found: Rows) -> Marks:
    ((boot, commits, head_seq, acknowledged_seq, *link),) = found
    if boot != own.boot.boot:
        raise FencedError(f"node {own.node}: another process has taken over its books")
    return Marks(commits, head_seq, acknowledged_seq, Link(*link))


def recall(server: Server, own: Own, marks: Marks) -> Known:
    """What the writer keeps in memory, read from the database."""
    known = Known()
    known.head_seq = marks.head_seq
    for slot, call_id, account, currency, reserved, granted_s, maybe_told in server.run(
        "SELECT slot, call_id, account, currency, reserved, granted_s, maybe_told FROM open_calls"
        " WHERE node = ?",
        (own.node,),
    ):
        known.next_slot = max(known.next_slot, slot + 1)
        open_call = open_call_of(account, currency, reserved, granted_s)
        known.open[UUID(bytes=call_id).int] = Slot(slot, open_call, maybe_told=bool(maybe_told))
    if not own.is_taken:  # those of a dead node stay its own: what it spent of them is on its disk
        known.tranches = tranches_of(server, own.node)
    return known


def tranches_of(server: Server, node: str) -> dict[tuple[str, str], Decimal]:
    """By account and currency."""
    sql = "SELECT account, currency, amount FROM tranches WHERE node = ? ORDER BY account, currency"
    return {(account, currency): amount for account, currency, amount in server.run(sql, (node,))}


class Damaged(NamedTuple):
    """An entry of an open call that is not what was written."""

    call_id: UUID
    account: str | None
    cause: str
    body: bytes
    crc: int


def refuse_other_versions(server: Server, node: str) -> None:
    """StoreError where an open call of the node is whole, and of a version that this program does not know:
    whoever wrote it can end it."""
    sql = "SELECT call_id, body, crc FROM open_calls WHERE node = ? AND substring(body FOR 1) <> ?"
    for call_id, body, crc in server.run(sql, (node, bytes([ENTRY_VERSION]))):
        if crc_of(body) == crc:
            try:
                decode_call(body)
            except EntryError as error:
                raise StoreError(f"open call {UUID(bytes=call_id)}: {error}") from error


def found_open(server: Server, node: str) -> tuple[list[FoundOpen], list[Damaged]]:
    """The calls that earlier boots of this node left open, and those that cannot be read."""
    rows: Rows = server.run(
        "SELECT call_id, body, crc, account, currency, reserved, granted_s,"
        " heartbeat_mono_ns, heartbeat_wall_ns"
        " FROM open_calls JOIN boots USING (boot) WHERE node = ? ORDER BY slot",
        (node,),
    )
    found, damaged = list[FoundOpen](), list[Damaged]()
    for row in rows:
        try:
            found.append(found_call(row))
        except (EntryError, DamagedError) as error:
            call_id, body, crc, account, *_ = row
            damaged.append(Damaged(UUID(bytes=call_id), account, str(error), body, crc))
    return found, damaged


def found_refusals(server: Server, own: Own) -> list[Cdr]:
    sql = "SELECT body, crc, maybe_told FROM refusals WHERE node = ? ORDER BY entry"
    rows = ((body, crc, maybe_told) for body, crc, maybe_told in server.run(sql, (own.node,)))
    return kept_refusals(rows, own.boot.epoch)
