"""Old calls leave the journal: archived elsewhere and proved first, then removed; what they came to stays.

The chain is cut behind a commit: its hash and the last rows up to it are kept in `sealed`, and are noted in
the audit table, which is in the chain itself. From there on the chain holds as before. What is removed:
records, published and kept back, and movements of the ledger. What stays of them:

- for each account and currency one movement of kind `carried`, so that every balance is still the sum of its
  movements;
- the charges and reservations of calls that have something behind the cut (open ones, and those with a later
  revision), each call's as one movement;
- references of top-ups, which are booked once, and the last number of each account.

A call that was removed is recognised by its id, which holds the time of its INVITE: a step that is repeated
for it changes nothing, and its record cannot be restated.

Removed in parts, each a transaction of its own: a crash leaves the journal whole, with less in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import apsw
import msgspec

from sidecar.adapters.sqlite.chain import Draft, Heads, moved
from sidecar.adapters.sqlite.changing import CARRIED, CUT
from sidecar.adapters.sqlite.ledger import LEDGER
from sidecar.adapters.store.batch import is_older
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.suspense import suspended
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, MovementKind
from sidecar.core.books_check import plain
from sidecar.core.cdr import Cdr
from sidecar.core.chain import Link
from sidecar.wire.cdr_codec import decode

ROWS_PER_PART = 20_000

_Key = tuple[str, str]  # account, currency
_RECORDS = {
    "cdrs": "SELECT seq, body, crc FROM cdr_bodies WHERE seq > ? AND seq <= ? ORDER BY seq",
    "suppressed": "SELECT entry, body, crc FROM suppressed WHERE entry > ? AND entry <= ? ORDER BY entry",
}
_MOVED = "SELECT DISTINCT account FROM ledger WHERE entry > ? AND entry <= ?"
_MOVEMENTS = (
    "SELECT entry, boot, currency, kind, amount, balance, call_id, revision"
    " FROM ledger WHERE account = ? AND entry <= ? ORDER BY entry"
)
# Whether a call has a record, or a charge, behind the cut.
_GOES_ON = (
    "SELECT EXISTS (SELECT 1 FROM open_calls WHERE call_id = ?1)"
    " OR EXISTS (SELECT 1 FROM cdrs WHERE call_id = ?1 AND seq > ?2)"
    " OR EXISTS (SELECT 1 FROM suppressed WHERE call_id = ?1 AND entry > ?3)"
    " OR EXISTS (SELECT 1 FROM ledger WHERE call_id = ?1 AND kind = 'charge' AND entry > ?4)"
)


class Cut(msgspec.Struct, frozen=True):
    """Behind a commit."""

    link: Link = Link(0, b"")
    heads: Heads = Heads()


def last_cut(connection: apsw.Connection) -> Cut:
    """Where the chain of this file begins: behind what was removed, if its last commit is here."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sealed')").get:
        return Cut()  # of a schema that knows of no retention: such files are salvaged too
    for number, digest, *heads in connection.execute(
        "SELECT number, hash, one.seq, one.suppressed, one.ledger, one.audit"
        " FROM sealed AS one JOIN commits USING (number, hash) ORDER BY number DESC LIMIT 1"
    ):
        return Cut(Link(number, digest), Heads(*heads))
    return Cut()


def next_cut(connection: apsw.Connection, until_us: int) -> Cut:
    """The last commit before which only calls lie that ended before then, and whose records the broker has;
    the last cut where there is none."""
    begin = last_cut(connection)
    seq: float = connection.execute(
        "SELECT min((SELECT coalesce(min(seq) - 1, 9e18) FROM cdrs WHERE ended_us >= ?1),"
        " (SELECT coalesce(min(seq) - 1, 9e18) FROM outbox_behind),"
        " (SELECT coalesce(min(seq) - 1, 9e18) FROM dead_letters),"
        " (SELECT acknowledged_seq FROM store))",
        (until_us,),
    ).get
    suppressed: float = connection.execute(
        "SELECT coalesce(min(entry) - 1, 9e18) FROM suppressed WHERE ended_us >= ?", (until_us,)
    ).get
    ledger: float = connection.execute(
        "SELECT coalesce(min(entry) - 1, 9e18) FROM ledger WHERE booked_wall_ns >= ? AND entry > ?",
        (until_us * 1_000, begin.heads.ledger),
    ).get
    # What nobody has decided about yet stays, with all behind it.
    ledger = min(ledger, *(one.entry - 1 for one in suspended(connection)), 9e18)
    cut = begin
    heads = begin.heads
    for number, digest, *named in connection.execute(
        "SELECT number, hash, seq, suppressed, ledger, audit FROM commits WHERE number > ? ORDER BY number",
        (begin.link.number,),
    ):
        heads = moved(heads, named)
        if heads.seq > seq or heads.suppressed > suppressed or heads.ledger > ledger:
            break
        cut = Cut(Link(number, digest), heads)
    has_more = cut.heads._replace(audit=0) != begin.heads._replace(audit=0)
    return cut if has_more else begin


