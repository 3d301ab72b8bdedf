"""Sums of days and months, and of minutes, for the page: a file in the data directory, `sums.db`, made of the
records alone, whichever engine has them (in a database those of all nodes). They are read forward by the
page's own process, so a call pays nothing for it; whoever deletes the file gets it made anew, of the records
that are still there.

Exact over revisions (a record that is superseded is taken out as it was, in whatever order the two came to be
read: each node writes its own), and over retention: what was summed stays when its records are archived, and
whoever archives sums first what is not summed yet (`catch_up`: the page may not run). In other books
(restored, salvaged) the records are other ones: all is summed anew but the days that lie before what was
archived.

It is as large as there is variety: some 120 bytes for each day and ten days (kept two years) and month (ten
years) of each account, destination, gateway and end that had calls; and for each minute with calls of the
last year, at most 527,040 of them, 60 MB. An hour and a day take rows of their own, for charts of long times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import apsw
import msgspec
import structlog

from sidecar.adapters.store.bodies import DamagedError
from sidecar.adapters.store.books import Books, Look, Marks
from sidecar.core.cdr import Cdr
from sidecar.core.sums import By, Minute, Part, Sums, groups_of, minute_of, part_of, periods_of, sums_of

FILE_NAME = "sums.db"
ROWS_PER_STEP = 500
SPANS_S: Final = (60, 3_600, 86_400)
KEPT: Final = timedelta(days=366)  # minutes; hours and days are so few that they stay with the sums
DAYS_KEPT: Final = timedelta(days=2 * 366)
MONTHS_KEPT: Final = timedelta(days=10 * 366)
_SCHEMA: Final = """
CREATE TABLE mark (
    id INTEGER PRIMARY KEY CHECK (id = 1), zone TEXT NOT NULL, books TEXT NOT NULL, kept_before TEXT NOT NULL,
    read TEXT NOT NULL
) STRICT;
CREATE TABLE sums (
    by TEXT NOT NULL, period TEXT NOT NULL, name TEXT NOT NULL, part TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (by, period, name, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE minutes (
    span_s INTEGER NOT NULL, at_s INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (span_s, at_s)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
"""
_VERSION = 3
# What was archived since is in the sums alone.
_FROM_2: Final = """
ALTER TABLE mark RENAME COLUMN epoch TO books;
ALTER TABLE mark ADD COLUMN read TEXT NOT NULL DEFAULT '';
UPDATE mark SET read = json_object('epochs', json_object('0', json_array(seq, entry)));
ALTER TABLE mark DROP COLUMN seq;
ALTER TABLE mark DROP COLUMN entry;
PRAGMA user_version = 3;
"""
_SUMS = msgspec.msgpack.Decoder(Sums)
_MINUTE = msgspec.msgpack.Decoder(Minute)
_MARKS = msgspec.json.Decoder(Marks)

log = structlog.get_logger("sidecar.sums")

SumKey = tuple[By, str, str, Part]
MinuteKey = tuple[int, int]


class KeptSums:
    """`zone`: that in which a day is one. Threads may share it: each method opens the file anew."""

    def __init__(self, books: Books, data_dir: Path, zone: str) -> None:
        self._books = books
        self._file = data_dir / FILE_NAME
        self._zone_name = zone
        self._zone = ZoneInfo(zone)
        self._forgot_on = date.min

    def catch_up(self) -> None:
        """Add all that the books have more, on disk when this returns: then its records may go."""
        while self.advance(durably=True) >= ROWS_PER_STEP:
            pass

    def advance(self, rows_max: int = ROWS_PER_STEP, *, durably: bool = False) -> int:
        """Add what the books have more, at most so many of each of their tables; how many records were read.
        StoreError where the books cannot be read, apsw.Error where the sums cannot be written."""
        sums: dict[SumKey, Sums] = {}
        minutes: dict[MinuteKey, Minute] = {}
        with self._opened() as connection, _changing(connection, durably):
            with self._books.look() as look:
                marks, kept_before = self._mark(connection, look.books(), look.removed_until())
                read = self._read(look, rows_max, marks, kept_before, sums, minutes)
            _write(connection, sums, minutes)
            connection.execute("UPDATE mark SET read = ?", (msgspec.json.encode(marks).decode(),))
            now = datetime.now(UTC)
            if now.date() != self._forgot_on:
                _forget_old(connection, now)
                self._forgot_on = now.date()
            return read

    def _read(
        self,
        look: Look,
        rows_max: int,
        marks: Marks,
        kept_before: str,
        sums: dict[SumKey, Sums],
        minutes: dict[MinuteKey, Minute],
    ) -> int:
        """Of each call its highest revision among what is marked is counted."""
        found = look.stored_after(marks, rows_max)
        places = look.places_of({one.call_id for one in found})
        for stored in found:
            revision = stored.place.revision
            before = max((one.revision for one in places[stored.call_id] if marks.have(one)), default=None)
            last = marks.of(stored.place.epoch)[0]
            if not stored.place.is_kept_back and 0 < last < stored.place.number - 1:
                numbers = f"{last + 1}-{stored.place.number - 1}"  # archived by somebody who does not know us
                log.warning("records_not_summed", epoch=stored.place.epoch, numbers=numbers)
            marks.add(stored.place)
            if before is not None and before > revision:
                continue
            try:
                if before is not None and (old := look.revision(stored.call_id, before)) is not None:
                    self._count(old, -1, kept_before, sums, minutes)
                self._count(stored.cdr(), 1, kept_before, sums, minutes)
            except DamagedError as error:
                log.warning("record_not_summed", error=str(error))
        return len(found)

    def behind(self) -> int:
        """How many records are not in the sums yet."""
        with self._opened() as connection, self._books.look() as look:
            known = connection.execute("SELECT zone, books, read FROM mark").fetchone()
            if known is None or known[:2] != (self._zone_name, look.books()):
                return look.behind(Marks())
            return look.behind(_MARKS.decode(known[2]))

    def sums(self, by: By, periods: list[str]) -> dict[tuple[str, str], dict[Part, Sums]]:
        """By period and name."""
        found: dict[tuple[str, str], dict[Part, Sums]] = {}
        with self._opened() as connection:
            for period in periods:
                for name, part, body in connection.execute(
                    "SELECT name, part, body FROM sums WHERE by = ? AND period = ?", (by.value, period)
                ):
                    found.setdefault((period, name), {})[Part(part)] = _SUMS.decode(body)
        return found

    def minutes(self, span_s: int, from_s: int, to_s: int) -> list[tuple[int, Minute]]:
        """Those with calls; each begins at its number of seconds since 1970."""
        with self._opened() as connection:
            return [
                (at_s, _MINUTE.decode(body))
                for at_s, body in connection.execute(
                    "SELECT at_s, body FROM minutes WHERE span_s = ? AND at_s >= ? AND at_s < ?"
                    " ORDER BY at_s",
                    (span_s, from_s, to_s),
                )
            ]

    # --- ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self) -> Iterator[apsw.Connection]:
        try:
            connection = self._connected()
        except (apsw.NotADBError, apsw.CorruptError) as error:
            log.warning("sums_made_anew", error=str(error))
            for suffix in ("", "-wal", "-shm"):
                self._file.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
            connection = self._connected()
        try:
            yield connection
        finally:
            connection.close(force=True)

    def _connected(self) -> apsw.Connection:
        with suppress(FileExistsError):
            os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(self._file))
        connection.set_busy_timeout(10_000)
        # What is lost with the power is summed again: the mark goes with the sums.
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
        if connection.pragma("user_version") != _VERSION:
            with _changing(connection):
                if (version := connection.pragma("user_version")) == 2:
                    connection.execute(_FROM_2)
                elif version != _VERSION:  # nobody else has made it meanwhile
                    for table in ("mark", "sums", "minutes"):
                        connection.execute(f"DROP TABLE IF EXISTS {table}")
                    connection.execute(_SCHEMA)
        return connection

    def _mark(self, connection: apsw.Connection, books: str, removed: datetime | None) -> tuple[Marks, str]:
        """How far they were read; from the start where these are other books, or another zone."""
        known = connection.execute("SELECT zone, books, kept_before, read FROM mark").fetchone()
        if known is not None and known[:2] == (self._zone_name, books):
            return _MARKS.decode(known[3]), known[2]
        kept_before = ""
        if known is not None and known[0] == self._zone_name and removed is not None:
            # The day that was archived in part stays as it was summed.
            kept_before = (self._day(removed - timedelta(microseconds=1)) + timedelta(days=1)).isoformat()
        # A month is a shorter text than a day of it, and so before it: that of `kept_before` is kept here.
        connection.execute("DELETE FROM sums WHERE period >= ?", (kept_before,))
        connection.execute("DELETE FROM minutes WHERE at_s >= ?", (self._begin_s(kept_before),))
        connection.execute(
            "INSERT OR REPLACE INTO mark (id, zone, books, kept_before, read) VALUES (1, ?, ?, ?, '{}')",
            (self._zone_name, books, kept_before),
        )
        for longer in {kept_before[:7], kept_before[:9]} - {""}:
            self._sum_anew(connection, longer, kept_before)
        return Marks(), kept_before

    def _sum_anew(self, connection: apsw.Connection, longer: str, kept_before: str) -> None:
        """A month, or ten days, of those of its days that stay: those that go are added again."""
        connection.execute("DELETE FROM sums WHERE period = ?", (longer,))
        sums: dict[SumKey, Sums] = {}
        for by, name, part, body in connection.execute(
            "SELECT by, name, part, body FROM sums WHERE period > ? AND period < ? AND length(period) = 10",
            (longer, kept_before),
        ):
            sums.setdefault((By(by), longer, name, Part(part)), Sums()).add(_SUMS.decode(body))
        _write(connection, sums, {})

    def _day(self, at: datetime) -> date:
        return at.astimezone(self._zone).date()

    def _begin_s(self, day: str) -> int:
        return int(datetime.fromisoformat(day).replace(tzinfo=self._zone).timestamp()) if day else -(2**62)

    def _count(
        self,
        cdr: Cdr,
        sign: int,
        kept_before: str,
        sums: dict[SumKey, Sums],
        minutes: dict[MinuteKey, Minute],
    ) -> None:
        day = self._day(cdr.ended_at)
        if cdr.void or day.isoformat() < kept_before:
            return
        one, minute, part = sums_of(cdr), minute_of(cdr), part_of(cdr)
        for by, name in groups_of(cdr):
            for period in periods_of(day):
                sums.setdefault((by, period, name, part), Sums()).add(one, sign)
        at_s = int(cdr.ended_at.timestamp())
        for span_s in SPANS_S:
            minutes.setdefault((span_s, at_s - at_s % span_s), Minute()).add(minute, sign)


@contextmanager
def _changing(connection: apsw.Connection, durably: bool = False) -> Iterator[None]:
    """All of it or nothing; nobody else writes meanwhile. `durably`: synced, and with it what others wrote
    before, which is in the same WAL."""
    if durably:
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _write(connection: apsw.Connection, sums: dict[SumKey, Sums], minutes: dict[MinuteKey, Minute]) -> None:
    for key, found in sums.items():
        body = connection.execute(
            "SELECT body FROM sums WHERE by = ? AND period = ? AND name = ? AND part = ?", key
        ).get
        if body is not None:
            found.add(_SUMS.decode(body))
        if found.records:
            connection.execute(
                "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)", (*key, msgspec.msgpack.encode(found))
            )
        elif body is not None:
            connection.execute("DELETE FROM sums WHERE by = ? AND period = ? AND name = ? AND part = ?", key)
    for at, counted in minutes.items():
        body = connection.execute("SELECT body FROM minutes WHERE span_s = ? AND at_s = ?", at).get
        if body is not None:
            counted.add(_MINUTE.decode(body))
        connection.execute(
            "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?)", (*at, msgspec.msgpack.encode(counted))
        )


def _forget_old(connection: apsw.Connection, now: datetime) -> None:
    connection.execute("DELETE FROM minutes WHERE span_s = 60 AND at_s < ?", (int((now - KEPT).timestamp()),))
    day, month = (now - DAYS_KEPT).date().isoformat(), (now - MONTHS_KEPT).date().isoformat()
    for by in By:
        for length in (9, 10):  # of ten days, of a day
            connection.execute(
                "DELETE FROM sums WHERE by = ? AND period < ? AND length(period) = ?",
                (by.value, day[:length], length),
            )
        connection.execute("DELETE FROM sums WHERE by = ? AND period < ?", (by.value, month[:7]))
