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

from sidecar.adapters.sqlite.file import DISK_ERRORS, connect_reader
from sidecar.adapters.store.bodies import sound
from sidecar.core.cdr import Cdr
from sidecar.core.found_by import key_of
from sidecar.ports import RecordFilter, RecordPage, UnavailableError
from sidecar.wire.cdr_codec import decode

RECORDS_PER_PAGE_MAX = 1_000
SORTED_MAX = 20_000  # rows of an account: some hundredths of a second
LOOKED_AT_MAX = 2_000  # records that are read for one page of those that fit: a tenth of a second

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
        """UnavailableError while the disk fails."""
        try:
            return await asyncio.to_thread(self.ask_now, question)
        except DISK_ERRORS as error:
            raise UnavailableError(f"the journal cannot be read ({error})") from error

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
        return await self._reader.ask(lambda connection: revisions_of(connection, key))

    async def search(
        self, wanted: RecordFilter, records_max: int = 100, cursor: str | None = None
    ) -> RecordPage:
        after = parse_cursor(cursor)
        limit = max(1, min(records_max, RECORDS_PER_PAGE_MAX))
        return await self._reader.ask(lambda connection: found_records(connection, wanted, limit, after))

    async def tail(self, after_seq: int, records_max: int = 100) -> Sequence[Cdr]:
        limit = max(1, min(records_max, RECORDS_PER_PAGE_MAX))
        sql = "SELECT seq, body, crc FROM cdr_bodies WHERE seq > ? ORDER BY seq LIMIT ?"
        return await self._reader.ask(
            lambda connection: tuple(_record(*row) for row in connection.execute(sql, (after_seq, limit)))
        )


def revisions_of(connection: apsw.Connection, call_id: bytes) -> tuple[Cdr, ...]:
    rows = connection.execute(
        "SELECT seq, body, crc, revision FROM cdrs JOIN cdr_bodies USING (seq) WHERE call_id = ?1"
        " UNION ALL SELECT entry, body, crc, revision FROM suppressed WHERE call_id = ?1 ORDER BY revision",
        (call_id,),
    )
    return tuple(_record(key, body, crc) for key, body, crc, _ in rows)


def _record(key: int, body: bytes, crc: int) -> Cdr:
    return decode(sound(body, crc, f"record {key}"))


def found_records(
    connection: apsw.Connection, wanted: RecordFilter, limit: int, after: tuple[int, int] | None
) -> RecordPage:
    """The latest first, by (end, row): a cursor names the last one that was given out."""
    key = "entry" if wanted.suppressed else "seq"
    conditions, values = conditions_of(wanted)
    if after is not None:
        conditions.append(f"(ended_us, {key}) < (?, ?)")
        values += after
    heads, bodies = ("suppressed", "suppressed") if wanted.suppressed else ("cdrs", "cdr_bodies")
    if wanted.account is not None and _has_many(connection, heads, wanted.account):
        conditions = [sql.replace("account = ?", "+account = ?") for sql in conditions]
    where = " AND ".join(conditions) or "1"
    looked_at_max = LOOKED_AT_MAX if wanted.looks_inside else limit
    # The bodies are read of the rows of this page alone, not of all that are sorted to find it.
    rows: Iterator[tuple[int, int, bytes, int, int]] = connection.execute(
        f"SELECT found.ended_us, {key}, body, crc, {_holds(key, heads) if wanted.holds else 1} FROM"  # noqa: S608 - names of ours alone
        f" (SELECT ended_us, {key} FROM {heads} WHERE {where} ORDER BY ended_us DESC, {key} DESC LIMIT ?)"
        f" AS found CROSS JOIN {bodies} USING ({key}) ORDER BY found.ended_us DESC, {key} DESC",
        (*values, looked_at_max + 1),
    )
    records: list[Cdr] = []
    last = None
    for looked_at, (ended_us, number, body, crc, holds) in enumerate(rows):
        if looked_at == looked_at_max or len(records) == limit:
            return RecordPage(records=tuple(records), cursor=last)
        if holds and wanted.fits(cdr := _record(number, body, crc)):
            records.append(cdr)
        last = f"{ended_us}.{number}"
    return RecordPage(records=tuple(records), cursor=None)


def _holds(key: str, heads: str) -> str:
    """Whether no later revision supersedes the record that was found."""
    call = f"(SELECT {{}} FROM {heads} AS own WHERE own.{key} = found.{key})"  # noqa: S608 - names of ours
    later = (
        f"EXISTS (SELECT 1 FROM {table} WHERE call_id = {call.format('call_id')}"  # noqa: S608
        f" AND revision > {call.format('revision')})"
        for table in ("cdrs", "suppressed")
    )
    return f"NOT ({' OR '.join(later)})"


def _has_many(connection: apsw.Connection, heads: str, account: str) -> bool:
    """Its latest records are found sooner among those of all others than by sorting all that it has."""
    if heads != "cdrs":
        return True  # which has no index of accounts
    found: int = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM cdrs WHERE account = ? LIMIT ?)", (account, SORTED_MAX)
    ).get
    return found == SORTED_MAX


def conditions_of(wanted: RecordFilter) -> tuple[list[str], list[str | int | bytes]]:
    """What SQL can ask of the columns; `RecordFilter.fits` asks the rest."""
    conditions: list[str] = []
    values: list[str | int | bytes] = []
    exact = {
        "account": wanted.account,
        "origin": wanted.origin.value if wanted.origin else None,
        "reason": wanted.reason.value if wanted.reason else None,
        "detail": wanted.detail.value if wanted.detail else None,
        "gateway": wanted.gateway or None,
    }
    if wanted.gateway == "":
        conditions.append("gateway IS NULL")
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
    for name in wanted.names:
        conditions.append("(found_by IS NULL OR instr(found_by, ?))")
        values.append(key_of(name))
    return conditions, values


def _glob(number: str) -> str:
    """The number itself, or with a `*` at its end all that begin with it; nothing else is special."""
    begins = number.removesuffix("*")
    literal = "".join(f"[{c}]" if c in "*?[" else c for c in begins)
    return literal + ("*" if begins != number else "")


def parse_cursor(cursor: str | None) -> tuple[int, int] | None:
    if cursor is None:
        return None
    ended, _, key = cursor.partition(".")
    try:
        return int(ended), int(key)
    except ValueError:
        raise ValueError(f"cursor {cursor!r}: not one that a search has given") from None
