"""What commands have made of peers, gateways, routes and account rules: the StoredEntries port, and its part
of a transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from sidecar.adapters.store.batch import BaseBatch
from sidecar.adapters.store.bodies import storable
from sidecar.adapters.store.reading import Reader, Write
from sidecar.core.account_terms import AccountTerms
from sidecar.core.audit import Change
from sidecar.core.stored import StoredEntry
from sidecar.ports import AccountError

COLUMNS = ("kind", "name", "place", "first", "fields", "operator", "uid", "at_wall_ns", "text")
_ENCODER = msgspec.json.Encoder(order="sorted")

Row = tuple[Any, ...]


class Batch(BaseBatch):
    """Of either engine."""

    stored: BaseStored


class KeptEntries:
    """`rows`: all of them, in their order; `revision`: of the settings. Both ask a connection."""

    def __init__(
        self,
        reader: Reader,
        write: Write,
        rows: Callable[[Any], Iterable[Row]],
        revision: Callable[[Any], int],
    ) -> None:
        self._reader = reader
        self._write = write
        self._rows = rows
        self._revision = revision

    async def all(self) -> Sequence[StoredEntry]:
        return await self._reader.ask(lambda connection: entries_of(self._rows(connection)))

    async def keep(
        self,
        changes: Sequence[Change],
        terms: Sequence[tuple[AccountTerms, Change]] = (),
        entries: Sequence[StoredEntry] | None = None,
    ) -> None:
        def keep(batch: Batch) -> None:
            if refusal := batch.take_over(terms):
                raise AccountError(refusal)  # which takes all of it back
            if entries is not None:
                batch.stored.keep(entries)
            for change in changes:
                batch.audit(change)

        await self._write(keep)

    async def settings_revision(self) -> int:
        return await self._reader.ask(self._revision)


class BaseStored(ABC):
    """Within one transaction."""

    def __init__(self, wall_ns: int) -> None:
        self._wall_ns = wall_ns

    @abstractmethod
    def _there(self) -> Iterable[Row]: ...
    @abstractmethod
    def _remove(self, kind: str, name: str) -> None: ...
    @abstractmethod
    def _add(self, rows: Sequence[Row]) -> None: ...

    def keep(self, entries: Sequence[StoredEntry]) -> None:
        """These are all that there are from now on; what is as it was is not written again."""
        dated = (replace(one, at_wall_ns=one.at_wall_ns or self._wall_ns) for one in entries)
        wanted = {_row(one, place) for place, one in enumerate(dated)}
        there = set(self._there())
        for row in there - wanted:
            self._remove(*row[:2])
        self._add(sorted(wanted - there))


def entries_of(rows: Iterable[Row]) -> tuple[StoredEntry, ...]:
    return tuple(_entry(*row) for row in rows)


def _row(one: StoredEntry, place: int) -> Row:
    fields = _ENCODER.encode(one.fields).decode()
    operator, text = storable(one.operator), storable(one.text)
    return (one.table, one.name, place, int(one.first), fields, operator, one.uid, one.at_wall_ns, text)


def _entry(
    kind: str,
    name: str,
    place: int,
    first: int,
    fields: str,
    operator: str,
    uid: int | None,
    at_wall_ns: int,
    text: str,
) -> StoredEntry:
    return StoredEntry(
        table=kind,
        name=name,
        fields=msgspec.json.decode(fields, type=dict[str, Any]),
        operator=operator,
        uid=uid,
        at_wall_ns=at_wall_ns,
        text=text,
        first=bool(first),
    )
