"""A search of records, the latest end first, a bounded part of them at a time: one for what is rare would
look at all rows there are."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from sidecar.adapters.store.reading import Asks
from sidecar.adapters.store.records import Found, Place, conditions_of, ended_of, page_of, place_of
from sidecar.core.cdr import Cdr
from sidecar.ports import RecordFilter, RecordPage

SORTED_MAX = 20_000  # rows of an account: some hundredths of a second
SCANNED_MAX = 50_000  # rows whose columns are looked at in one step: as long
SCAN_S_MAX = 2.0  # no other step is begun after it


class Search(ABC):
    has_name: ClassVar[str]  # how the engine asks whether the bytes `?` are in found_by

    def __init__(self, connection: Asks, wanted: RecordFilter) -> None:
        self._connection = connection
        self._wanted = wanted
        self._table = "suppressed" if wanted.suppressed else "cdrs"
        self._place = ("ended_us", *self._keys())
        # Its latest records are found sooner by sorting all that it has than among those of all others.
        self._is_sorted = wanted.account is not None and not self._has_many()
        # Every row of that time fits, as far as columns tell.
        self._is_dense = conditions_of(wanted, self.has_name) == ended_of(wanted)

    @abstractmethod
    def _keys(self) -> Sequence[str]:
        """What tells a row of the table from others of the same end."""

    @abstractmethod
    def _found(self, where: str, values: Sequence[object], rows_max: int) -> Iterable[Found]: ...

    def _by_end(self) -> str:
        """Table and index of the ends."""
        return self._table

    def page(self, limit: int, cursor: str | None, within_s: float) -> RecordPage:
        """Fewer than `limit`, and yet a cursor, where so long was looked in vain: after `within_s` no other
        step is begun."""
        until_s = time.monotonic() + within_s
        records: list[Cdr] = []
        while True:
            after = place_of(cursor, len(self._place))
            until = None if self._is_sorted or self._is_dense else self._scanned_until(after)
            conditions, values = self._behind(*conditions_of(self._wanted, self.has_name), after)
            if until is not None:
                conditions.append(self._compared(">="))
                values += until
            where = " AND ".join(conditions) or "TRUE"
            rows = partial(self._found, where, tuple(values))
            found = page_of(rows, self._wanted, limit - len(records), until)
            records += found.records
            cursor = found.cursor
            if cursor is None or len(records) == limit or time.monotonic() >= until_s:
                return RecordPage(records=tuple(records), cursor=cursor)

    def _latest_first(self, of: str = "") -> str:
        return ", ".join(f"{of}{column} DESC" for column in self._place)

    def _compared(self, how: str) -> str:
        return f"({', '.join(self._place)}) {how} ({', '.join('?' * len(self._place))})"

    def _behind(
        self, conditions: list[str], values: Sequence[str | int | bytes], after: Place | None
    ) -> tuple[list[str], list[str | int | bytes]]:
        if after is None:
            return conditions, [*values]
        return [*conditions, self._compared("<")], [*values, *after]

    def _scanned_until(self, after: Place | None) -> Place | None:
        """The last of the next SCANNED_MAX rows in the order of the ends, counted in the index alone; None:
        there are not so many."""
        conditions, values = self._behind(*ended_of(self._wanted), after)
        rows = self._connection.execute(
            f"SELECT {', '.join(self._place)} FROM {self._by_end()}"  # noqa: S608 - names of ours
            f" WHERE {' AND '.join(conditions) or 'TRUE'}"
            f" ORDER BY {self._latest_first()} LIMIT 1 OFFSET ?",
            (*values, SCANNED_MAX - 1),
        )
        return next((tuple(row) for row in rows), None)

    def _has_many(self) -> bool:
        if self._wanted.suppressed:
            return True  # they have no index of accounts
        sql = "SELECT count(*) FROM (SELECT 1 FROM cdrs WHERE account = ? LIMIT ?) AS few"
        return any(
            found == SORTED_MAX
            for (found,) in self._connection.execute(sql, (self._wanted.account, SORTED_MAX))
        )


def within_s(wanted: RecordFilter) -> float:
    """Where records must be read to know whether they fit, a step is long enough for one question."""
    # Names on the wire are asked of the index: few records must be read.
    return SCAN_S_MAX if wanted.names or not wanted.looks_inside else 0
