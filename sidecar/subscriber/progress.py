"""What is held of each node, by number, and what is missing. Pure.

Numbers are gapless within (tenant, node, epoch), so what lies between two that are held and is not held
itself is missing. What lies behind the last one is known by the node's status, which tells the highest number
given: so the last message is missed too when it is lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from sidecar.subscriber.record import Source
from sidecar.wire.replay import Range
from sidecar.wire.status import Status


class Ranges:
    """A set of numbers, as sorted ranges that do not touch."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    @property
    def first(self) -> int | None:
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int:
        """The highest; 0: there is none."""
        return self._lasts[-1] if self._lasts else 0

    def add(self, first: int, last: int | None = None) -> None:
        last = first if last is None else last
        begin = bisect_right(self._lasts, first - 2)  # the first range that touches or lies behind
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first = min(first, self._firsts[begin])
            last = max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def missing(self, first: int, last: int) -> tuple[Range, ...]:
        """What of `first` to `last` is not in the set."""
        found: list[Range] = []
        at = bisect_right(self._lasts, first - 1)
        while first <= last:
            if at == len(self._firsts) or self._firsts[at] > last:
                found.append((first, last))
                break
            if self._firsts[at] > first:
                found.append((first, self._firsts[at] - 1))
            first = self._lasts[at] + 1
            at += 1
        return tuple(found)


class Begin(StrEnum):
    """Where a subscriber begins that has never heard of a node."""

    FIRST = "first"  # with the first number of the node's epoch: what was published before is asked for
    NOW = "now"  # with what is published from now on


class Position(msgspec.Struct, kw_only=True):
    """What is known of one Source. A sink keeps it, together with the records that it tells of."""

    source: Source
    held: Ranges
    first_seq: int | None = None  # from here on all are wanted; None: from the first that is held
    head_seq: int = 0  # the highest number known to have been given
    is_over: bool = False  # the epoch has ended, and the node has said with which number

    def missing(self) -> tuple[Range, ...]:
        first_seq = self.held.first if self.first_seq is None else self.first_seq
        return () if first_seq is None else self.held.missing(first_seq, max(self.head_seq, self.held.last))


class Progress:
    """All Sources. What is held grows only; `changed` has those that a sink has not been told of."""

    def __init__(self, positions: Iterable[Position] = (), begin: Begin = Begin.FIRST) -> None:
        self._positions = {one.source: one for one in positions}
        self._begin = begin
        self._current: dict[tuple[str, str], str] = {}  # (tenant, node) -> epoch, as its status says
        self.up: set[tuple[str, str]] = set()  # (tenant, node) of those that are
        self.changed: set[Source] = set()

    @property
    def positions(self) -> Mapping[Source, Position]:
        return self._positions

    def take(self, source: Source, seq: int) -> None:
        """This number is held."""
        position = self._position(source)
        if position.first_seq is None and self._begin is Begin.NOW:
            position.first_seq = seq
        position.held.add(seq)
        self.changed.add(source)

    def told(self, tenant: str, node: str, status: Status, *, is_fresh: bool = True) -> None:
        """The status of a node, or its will: then it is down, and its epoch all that is said. One that was
        retained is not fresh: since then more may have been published, long before now."""
        name = (tenant, node)
        if status.head_seq is None:
            self.up.discard(name)
            return
        self.up.add(name)
        source = Source(tenant, node, status.epoch)
        self._current[name] = status.epoch
        position = self._position(source)
        if position.first_seq is None and (is_fresh or self._begin is Begin.FIRST):
            is_first = self._begin is Begin.FIRST
            position.first_seq = status.head_seq + 1 - (status.published if is_first else 0)
            self.changed.add(source)
        if status.head_seq > position.head_seq:
            position.head_seq = status.head_seq
            if position.held.last < status.head_seq:
                self.changed.add(source)

    def expected(self, source: Source, base_seq: int, head_seq: int) -> None:
        """All numbers behind `base_seq` up to `head_seq` were given, and are wanted, wherever the subscriber
        began."""
        position = self._position(source)
        first_seq = base_seq + 1 if position.first_seq is None else min(position.first_seq, base_seq + 1)
        if (first_seq, max(position.head_seq, head_seq)) != (position.first_seq, position.head_seq):
            position.first_seq, position.head_seq = first_seq, max(position.head_seq, head_seq)
            self.changed.add(source)

    def ended(self, source: Source, head_seq: int) -> None:
        """The node has said with which number this epoch ended; 0: it does not know."""
        position = self._position(source)
        position.head_seq = max(position.head_seq, head_seq)
        position.is_over = True
        self.changed.add(source)

    def is_current(self, source: Source) -> bool | None:
        """Whether numbers are still given in it; None while the node has not said."""
        epoch = self._current.get((source.tenant, source.node))
        return None if epoch is None else epoch == source.epoch

    def is_up(self, source: Source) -> bool:
        return (source.tenant, source.node) in self.up

    def missing(self) -> dict[Source, tuple[Range, ...]]:
        gaps = {source: position.missing() for source, position in self._positions.items()}
        return {source: ranges for source, ranges in gaps.items() if ranges}

    def _position(self, source: Source) -> Position:
        position = self._positions.get(source)
        if position is None:
            position = self._positions[source] = Position(source=source, held=Ranges())
        return position
