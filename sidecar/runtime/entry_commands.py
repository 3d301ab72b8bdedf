"""Peers, gateways, routes and account rules that people make while the node runs: looked at together with the
files, kept in the store, then put in force by the reload. What any of the three refuses is not kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from sidecar.core.audit import Change, Operator, told
from sidecar.core.records import utc
from sidecar.core.stored import (
    STORED_MAX,
    WORDS,
    ListedEntry,
    OutOfPlaceError,
    StoredEntry,
    placed,
    without,
)
from sidecar.ports import StoredEntries
from sidecar.runtime.reload import BadSettingsError, Kept, Reading, Reloading
from sidecar.wire import control_entries as say
from sidecar.wire.control import CommandError, ErrorCode, Method, Nothing, in_one_line
from sidecar.wire.methods import served


class Candidate(Protocol):
    """The settings with other entries made by command; `look` is asked in a thread."""

    def look(self, stored: Sequence[StoredEntry]) -> Reading | Sequence[str]: ...
    def fields(self, table: str, words: Mapping[str, object]) -> Mapping[str, object] | str: ...


class EntryCommands:
    def __init__(self, stored: StoredEntries, candidate: Candidate, reloading: Reloading) -> None:
        self._stored = stored
        self._candidate = candidate
        self._reloading = reloading
        self._changing = asyncio.Lock()  # one command after the other: each sees what the one before left

    def methods(self) -> Mapping[str, Method]:
        deeds: Mapping[str, Callable[..., Awaitable[object]]] = {
            "add": self.add,
            "set": self.set,
            "show": self.show,
            "list": self.list,
            "remove": self.remove,
        }
        found = {
            f"{word}.{deed}": partial(handle, table)
            for table, word in WORDS.items()
            for deed, handle in deeds.items()
        }
        return served(found)

    async def add(self, table: str, wanted: say.EntryAddParams, operator: Operator) -> say.EntryChanged:
        async with self._changing:
            kept = await self._stored.all()
            if _found(kept, table, wanted.name) is not None:
                text = f"{_called(table, wanted.name)} was made already: `sidecar {WORDS[table]} set`"
                raise CommandError(ErrorCode.REFUSED, text)
            if len(kept) >= STORED_MAX:
                text = f"{STORED_MAX} entries were made by command: put more of them into the profile"
                raise CommandError(ErrorCode.REFUSED, text)
            entry = _entry(table, wanted, operator, self._fields(table, wanted.set), first=wanted.first)
            entries = _placed(kept, entry, wanted.before, wanted.after)
            change = _change(operator, "add", None, entry, wanted.text)
            return await self._put(kept, entries, entry, change)

    async def set(self, table: str, wanted: say.EntrySetParams, operator: Operator) -> say.EntryChanged:
        async with self._changing:
            kept = await self._stored.all()
            known = await self._known(kept, table, wanted.name)
            missing = [name for name in wanted.unset if name not in known.fields]
            if missing:
                raise CommandError(ErrorCode.REFUSED, f"{', '.join(missing)}: is not set")
            fields = {name: value for name, value in known.fields.items() if name not in wanted.unset}
            fields |= self._fields(table, wanted.set)
            first = known.first if wanted.first is None else wanted.first
            entry = _entry(table, wanted, operator, fields, first=first)
            entries = _placed(kept, entry, wanted.before, wanted.after)
            change = _change(operator, "set", known, entry, wanted.text)
            return await self._put(kept, entries, entry, change)

    async def remove(self, table: str, wanted: say.EntryRemoveParams, operator: Operator) -> say.EntryChanged:
        async with self._changing:
            kept = await self._stored.all()
            known = await self._known(kept, table, wanted.name)
            change = _change(operator, "remove", known, None, wanted.text)
            return await self._put(kept, without(kept, table, wanted.name), known, change)

    async def show(self, table: str, wanted: say.EntryNameParams, _: Operator) -> say.EntryShown:
        for one in await self._listed(await self._stored.all(), table):
            if one.name == wanted.name:
                return _shown(one)
        raise CommandError(ErrorCode.NOT_FOUND, f"there is no {_called(table, wanted.name)}")

    async def list(self, table: str, _: Nothing, __: Operator) -> say.EntryList:
        listed = await self._listed(await self._stored.all(), table)
        return say.EntryList(entries=tuple(map(_shown, listed)))

    # --- one change -----------------------------------------------------------------------------------------

    async def _put(
        self,
        kept: Sequence[StoredEntry],
        entries: Sequence[StoredEntry],
        entry: StoredEntry,
        change: Change,
    ) -> say.EntryChanged:
        def read() -> Reading | Sequence[str]:
            looked = self._candidate.look(entries)
            if isinstance(looked, Reading) and change.after:
                for one in looked.listed:
                    if one.by is None and (one.table, one.name) == (entry.table, entry.name):
                        return [_of_a_file(one, entry.name)]
            return looked

        keeping = Kept(change=change, before=kept, after=entries)
        try:
            done = await self._reloading.reload(change.operator, read=read, kept=keeping)
        except BadSettingsError as error:
            raise CommandError(ErrorCode.REFUSED, in_one_line(error.errors)) from None
        if done.needs_restart:
            text = f"nothing was changed: {', '.join(done.needs_restart)} from the next start on only"
            raise CommandError(ErrorCode.REFUSED, text)
        return say.EntryChanged(
            name=entry.name, settings_revision=done.revision, warnings=tuple(done.warnings)
        )

    def _fields(self, table: str, words: Mapping[str, object]) -> Mapping[str, object]:
        fields = self._candidate.fields(table, words)
        if isinstance(fields, str):
            raise CommandError(ErrorCode.INVALID_PARAMS, fields)
        return fields

    async def _listed(self, kept: Sequence[StoredEntry], table: str) -> Sequence[ListedEntry]:
        """As files and commands have them now."""
        looked = await asyncio.to_thread(self._candidate.look, kept)
        if not isinstance(looked, Reading):
            raise CommandError(ErrorCode.REFUSED, in_one_line(looked))
        return [one for one in looked.listed if one.table == table]

    async def _known(self, kept: Sequence[StoredEntry], table: str, name: str) -> StoredEntry:
        """The one that a command made; what a file has is changed there."""
        known = _found(kept, table, name)
        if known is not None:
            return known
        for one in await self._listed(kept, table):
            if one.name == name:
                raise CommandError(ErrorCode.REFUSED, _of_a_file(one, name))
        raise CommandError(ErrorCode.NOT_FOUND, f"there is no {_called(table, name)}")


def _found(kept: Sequence[StoredEntry], table: str, name: str) -> StoredEntry | None:
    return next((one for one in kept if one.is_of(table, name)), None)


def _entry(
    table: str,
    wanted: say.EntryRemoveParams,
    operator: Operator,
    fields: Mapping[str, object],
    *,
    first: bool,
) -> StoredEntry:
    return StoredEntry(
        table=table,
        name=wanted.name,
        fields=fields,
        operator=operator.name,
        uid=operator.uid,
        text=wanted.text,
        first=first,
    )


def _of_a_file(one: ListedEntry, name: str) -> str:
    return f"{_called(one.table, name)} is of {one.source}: it is changed there"


def _placed(
    kept: Sequence[StoredEntry], entry: StoredEntry, before: str | None, after: str | None
) -> tuple[StoredEntry, ...]:
    if before is not None and after is not None:
        raise CommandError(ErrorCode.INVALID_PARAMS, "before and after: one of the two")
    try:
        return placed(kept, entry, before=before, after=after)
    except OutOfPlaceError as error:
        raise CommandError(ErrorCode.REFUSED, str(error)) from None


def _called(table: str, name: str) -> str:
    return f"{WORDS[table]} " + (name or '""')


def _change(
    operator: Operator, verb: str, before: StoredEntry | None, after: StoredEntry | None, text: str
) -> Change:
    one = after or before
    assert one is not None
    return Change(
        operator=operator,
        action=f"{WORDS[one.table]}.{verb}",
        subject=one.name or '""',
        before=None if before is None else told(before.fields),
        after=None if after is None else told(after.fields),
        text=text,
    )


def _shown(one: ListedEntry) -> say.EntryShown:
    by = one.by
    return say.EntryShown(
        name=one.name,
        source=one.source,
        operator=None if by is None else by.operator,
        at=None if by is None else utc(by.at_wall_ns),
        text=None if by is None else by.text,
        fields=dict(one.fields),
    )
