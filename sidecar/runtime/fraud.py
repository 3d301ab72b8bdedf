"""Fraud rules beside the calls: `Calls` tells what becomes of each, this asks the windows, raises an alarm
for each firing, and has calls that are up ended where a rule says so.

Windows run by the monotonic clock, laid over the wall clock when the node starts: a clock that is set neither
opens nor fills one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec
import structlog

from sidecar.core.alarms import FraudRuleFired
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.fraud import Firing, FraudWindows, Held, Watched
from sidecar.core.fraud_facts import (
    Price,
    facts_of_call,
    facts_of_record,
    outcome_of,
    price_of_call,
    was_refused,
)
from sidecar.core.fraud_replay import TICK_MS, Lift, Replay
from sidecar.core.fraud_rules import FraudRule, Mode
from sidecar.core.records import utc
from sidecar.core.terms import Detail
from sidecar.ports import Clock, FraudCounters

Alarm = Callable[[FraudRuleFired], None]
# End the live calls that a predicate holds of, by a rule (runtime/releasing).
ReleaseWhere = Callable[[Callable[[Call], bool], Detail, str], Awaitable[int]]

MONTH_S = 30 * 86_400
REBUILT_CALLS_MAX = 50_000  # some seconds of a start
LIFT = "policy.lift"  # what the audit table calls it

log = structlog.get_logger("sidecar.fraud")


class _Tracked(msgspec.Struct):
    """A call that was let through and has no record yet."""

    watched: Watched
    answered_ms: int | None = None
    price: Price = Price()


class FraudWatch:
    """Run `run()` as one task: it ends calls. All else is done at once, and costs O(rules) for a call."""

    def __init__(
        self,
        rules: Iterable[FraudRule],
        *,
        clock: Clock,
        raise_alarm: Alarm | None = None,
        last_known_wall_ns: int = 0,
    ) -> None:
        self.windows = FraudWindows(rules)
        self._names = frozenset(rule.name for rule in self.windows.rules)
        self._clock = clock
        self._offset_ns = max(clock.wall_ns(), last_known_wall_ns) - clock.mono_ns()
        self._raise_alarm = raise_alarm
        self._tracked: dict[int, _Tracked] = {}  # by call id
        self._to_end: list[Firing] = []  # one for each rule and key that holds: the windows bound it
        self._news = asyncio.Event()
        self._ticked_ms = 0
        names = sorted(self._names)
        self.counters = FraudCounters(fired=dict.fromkeys(names, 0), held=dict.fromkeys(names, 0))

    def now_ms(self) -> int:
        return self._ms(self._clock.mono_ns())

    def _ms(self, mono_ns: int) -> int:
        return (mono_ns + self._offset_ns) // 1_000_000

    def rebuild(self, records: Iterable[Cdr], lifts: Sequence[Lift]) -> int:
        """Before the first call: count those of the journal, in the order of their INVITEs, and say how many
        there were. What a rule would hold by them it holds; the alarm was raised when it fired."""
        count = itertools.count()
        counted = (cdr for cdr in records if next(count) >= 0)
        for _ in Replay(self.windows, enforced=False, lifts=lifts).see(counted):
            pass
        return next(count)

    def change_rules(self, rules: Iterable[FraudRule], live: Iterable[Call]) -> None:
        """A rule that is as it was goes on; a new one counts from now on, with the calls that are up, and may
        fire at once."""
        self.windows = self.windows.with_rules(rules)
        fired = self.counters.fired
        self._names = frozenset(rule.name for rule in self.windows.rules)
        self.counters.fired = {name: fired.get(name, 0) for name in sorted(self._names)}
        for call in live:
            self.joined(call)
        self._carry_out(self.windows.tick(self.now_ms()))

    def joined(self, call: Call) -> None:
        """A call that is up is counted by rules that did not know it."""
        tracked = self._tracked.get(call.call_id.int)
        before = None if tracked is None else tracked.watched
        answered_ms, price = _answered(call, self._ms)
        facts = facts_of_call(call) if before is None else before.facts
        watched = self.windows.joined(facts, before, answered_ms, price)
        self._tracked[call.call_id.int] = _Tracked(watched, answered_ms, price)

    def look_back_s(self) -> int:
        """How far what rules know reaches back; what is lifted by hand has no end: a month."""
        return max((one.window_s + (one.lift_after_s or MONTH_S) for one in self.windows.rules), default=0)

    # --- what Calls tells ---------------------------------------------------------------------------------

    def refusal(self, call: Call) -> str | None:
        """The rule that refuses a call that nothing else does."""
        if not self._names:
            return None
        return self.windows.refusal(self.windows.watched(facts_of_call(call)), self._ms(call.invite.mono_ns))

    def opened(self, call: Call) -> None:
        """A call was let through, or refused."""
        cause = call.hangup
        if not self._names or (cause is not None and cause.rule not in self._names):
            return
        watched = self.windows.watched(facts_of_call(call))
        if not watched.keys:
            return
        if cause is None:
            self._tracked[call.call_id.int] = _Tracked(watched)
        refused_by = cause.rule if cause is not None else None
        self._carry_out(self.windows.began(watched, self._ms(call.invite.mono_ns), refused_by))

    def answered(self, call: Call) -> None:
        tracked = self._tracked.get(call.call_id.int)
        if tracked is not None:
            tracked.answered_ms, tracked.price = _answered(call, self._ms)
            if tracked.answered_ms is not None:
                self.windows.answered(tracked.watched, tracked.answered_ms, tracked.price)

    def left(self, call: Call) -> None:
        """Its first cause is known, or it is given up; once."""
        tracked = self._tracked.pop(call.call_id.int, None)
        if tracked is not None:
            self.windows.left(tracked.watched, tracked.answered_ms, tracked.price)

    def recorded(self, cdr: Cdr) -> None:
        if self._names and not was_refused(cdr) and cdr.revision == 0:
            watched = self.windows.watched(facts_of_record(cdr))
            self._carry_out(self.windows.recorded(watched, outcome_of(cdr), self.now_ms()))

    def tick(self) -> None:
        now_ms = self.now_ms()
        if now_ms - self._ticked_ms >= TICK_MS:
            self._ticked_ms = now_ms
            self._carry_out(self.windows.tick(now_ms))
            self.counters.forgotten = self.windows.forgotten
            held = Counter(one.rule.name for one in self.windows.held(now_ms))
            self.counters.held = {name: held[name] for name in self.counters.fired}

    # --- what comes of it ---------------------------------------------------------------------------------

    def _carry_out(self, firings: Sequence[Firing]) -> None:
        for firing in firings:
            self.counters.fired[firing.rule.name] += 1
            if firing.rule.mode is Mode.END:
                self._to_end.append(firing)
                self._news.set()
            if self._raise_alarm is not None:
                self._raise_alarm(alarm_of(firing))

    async def run(self, release_where: ReleaseWhere) -> None:
        while True:
            while not self._to_end:
                self._news.clear()
                await self._news.wait()
            firing = self._to_end.pop(0)
            rule, key = firing.rule, firing.key
            count = await release_where(
                lambda call, rule=rule, key=key: rule.key_of(facts_of_call(call)) == key,  # type: ignore[misc]
                Detail.RULE,
                rule.name,
            )
            log.warning("calls_ended_by_rule", rule=rule.name, count=count)

    # --- people -------------------------------------------------------------------------------------------

    def held(self) -> Sequence[Held]:
        return self.windows.held(self.now_ms())

    def lift(self, rule: str, key: str) -> Held | None:
        return self.windows.lift(rule, key, self.now_ms())


def _answered(call: Call, ms: Callable[[int], int]) -> tuple[int | None, Price]:
    """When our 2xx left, by the clock of the windows, and what it comes to."""
    if call.answered is None:
        return None, Price()
    return ms(call.answered.mono_ns), price_of_call(call.pricing, utc(call.answered.wall_ns))


def alarm_of(firing: Firing) -> FraudRuleFired:
    rule = firing.rule
    return FraudRuleFired(
        raised_at=utc(firing.at_ms * 1_000_000),
        rule=rule.name,
        mode=rule.mode.value,
        scope=rule.scope.value,
        key=firing.key,
        measure=rule.measure.value,
        threshold=rule.threshold,
        measured=firing.measured,
        currency=rule.currency or None,
        window_s=rule.window_s,
        until=None if firing.until_ms is None else utc(firing.until_ms * 1_000_000),
        account=firing.account,
        call_id=firing.call_id,
    )
