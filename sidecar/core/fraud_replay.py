"""The calls of the past, seen again by fraud rules: what they would have done, or what they have counted.

The functions are those that the daemon asks. Records come in the order of their INVITEs (that of call ids);
of each call that is up at a moment something is kept, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

import msgspec
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.fraud import Firing, FraudWindows, Watched
from sidecar.core.fraud_facts import (
    Outcome,
    Price,
    facts_of_record,
    outcome_of,
    price_of_record,
    was_refused,
)
from sidecar.core.fraud_rules import Mode
from sidecar.core.numbers import mask
from sidecar.core.records import utc

TICK_MS = 5_000  # how often calls that are up are looked at
_EPOCH = utc(0)
_MS = timedelta(milliseconds=1)
_ANSWERED, _ENDED, _LIFTED = range(3)


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a rule would have refused, or ended; and what would not have been sold."""

    rule: str
    cdr: Cdr
    at_ms: int
    ended: bool  # else it was refused
    nano: int
    currency: str


class Lift(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator let go, as the audit table has it: a caller's number is masked there."""

    at_ms: int
    rule: str
    key: str


class _Up(msgspec.Struct, kw_only=True):
    call: Watched
    cdr: Cdr
    outcome: Outcome
    price: Price
    answered_ms: int | None = None


class Replay:
    """`enforced`: calls go as the rules would have them, which is what `policy try` shows; otherwise as they
    went, which is what a node knows after a start."""

    def __init__(self, windows: FraudWindows, *, enforced: bool, lifts: Sequence[Lift] = ()) -> None:
        self._windows = windows
        self._enforced = enforced
        self._names = {rule.name for rule in windows.rules}
        self._up: dict[int, _Up] = {}  # by UUID.int
        self._lifts = lifts
        # A heap: when, what, and which call (UUID.int) or lift.
        self._due = [(lift.at_ms, _LIFTED, number) for number, lift in enumerate(lifts)]
        heapify(self._due)
        self._ticked_ms = 0

    def see(self, records: Iterable[Cdr]) -> Iterator[Firing | Hit]:
        """All of them, and the ends of those that are up after the last."""
        for cdr in records:
            at_ms = ms_of(cdr.invited_at)
            yield from self._until(at_ms)
            yield from self._begin(cdr, at_ms)
        while self._due:
            yield from self._until(self._due[0][0])

    def _begin(self, cdr: Cdr, at_ms: int) -> Iterator[Firing | Hit]:
        by_rule = cdr.rule if cdr.rule in self._names else None
        if was_refused(cdr) and by_rule is None:
            return
        call, outcome = self._windows.watched(facts_of_record(cdr)), outcome_of(cdr)
        refused_by = by_rule if was_refused(cdr) else None
        if self._enforced:
            refused_by = self._windows.refusal(call, at_ms)
        firings = self._windows.began(call, at_ms, refused_by)
        yield from firings
        if refused_by is not None:
            if self._enforced:
                yield _hit(refused_by, cdr, outcome, at_ms, ended=False, nano=outcome.nano)
            yield from self._enforce(firings, at_ms)
            return
        up = _Up(call=call, cdr=cdr, outcome=outcome, price=price_of_record(cdr))
        self._up[cdr.call_id.int] = up
        if cdr.answered_at is not None:
            heappush(self._due, (max(at_ms, ms_of(cdr.answered_at)), _ANSWERED, cdr.call_id.int))
        heappush(self._due, (max(at_ms, ms_of(cdr.ended_at)), _ENDED, cdr.call_id.int))
        yield from self._enforce(firings, at_ms)

    def _until(self, at_ms: int) -> Iterator[Firing | Hit]:
        while self._due and self._due[0][0] <= at_ms:
            due_ms, what, number = heappop(self._due)
            yield from self._tick(due_ms)
            if what == _LIFTED:
                self._lift(self._lifts[number])
            elif (up := self._up.get(number)) is None:
                continue
            elif what == _ANSWERED:
                up.answered_ms = due_ms
                self._windows.answered(up.call, due_ms, up.price)
            else:
                yield from self._end(up, up.outcome, due_ms)
        yield from self._tick(at_ms)

    def _tick(self, at_ms: int) -> Iterator[Firing | Hit]:
        """As often as the daemon does, while anything is up."""
        if not self._up:
            self._ticked_ms = at_ms
        while self._ticked_ms + TICK_MS <= at_ms:
            self._ticked_ms += TICK_MS
            firings = self._windows.tick(self._ticked_ms)
            yield from firings
            yield from self._enforce(firings, self._ticked_ms)

    def _lift(self, lift: Lift) -> None:
        for held in self._windows.held(lift.at_ms):
            if held.rule.name == lift.rule and lift.key in (held.key, mask(held.key)):
                self._windows.lift(lift.rule, held.key, lift.at_ms)

    def _end(self, up: _Up, outcome: Outcome, at_ms: int) -> Iterator[Firing | Hit]:
        del self._up[up.cdr.call_id.int]
        self._windows.left(up.call, up.answered_ms, up.price)
        firings = self._windows.recorded(up.call, outcome, at_ms)
        yield from firings
        yield from self._enforce(firings, at_ms)

    def _enforce(self, firings: Iterable[Firing], at_ms: int) -> Iterator[Firing | Hit]:
        if not self._enforced:
            return
        for fired in firings:
            if fired.rule.mode is not Mode.END:
                continue
            for up in [up for up in self._up.values() if fired.rule.key_of(up.call.facts) == fired.key]:
                if up.cdr.call_id.int in self._up:  # what this one's end has fired may have ended others
                    cut = _cut(up, at_ms)
                    nano = up.outcome.nano - cut.nano
                    yield _hit(fired.rule.name, up.cdr, up.outcome, at_ms, ended=True, nano=nano)
                    yield from self._end(up, cut, at_ms)


def ms_of(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS


def _cut(up: _Up, at_ms: int) -> Outcome:
    """Of a call that is ended before its time: of its charge the part that it has talked."""
    talk_ms = max(0, at_ms - up.answered_ms) if up.answered_ms is not None else 0
    talk_ms = min(talk_ms, up.outcome.talk_ms)
    return replace(
        up.outcome,
        talk_ms=talk_ms,
        billable_ms=min(talk_ms, up.outcome.billable_ms),
        nano=up.outcome.nano * talk_ms // up.outcome.talk_ms if up.outcome.talk_ms else 0,
    )


def _hit(rule: str, cdr: Cdr, outcome: Outcome, at_ms: int, *, ended: bool, nano: int) -> Hit:
    return Hit(rule=rule, cdr=cdr, at_ms=at_ms, ended=ended, nano=nano, currency=outcome.currency)
