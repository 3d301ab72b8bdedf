"""The chain of commits (core/chain) as it stands in the file, and what one transaction adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import apsw
import msgspec

from sidecar.adapters.sqlite.changing import OPEN_CALLS, SUM_VERSION, Watch, state_sum, trimmed
from sidecar.adapters.store.bodies import crc_of
from sidecar.core.chain import ORIGIN, ChainKey, Link, Row, added, sum_bytes

FULL_EVERY = 512  # commits; a row that names the last row of each table, where a reader may begin

# What each table adds to a link, its key first, in the order in which they are hashed. Of a record these are
# its open columns; its personal part follows as a digest.
TABLES = ("cdrs", "suppressed", "ledger", "audit")
_OPEN = "boot, call_id, revision, account, origin, reason, detail, gateway, ended_us"
_PERSONAL = "caller, callee, billed, body, salt, personal, crc"
_ROWS = {
    "cdrs": f"SELECT seq, written_wall_ns, {_OPEN}, {_PERSONAL}"  # noqa: S608 - names of ours alone
    " FROM cdrs LEFT JOIN cdr_bodies USING (seq) WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
    "suppressed": f"SELECT entry, {_OPEN}, {_PERSONAL}"  # noqa: S608
    " FROM suppressed WHERE entry > ?1 AND entry <= ?2 ORDER BY entry",
    "ledger": "SELECT entry, boot, account, currency, kind, amount, balance, call_id, revision, reference,"
    " booked_wall_ns, operator, text FROM ledger WHERE entry > ?1 AND entry <= ?2 ORDER BY entry",
    "audit": "SELECT entry, boot, at_wall_ns, operator, uid, action, subject, before, after, text"
    " FROM audit WHERE entry > ?1 AND entry <= ?2 ORDER BY entry",
}
_PERSONAL_COLUMNS = 7
_DAY_NS = 86_400_000_000_000
# When a row was written: its column, the key of the table, the unit in ns.
_WRITTEN = {
    "cdrs": ("written_wall_ns", "seq", 1),
    "suppressed": ("ended_us", "entry", 1_000),
    "ledger": ("booked_wall_ns", "entry", 1),
    "audit": ("at_wall_ns", "entry", 1),
}
_HEADS = (
    "SELECT (SELECT coalesce(max(seq), 0) FROM cdrs), (SELECT coalesce(max(entry), 0) FROM suppressed),"
    " (SELECT coalesce(max(entry), 0) FROM ledger), (SELECT coalesce(max(entry), 0) FROM audit)"
)
_ADD = "INSERT INTO commits (number, key, seq, suppressed, ledger, audit, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
_KEEP = (
    "UPDATE store SET head_seq = ?, acknowledged_seq = ?, commit_number = ?, commit_hash = ?, state_sum = ?,"
    " chain_key = ?, seal = ?, sum_version = ?"
)


class Heads(NamedTuple):
    """The last row of each table of the chain."""

    seq: int = 0
    suppressed: int = 0
    ledger: int = 0
    audit: int = 0


class Marks(NamedTuple):
    """Of the outbox: see `store` in the schema."""

    head_seq: int
    acknowledged_seq: int


class Chain(msgspec.Struct, kw_only=True):
    """How far it goes, as the last commit has left it."""

    key: ChainKey
    key_number: int
    link: Link
    heads: Heads
    marks: Marks
    state_sum: int
    full_at: int  # the number of the last row that names all heads
    open_digests: dict[int, int]  # slot -> what its row adds to the sum
    watch: Watch


class Draft:
    """What one transaction adds. The chain itself stays as it was until `committed`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._key = chain.key
        self.link = chain.link
        self._heads = chain.heads
        self._marks = chain.marks
        self._full_at = chain.full_at
        self._state_sum = chain.state_sum
        chain.watch.taken()  # of a transaction that was rolled back
        self._open_digests: dict[int, int | None] = {}

    @property
    def next_suppressed(self) -> int:
        return self._heads.suppressed + 1

    @property
    def next_ledger(self) -> int:
        return self._heads.ledger + 1

    @property
    def next_audit(self) -> int:
        return self._heads.audit + 1

    # --- what changes ---------------------------------------------------------------------------------------

    def put(self, table: str, row: Row) -> None:
        self._state_sum = added(self._state_sum, (self._key.state(table, trimmed(row)),))

    def take(self, table: str, row: Row) -> None:
        self._state_sum = added(self._state_sum, (-self._key.state(table, trimmed(row)),))

    def put_open(self, slot: int, row: Row) -> None:
        """`row`: as `changing.OPEN_CALL` gives it."""
        self.take_open(slot)
        digest = self._open_digests[slot] = self._key.state("open_calls", row)
        self._state_sum = added(self._state_sum, (digest,))

    def take_open(self, slot: int) -> None:
        digests = self._open_digests
        before = digests[slot] if slot in digests else self._chain.open_digests.get(slot)
        if before is not None:
            self._state_sum = added(self._state_sum, (-before,))
            digests[slot] = None

    # --- what is added for good -----------------------------------------------------------------------------

    def personal(self, salt: bytes, part: Row) -> bytes:
        """What stands for the personal part of a record, its numbers and its body, in the last place of its
        row."""
        return self._key.personal(salt, part)

    def write(self, connection: apsw.Connection, tables: Sequence[Sequence[Row]], marks: Marks) -> None:
        """The link of this commit, where it adds something for good (`tables`, as TABLES has them), and how
        far the chain goes; nothing where nothing of it changed."""
        has_link = any(tables)
        self._state_sum = added(self._state_sum, (self._chain.watch.taken(),))
        if not has_link and self._state_sum == self._chain.state_sum and marks == self._marks:
            return
        chain, number = self._chain, self.link.number + 1
        if has_link:
            digest = self._key.link(number, self.link.hash, zip(TABLES, tables, strict=True))
            before, heads = (
                self._heads,
                Heads(
                    *(
                        int(rows[-1][0]) if rows else head  # type: ignore[call-overload]
                        for rows, head in zip(tables, self._heads, strict=True)
                    )
                ),
            )
            is_full = number - self._full_at >= FULL_EVERY
            named = [now if is_full or now != was else None for now, was in zip(heads, before, strict=True)]
            connection.execute(_ADD, (number, chain.key_number, *named, digest))
            self._heads, self.link = heads, Link(number, digest)
            self._full_at = number if is_full else self._full_at
        else:
            self.link = Link(number, self.link.hash)
        self._marks = marks
        _keep(connection, self.link, self._state_sum, marks, self._key, chain.key_number)

    def committed(self) -> None:
        chain = self._chain
        chain.link, chain.heads, chain.marks = self.link, self._heads, self._marks
        chain.state_sum, chain.full_at = self._state_sum, self._full_at
        for slot, digest in self._open_digests.items():
            if digest is None:
                chain.open_digests.pop(slot, None)
            else:
                chain.open_digests[slot] = digest


