"""The Revisions port: the door by which new revisions come in."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.store.batch import BaseBatch
from sidecar.adapters.store.reading import Write
from sidecar.core.audit import Change
from sidecar.core.cdr import Cdr


class StoredRevisions:
    def __init__(self, write: Write) -> None:
        self._write = write

    async def revise(self, cdrs: Sequence[Cdr], changes: Sequence[Change] = ()) -> Sequence[bool]:
        if not cdrs:
            return ()
        return await self._write(lambda batch: _revise(batch, cdrs, changes or [None] * len(cdrs)))


def _revise(batch: BaseBatch, cdrs: Sequence[Cdr], changes: Sequence[Change | None]) -> Sequence[bool]:
    written = []
    for cdr, change in zip(cdrs, changes, strict=True):
        written.append(batch.revise(cdr))
        if written[-1] and change is not None:
            batch.audit(change)
    return written
