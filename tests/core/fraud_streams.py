"""Calls as fraud rules see them, led through the windows as a node would lead them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from uuid import UUID

import msgspec
from msgspec.structs import replace

from sidecar.core.fraud import Firing, FraudWindows, Watched
from sidecar.core.fraud_facts import Outcome, Price
from sidecar.core.fraud_replay import TICK_MS, ms_of
from sidecar.core.fraud_rules import NANO, Facts, Mode


class Made(msgspec.Struct, kw_only=True):
    """A call that is to be made; `talk_s` None: nobody answers for `ring_s`."""

    at: datetime
    account: str = "acme"
    caller: str = "4930100"
    number: str
    prefix: str | None = None
    talk_s: float | None = 60
    ring_s: float = 8
    cents_per_min: int = 10
    unbilled_end: bool = False


class Seen(msgspec.Struct, kw_only=True):
    """What became of all of them; `refused` and `ended` by their index."""

    firings: list[Firing] = []
    refused: dict[int, str] = {}
    ended: dict[int, str] = {}
    sold_nano: int = 0

    def fired(self) -> list[str]:
        return [one.rule.name for one in self.firings]


def run(windows: FraudWindows, made: Iterable[Made]) -> Seen:
    return Node(windows).run(sorted(made, key=lambda call: call.at))


class Node:
    """The order of things is the daemon's: ask, tell, carry out what fired."""

    def __init__(self, windows: FraudWindows) -> None:
        self.windows = windows
        self.seen = Seen()
        self._up: dict[int, tuple[Watched, Made, int | None]] = {}  # answered when
        self._due: list[tuple[int, int, int]] = []
        self._ticked_ms = 0

    def run(self, calls: Sequence[Made]) -> Seen:
        for index, call in enumerate(calls):
            at_ms = ms_of(call.at)
            self._until(at_ms)
            self._invite(index, call, at_ms)
        while self._due:
            self._until(self._due[0][0])
        return self.seen

    def _invite(self, index: int, call: Made, at_ms: int) -> None:
        facts = Facts(
            call_id=UUID(int=index),
            account=call.account,
            caller=call.caller,
            number=call.number,
            prefix=call.prefix,
            emergency=False,
            invited_at=call.at,
        )
        watched = self.windows.watched(facts)
        refused_by = self.windows.refusal(watched, at_ms)
        if refused_by is not None:
            self.seen.refused[index] = refused_by
            self._carry_out(self.windows.began(watched, at_ms, refused_by), at_ms)
            return
        firings = self.windows.began(watched, at_ms)
        self._up[index] = watched, call, None
        ring_ms = int(call.ring_s * 1_000)
        heappush(self._due, (at_ms + ring_ms, 0 if call.talk_s is not None else 1, index))
        if call.talk_s is not None:
            heappush(self._due, (at_ms + ring_ms + int(call.talk_s * 1_000), 1, index))
        self._carry_out(firings, at_ms)

    def _until(self, at_ms: int) -> None:
        while self._due and self._due[0][0] <= at_ms:
            due_ms, what, index = heappop(self._due)
            self._tick(due_ms)
            if index not in self._up:
                continue
            watched, call, _ = self._up[index]
            if what == 0:
                self._up[index] = watched, call, due_ms
                self.windows.answered(watched, due_ms, _price(call))
            else:
                self._end(index, due_ms)
        self._tick(at_ms)

    def _tick(self, at_ms: int) -> None:
        if not self._up:
            self._ticked_ms = at_ms
        while self._ticked_ms + TICK_MS <= at_ms:
            self._ticked_ms += TICK_MS
            self._carry_out(self.windows.tick(self._ticked_ms), self._ticked_ms)

    def _end(self, index: int, at_ms: int) -> None:
        watched, call, answered_ms = self._up.pop(index)
        self.windows.left(watched, answered_ms, _price(call))
        talk_ms = at_ms - answered_ms if answered_ms is not None else 0
        billable_ms = 0 if call.unbilled_end else talk_ms
        nano = _price(call).nano_per_min * billable_ms // 60_000
        self.seen.sold_nano += nano
        outcome = Outcome(
            answered=answered_ms is not None,
            talk_ms=talk_ms,
            billable_ms=billable_ms,
            nano=nano,
            currency="EUR",
            unbilled_end=call.unbilled_end and answered_ms is not None,
        )
        self._carry_out(self.windows.recorded(watched, outcome, at_ms), at_ms)

    def _carry_out(self, firings: Iterable[Firing], at_ms: int) -> None:
        for fired in firings:
            self.seen.firings.append(fired)
            if fired.rule.mode is Mode.END:
                hit = [
                    index
                    for index, (watched, _, _) in self._up.items()
                    if fired.rule.key_of(watched.facts) == fired.key
                ]
                for index in hit:
                    if index in self._up:
                        self.seen.ended[index] = fired.rule.name
                        self._end(index, at_ms)


def _price(call: Made) -> Price:
    return Price(call.cents_per_min * NANO // 100, "EUR")


def every(
    seconds: float, count: int, first: datetime, template: Made, numbers: Sequence[str] = ()
) -> list[Made]:
    """So many calls at an interval; their numbers in turn."""
    return [
        replace(
            template,
            at=first + timedelta(seconds=seconds * index),
            number=numbers[index % len(numbers)] if numbers else template.number,
        )
        for index in range(count)
    ]
