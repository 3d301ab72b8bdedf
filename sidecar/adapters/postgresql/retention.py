"""The Retention port, over all nodes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from sidecar.adapters.postgresql.batch import Batch
from sidecar.adapters.postgresql.erasing import find
from sidecar.adapters.postgresql.server import Reader, Server
from sidecar.adapters.store.reading import Write
from sidecar.adapters.store.retention import BaseRetention, Found
from sidecar.core.audit import Change
from sidecar.core.chain import ChainKey, Link
from sidecar.ports import Erased, RetentionError


class PostgresqlRetention(BaseRetention):
    """`keys`: of the chains, the last for pseudonyms; the same for all nodes, or a number has several."""

    def __init__(self, reader: Reader, write: Write, keys: Sequence[ChainKey]) -> None:
        super().__init__(reader, write)
        self._keys = keys

    async def remove_some(self, link: Link, until: datetime, archive: str, change: Change) -> NoReturn:
        raise RetentionError("a node may not: `sidecar retention archive --dsn-file`, as who owns the tables")

    def _find(self, connection: Server, number: str, after: tuple[int, int], rows_max: int) -> Found:
        return find(connection, number, after, rows_max)

    def _erase(self, batch: Batch, number: str, found: Found) -> Erased:
        return batch.erasing.erase(number, found, self._keys)
