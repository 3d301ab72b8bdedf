"""The Records port: what a search asks of the columns, and what it reads the records for. The engine finds
the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.reading import Reader
from sidecar.core.cdr import Cdr
from sidecar.core.found_by import key_of
from sidecar.ports import CursorError, Followed, RecordFilter, RecordPage
from sidecar.wire.cdr_codec import decode

RECORDS_PER_PAGE_MAX = 1_000
LOOKED_AT_MAX = 2_000  # records that are read for one page of those that fit: a tenth of a second

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

Row = tuple[int, bytes, int]  # number, body as it is kept, checksum
Place = tuple[int, ...]  # the end of a call, in µs, and what tells its row from others of that end


class Found(NamedTuple):
    place: Place
    body: bytes
    crc: int
    holds: bool = True  # no later revision supersedes it


class BaseRecords(ABC):
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @abstractmethod
    def _of_call(self, connection: Any, call_id: bytes) -> Iterable[Row]:
        """By revision."""

    @abstractmethod
    def _published(self, connection: Any, after_seq: int, rows_max: int) -> Iterable[Row]: ...
    @abstractmethod
    def _followed(self, connection: Any, cursor: str | None, rows_max: int) -> Followed: ...
    @abstractmethod
    def _page(self, connection: Any, wanted: RecordFilter, limit: int, cursor: str | None) -> RecordPage: ...

    async def show(self, call_id: str) -> Sequence[Cdr]:
        try:
            key = UUID(call_id).bytes
        except ValueError:
            return ()
        return await self._reader.ask(lambda connection: records_of(self._of_call(connection, key)))

    async def search(
        self, wanted: RecordFilter, records_max: int = 100, cursor: str | None = None
    ) -> RecordPage:
        limit = _limit(records_max)
        return await self._reader.ask(lambda connection: self._page(connection, wanted, limit, cursor))

    async def tail(self, after_seq: int, records_max: int = 100) -> Sequence[Cdr]:
        limit = _limit(records_max)
        return await self._reader.ask(
            lambda connection: records_of(self._published(connection, after_seq, limit))
        )

    async def follow(self, cursor: str | None, records_max: int = 100) -> Followed:
        limit = _limit(records_max)
        return await self._reader.ask(lambda connection: self._followed(connection, cursor, limit))


def _limit(records_max: int) -> int:
    return max(1, min(records_max, RECORDS_PER_PAGE_MAX))


def records_of(rows: Iterable[Row]) -> tuple[Cdr, ...]:
    return tuple(record(*row) for row in rows)


def record(number: int, body: bytes, crc: int) -> Cdr:
    return decode(sound(body, crc, f"record {number}"))


def page_of(
    rows: Callable[[int], Iterable[Found]],
    wanted: RecordFilter,
    limit: int,
    scanned_until: Place | None = None,
) -> RecordPage:
    """`rows`: so many at most that meet the conditions, the latest end first. A cursor names the last one
    that was looked at; `scanned_until`: the place up to which they were sought; None: all there are."""
    looked_at_max = LOOKED_AT_MAX if wanted.looks_inside else limit
    records: list[Cdr] = []
    last = None
    for looked_at, one in enumerate(rows(looked_at_max + 1)):
        if looked_at == looked_at_max or len(records) == limit:
            return RecordPage(records=tuple(records), cursor=last)
        if one.holds and wanted.fits(cdr := record(one.place[-1], one.body, one.crc)):
            records.append(cdr)
        last = _cursor_of(one.place)
    cursor = None if scanned_until is None else _cursor_of(scanned_until)
    return RecordPage(records=tuple(records), cursor=cursor)


def _cursor_of(place: Place) -> str:
    return ".".join(map(str, place))


def place_of(cursor: str | None, parts: int) -> Place | None:
    """Raises CursorError."""
    if cursor is None:
        return None
    try:
        place = tuple(map(int, cursor.split(".")))
    except ValueError:
        place = ()
    if len(place) != parts:
        raise CursorError(f"cursor {cursor!r}: not one that a search has given")
    return place


def first_call_id(moment: datetime) -> bytes:
    """Below every id of a call whose INVITE came then (core/identity): they begin with its milliseconds."""
    return (int(moment.timestamp() * 1_000) << 80).to_bytes(16)


def conditions_of(wanted: RecordFilter, has_name: str) -> tuple[list[str], list[str | int | bytes]]:
    """What SQL can ask of the columns; `RecordFilter.fits` asks the rest. `has_name`: how the engine asks
    whether the bytes `?` are in found_by."""
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
    if wanted.revised_since is not None:
        conditions.append("revision > 0")
    when, moments = ended_of(wanted)
    conditions += when
    values += moments
    if wanted.number is not None:
        begins = wanted.number.removesuffix("*")
        is_whole = begins == wanted.number
        asked = "{} = ?" if is_whole else "substr({}, 1, ?) = ?"
        columns = (asked.format(column) for column in ("caller", "callee", "billed"))
        conditions.append(f"({' OR '.join(columns)})")
        values += [begins] * 3 if is_whole else [len(begins), begins] * 3
    for name in wanted.names:
        conditions.append(has_name)
        values.append(key_of(name))
    return conditions, values


def ended_of(wanted: RecordFilter) -> tuple[list[str], list[int]]:
    """Of the conditions those that ask when calls ended."""
    conditions: list[str] = []
    values: list[int] = []
    if wanted.since is not None:
        conditions.append("ended_us >= ?")
        values.append((wanted.since - _EPOCH) // _US)
    # A call that began before may have ended at any time after.
    if wanted.until is not None and not wanted.by_start:
        conditions.append("ended_us < ?")
        values.append((wanted.until - _EPOCH) // _US)
    return conditions, values