def records(connection: apsw.Connection, table: str, after: int, until: int) -> Iterator[Cdr]:
    """All revisions, in the order of their numbers."""
    for key, body, crc in connection.execute(_RECORDS[table], (after, until)):
        yield decode(sound(body, crc, f"record {key}"))


def movements(connection: apsw.Connection, after: int, until: int) -> Iterator[dict[str, object]]:
    """As they are archived."""
    for (
        entry,
        account,
        currency,
        kind,
        amount,
        balance,
        call_id,
        revision,
        reference,
        at,
        operator,
        text,
    ) in connection.execute(
        "SELECT entry, account, currency, kind, amount, balance, call_id, revision, reference,"
        " booked_wall_ns, operator, text FROM ledger WHERE entry > ? AND entry <= ? ORDER BY entry",
        (after, until),
    ):
        yield {
            "entry": entry,
            "account": account,
            "currency": currency,
            "kind": kind,
            "amount": amount,
            "balance": balance,
            "call_id": None if call_id is None else str(UUID(bytes=call_id)),
            "revision": revision,
            "reference": reference,
            "booked_wall_ns": at,
            "operator": operator,
            "text": text,
        }


def was_removed(connection: apsw.Connection, call_id: UUID) -> bool:
    """Whether a call of which nothing is here was removed: its id says when its INVITE came."""
    until_us: int | None = connection.execute("SELECT max(until_us) FROM sealed").get
    return until_us is not None and is_older(call_id, until_us)


class Sealing:
    """Within one transaction."""

    def __init__(self, connection: apsw.Connection, wall_ns: int, chain: Draft) -> None:
        self._connection = connection
        self._wall_ns = wall_ns
        self._chain = chain

    def remove_part(self, until: Cut, until_us: int, archive: str, rows: int | None = None) -> bool:
        """Some of what lies before the cut; whether it was the last of it. `archive`: the digest of the
        manifest of what was archived. `rows`: about how many go; None: ROWS_PER_PART."""
        connection = self._connection
        begin = last_cut(connection)
        if begin.link.number >= until.link.number:
            return True
        cut = _part(connection, begin, until, ROWS_PER_PART if rows is None else rows)
        for row in connection.execute(CUT, (begin.link.number,)):
            self._chain.take("cut", row)
        _seal(connection, cut, until_us, archive, self._wall_ns)
        for row in connection.execute(CUT, (cut.link.number,)):
            self._chain.put("cut", row)
        self._carry(begin, cut)
        seq, suppressed = cut.heads.seq, cut.heads.suppressed
        connection.execute(
            "INSERT INTO account_heads (account, seq) SELECT account, max(seq) FROM cdrs WHERE seq <= ?"
            " GROUP BY account ON CONFLICT (account) DO UPDATE SET seq = excluded.seq",
            (seq,),
        )
        connection.execute("DELETE FROM cdr_bodies WHERE seq <= ?", (seq,))
        connection.execute("DELETE FROM cdrs WHERE seq <= ?", (seq,))
        connection.execute("DELETE FROM suppressed WHERE entry <= ?", (suppressed,))
        return cut.link.number == until.link.number

    def _carry(self, begin: Cut, cut: Cut) -> None:
        """Accounts without a movement between the two cuts keep what was carried forward for them before."""
        heads, connection, chain = cut.heads, self._connection, self._chain
        going_on: dict[bytes, bool] = {}

        def goes_on(call_id: bytes) -> bool:
            if call_id not in going_on:
                values = (call_id, heads.seq, heads.suppressed, heads.ledger)
                going_on[call_id] = bool(connection.execute(_GOES_ON, values).get)
            return going_on[call_id]

        connection.execute(
            "INSERT OR IGNORE INTO kept_references (account, reference, kind, amount)"
            " SELECT account, reference, kind, amount FROM ledger"
            " WHERE entry > ? AND entry <= ? AND reference IS NOT NULL",
            (begin.heads.ledger, heads.ledger),
        )
        for (account,) in list(connection.execute(_MOVED, (begin.heads.ledger, heads.ledger))):
            found: dict[_Key, _Kept] = defaultdict(lambda: _Kept(calls={}))
            for entry, boot, currency, kind, amount, balance, call_id, revision in connection.execute(
                _MOVEMENTS, (account, heads.ledger)
            ):
                kept = found[account, currency]
                kept.balance, kept.boot = Decimal(balance), boot
                if call_id is None or not goes_on(call_id):
                    kept.removed = entry
                    continue
                of = MovementKind.CHARGE if kind == MovementKind.CHARGE else MovementKind.RESERVE
                before, sums, _ = kept.calls.get((call_id, of), (entry, ZERO, None))
                if before != entry:
                    kept.removed = kept.removed or before
                kept.calls[call_id, of] = (entry, EXACT.add(sums, Decimal(amount)), revision)
            for row in connection.execute(f"{CARRIED} AND account = ?2", (begin.heads.ledger, account)):
                chain.take("carried", row)
            connection.execute("DELETE FROM ledger WHERE account = ? AND entry <= ?", (account, heads.ledger))
            for key, kept in found.items():
                rows = _rows(key, kept, self._wall_ns)
                LEDGER.write(connection, rows)
                for row in rows:
                    chain.put("carried", row)


