"""Retention, for whoever has the journal open: what `sealing` and `erasing` do, through the writer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import apsw
from msgspec.structs import replace

from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.erasing import Erased
from sidecar.adapters.sqlite.file import DataDir, StoreError, connect, move_wal
from sidecar.adapters.sqlite.outbox import Write
from sidecar.adapters.sqlite.sealing import Cut
from sidecar.core.audit import Change, told
from sidecar.core.chain import ChainKey


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


class SqliteRetention:
    def __init__(self, write: Write) -> None:
        self._write = write

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

    async def erase(self, number: str, keys: Sequence[ChainKey], change: Change) -> Erased:
        """See `Erasing.erase`. `change` is noted with what became of it, and never has the number."""

        def erase(batch: Batch) -> Erased:
            done = batch.erasing.erase(number, keys)
            after = told({"records": done.records, "waiting": done.waiting, "open_calls": done.open_calls})
            batch.audit(replace(change, subject=done.pseudonym, after=after))
            return done

        return await self._write(erase)
