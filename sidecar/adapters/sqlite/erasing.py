"""One subscriber's number leaves the records: a keyed pseudonym takes its place, everything else stays.

The chain holds the personal part of a record by a salted digest alone (core/chain). Erasing keeps the digest
and takes part and salt away, so the chain still fits, and whoever has only the journal cannot find the number
by trying all there are. The pseudonym of a number is always the same under one key, so that calls of one
subscriber are still seen to be of one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import apsw
import msgspec

from sidecar.adapters.sqlite.packing import packed, unpacked
from sidecar.adapters.sqlite.rows import crc_of, sound
from sidecar.core.chain import ChainKey
from sidecar.wire.cdr_codec import decode, without_number

DIGITS_MIN = 5  # fewer are found in any record

_FOUND = {
    "cdrs": "SELECT seq, caller, callee, billed, body, crc, salt, personal"
    " FROM cdrs JOIN cdr_bodies USING (seq) WHERE instr(unpacked(body), ?1)",
    "suppressed": "SELECT entry, caller, callee, billed, body, crc, salt, personal FROM suppressed"
    " WHERE instr(unpacked(body), ?1)",
}
_WAITS = (
    "SELECT ?1 > acknowledged_seq OR EXISTS (SELECT 1 FROM outbox_behind WHERE seq = ?1)"
    " OR EXISTS (SELECT 1 FROM dead_letters WHERE seq = ?1) FROM store"
)


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """`waiting`: records that hold it and are still to be published; `open_calls`: calls that are not over.
    Ask again when they are."""

    pseudonym: str
    records: int
    waiting: int
    open_calls: int


class Erasing:
    """Within one transaction."""

    def __init__(self, connection: apsw.Connection, key: ChainKey) -> None:
        self._connection = connection
        self._key = key

    def erase(self, number: str, keys: Sequence[ChainKey]) -> Erased:
        """`number`: digits, as they stand in the records, wherever they stand. `keys`: all of the chain."""
        if not number.isdecimal() or len(number) < DIGITS_MIN:
            raise ValueError(f"a number has {DIGITS_MIN} digits or more, and nothing else")
        connection = self._connection
        connection.create_scalar_function("unpacked", _unpacked, 1, deterministic=True)  # type: ignore[arg-type]
        pseudonym = self._key.pseudonym(number)
        records = waiting = 0
        for table, head in (("cdrs", "seq"), ("suppressed", "suppressed")):
            key_of = self._keys_of(head, keys)
            for key, *rest in list(connection.execute(_FOUND[table], (number.encode(),))):
                if table == "cdrs" and connection.execute(_WAITS, (key,)).get:
                    waiting += 1
                    continue
                self._replace(table, key, rest, number, pseudonym, key_of)
                records += 1
        open_calls = sum(
            number.encode() in body
            for (body,) in connection.execute(
                "SELECT body FROM open_calls UNION ALL SELECT unpacked(body) FROM refusals"
            )
        )
        return Erased(pseudonym=pseudonym, records=records, waiting=waiting, open_calls=open_calls)

    def _replace(
        self, table: str, key: int, row: list[Any], number: str, pseudonym: str, key_of: _KeyOf
    ) -> None:
        caller, callee, billed, kept, crc, salt, personal = row
        body = sound(kept, crc, f"record {key}")
        if personal is None:
            personal = key_of(key).personal(salt, (caller, callee, billed, kept))
        numbers = [
            None if text is None else text.replace(number, pseudonym) for text in (caller, callee, billed)
        ]
        anonymous = without_number(body, number, pseudonym)
        decode(anonymous)  # still a record
        erased = packed(anonymous)
        connection = self._connection
        if table == "cdrs":
            connection.execute(
                "UPDATE cdrs SET caller = ?, callee = ?, billed = ? WHERE seq = ?", (*numbers, key)
            )
            sql = "UPDATE cdr_bodies SET body = ?, crc = ?, salt = NULL, personal = ? WHERE seq = ?"
            connection.execute(sql, (erased, crc_of(erased), personal, key))
        else:
            connection.execute(
                "UPDATE suppressed SET caller = ?, callee = ?, billed = ?, body = ?, crc = ?, salt = NULL,"
                " personal = ? WHERE entry = ?",
                (*numbers, erased, crc_of(erased), personal, key),
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


def _unpacked(kept: Any) -> Any:
    """For SQL. What cannot be read holds no number that could be found."""
    with suppress(ValueError):
        return unpacked(kept)
    return b""
