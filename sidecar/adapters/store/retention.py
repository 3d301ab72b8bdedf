"""One subscriber's number leaves the records: a keyed pseudonym takes its place, everything else stays.

It is looked for by a reader, a part of the records at a time, and taken out by the writer. The pseudonym of a
number is always the same under one key, so that calls of one subscriber are still seen to be of one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from sidecar.adapters.store.packing import packed, unpacked
from sidecar.adapters.store.reading import Reader, Write
from sidecar.core.audit import Change, told
from sidecar.core.chain import Link
from sidecar.core.found_by import keys_of
from sidecar.ports import Erased, RetentionError
from sidecar.wire.cdr_codec import decode, without_number

DIGITS_MIN = 5  # fewer are found in any record
ROWS_PER_LOOK = 2_000  # a tenth of a second
LOOKS_MAX = 10
ERASED_PER_STEP = 50


class Found(NamedTuple):
    """Records that hold a number. `after`: how far each table was looked at; None: to its end."""

    keys: Sequence[tuple[str, int]]
    after: tuple[int, int] | None


class Anonymous(NamedTuple):
    """A record without a number, as its tables keep it."""

    numbers: list[str | None]
    body: bytes
    found_by: bytes


class BaseRetention(ABC):
    def __init__(self, reader: Reader, write: Write) -> None:
        self._reader = reader
        self._write = write

    @abstractmethod
    async def remove_some(self, link: Link, until: datetime, archive: str, change: Change) -> bool: ...
    @abstractmethod
    def _find(self, connection: Any, number: str, after: tuple[int, int], rows_max: int) -> Found:
        """Among so many of the records behind `after`, those published first."""

    @abstractmethod
    def _erase(self, batch: Any, number: str, found: Found) -> Erased:
        """In the records that were found. ValueError says why not."""

    async def erase_some(self, number: str, after: tuple[int, int], change: Change) -> Erased:
        if not number.isdecimal() or len(number) < DIGITS_MIN:
            raise RetentionError(f"a number has {DIGITS_MIN} digits or more, and nothing else")
        found = Found([], after)
        for _ in range(LOOKS_MAX):
            if found.after is None or len(found.keys) >= ERASED_PER_STEP:
                break
            look = partial(self._find, number=number, after=found.after, rows_max=ROWS_PER_LOOK)
            more = await self._reader.ask(look)
            found = Found([*found.keys, *more.keys], more.after)

        def erase(batch: Any) -> Erased:
            done = self._erase(batch, number, found)
            if done.records or done.after is None:
                counts = {"records": done.records, "waiting": done.waiting, "open_calls": done.open_calls}
                batch.audit(replace(change, subject=done.pseudonym, after=told(counts)))
            return done

        try:
            return await self._write(erase, may_wait=True)
        except ValueError as error:
            raise RetentionError(str(error)) from error

    async def erase(self, number: str, change: Change) -> Erased:
        """All of it, where no calls are made."""
        done = await self.erase_some(number, (0, 0), change)
        while done.after is not None:
            more = await self.erase_some(number, done.after, change)
            done = replace(
                more,
                records=done.records + more.records,
                waiting=done.waiting + more.waiting,
                open_calls=max(done.open_calls, more.open_calls),  # its record may be behind us
            )
        return done


def anonymous(numbers: Sequence[str | None], body: bytes, number: str, pseudonym: str) -> Anonymous:
    """`numbers` and `body`: of the record with the number, the body unpacked."""
    without = without_number(body, number, pseudonym)
    found_by = keys_of(decode(without))  # still a record
    replaced = [None if text is None else text.replace(number, pseudonym) for text in numbers]
    return Anonymous(replaced, packed(without), found_by)


def readable(kept: bytes) -> bytes:
    """What cannot be read holds no number that could be found."""
    with suppress(ValueError):
        return unpacked(kept)
    return b""
