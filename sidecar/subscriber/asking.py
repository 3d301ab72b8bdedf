"""Which missing numbers to ask a node for, and when. Pure: time is an argument, in seconds of any clock.

One request at a time and node, of so few numbers that what is answered fits into any broker's queue; the next
one only when the answer is here, or has not come for too long. So a subscriber is never sent more than it
takes, and a node that is down or refuses is not pressed.
"""

from __future__ import annotations

import msgspec

from sidecar.subscriber.progress import Progress, Ranges
from sidecar.subscriber.record import Source
from sidecar.wire.replay import Range, ReplayEnd

_Node = tuple[str, str]


class AskLimits(msgspec.Struct, frozen=True, kw_only=True):
    wait_s: float = 2.0  # a number may still be under way: a gap is asked for when it is that old
    numbers_max: int = 500  # of one request: below Mosquitto's max_queued_messages, 1000
    answer_s: float = 30.0  # without an answer by then it is asked again
    refused_s: float = 60.0  # after an error, or no answer, at first; then twice as long, and so on
    refused_s_max: float = 900.0
    later_s: float = 10.0  # numbers that wait for the broker, or were sent and did not come
    never_s: float = 600.0  # dead letters, and numbers that the journal does not hold


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    source: Source
    from_seq: int
    to_seq: int


class _Asked(msgspec.Struct, kw_only=True):
    asked: Ask | None = None
    asked_at_s: float = 0.0
    not_before_s: float = 0.0
    refusals: int = 0


class Asking:
    def __init__(self, limits: AskLimits | None = None) -> None:
        self._limits = limits or AskLimits()
        self._nodes: dict[_Node, _Asked] = {}
        self._since_s: dict[Source, float] = {}  # when a gap was first seen
        self._excused: dict[Source, list[tuple[float, Range]]] = {}  # until when a range is not asked for

    def overdue(self, progress: Progress, now_s: float) -> dict[Source, tuple[Range, ...]]:
        """What is missing for so long that it is no longer under way."""
        missing = progress.missing()
        self._since_s = {source: self._since_s.get(source, now_s) for source in missing}
        wait_s = self._limits.wait_s
        return {one: ranges for one, ranges in missing.items() if now_s - self._since_s[one] >= wait_s}

    def due(self, progress: Progress, now_s: float) -> list[Ask]:
        """What to ask now: at most one request per node. Each counts as asked."""
        missing = self.overdue(progress, now_s)
        asks = []
        for source, position in progress.positions.items():
            node = self._node(source)
            if not self._may_ask(node, now_s) or not progress.is_up(source):
                continue
            ask = self._gap(source, missing.get(source, ()), now_s)
            if ask is None and progress.is_current(source) is False and not position.is_over:
                # Its last messages may be lost: the node says with which number it ended.
                behind = max(position.head_seq, position.held.last) + 1
                ask = Ask(source=source, from_seq=behind, to_seq=behind + self._limits.numbers_max - 1)
            if ask is not None:
                node.asked, node.asked_at_s = ask, now_s
                asks.append(ask)
        return asks

    def ended(self, ask: Ask, end: ReplayEnd, progress: Progress, now_s: float) -> None:
        """The answer to a request; all records that it brings have come before it."""
        node = self._node(ask.source)
        if node.asked != ask:
            return  # too late: it was given up
        if end.error:
            self.refused(ask, now_s)
            return
        node.asked = None
        node.refusals = 0
        excused = self._excused.setdefault(ask.source, [])
        excused += [(now_s + self._limits.later_s, one) for one in end.waiting]
        excused += [(now_s + self._limits.never_s, one) for one in (*end.dead, *end.absent)]
        if progress.is_current(ask.source) is False:
            progress.ended(ask.source, end.head_seq)
        # Lost again, or not to be read: asked for once more, but not at once and for ever.
        position = progress.positions[ask.source]
        left = position.held.missing(ask.from_seq, min(ask.to_seq, end.to_seq))
        excused += [(now_s + self._limits.later_s, one) for one in left]

    def refused(self, ask: Ask, now_s: float) -> None:
        """The broker or the node would not have it."""
        node = self._node(ask.source)
        if node.asked == ask:
            node.asked = None
            self._back_off(node, now_s)

    def lost_link(self) -> None:
        """What was asked may have been lost on the way: it is asked again."""
        for node in self._nodes.values():
            node.asked = None

    def excused(self, source: Source, now_s: float) -> Ranges:
        """Numbers that the node has accounted for: waiting, dead letters, not in its journal."""
        kept = [(until_s, one) for until_s, one in self._excused.get(source, ()) if until_s > now_s]
        self._excused[source] = kept
        return Ranges(one for _, one in kept)

    def _gap(self, source: Source, missing: tuple[Range, ...], now_s: float) -> Ask | None:
        excused = self.excused(source, now_s)
        for first, last in missing:
            for begin, end in excused.missing(first, last):
                return Ask(
                    source=source, from_seq=begin, to_seq=min(end, begin + self._limits.numbers_max - 1)
                )
        return None

    def _may_ask(self, node: _Asked, now_s: float) -> bool:
        if node.asked is not None:
            if now_s - node.asked_at_s < self._limits.answer_s:
                return False
            node.asked = None
            self._back_off(node, now_s)
        return now_s >= node.not_before_s

    def _back_off(self, node: _Asked, now_s: float) -> None:
        delay_s = min(self._limits.refused_s * 2**node.refusals, self._limits.refused_s_max)
        node.not_before_s = now_s + delay_s
        node.refusals = min(node.refusals + 1, 10)

    def _node(self, source: Source) -> _Asked:
        return self._nodes.setdefault((source.tenant, source.node), _Asked())
