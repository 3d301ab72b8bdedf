"""Retention, for whoever has the journal open: what `sealing` and `erasing` do, through the writer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.chain import heads_at
from sidecar.adapters.sqlite.erasing import find
from sidecar.adapters.sqlite.file import DataDir, connect, move_wal
from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.sqlite.sealing import Cut, last_cut, next_cut
from sidecar.adapters.store.reading import Write
from sidecar.adapters.store.retention import BaseRetention, Found
from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import Change
from sidecar.core.chain import ChainKey, Link
from sidecar.ports import Erased, RetentionError

ROWS_PER_STEP = 500  # beside calls: some milliseconds of the writer, and then a pause
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def rewrite(data_dir: Path) -> None:
    """Write the file anew, without free pages: what was deleted from it long ago is still in those. Takes
    twice its room; nobody may have it open. StoreError."""
    held = DataDir(data_dir)
    try:
        with closing(connect(held.file)) as connection:
            connection.execute("VACUUM")
            move_wal(connection)
    except apsw.Error as error:
        raise StoreError(f"{held.file}: cannot be written anew ({error})") from error
    finally:
        held.release()


class SqliteRetention(BaseRetention):
    def __init__(self, reader: Reader, write: Write, keys: Sequence[ChainKey]) -> None:
        super().__init__(reader, write)
        self._keys = keys
        self._cut: Cut | None = None  # that of the removal that is under way beside calls

    async def remove_some(self, link: Link, until: datetime, archive: str, change: Change) -> bool:
        until_us = (until - _EPOCH) // _US

        def found(connection: apsw.Connection) -> Cut | str | None:
            if last_cut(connection).link.number >= link.number:
                return None
            at, heads = heads_at(connection, link.number)
            if at != link or next_cut(connection, until_us).link.number < link.number:
                return f"commit {link.number} is not one up to which calls before {until} can go"
            return Cut(at, heads)

        if self._cut is None or self._cut.link != link:
            cut = await self._reader.ask(found)
            if isinstance(cut, str):
                raise RetentionError(cut)
            if cut is None:
                return True
            self._cut = cut
        until_cut = self._cut

        def part(batch: Batch) -> bool:
            is_last = batch.sealing.remove_part(until_cut, until_us, archive, ROWS_PER_STEP)
            if is_last:
                batch.audit(change)
            return is_last

        is_last = await self._write(part, may_wait=True)
        if is_last:
            self._cut = None
        return is_last

    async def remove(self, until: Cut, until_us: int, archive: str, change: Change) -> None:
        """Everything up to the cut. `archive`: the digest of the manifest of what was archived of it.
        `change` is noted with the last part."""

        def part(batch: Batch) -> bool:
            is_last = batch.sealing.remove_part(until, until_us, archive)
            if is_last:
                batch.audit(change)
            return is_last

        while not await self._write(part):
            pass

    def _find(self, connection: apsw.Connection, number: str, after: tuple[int, int], rows_max: int) -> Found:
        return find(connection, number, after, rows_max)

    def _erase(self, batch: Batch, number: str, found: Found) -> Erased:
        return batch.erasing.erase(number, found, self._keys)