def _part(connection: apsw.Connection, begin: Cut, until: Cut, rows_min: int) -> Cut:
    """The cut after some of the way."""
    heads, cut = begin.heads, until
    for number, digest, *named in connection.execute(
        "SELECT number, hash, seq, suppressed, ledger, audit FROM commits WHERE number > ? AND number <= ?"
        " ORDER BY number",
        (begin.link.number, until.link.number),
    ):
        heads = moved(heads, named)
        cut = Cut(Link(number, digest), heads)
        if sum(heads[:3]) - sum(begin.heads[:3]) >= rows_min:
            break
    return cut


def _seal(connection: apsw.Connection, cut: Cut, until_us: int, archive: str, wall_ns: int) -> None:
    """The chain begins behind this commit from now on. Only the last cut of an archive is kept."""
    number = cut.link.number
    key: int = connection.execute("SELECT key FROM commits WHERE number = ?", (number,)).get
    connection.execute("DELETE FROM commits WHERE number <= ?", (number,))
    connection.execute(
        "INSERT INTO commits (number, key, seq, suppressed, ledger, audit, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, key, *cut.heads, cut.link.hash),
    )
    connection.execute("DELETE FROM sealed WHERE archive = ?", (archive,))
    connection.execute(
        "INSERT INTO sealed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, cut.link.hash, *cut.heads, until_us, archive, wall_ns),
    )


# --- balances -----------------------------------------------------------------------------------------------


class _Kept(msgspec.Struct):
    """What stays of the movements of one account and currency."""

    balance: Decimal = ZERO
    boot: int = 0
    removed: int = 0  # the number of a movement that goes: that of what is carried
    calls: dict[tuple[bytes, str], tuple[int, Decimal, int | None]] = {}  # (call, kind) -> entry, sum, rev.


def _rows(key: _Key, kept: _Kept, wall_ns: int) -> list[tuple[object, ...]]:
    """In the order of their numbers, each with the balance after it; the last balance is as it was."""
    carried = kept.balance
    rows: list[tuple[int, str, Decimal, bytes | None, int | None]] = []
    for (call_id, kind), (entry, amount, revision) in kept.calls.items():
        carried = EXACT.subtract(carried, amount)
        if amount:
            rows.append((entry, kind, amount, call_id, revision))
    if carried:
        rows.append((kept.removed, MovementKind.CARRIED.value, carried, None, None))
    balance, written = ZERO, list[tuple[object, ...]]()
    for entry, kind, amount, of_call, revision in sorted(rows, key=lambda row: row[0]):
        balance = EXACT.add(balance, amount)
        written.append(
            (
                entry,
                kept.boot,
                *key,
                kind,
                plain(amount),
                plain(balance),
                of_call,
                revision,
                None,
                wall_ns,
                None,
                None,
            )
        )
    return written
