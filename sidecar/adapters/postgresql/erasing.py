"""One subscriber's number leaves the records of all nodes (see store/retention), within one transaction.

A record changes in nothing but its personal part, and only where a row of `erased`, which stays, says so: the
database sees to that. Its digest stays in the place of the salt (core/chain), so the chain still fits.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.postgresql.chain import Draft, key_of
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.bodies import crc_of, sound
from sidecar.adapters.store.chain import by_id
from sidecar.adapters.store.retention import Found, anonymous, readable
from sidecar.core.chain import ChainKey, Row
from sidecar.ports import Erased

_SEQ_BITS = 40
_LOOK = {
    "cdrs": f"SELECT (epoch::bigint << {_SEQ_BITS}) + seq, body FROM cdrs"  # noqa: S608
    " WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
    "suppressed": "SELECT entry, body FROM suppressed WHERE entry > ? ORDER BY entry LIMIT ?",
}
_WHERE = {"cdrs": "cdrs.epoch = ? AND seq = ?", "suppressed": "entry = ?"}
_WAITS = (
    "SELECT ?2 > acknowledged_seq OR EXISTS (SELECT 1 FROM outbox_behind WHERE epoch = ?1 AND seq = ?2)"
    " OR EXISTS (SELECT 1 FROM dead_letters WHERE epoch = ?1 AND seq = ?2) FROM epochs WHERE epoch = ?1"
)
_GOING_ON = "SELECT body FROM open_calls UNION ALL SELECT body FROM refusals"


def find(server: Server, number: str, after: tuple[int, int], rows_max: int) -> Found:
    """A published record is named by one number: its epoch, and its number there."""
    keys, ends, left = list[tuple[str, int]](), list(after), rows_max
    for at, table in enumerate(_LOOK):
        place = _place(table, after[at])
        rows = server.run(_LOOK[table], (*place, left)) if left else []
        keys += [(table, key) for key, body in rows if number.encode() in readable(body)]
        ends[at], left = rows[-1][0] if rows else after[at], left - len(rows)
    return Found(keys, None if left else (ends[0], ends[1]))


class Erasing:
    def __init__(self, server: Server, boot: int, wall_ns: int, chain: Draft) -> None:
        self.rows: list[Row] = []  # as a link has them
        self._chain = chain
        self._server = server
        self._boot = boot
        self._wall_ns = wall_ns

    def erase(self, number: str, found: Found, keys: Sequence[ChainKey]) -> Erased:
        """`keys`: of all nodes, the one in force last. ValueError where one is missing."""
        server, pseudonym = self._server, keys[-1].pseudonym(number)
        records = waiting = 0
        for table, at in found.keys:
            place = _place(table, at)
            if table == "cdrs" and server.run(_WAITS, place)[0][0]:
                waiting += 1
                continue
            self._replace(table, place, number, pseudonym, keys)
            records += 1
        going_on = server.run(_GOING_ON)
        return Erased(
            pseudonym=pseudonym,
            records=records,
            waiting=waiting,
            open_calls=sum(number.encode() in readable(body) for (body,) in going_on),
            after=found.after,
        )

    def _replace(
        self, table: str, place: tuple[int, ...], number: str, pseudonym: str, keys: Sequence[ChainKey]
    ) -> None:
        server, name = self._server, f"record {place[-1]}"
        ((call_id, revision, *numbers, kept, crc, salt, personal, written_under),) = server.run(
            "SELECT call_id, revision, caller, callee, billed, body, crc, salt, personal, chain_key"  # noqa: S608
            f" FROM {table} JOIN boots USING (boot) WHERE {_WHERE[table]} FOR UPDATE OF {table}",
            place,
        )
        if personal is None:
            personal = key_of(by_id(keys), written_under, name).personal(salt, (*numbers, kept))
        now = anonymous(numbers, sound(kept, crc, name), number, pseudonym)
        row = (call_id, revision, crc, crc_of(now.body), self._boot, self._wall_ns)
        server.run(
            "INSERT INTO erased (call_id, revision, crc_before, crc, boot, erased_wall_ns, link)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*row, self._chain.number),
        )
        self.rows.append(row)
        server.run(
            f"UPDATE {table} SET caller = ?, callee = ?, billed = ?, body = ?, crc = ?, found_by = ?,"  # noqa: S608
            " salt = NULL, personal = ? WHERE call_id = ? AND revision = ?",
            (*now.numbers, now.body, crc_of(now.body), now.found_by, personal, call_id, revision),
        )


def _place(table: str, key: int) -> tuple[int, ...]:
    return (key >> _SEQ_BITS, key & ((1 << _SEQ_BITS) - 1)) if table == "cdrs" else (key,)
