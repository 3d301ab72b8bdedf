"""One subscriber's number leaves the records of the file (see store/retention).

The chain holds the personal part of a record by a salted digest alone (core/chain). Erasing keeps the digest
and takes part and salt away, so the chain still fits, and whoever has only the journal cannot find the number
by trying all there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import apsw

from sidecar.adapters.store.bodies import crc_of, sound
from sidecar.adapters.store.retention import Found, anonymous, readable
from sidecar.core.chain import ChainKey
from sidecar.ports import Erased

# Of so many records behind a number: the last of them, and which of them hold it.
_LOOK = {
    "cdrs": "SELECT seq, instr(unpacked(body), ?1) FROM cdr_bodies WHERE seq > ?2 ORDER BY seq LIMIT ?3",
    "suppressed": "SELECT entry, instr(unpacked(body), ?1) FROM suppressed WHERE entry > ?2"
    " ORDER BY entry LIMIT ?3",
}
_ROW = {
    "cdrs": "SELECT caller, callee, billed, body, crc, salt, personal"
    " FROM cdrs JOIN cdr_bodies USING (seq) WHERE seq = ?",
    "suppressed": "SELECT caller, callee, billed, body, crc, salt, personal FROM suppressed WHERE entry = ?",
}
_WAITS = (
    "SELECT ?1 > acknowledged_seq OR EXISTS (SELECT 1 FROM outbox_behind WHERE seq = ?1)"
    " OR EXISTS (SELECT 1 FROM dead_letters WHERE seq = ?1) FROM store"
)


def find(connection: apsw.Connection, number: str, after: tuple[int, int], rows_max: int) -> Found:
    """Among so many of the records behind `after`, those published first."""
    connection.create_scalar_function("unpacked", readable, 1, deterministic=True)  # type: ignore[arg-type]
    keys, ends, left = list[tuple[str, int]](), list(after), rows_max
    for at, table in enumerate(_LOOK):
        rows = list(connection.execute(_LOOK[table], (number.encode(), after[at], left)))
        keys += [(table, key) for key, is_found in rows if is_found]
        ends[at], left = rows[-1][0] if rows else after[at], left - len(rows)
    return Found(keys, None if left else (ends[0], ends[1]))


class Erasing:
    """Within one transaction."""

    def __init__(self, connection: apsw.Connection, key: ChainKey) -> None:
        self._connection = connection
        self._key = key

    def erase(self, number: str, found: Found, keys: Sequence[ChainKey]) -> Erased:
        """In the records that were found. `number`: digits, as they stand there, wherever they stand. `keys`:
        all of the chain."""
        connection = self._connection
        connection.create_scalar_function("unpacked", readable, 1, deterministic=True)  # type: ignore[arg-type]
        pseudonym = self._key.pseudonym(number)
        records = waiting = 0
        key_of = {"cdrs": self._keys_of("seq", keys), "suppressed": self._keys_of("suppressed", keys)}
        for table, key in found.keys:
            if table == "cdrs" and connection.execute(_WAITS, (key,)).get:
                waiting += 1
                continue
            for row in list(connection.execute(_ROW[table], (key,))):  # or it was archived meanwhile
                self._replace(table, key, list(row), number, pseudonym, key_of[table])
                records += 1
        open_calls = sum(
            number.encode() in body
            for (body,) in connection.execute(
                "SELECT body FROM open_calls UNION ALL SELECT unpacked(body) FROM refusals"
            )
        )
        return Erased(
            pseudonym=pseudonym, records=records, waiting=waiting, open_calls=open_calls, after=found.after
        )

    def _replace(
        self, table: str, key: int, row: list[Any], number: str, pseudonym: str, key_of: _KeyOf
    ) -> None:
        caller, callee, billed, kept, crc, salt, personal = row
        body = sound(kept, crc, f"record {key}")
        if personal is None:
            personal = key_of(key).personal(salt, (caller, callee, billed, kept))
        now = anonymous((caller, callee, billed), body, number, pseudonym)
        crc = crc_of(now.body)
        connection = self._connection
        if table == "cdrs":
            connection.execute(
                "UPDATE cdrs SET caller = ?, callee = ?, billed = ?, found_by = ? WHERE seq = ?",
                (*now.numbers, now.found_by, key),
            )
            sql = "UPDATE cdr_bodies SET body = ?, crc = ?, salt = NULL, personal = ? WHERE seq = ?"
            connection.execute(sql, (now.body, crc, personal, key))
        else:
            connection.execute(
                "UPDATE suppressed SET caller = ?, callee = ?, billed = ?, body = ?, crc = ?, salt = NULL,"
                " personal = ?, found_by = ? WHERE entry = ?",
                (*now.numbers, now.body, crc, personal, now.found_by, key),
            )

    def _keys_of(self, head: str, keys: Sequence[ChainKey]) -> _KeyOf:
        """Under which key each row of a table was written: that of its commit."""
        by_id = {key.id: key for key in keys}
        ids = dict(self._connection.execute("SELECT key, id FROM chain_keys"))
        heads: list[int] = []
        numbers: list[int] = []
        for last, number in self._connection.execute(
            f"SELECT {head}, key FROM commits WHERE {head} IS NOT NULL ORDER BY number"  # noqa: S608
        ):
            if heads and numbers[-1] == number:
                heads[-1] = last
            else:
                heads.append(last)
                numbers.append(number)
        return _KeyOf(heads, [by_id.get(ids[number]) for number in numbers], [ids[n] for n in numbers])


class _KeyOf:
    def __init__(self, heads: list[int], keys: list[ChainKey | None], ids: list[str]) -> None:
        self._heads = heads
        self._keys = keys
        self._ids = ids

    def __call__(self, row: int) -> ChainKey:
        at = bisect_left(self._heads, row)
        if at == len(self._heads):
            raise ValueError(f"record {row} is of no commit: `sidecar journal verify` says more")
        key = self._keys[at]
        if key is None:
            raise ValueError(f"the key {self._ids[at]}, under which record {row} was written, is not at hand")
        return key
