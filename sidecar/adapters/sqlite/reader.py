"""Reading what was written: on a connection of its own, in a thread of its own, so that no reader delays a
commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.file import connect_reader
from sidecar.adapters.sqlite.rows import sound
from sidecar.core.cdr import Cdr
from sidecar.ports import RecordFilter, RecordPage
from sidecar.wire.cdr_codec import decode

RECORDS_PER_PAGE_MAX = 1_000
CHARGES_LOOKED_AT_MAX = 5_000  # records whose charges are read for one page: a tenth of a second

_T = TypeVar("_T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class Reader:
    """One read connection, opened when it is first asked, used by one thread at a time."""

    def __init__(self, file: Path, vfs: str | None = None) -> None:
        self._file = file
        self._vfs = vfs
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None

    async def ask(self, question: Callable[[apsw.Connection], _T]) -> _T:
        return await asyncio.to_thread(self.ask_now, question)

    def ask_now(self, question: Callable[[apsw.Connection], _T]) -> _T:
        with self._lock:
            if self._connection is None:
                self._connection = connect_reader(self._file, self._vfs)
            return question(self._connection)

    def close(self) -> None:
        """Also before the writer verifies the file: the last connection to close is what lets SQLite read the
        WAL anew."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                # The last to close moves the WAL into the file, which a disk that fails may refuse: what
                # was committed is in the WAL.
                with suppress(apsw.Error):
                    connection.close(force=True)


class SqliteRecords:
    """The Records port."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def show(self, call_id: str) -> Sequence[Cdr]:
        try:
            key = UUID(call_id).bytes
        except ValueError:
            return ()
        return await self._reader.ask(lambda connection: _show(connection, key))

    async def search(
        self, wanted: RecordFilter, records_max: int = 100, cursor: str | None = None
    ) -> RecordPage:
        after = _parse_cursor(cursor)
        limit = max(1, min(records_max, RECORDS_PER_PAGE_MAX))
        return await self._reader.ask(lambda connection: _search(connection, wanted, limit, after))

    async def tail(self, after_seq: int, records_max: int = 100) -> Sequence[Cdr]:
        limit = max(1, min(records_max, RECORDS_PER_PAGE_MAX))
        sql = "SELECT seq, body, crc FROM cdr_bodies WHERE seq > ? ORDER BY seq LIMIT ?"
        return await self._reader.ask(
            lambda connection: tuple(_record(*row) for row in connection.execute(sql, (after_seq, limit)))
        )


def _show(connection: apsw.Connection, call_id: bytes) -> tuple[Cdr, ...]:
    rows = connection.execute(
        "SELECT seq, body, crc, revision FROM cdrs JOIN cdr_bodies USING (seq) WHERE call_id = ?1"
        " UNION ALL SELECT entry, body, crc, revision FROM suppressed WHERE call_id = ?1 ORDER BY revision",
        (call_id,),
    )
    return tuple(_record(key, body, crc) for key, body, crc, _ in rows)


def _record(key: int, body: bytes, crc: int) -> Cdr:
    return decode(sound(body, crc, f"record {key}"))


def _search(
    connection: apsw.Connection, wanted: RecordFilter, limit: int, after: tuple[int, int] | None
) -> RecordPage:
    """The latest first, by (end, row): a cursor names the last one that was given out."""
    key = "entry" if wanted.suppressed else "seq"
    conditions, values = conditions_of(wanted)
    if after is not None:
        conditions.append(f"(ended_us, {key}) < (?, ?)")
        values += after
    where = " AND ".join(conditions) or "1"
    heads, bodies = ("suppressed", "suppressed") if wanted.suppressed else ("cdrs", "cdr_bodies")
    looked_at_max = limit if wanted.currency is None else CHARGES_LOOKED_AT_MAX
    # The bodies are read of the rows of this page alone, not of all that are sorted to find it.
    rows: Iterator[tuple[int, int, bytes, int]] = connection.execute(
        f"SELECT found.ended_us, {key}, body, crc FROM"  # noqa: S608 - names of ours alone
        f" (SELECT ended_us, {key} FROM {heads} WHERE {where} ORDER BY ended_us DESC, {key} DESC LIMIT ?)"
        f" AS found CROSS JOIN {bodies} USING ({key}) ORDER BY found.ended_us DESC, {key} DESC",
        (*values, looked_at_max + 1),
    )
    records: list[Cdr] = []
    last = None
    for looked_at, (ended_us, number, body, crc) in enumerate(rows):
        if looked_at == looked_at_max or len(records) == limit:
            return RecordPage(records=tuple(records), cursor=last)
        cdr = _record(number, body, crc)
        if wanted.fits(cdr):
            records.append(cdr)
        last = f"{ended_us}.{number}"
    return RecordPage(records=tuple(records), cursor=None)


def conditions_of(wanted: RecordFilter) -> tuple[list[str], list[str | int]]:
    """What SQL can ask of the columns; charges are in the bodies alone."""
    conditions: list[str] = []
    values: list[str | int] = []
    exact = {
        "account": wanted.account,
        "origin": wanted.origin.value if wanted.origin else None,
        "reason": wanted.reason.value if wanted.reason else None,
        "detail": wanted.detail.value if wanted.detail else None,
        "gateway": wanted.gateway,
    }
    for column, value in exact.items():
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.since is not None:
        conditions.append("ended_us >= ?")
        values.append((wanted.since - _EPOCH) // _US)
    if wanted.revised_since is not None:
        conditions.append("revision > 0")
    if (
        wanted.until is not None and not wanted.by_start
    ):  # a call that began before may have ended at any time after
        conditions.append("ended_us < ?")
        values.append((wanted.until - _EPOCH) // _US)
    if wanted.number is not None:
        conditions.append("(caller GLOB ? OR callee GLOB ? OR billed GLOB ?)")
        values += [_glob(wanted.number)] * 3
    return conditions, values


def _glob(number: str) -> str:
    """The number itself, or with a `*` at its end all that begin with it; nothing else is special."""
    begins = number.removesuffix("*")
    literal = "".join(f"[{c}]" if c in "*?[" else c for c in begins)
    return literal + ("*" if begins != number else "")


def _parse_cursor(cursor: str | None) -> tuple[int, int] | None:
    if cursor is None:
        return None
    ended, _, key = cursor.partition(".")
    try:
        return int(ended), int(key)
    except ValueError:
        raise ValueError(f"cursor {cursor!r}: not one that a search has given") from None
