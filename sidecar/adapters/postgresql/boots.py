"""Whose books this process writes: its node's epoch, and the boot that it is in it."""

from __future__ import annotations

import time
from typing import NamedTuple
from uuid import UUID, uuid4

from sidecar.adapters.postgresql.server import Rows, Server
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.known import Boot, Known, Slot, open_call_of
from sidecar.adapters.store.store import FoundOpen, StoreError, as_found_open
from sidecar.core.call import Stamp
from sidecar.ports import Clock
from sidecar.wire.entries import EntryError, decode_call

HELD_S_MAX = 10.0  # the server may not have noticed yet that the process before was killed
_HELD_PAUSE_S = 0.1
# Held while the connection lives: one process writes as a node.
_HOLD = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ' ' || ?, 1))"
_FENCE = "SELECT boot, commits, head_seq, acknowledged_seq FROM epochs WHERE epoch = ? FOR NO KEY UPDATE"


class FencedError(Exception):
    """Another process has taken this node's books over: nothing that this one writes may count."""


class Own(NamedTuple):
    """What this process writes as."""

    node: str
    epoch: int
    boot: Boot


class Marks(NamedTuple):
    commits: int
    head_seq: int
    acknowledged_seq: int


def hold(server: Server, node: str) -> None:
    """StoreError where another process writes as this node."""
    until_s = time.monotonic() + HELD_S_MAX
    while not server.run(_HOLD, (node,))[0][0]:
        if time.monotonic() > until_s:
            raise StoreError(
                f"{server.name}: another process writes as node {node}: give each its own node name"
            )
        time.sleep(_HELD_PAUSE_S)


def begin_boot(server: Server, node: str, boot_id: str, clock: Clock) -> Own:
    """Make the row that everything written by this process refers to. An epoch goes on over starts: the
    database forgets nothing that it has acknowledged."""
    wall_ns, mono_ns = clock.wall_ns(), clock.mono_ns()
    with server.transaction():
        found = server.run(
            "SELECT epoch, name FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ? FOR UPDATE", (node,)
        )
        if not found:
            found = server.run(
                "INSERT INTO epochs (node, name, created_wall_ns) VALUES (?, ?, ?) RETURNING epoch, name",
                (node, str(uuid4()), wall_ns),
            )
            server.run("INSERT INTO nodes (node, epoch) VALUES (?, ?)", (node, found[0][0]))
        ((epoch, name),) = found
        ((last_ns,),) = server.run(
            "SELECT coalesce(max(heartbeat_wall_ns), 0) FROM boots JOIN epochs USING (epoch) WHERE node = ?",
            (node,),
        )
        ((boot,),) = server.run(
            "INSERT INTO boots (epoch, boot_id, started_wall_ns, heartbeat_wall_ns, heartbeat_mono_ns)"
            " VALUES (?1, ?2, ?3, ?3, ?4) RETURNING boot",
            (epoch, boot_id, wall_ns, mono_ns),
        )
        server.run("UPDATE epochs SET boot = ? WHERE epoch = ?", (boot, epoch))
    return Own(node, epoch, Boot(boot, boot_id, name, 0, last_ns))


def fence(server: Server, own: Own) -> Marks:
    """Within a transaction: the epoch is ours until its end. Whoever wants to end it waits for us; an earlier
    transaction of ours whose outcome is not known is over when this returns."""
    ((boot, *marks),) = server.run(_FENCE, (own.epoch,))
    if boot != own.boot.boot:
        raise FencedError(f"node {own.node}: another process has taken over its books")
    return Marks(*marks)


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
    return known


def found_open(server: Server, node: str) -> list[FoundOpen]:
    """The calls that earlier boots of this node left open."""
    rows: Rows = server.run(
        "SELECT call_id, body, crc, account, currency, reserved, granted_s,"
        " heartbeat_mono_ns, heartbeat_wall_ns"
        " FROM open_calls JOIN boots USING (boot) WHERE node = ? ORDER BY slot",
        (node,),
    )
    found = []
    for call_id, body, crc, account, currency, reserved, granted_s, mono_ns, wall_ns in rows:
        name = f"open call {UUID(bytes=call_id)}"
        try:
            call = decode_call(sound(body, crc, name))
        except (EntryError, ValueError) as error:
            raise StoreError(f"{server.name}: {name}: {error}") from error
        held = open_call_of(account, currency, reserved, granted_s)
        found.append(as_found_open(call, held, Stamp(mono_ns, wall_ns)))
    return found
