"""The Replays port: published records again, from what the engine holds of some numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from sidecar.adapters.store.bodies import DamagedError, ranges, sound
from sidecar.adapters.store.outbox import Body, row_of
from sidecar.adapters.store.reading import Reader
from sidecar.ports import ReplayPage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class _Numbered(msgspec.Struct, frozen=True):
    store_epoch: str


_EPOCH_OF = msgspec.msgpack.Decoder(_Numbered)


class Held(NamedTuple):
    """What there is of some numbers, as of one moment."""

    bodies: Iterable[Body]  # in order
    waiting: set[int]  # what the broker has not answered: it comes by itself
    dead: set[int]


class BaseReplays(ABC):
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @abstractmethod
    def _page(
        self, connection: Any, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
    ) -> ReplayPage: ...
    @abstractmethod
    def _first_since(self, connection: Any, ended_us: int) -> int | None: ...

    async def replay(
        self, epoch: str | None, from_seq: int, to_seq: int | None, numbers_max: int
    ) -> ReplayPage:
        return await self._reader.ask(
            lambda connection: self._page(connection, epoch, from_seq, to_seq, numbers_max)
        )

    async def first_seq_since(self, moment: datetime) -> int | None:
        ended_us = (moment - _EPOCH) // _US
        return await self._reader.ask(lambda connection: self._first_since(connection, ended_us))


def page_of(
    epoch: str | None,
    head_seq: int,
    from_seq: int,
    to_seq: int | None,
    numbers_max: int,
    held: Callable[[int, int], Held],
) -> ReplayPage:
    """`head_seq`: the last number of that epoch. `held`: of the numbers from one to another."""
    last = min(from_seq + numbers_max - 1, head_seq if to_seq is None else min(to_seq, head_seq))
    if last < from_seq:
        return ReplayPage(to_seq=from_seq - 1, head_seq=head_seq)
    bodies, waiting, dead = held(from_seq, last)
    told = waiting | dead
    sent = []
    for seq, body, crc in bodies:
        with suppress(DamagedError, msgspec.MsgspecError):
            content = sound(body, crc, f"record {seq}")
            if seq not in told and (epoch is None or _EPOCH_OF.decode(content).store_epoch == epoch):
                sent.append(row_of(seq, content))
    absent = set(range(from_seq, last + 1)) - told - {row.seq for row in sent}
    return ReplayPage(
        rows=tuple(sent),
        to_seq=last,
        waiting=tuple(ranges(sorted(waiting))),
        dead=tuple(ranges(sorted(dead - waiting))),
        absent=tuple(ranges(sorted(absent))),
        head_seq=head_seq,
    )


def waiting_above(acknowledged_seq: int, head_seq: int, first: int, last: int) -> set[int]:
    """The numbers above the mark of the outbox."""
    return set(range(max(first, acknowledged_seq + 1), min(last, head_seq) + 1))
