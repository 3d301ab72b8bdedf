"""Reading what was written: on a connection of its own, in a thread of its own, so that no reader delays a
commit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from sidecar.adapters.sqlite.file import DISK_ERRORS, connect_reader
from sidecar.adapters.store.records import (
    BaseRecords,
    Found,
    Place,
    Row,
    conditions_of,
    ended_of,
    page_of,
    place_of,
    records_of,
)
from sidecar.core.cdr import Cdr
from sidecar.ports import RecordFilter, RecordPage, UnavailableError

SORTED_MAX = 20_000  # rows of an account: some hundredths of a second
SCANNED_MAX = 50_000  # rows whose columns are looked at in one step: as long
SCAN_S_MAX = 2.0  # no other step is begun after it
HAS_NAME = "(found_by IS NULL OR instr(found_by, ?))"  # NULL: of before there was such a column

_T = TypeVar("_T")


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


class SqliteRecords(BaseRecords):
    def _of_call(self, connection: apsw.Connection, call_id: bytes) -> Iterable[Row]:
        return _of_call(connection, call_id)

    def _published(self, connection: apsw.Connection, after_seq: int, rows_max: int) -> Iterable[Row]:
        sql = "SELECT seq, body, crc FROM cdr_bodies WHERE seq > ? ORDER BY seq LIMIT ?"
        return connection.execute(sql, (after_seq, rows_max))

    def _page(
        self, connection: apsw.Connection, wanted: RecordFilter, limit: int, cursor: str | None
    ) -> RecordPage:
        # Where records must be read to know whether they fit, a step is long enough for one question.
        return found_records(connection, wanted, limit, cursor, 0 if wanted.looks_inside else SCAN_S_MAX)


def _of_call(connection: apsw.Connection, call_id: bytes) -> Iterable[Row]:
    return connection.execute(
        "SELECT seq, body, crc FROM (SELECT seq, body, crc, revision FROM cdrs JOIN cdr_bodies USING (seq)"
        " WHERE call_id = ?1 UNION ALL"
        " SELECT entry, body, crc, revision FROM suppressed WHERE call_id = ?1) ORDER BY revision",
        (call_id,),
    )


def revisions_of(connection: apsw.Connection, call_id: bytes) -> tuple[Cdr, ...]:
    return records_of(_of_call(connection, call_id))


def found_records(
    connection: apsw.Connection, wanted: RecordFilter, limit: int, cursor: str | None, within_s: float
) -> RecordPage:
    """The latest first, by (end, row). Fewer than `limit`, and yet a cursor, where so long was looked in
    vain: after `within_s` no other step is begun."""
    until_s = time.monotonic() + within_s
    records: list[Cdr] = []
    while True:
        after = place_of(cursor, 2)
        until = None
        is_sorted = wanted.account is not None and not _has_many(connection, wanted)
        if not is_sorted:
            until = _scanned_until(connection, wanted, after)
        rows = partial(_rows, connection, wanted, after, until, is_sorted)
        found = page_of(rows, wanted, limit - len(records), until)
        records += found.records
        cursor = found.cursor
        if cursor is None or len(records) == limit or time.monotonic() >= until_s:
            return RecordPage(records=tuple(records), cursor=cursor)


def _scanned_until(connection: apsw.Connection, wanted: RecordFilter, after: Place | None) -> Place | None:
    """The last of the next SCANNED_MAX rows in the order of the ends, counted in the index alone; None: there
    are not so many. Without it a search for what is rare would look at all rows there are."""
    key, heads = ("entry", "suppressed") if wanted.suppressed else ("seq", "cdrs")
    conditions, values = ended_of(wanted)
    if after is not None:
        conditions.append(f"(ended_us, {key}) < (?, ?)")
        values += after
    where = " AND ".join(conditions) or "1"
    for ended_us, number in connection.execute(
        f"SELECT ended_us, {key} FROM {heads} INDEXED BY {heads}_by_end WHERE {where}"  # noqa: S608 - names of ours
        f" ORDER BY ended_us DESC, {key} DESC LIMIT 1 OFFSET ?",
        (*values, SCANNED_MAX - 1),
    ):
        return ended_us, number
    return None


def _rows(
    connection: apsw.Connection,
    wanted: RecordFilter,
    after: Place | None,
    until: Place | None,
    is_sorted: bool,
    rows_max: int,
) -> Iterator[Found]:
    key = "entry" if wanted.suppressed else "seq"
    conditions, values = conditions_of(wanted, HAS_NAME)
    if after is not None:
        conditions.append(f"(ended_us, {key}) < (?, ?)")
        values += after
    if until is not None:
        conditions.append(f"(ended_us, {key}) >= (?, ?)")
        values += until
    heads, bodies = ("suppressed", "suppressed") if wanted.suppressed else ("cdrs", "cdr_bodies")
    if not is_sorted:
        conditions = [sql.replace("account = ?", "+account = ?") for sql in conditions]
    where = " AND ".join(conditions) or "1"
    # The bodies are read of the rows of this page alone, not of all that are sorted to find it.
    for ended_us, number, body, crc, holds in connection.execute(
        f"SELECT found.ended_us, {key}, body, crc, {_holds(key, heads) if wanted.holds else 1} FROM"  # noqa: S608 - names of ours alone
        f" (SELECT ended_us, {key} FROM {heads} WHERE {where} ORDER BY ended_us DESC, {key} DESC LIMIT ?)"
        f" AS found CROSS JOIN {bodies} USING ({key}) ORDER BY found.ended_us DESC, {key} DESC",
        (*values, rows_max),
    ):
        yield Found((ended_us, number), body, crc, bool(holds))


def _holds(key: str, heads: str) -> str:
    """Whether no later revision supersedes the record that was found."""
    call = f"(SELECT {{}} FROM {heads} AS own WHERE own.{key} = found.{key})"  # noqa: S608 - names of ours
    later = (
        f"EXISTS (SELECT 1 FROM {table} WHERE call_id = {call.format('call_id')}"  # noqa: S608
        f" AND revision > {call.format('revision')})"
        for table in ("cdrs", "suppressed")
    )
    return f"NOT ({' OR '.join(later)})"


def _has_many(connection: apsw.Connection, wanted: RecordFilter) -> bool:
    """Its latest records are found sooner among those of all others than by sorting all that it has."""
    if wanted.suppressed:
        return True  # they have no index of accounts
    found: int = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM cdrs WHERE account = ? LIMIT ?)", (wanted.account, SORTED_MAX)
    ).get
    return found == SORTED_MAX
