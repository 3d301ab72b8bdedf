"""Whether the journal is as it was written: its chain made again from its rows, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import islice

import apsw

from sidecar.adapters.sqlite.chain import (
    TABLES,
    Heads,
    chained,
    heads_at,
    heads_of,
    is_sound,
    moved,
    stored_rows,
)
from sidecar.adapters.sqlite.changing import state_sum, sum_version
from sidecar.adapters.sqlite.sealing import last_cut
from sidecar.adapters.store.bodies import crc_of
from sidecar.adapters.store.chain import NAMED_MAX, NOT_AT_HAND, WORDS, Keys, Verdict
from sidecar.core.amounts import EXACT
from sidecar.core.chain import ORIGIN, ChainKey, Link, Row

KEY_COLUMN = {"cdrs": "seq", "suppressed": "entry", "ledger": "entry", "audit": "entry"}
_COMMITS = (
    "SELECT number, key, hash, seq, suppressed, ledger, audit FROM commits WHERE number > ? ORDER BY number"
)


def verify(connection: apsw.Connection, keys: Keys, after: int = 0) -> Verdict:
    """The chain behind commit `after`, then what changes. Within one transaction of the caller."""
    verdict = verify_part(connection, keys, after)
    verdict.wrong += wrong_state(connection, keys)
    return verdict


def verify_part(
    connection: apsw.Connection, keys: Keys, after: int, entries_max: int | None = None
) -> Verdict:
    """The chain behind commit `after`, and behind what was archived and removed, up to the commit with which
    so many entries are reached."""
    verdict = Verdict()
    after = max(after, last_cut(connection).link.number)
    streams: list[_Stream] = []
    try:
        _links(connection, keys, after, entries_max, verdict, streams)
    except (apsw.CorruptError, UnicodeDecodeError) as error:
        verdict.wrong.append(f"after commit {verdict.link.number}: cannot be read ({error})")
    verdict.entries = sum(stream.count for stream in streams)
    verdict.unsound = [text for stream in streams for text in stream.unsound]
    return verdict


def tail(connection: apsw.Connection, commits: int) -> int:
    """The commit behind which there are so many rows of the chain."""
    found: int | None = connection.execute(
        "SELECT number FROM commits ORDER BY number DESC LIMIT 1 OFFSET ?", (commits,)
    ).get
    return found or 0


def wrong_state(connection: apsw.Connection, keys: Keys) -> list[str]:
    """What changes, and the marks: as the last commit left them?"""
    ((number, digest, kept, key_number, seal, *marks),) = connection.execute(
        "SELECT commit_number, commit_hash, state_sum, chain_key, seal, head_seq, acknowledged_seq FROM store"
    )
    version = sum_version(connection)
    key = _keys_by_number(connection, keys).get(key_number)
    if key is None:
        return [f"the key of the last commit {NOT_AT_HAND}: {_key_id(connection, key_number)}"]
    if (
        key.seal(Link(number, digest), int.from_bytes(kept, "big"), (*marks, version) if version else marks)
        != seal
    ):
        return ["store: its row was changed: the seal is not that of its numbers"]
    if state_sum(connection, key, version) == int.from_bytes(kept, "big"):
        return []
    return [
        "what changes (open calls, balances, accounts, the outbox) is not as the last commit left it",
        *_damaged_open_calls(connection),
    ]


def _links(
    connection: apsw.Connection,
    keys: Keys,
    after: int,
    entries_max: int | None,
    verdict: Verdict,
    streams: list[_Stream],
) -> None:
    link, heads = heads_at(connection, after) if after else (Link(0, ORIGIN), Heads())
    verdict.link = link
    by_number = _keys_by_number(connection, keys)
    streams += [_Stream(connection, table, head) for table, head in zip(TABLES, heads, strict=True)]
    for number, key_number, digest, *named in connection.execute(_COMMITS, (after,)):
        key, until = by_number.get(key_number), moved(heads, named)
        verdict.reached = number
        if key is None:
            text = f"commit {number}: its key {_key_id(connection, key_number)} {NOT_AT_HAND}"
            verdict.wrong.append(text)
            return
        tables = [
            (table, stream.take(last, key))
            for table, stream, last in zip(TABLES, streams, until, strict=True)
        ]
        if key.link(number, link.hash, tables) != digest:
            verdict.wrong.append(_fault(connection, link.number, number, heads, until))
            return
        link, heads = Link(number, digest), until
        verdict.link = link
        verdict.commits += 1
        if entries_max is not None and sum(stream.count for stream in streams) >= entries_max:
            return
    verdict.is_whole = True
    if cut := _ends(connection, link):
        verdict.wrong.append(cut)
        return
    for table, last, there in zip(TABLES, heads, heads_of(connection), strict=True):
        if there > last:
            verdict.wrong.append(f"{WORDS[table]} {last + 1} was inserted: no commit has written it")


def _ends(connection: apsw.Connection, link: Link) -> str:
    ((number, digest),) = connection.execute("SELECT commit_number, commit_hash FROM store")
    if link.hash == digest and link.number <= number:
        return ""
    return f"cut: the chain ends at commit {link.number}, and {number} was the last one"


class _Stream:
    """The rows of one table, in order."""

    def __init__(self, connection: apsw.Connection, table: str, after: int) -> None:
        self._table = table
        self._rows = stored_rows(connection, table, after, 2**62)
        self._next = next(self._rows, None)
        self._has_body = table in ("cdrs", "suppressed")
        self.count = 0
        self.unsound: list[str] = []

    def take(self, until: int, key: ChainKey) -> Iterable[Row]:
        """Up to a number; of most tables a commit has none."""
        row = self._next
        return () if row is None or row[0] > until else self._taken(until, key)  # type: ignore[operator]

    def _taken(self, until: int, key: ChainKey) -> Iterator[Row]:
        row, rows, table = self._next, self._rows, self._table
        while row is not None and row[0] <= until:  # type: ignore[operator]
            yield chained(table, row, key)
            if self._has_body and not is_sound(row):
                self.unsound.append(f"{WORDS[table]} {row[0]}: its checksum is not that of its bytes")
            self.count += 1
            row = next(rows, None)
        self._next = row


# --- what does not fit --------------------------------------------------------------------------------------


def _fault(connection: apsw.Connection, before: int, number: int, was: Heads, until: Heads) -> str:
    """The commit, and which of its entries it is, as far as that can be told."""
    where = f"commit {number}, after commit {before}"
    all_entries: list[str] = []
    for table, first, last in zip(TABLES, was, until, strict=True):
        keys = range(first + 1, last + 1)
        there = {
            key
            for (key,) in connection.execute(
                f"SELECT {KEY_COLUMN[table]} FROM {table} WHERE {KEY_COLUMN[table]} BETWEEN ? AND ?",  # noqa: S608
                (first + 1, last),
            )
        }
        gone = next((key for key in keys if key not in there), None)
        if gone is not None:
            return f"{where}: {WORDS[table]} {gone} is gone"
        damaged = _first_damaged(connection, table, first, last)
        if damaged is not None:
            return f"{where}: {WORDS[table]} {damaged} was changed"
        all_entries += [f"{WORDS[table]} {key}" for key in islice(keys, NAMED_MAX)]
    if not all_entries:
        return f"{where}: it was changed itself, or one before it is gone"
    if len(all_entries) == 1:
        return f"{where}: {all_entries[0]} was changed, or a commit before it is gone"
    return f"{where}: one of its entries was changed, or a commit before it is gone: {', '.join(all_entries)}"


def _first_damaged(connection: apsw.Connection, table: str, first: int, last: int) -> int | None:
    """By what an entry says of itself."""
    if table == "ledger":
        return _first_wrong_balance(connection, first, last)
    if table == "audit":
        return None
    bodies = (
        "SELECT seq, body, crc FROM cdr_bodies WHERE seq BETWEEN ? AND ? ORDER BY seq"
        if table == "cdrs"
        else "SELECT entry, body, crc FROM suppressed WHERE entry BETWEEN ? AND ? ORDER BY entry"
    )
    rows = connection.execute(bodies, (first + 1, last))
    return next((key for key, body, crc in rows if crc_of(body) != crc), None)


def _first_wrong_balance(connection: apsw.Connection, first: int, last: int) -> int | None:
    for entry, account, currency, amount, balance in connection.execute(
        "SELECT entry, account, currency, amount, balance FROM ledger WHERE entry BETWEEN ? AND ?"
        " ORDER BY entry",
        (first + 1, last),
    ):
        before = connection.execute(
            "SELECT balance FROM ledger WHERE account = ? AND currency = ? AND entry < ?"
            " ORDER BY entry DESC LIMIT 1",
            (account, currency, entry),
        ).get
        try:
            if EXACT.add(Decimal(before or 0), Decimal(amount)) != Decimal(balance):
                return int(entry)
        except InvalidOperation:
            return int(entry)
    return None


def _damaged_open_calls(connection: apsw.Connection) -> list[str]:
    return [
        f"open call {call_id.hex()}: was changed"
        for call_id, body, crc in connection.execute("SELECT call_id, body, crc FROM open_calls")
        if crc_of(body) != crc
    ]


def _keys_by_number(connection: apsw.Connection, keys: Keys) -> dict[int, ChainKey]:
    return {
        number: keys[name]
        for number, name in connection.execute("SELECT key, id FROM chain_keys")
        if name in keys
    }


def _key_id(connection: apsw.Connection, number: int) -> str:
    found: str | None = connection.execute("SELECT id FROM chain_keys WHERE key = ?", (number,)).get
    return found or f"number {number}, which nobody knows"
