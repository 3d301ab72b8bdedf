"""Reading what was written: on a connection of its own, in a thread of its own, so that no reader delays a
commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

from sidecar.adapters.sqlite.file import DISK_ERRORS, connect_reader
from sidecar.adapters.store.records import (
    BaseRecords,
    Found,
    Row,
    records_of,
)
from sidecar.adapters.store.search import Search, within_s
from sidecar.core.cdr import Cdr
from sidecar.ports import Followed, RecordFilter, RecordPage, UnavailableError

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

    def _followed(self, connection: apsw.Connection, cursor: str | None, rows_max: int) -> Followed:
        if cursor is None:
            head_seq = int(connection.execute("SELECT head_seq FROM store").get)
            after_seq = max(0, head_seq - rows_max)
        else:
            after_seq = int(cursor)
        records = records_of(self._published(connection, after_seq, rows_max))
        last_seq = records[-1].seq if records else None
        seq = after_seq if last_seq is None else last_seq
        return Followed(records, str(seq), seq)

    def _page(
        self, connection: apsw.Connection, wanted: RecordFilter, limit: int, cursor: str | None
    ) -> RecordPage:
        return SqliteSearch(connection, wanted).page(limit, cursor, within_s(wanted))


def _of_call(connection: apsw.Connection, call_id: bytes) -> Iterable[Row]:
    return connection.execute(
        "SELECT seq, body, crc FROM (SELECT seq, body, crc, revision FROM cdrs JOIN cdr_bodies USING (seq)"
        " WHERE call_id = ?1 UNION ALL"
        " SELECT entry, body, crc, revision FROM suppressed WHERE call_id = ?1) ORDER BY revision",
        (call_id,),
    )


def revisions_of(connection: apsw.Connection, call_id: bytes) -> tuple[Cdr, ...]:
    return records_of(_of_call(connection, call_id))


class SqliteSearch(Search):
    has_name = HAS_NAME

    def _keys(self) -> Sequence[str]:
        return ("entry",) if self._wanted.suppressed else ("seq",)

    def _by_end(self) -> str:
        return f"{self._table} INDEXED BY {self._table}_by_end"

    def _found(self, where: str, values: Sequence[object], rows_max: int) -> Iterator[Found]:
        (key,), heads = self._keys(), self._table
        if not self._is_sorted:
            where = where.replace("account = ?", "+account = ?")
        holds = _holds(key, heads) if self._wanted.holds else 1
        bodies = "suppressed" if self._wanted.suppressed else "cdr_bodies"
        # The bodies are read of the rows of this page alone, not of all that are sorted to find it.
        for ended_us, number, body, crc, holds_now in self._connection.execute(
            f"SELECT found.ended_us, {key}, body, crc, {holds} FROM"  # noqa: S608 - names of ours alone
            f" (SELECT ended_us, {key} FROM {heads} WHERE {where} ORDER BY {self._latest_first()} LIMIT ?)"
            f" AS found CROSS JOIN {bodies} USING ({key}) ORDER BY found.ended_us DESC, {key} DESC",
            (*values, rows_max),
        ):
            yield Found((ended_us, number), body, crc, bool(holds_now))


def _holds(key: str, heads: str) -> str:
    """Whether no later revision supersedes the record that was found."""
    call = f"(SELECT {{}} FROM {heads} AS own WHERE own.{key} = found.{key})"  # noqa: S608 - names of ours
    later = (
        f"EXISTS (SELECT 1 FROM {table} WHERE call_id = {call.format('call_id')}"  # noqa: S608
        f" AND revision > {call.format('revision')})"
        for table in ("cdrs", "suppressed")
    )
    return f"NOT ({' OR '.join(later)})"
