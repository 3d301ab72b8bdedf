"""Old records leave the database, those of all nodes, once they are archived elsewhere.

It is done by who owns the tables: a node has no right to. The ledger stays whole: it names calls, and nobody.
A call that was removed is recognised by its id, which holds the time of its INVITE: a step that is repeated
for it changes nothing, and its record cannot be restated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.adapters.postgresql.batch import AUDIT_IN_ORDER
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.bodies import storable
from sidecar.adapters.store.records import record
from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import Change
from sidecar.core.cdr import Cdr

ROWS_PER_PART = 5_000

# Of each epoch what is archived, and up to where only calls lie that ended before, which the broker has.
_HEADS = """
    SELECT epoch, begin, least(
        acknowledged_seq,
        coalesce((SELECT min(seq) - 1 FROM cdrs WHERE cdrs.epoch = epochs.epoch AND ended_us >= ?), head_seq),
        coalesce((SELECT min(seq) - 1 FROM outbox_behind AS row WHERE row.epoch = epochs.epoch), head_seq),
        coalesce((SELECT min(seq) - 1 FROM dead_letters AS row WHERE row.epoch = epochs.epoch), head_seq)
    ) FROM epochs, LATERAL (
        SELECT coalesce(max(seq), base_seq) AS begin
            FROM archived_epochs AS row WHERE row.epoch = epochs.epoch
    ) AS archived ORDER BY epoch
"""
_KEPT_BACK = """
    SELECT (SELECT coalesce(max(suppressed), 0) FROM archives),
        least(?2, coalesce((SELECT min(entry) - 1 FROM suppressed WHERE ended_us >= ?1), ?2))
"""
_ACCOUNT_HEADS = """
    INSERT INTO account_heads (epoch, account, seq)
        SELECT epoch, account, max(seq) FROM cdrs WHERE epoch = ? AND seq <= ? GROUP BY epoch, account
        ON CONFLICT (epoch, account) DO UPDATE SET seq = EXCLUDED.seq
"""
_REMOVED = (
    (
        "DELETE FROM cdrs WHERE (epoch, seq) IN (SELECT epoch, seq FROM cdrs JOIN"
        " (SELECT epoch, max(seq) AS until FROM archived_epochs GROUP BY epoch) AS archived USING (epoch)"
        " WHERE seq <= until LIMIT ?) RETURNING 1"
    ),
    (
        "DELETE FROM suppressed WHERE entry IN (SELECT entry FROM suppressed"
        " WHERE entry <= (SELECT max(suppressed) FROM archives) LIMIT ?) RETURNING 1"
    ),
)


class Span(NamedTuple):
    """Of an epoch: the numbers behind one, up to another."""

    epoch: int
    after: int
    until: int


class Cut(NamedTuple):
    """What may go."""

    until_us: int  # calls that ended before
    published: tuple[Span, ...]
    kept_back: tuple[int, int]  # entries behind one, up to another


def next_cut(server: Server, until_us: int) -> Cut | None:
    """None: nothing can go."""
    with server.transaction():
        server.run("LOCK TABLE suppressed IN SHARE MODE")  # up to its last entry there is none to come
        ((last,),) = server.run("SELECT coalesce(max(entry), 0) FROM suppressed")
    with server.moment():
        spans = tuple(Span(*row) for row in server.run(_HEADS, (until_us,)))
        ((after, until),) = server.run(_KEPT_BACK, (until_us, last))
    spans = tuple(span for span in spans if span.until > span.after)
    return Cut(until_us, spans, (after, max(after, until))) if spans or until > after else None


def published(server: Server, cut: Cut) -> Iterator[Cdr]:
    """All revisions. In a transaction."""
    for epoch, after, until in cut.published:
        sql = "SELECT seq, body, crc FROM cdrs WHERE epoch = ? AND seq > ? AND seq <= ? ORDER BY seq"
        for row in server.stream(sql, (epoch, after, until)):
            yield record(*row)


def kept_back(server: Server, cut: Cut) -> Iterator[Cdr]:
    sql = "SELECT entry, body, crc FROM suppressed WHERE entry > ? AND entry <= ? ORDER BY entry"
    return (record(*row) for row in server.stream(sql, cut.kept_back))


def seal(server: Server, cut: Cut, archive: str, node: str, wall_ns: int, change: Change) -> None:
    """It is archived, and goes. `archive`: the SHA-256 of its manifest. `change` is noted."""
    with server.transaction():
        ((boot,),) = server.run(
            "SELECT max(boots.boot) FROM boots JOIN epochs USING (epoch) WHERE node = ?", (node,)
        )
        if boot is None:
            raise StoreError(f"{server.name}: node {node} has never begun there")
        ((entry,),) = server.run(
            "INSERT INTO archives (until_us, archive, suppressed, removed_wall_ns) VALUES (?, ?, ?, ?)"
            " RETURNING entry",
            (cut.until_us, archive, cut.kept_back[1], wall_ns),
        )
        for span in cut.published:
            server.run(
                "INSERT INTO archived_epochs (archive, epoch, seq) VALUES (?, ?, ?)",
                (entry, span.epoch, span.until),
            )
            server.run(_ACCOUNT_HEADS, (span.epoch, span.until))
        server.run(AUDIT_IN_ORDER)
        by = change.operator
        server.run(
            "INSERT INTO audit (boot, at_wall_ns, operator, uid, action, subject, before, after, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                boot,
                wall_ns,
                storable(by.name),
                by.uid,
                change.action,
                *map(storable, (change.subject, change.before, change.after, change.text)),
            ),
        )


def remove(server: Server) -> int:
    """All that is archived, a part at a time; a crash leaves some of it, for the next one. How many went."""
    count = 0
    for sql in _REMOVED:
        while gone := len(server.run(sql, (ROWS_PER_PART,))):
            count += gone
    return count


def last_archive(server: Server) -> str:
    """The SHA-256 of the manifest of what was archived last; empty: nothing was."""
    found = server.run("SELECT archive FROM archives ORDER BY entry DESC LIMIT 1")
    return str(found[0][0]) if found else ""
