"""Which nodes live, as the database knows it, and the books of one that does not (core/takeover decides)."""

from __future__ import annotations

from sidecar.adapters.postgresql.boots import LEASED, Own, begin_epoch, boot_in, doubt, elsewhere, end_epoch
from sidecar.adapters.postgresql.server import Server
from sidecar.core.chain import ChainKey
from sidecar.core.takeover import Node
from sidecar.ports import Clock

REST_LEASE_S = 30.0  # it has ended by itself, and may be about to start again


def take_over(
    server: Server, dead: Node, tenant: str, writer: str, boot_id: str, clock: Clock, key: ChainKey
) -> Own | None:
    """Open a new epoch for a node whose lease is over, and be its writer: who wrote in the old one is fenced.
    None: somebody else has, or it lives again. Its numbers go on behind the last that was given, as after
    each epoch of a node: a replay, a dead letter and a person name a record of a node by its number alone."""
    wall_ns = clock.wall_ns()
    with server.transaction():
        found = server.run(
            "SELECT 1 FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ? AND epoch = ? AND boot = ?"
            " AND leased_until < clock_timestamp() FOR UPDATE",
            (dead.name, dead.epoch, dead.boot),
        )
        if not found:
            return None
        if elsewhere(server, dead.epoch):
            doubt(server, dead.name)
        head_seq = end_epoch(server, dead.name, dead.epoch)
        found = begin_epoch(server, dead.name, wall_ns, head_seq)
        return boot_in(server, dead.name, found, boot_id, clock, tenant, key, writer)


def rest(server: Server, own: Own) -> None:
    """The process ends: what it has taken over is anybody's, what is its own waits for its next start."""
    lease_s = 0.0 if own.is_taken else REST_LEASE_S
    server.run(
        f"UPDATE epochs SET lease_s = ?1, {LEASED.format('?1')} WHERE epoch = ?2 AND boot = ?3",  # noqa: S608
        (lease_s, own.epoch, own.boot.boot),
    )


# Of other nodes of a tenant: their present epochs. Work is looked for where it matters.
_NODES = """
    SELECT nodes.node, epoch, boot, writer, heard_at, is_over, is_over AND (
        head_seq > acknowledged_seq
        OR EXISTS (SELECT 1 FROM open_calls WHERE open_calls.node = nodes.node)
        OR EXISTS (SELECT 1 FROM refusals WHERE refusals.node = nodes.node)
        OR EXISTS (
            SELECT 1 FROM outbox_behind JOIN epochs AS theirs USING (epoch) WHERE theirs.node = nodes.node
        )),
        extract(epoch FROM clock_timestamp() - leased_until) + lease_s
    FROM nodes JOIN epochs USING (epoch),
        LATERAL (SELECT leased_until < clock_timestamp() AS is_over) AS lease
    WHERE tenant = ? AND nodes.node <> ? AND boot IS NOT NULL ORDER BY nodes.node
"""


def other_nodes(server: Server, tenant: str, own: str) -> list[Node]:
    return [
        Node(
            name=name,
            epoch=epoch,
            boot=boot,
            writer=writer,
            heard_at=tuple(heard_at.split()),
            is_over=is_over,
            has_work=has_work,
            silent_s=float(silent_s),
        )
        for name, epoch, boot, writer, heard_at, is_over, has_work, silent_s in server.run(
            _NODES, (tenant, own)
        )
    ]