# --- the file -----------------------------------------------------------------------------------------------


def recalled(connection: apsw.Connection, key: ChainKey) -> Chain:
    """How far the chain goes in a file that `begin_chain` has prepared for this key."""
    ((head_seq, acknowledged_seq, number, digest, state_sum, key_number),) = connection.execute(
        "SELECT head_seq, acknowledged_seq, commit_number, commit_hash, state_sum, chain_key FROM store"
    )
    last: int = connection.execute("SELECT coalesce(max(number), 0) FROM commits").get
    _, heads = heads_at(connection, last)
    return Chain(
        key=key,
        key_number=key_number,
        link=Link(number, digest),
        heads=Heads(*map(max, heads, heads_of(connection))),
        marks=Marks(head_seq, acknowledged_seq),
        state_sum=int.from_bytes(state_sum, "big"),
        full_at=_full_at(connection, last),
        open_digests={int(row[0]): key.state("open_calls", row) for row in connection.execute(OPEN_CALLS)},
        watch=Watch(connection, key),
    )


def begin_chain(connection: apsw.Connection, key: ChainKey, wall_ns: int) -> None:
    """At each start, when all is written that is not a commit of the writer: the first links, over all that
    is there, in a file that has none; the sum and the seal, which `begin_boot` and a new key leave behind."""
    with connection:
        key_number = _key_number(connection, key, wall_ns)
        ((number, digest, head_seq, acknowledged_seq),) = connection.execute(
            "SELECT commit_number, commit_hash, head_seq, acknowledged_seq FROM store"
        )
        link = Link(number, digest)
        if not connection.execute("SELECT EXISTS (SELECT 1 FROM commits)").get:
            link = _first_links(connection, key, key_number, number)
        _keep(
            connection, link, state_sum(connection, key), Marks(head_seq, acknowledged_seq), key, key_number
        )


