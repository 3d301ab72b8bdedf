"""The chain of commits (core/chain) of each node, over all of its epochs: whoever writes in a node's place
goes on with that node's chain, under a key of its own, which `boots` names.

A row names the commit that has written it (`link`), and the last row of a commit has its hash: there is no
statement and no row more in a transaction than without a chain. `epochs` has the head of it, which the fence
of the next transaction reads. Numbers that the database gives are in no link; what gives a row its place
among the others of its commit is their order.

Where SQLite hashes the whole row of a record, a link holds a digest of it here: one of its records may be
archived and removed before the others, and its digest stays (`archived_links`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.adapters.postgresql.server import Rows, Server, as_text
from sidecar.adapters.store.chain import NOT_AT_HAND, Keys
from sidecar.core.chain import ChainKey, Link, Row

# In the order in which they are hashed. Who erases notes it: the last row of a commit is never an erasure.
TABLES = ("cdrs", "suppressed", "ledger", "erased", "audit")
# What a link holds of each, as it is; of the two kinds of records by a digest, over that of their personal
# part too.
OPENED = "boot, call_id, revision, account, origin, reason, detail, gateway, ended_us"
PERSONAL = "caller, callee, billed, body, salt, personal"
_PERSONAL_COLUMNS = 6
COLUMNS = {
    "cdrs": f"epoch, seq, written_wall_ns, {OPENED}",
    "suppressed": OPENED,
    "ledger": "boot, account, currency, kind, amount::text, balance::text, call_id, revision, reference,"
    " booked_wall_ns, operator, text",
    "erased": "call_id, revision, crc_before, crc, boot, erased_wall_ns",
    "audit": "boot, at_wall_ns, operator, uid, action, subject, before, after, text",
}
_AMOUNTS = slice(4, 6)
BOOT_AT = {table: columns.split(", ").index("boot") for table, columns in COLUMNS.items()}  # in such a row

# Audit entries are in the order of their commits.
AUDIT_IN_ORDER = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' audit', 2))"


class Draft:
    """What one transaction adds to the chain of a node."""

    def __init__(self, key: ChainKey) -> None:
        self._key = key
        self.link: Link | None = None  # once it is sealed; None: it adds nothing for good

    def begin(self, before: Link) -> None:
        """Behind that one, which nobody else can follow until the end of the transaction."""
        self._before: Link = before

    @property
    def number(self) -> int:
        return self._before.number + 1

    def record(self, opened: Row, salt: bytes, personal: Row) -> bytes:
        return record_digest(self._key, as_stored(opened), self._key.personal(salt, as_stored(personal)))

    def seal(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Of each table what a link holds of its rows, in the order in which they are written."""
        written = [table for table in TABLES if rows.get(table)]
        if written:
            self._last = written[-1]
            self.link = Link(self.number, link_hash(self._key, self._before, rows))

    def last(self, table: str) -> bytes | None:
        """What the last row of it has of the hash."""
        return self.link.hash if self.link is not None and table == self._last else None


def link_hash(key: ChainKey, before: Link, rows: Mapping[str, Sequence[Row]]) -> bytes:
    tables = [(table, of) for table in TABLES if (of := rows.get(table))]
    return key.link(before.number + 1, before.hash, tables)


def record_digest(key: ChainKey, opened: Row, personal: bytes) -> bytes:
    return key.record((*opened, personal))


def stand_in(key: ChainKey, row: Row) -> bytes:
    """What stands for a record in its link. `row`: as COLUMNS has it, then as PERSONAL."""
    *part, salt, erased = row[-_PERSONAL_COLUMNS:]
    digest = erased if erased is not None else key.personal(salt, part)  # type: ignore[arg-type]
    return record_digest(key, row[:-_PERSONAL_COLUMNS], digest)  # type: ignore[arg-type]


def as_stored(row: Row) -> Row:
    """As the database gives it back."""
    return [as_text(one) if type(one) is str else one for one in row]


def movement(row: Row) -> Row:
    """Of the ledger, as the database gives it back: a zero has no sign there."""
    found = list(as_stored(row))
    for at in range(*_AMOUNTS.indices(len(found))):
        amount = str(found[at])
        found[at] = amount[1:] if amount[0] == "-" and not amount.strip("-0.") else amount
    return found


def key_of(keys: Keys, name: str, whose: str) -> ChainKey:
    """ValueError where it is not there."""
    key = keys.get(name)
    if key is None:
        raise ValueError(f"the key {name}, under which {whose} was written, {NOT_AT_HAND}")
    return key


def head_of(server: Server, node: str) -> tuple[str, Link] | None:
    """The epoch, and how far the chain goes; None: the node has never begun."""
    found: Rows = server.run(
        "SELECT name, link, link_hash FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ?", (node,)
    )
    return (found[0][0], Link(*found[0][1:])) if found else None


def note(server: Server, key: ChainKey, node: str, boot: int, row: Sequence[Any]) -> None:
    """An audit entry as a commit of its own, in a transaction of somebody else than the writer of the node,
    who waits. `row`: as COLUMNS has it, without the boot."""
    ((epoch, *before),) = server.run(
        "SELECT epoch, link, link_hash FROM epochs WHERE epoch = (SELECT epoch FROM nodes WHERE node = ?)"
        " FOR NO KEY UPDATE",
        (node,),
    )
    draft = Draft(key)
    draft.begin(Link(*before))
    draft.seal({"audit": [as_stored((boot, *row))]})
    assert draft.link is not None, "a row makes a link"
    server.run(AUDIT_IN_ORDER)
    server.run(
        "INSERT INTO audit (boot, at_wall_ns, operator, uid, action, subject, before, after, text, link,"
        " link_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (boot, *row, *draft.link),
    )
    server.run("UPDATE epochs SET link = ?, link_hash = ? WHERE epoch = ?", (*draft.link, epoch))
