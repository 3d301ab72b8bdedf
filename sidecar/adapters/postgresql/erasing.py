"""One subscriber's number leaves the records of all nodes (see store/retention), within one transaction.

A record changes in nothing but its personal part, and only where a row of `erased`, which stays, says so: the
database sees to that.
"""

from __future__ import annotations

from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.bodies import crc_of, sound
from sidecar.adapters.store.retention import Found, anonymous, readable
from sidecar.core.chain import ChainKey
from sidecar.ports import Erased

_SEQ_BITS = 40
_LOOK = {
    "cdrs": f"SELECT (epoch::bigint << {_SEQ_BITS}) + seq, body FROM cdrs"  # noqa: S608
    " WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
    "suppressed": "SELECT entry, body FROM suppressed WHERE entry > ? ORDER BY entry LIMIT ?",
}
_WHERE = {"cdrs": "epoch = ? AND seq = ?", "suppressed": "entry = ?"}
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
    def __init__(self, server: Server, boot: int, wall_ns: int) -> None:
        self._server = server
        self._boot = boot
        self._wall_ns = wall_ns

    def erase(self, number: str, found: Found, key: ChainKey) -> Erased:
        server, pseudonym = self._server, key.pseudonym(number)
        records = waiting = 0
        for table, at in found.keys:
            place = _place(table, at)
            if table == "cdrs" and server.run(_WAITS, place)[0][0]:
                waiting += 1
                continue
            self._replace(table, place, number, pseudonym)
            records += 1
        going_on = server.run(_GOING_ON)
        return Erased(
            pseudonym=pseudonym,
            records=records,
            waiting=waiting,
            open_calls=sum(number.encode() in readable(body) for (body,) in going_on),
            after=found.after,
        )

    def _replace(self, table: str, place: tuple[int, ...], number: str, pseudonym: str) -> None:
        server = self._server
        ((call_id, revision, *numbers, kept, crc),) = server.run(
            f"SELECT call_id, revision, caller, callee, billed, body, crc FROM {table}"  # noqa: S608
            f" WHERE {_WHERE[table]} FOR UPDATE",
            place,
        )
        now = anonymous(numbers, sound(kept, crc, f"record {place[-1]}"), number, pseudonym)
        server.run(
            "INSERT INTO erased (call_id, revision, crc_before, crc, boot, erased_wall_ns)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (call_id, revision, crc, crc_of(now.body), self._boot, self._wall_ns),
        )
        server.run(
            f"UPDATE {table} SET caller = ?, callee = ?, billed = ?, body = ?, crc = ?, found_by = ?"  # noqa: S608
            " WHERE call_id = ? AND revision = ?",
            (*now.numbers, now.body, crc_of(now.body), now.found_by, call_id, revision),
        )


def _place(table: str, key: int) -> tuple[int, ...]:
    return (key >> _SEQ_BITS, key & ((1 << _SEQ_BITS) - 1)) if table == "cdrs" else (key,)
