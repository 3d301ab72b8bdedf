"""Old records leave the database, those of all nodes, once they are archived elsewhere.

It is done by who owns the tables: a node has no right to. The ledger stays whole: it names calls, and nobody.
A call that was removed is recognised by its id, which holds the time of its INVITE: a step that is repeated
for it changes nothing, and its record cannot be restated. In the chain its digest stands for it (chain.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from sidecar.adapters.postgresql.chain import BOOT_AT, COLUMNS, PERSONAL, key_of, note, stand_in
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.bodies import storable
from sidecar.adapters.store.chain import Keys
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
# A revision goes with all that it supersedes, or after it: what is left of a call must be the record that
# holds. Another node may have made it, whose broker has taken it sooner.
_IN_PART = """
    WITH gone AS (SELECT * FROM unnest(?1::int[], ?2::bigint[], ?3::bigint[]) AS gone (epoch, after, until)),
    late AS (
        SELECT cdrs.epoch, seq AS number, call_id, revision FROM cdrs JOIN gone USING (epoch)
            WHERE seq > after AND seq <= until AND revision > 0
        UNION ALL
        SELECT 0, entry, call_id, revision FROM suppressed WHERE entry > ?4 AND entry <= ?5 AND revision > 0
    )
    SELECT late.epoch, min(number) - 1 FROM late WHERE EXISTS (
        SELECT 1 FROM cdrs JOIN gone USING (epoch)
            WHERE cdrs.call_id = late.call_id AND cdrs.revision < late.revision AND seq > until
    ) OR EXISTS (
        SELECT 1 FROM suppressed
            WHERE suppressed.call_id = late.call_id AND suppressed.revision < late.revision AND entry > ?5
    ) GROUP BY late.epoch
"""
_ACCOUNT_HEADS = """
    INSERT INTO account_heads (epoch, account, seq)
        SELECT epoch, account, max(seq) FROM cdrs WHERE epoch = ? AND seq <= ? GROUP BY epoch, account
        ON CONFLICT (epoch, account) DO UPDATE SET seq = EXCLUDED.seq
"""
# Some of what goes, in its order: what its link has of it, then what names it.
_GOES = {
    "cdrs": f"SELECT link, link_hash, {COLUMNS['cdrs']}, {PERSONAL} FROM cdrs JOIN"  # noqa: S608 - names of ours alone
    " (SELECT epoch, max(seq) AS until FROM archived_epochs GROUP BY epoch) AS archived USING (epoch)"
    " WHERE seq <= until ORDER BY epoch, seq LIMIT ?",
    "suppressed": f"SELECT link, link_hash, {COLUMNS['suppressed']}, {PERSONAL} FROM suppressed"  # noqa: S608
    " WHERE entry <= (SELECT max(suppressed) FROM archives) ORDER BY entry LIMIT ?",
}
_STAYS = (
    "INSERT INTO archived_links AS kept (node, link, boot, published, kept_back, link_hash)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (node, link) DO UPDATE SET"
    " published = kept.published || EXCLUDED.published, kept_back = kept.kept_back || EXCLUDED.kept_back,"
    " link_hash = coalesce(EXCLUDED.link_hash, kept.link_hash)"
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
        heads = {span.epoch: span for span in (Span(*row) for row in server.run(_HEADS, (until_us,)))}
        ((after, until),) = server.run(_KEPT_BACK, (until_us, last))
        while in_part := server.run(_IN_PART, (*map(list, zip(*heads.values(), strict=True)), after, until)):
            for epoch, number in in_part:
                if epoch:
                    heads[epoch] = heads[epoch]._replace(until=number)
                else:
                    until = number
    spans = tuple(span for span in heads.values() if span.until > span.after)
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


def seal(server: Server, cut: Cut, archive: str, node: str, wall_ns: int, change: Change, keys: Keys) -> None:
    """It is archived, and goes. `archive`: the SHA-256 of its manifest. `change` is noted, as a commit of
    that node. StoreError where one of the `keys` is not at hand."""
    with server.transaction():
        found = server.run(
            "SELECT boots.boot, chain_key FROM boots JOIN epochs USING (epoch) WHERE node = ?"
            " ORDER BY boots.boot DESC LIMIT 1",
            (node,),
        )
        if not found:
            raise StoreError(f"{server.name}: node {node} has never begun there")
        ((boot, key_id),) = found
        try:
            key = key_of(keys, key_id, f"what node {node} wrote last")
        except ValueError as error:
            raise StoreError(str(error)) from error
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
        by = change.operator
        said = map(storable, (change.subject, change.before, change.after, change.text))
        note(server, key, node, boot, (wall_ns, storable(by.name), by.uid, change.action, *said))


def remove(server: Server, keys: Keys) -> int:
    """All that is archived, a part at a time; a crash leaves some of it, for the next one. How many went.
    StoreError where one of the `keys` is not at hand: what is left is for the next one too."""
    count = 0
    for table in _GOES:
        while gone := _remove_part(server, table, keys):
            count += gone
    return count


def _remove_part(server: Server, table: str, keys: Keys) -> int:
    """Their digests stay, in their order."""
    with server.transaction():
        rows = server.run(_GOES[table], (ROWS_PER_PART,))
        boots = {row[2 + BOOT_AT[table]] for row in rows}
        of_boots = {
            boot: (node, key_id)
            for boot, node, key_id in server.run(
                "SELECT boots.boot, node, chain_key FROM boots JOIN epochs USING (epoch)"
                " WHERE boots.boot = ANY(?)",
                (list(boots),),
            )
        }
        for (link, boot), of in groupby(rows, key=lambda row: (row[0], row[2 + BOOT_AT[table]])):
            some, (node, key_id) = list(of), of_boots[boot]
            try:
                key = key_of(keys, key_id, f"commit {link} of node {node}")
            except ValueError as error:
                raise StoreError(str(error)) from error
            digests = b"".join(stand_in(key, row[2:]) for row in some)
            kept = (digests, b"") if table == "cdrs" else (b"", digests)
            hashes = [link_hash for _, link_hash, *_ in some if link_hash is not None]
            server.run(_STAYS, (node, link, boot, *kept, hashes[0] if hashes else None))
        at = 2 + BOOT_AT[table] + 1
        gone = ([row[at] for row in rows], [row[at + 1] for row in rows])
        server.run(
            f"DELETE FROM {table} USING unnest(?::bytea[], ?::int[]) AS gone (id, number)"  # noqa: S608
            " WHERE call_id = id AND revision = number",
            gone,
        )
        return len(rows)


def last_archive(server: Server) -> str:
    """The SHA-256 of the manifest of what was archived last; empty: nothing was."""
    found = server.run("SELECT archive FROM archives ORDER BY entry DESC LIMIT 1")
    return str(found[0][0]) if found else ""