def _first_links(connection: apsw.Connection, key: ChainKey, key_number: int, number: int) -> Link:
    """Over rows that no chain holds (those of a salvaged file, or of one that is older than the chain): one
    for each day, so that retention can cut between them."""
    heads, link = Heads(), Link(number, ORIGIN)
    for until in _days(connection):
        at = link.number + 1
        rows = (
            (name, chain_rows(connection, key, name, after, last))
            for name, after, last in zip(TABLES, heads, until, strict=True)
        )
        link, heads = Link(at, key.link(at, link.hash, rows)), until
        connection.execute(_ADD, (at, key_number, *heads, link.hash))
    return link


def _days(connection: apsw.Connection) -> list[Heads]:
    """The last rows up to the end of each day on which something was written; at least one entry, the last of
    all."""
    last: dict[int, list[int]] = {}
    for at, name in enumerate(TABLES):
        column, key, ns = _WRITTEN[name]
        for day, head in connection.execute(
            f"SELECT {column} / {_DAY_NS // ns} AS day, max({key}) FROM {name} GROUP BY day"  # noqa: S608
        ):
            last.setdefault(day, [0] * len(TABLES))[at] = head
    days, heads = [], Heads()
    for _, found in sorted(last.items()):
        heads = Heads(*map(max, heads, found))
        days.append(heads)
    return days or [heads]


def chain_rows(
    connection: apsw.Connection, key: ChainKey, table: str, after: int, until: int
) -> Iterator[Row]:
    """The rows of one table as a link has them."""
    return (chained(table, row, key) for row in stored_rows(connection, table, after, until))


def stored_rows(
    connection: apsw.Connection, table: str, after: int, until: int
) -> Iterator[tuple[object, ...]]:
    rows: Iterator[tuple[object, ...]] = connection.execute(_ROWS[table], (after, until))
    return rows


def chained(table: str, row: tuple[object, ...], key: ChainKey) -> Row:
    if table in ("ledger", "audit"):
        return trimmed(row)
    salt, erased, _ = row[-3:]
    digest = erased if erased is not None else key.personal(salt, row[-_PERSONAL_COLUMNS:-3])  # type: ignore[arg-type]
    return (*row[:-_PERSONAL_COLUMNS], digest)


def is_sound(row: tuple[object, ...]) -> bool:
    """Of a record, whether its checksum is that of its bytes."""
    body, _, _, crc = row[-4:]
    return body is None or crc_of(body) == crc  # type: ignore[arg-type]


def heads_of(connection: apsw.Connection) -> Heads:
    (row,) = connection.execute(_HEADS)
    return Heads(*row)


def heads_at(connection: apsw.Connection, number: int) -> tuple[Link, Heads]:
    """The link at or before this number, and the heads as they stood after it."""
    link, heads = Link(0, ORIGIN), Heads()
    for at, digest, *named in connection.execute(
        "SELECT number, hash, seq, suppressed, ledger, audit FROM commits"
        " WHERE number BETWEEN ? AND ? ORDER BY number",
        (_full_at(connection, number), number),
    ):
        link, heads = Link(at, digest), moved(heads, named)
    return link, heads


def _full_at(connection: apsw.Connection, number: int) -> int:
    """The last row at or before this number that names all heads; 0: there is none."""
    found: int | None = connection.execute(
        "SELECT number FROM commits WHERE number <= ? AND seq IS NOT NULL AND suppressed IS NOT NULL"
        " AND ledger IS NOT NULL AND audit IS NOT NULL ORDER BY number DESC LIMIT 1",
        (number,),
    ).get
    return found or 0


def moved(heads: Heads, named: Sequence[int | None]) -> Heads:
    return Heads(*[was if now is None else now for now, was in zip(named, heads, strict=True)])


def _key_number(connection: apsw.Connection, key: ChainKey, wall_ns: int) -> int:
    found: int | None = connection.execute("SELECT key FROM chain_keys WHERE id = ?", (key.id,)).get
    if found is not None:
        return found
    connection.execute("INSERT INTO chain_keys (id, since_wall_ns) VALUES (?, ?)", (key.id, wall_ns))
    return connection.last_insert_rowid()


def _keep(
    connection: apsw.Connection, link: Link, state: int, marks: Marks, key: ChainKey, key_number: int
) -> None:
    sealed = key.seal(link, state, (*marks, SUM_VERSION))
    connection.execute(_KEEP, (*marks, *link, sum_bytes(state), key_number, sealed, SUM_VERSION))
