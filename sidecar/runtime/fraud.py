"""Fraud rules beside the calls: `Calls` tells what becomes of each, this asks the windows, raises an alarm
for each firing, and has calls that are up ended where a rule says so.

Windows run by the monotonic clock, laid over the wall clock when the node starts: a clock that is set neither
opens nor fills one.

Where several nodes share a database (`share`), what a rule finds is in force here at once, and elsewhere
within a second. It is told once: by the node that the database has it from first. With the database away each
node tells what it finds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import msgspec
import structlog
from msgspec.structs import replace

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
from sidecar.core.fraud_rules import WINDOW_S_MAX, FraudRule, Mode
from sidecar.core.fraud_told import CountsHeard, FraudCounts, FraudHold
from sidecar.core.records import utc
from sidecar.core.terms import Detail
from sidecar.ports import Clock, FraudCounters, FraudNews, FraudTold

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
        self._is_shared = False
        self._unclaimed: dict[tuple[str, str], Firing] = {}  # by rule and key: others do not know of it yet
        self._told_alone: set[tuple[str, str]] = set()  # of these
        self._hold_seen = 0  # the last change of what is held that was heard
        self._told_before: FraudCounts | None = None
        self._heard: dict[str, CountsHeard] = {}  # by node, the last of each
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
            self._act(firing)
            if self._is_shared and firing.rule.is_shared:
                self._forget(firing.rule.name, firing.key)
                self._unclaimed[firing.rule.name, firing.key] = firing
            else:
                self._tell(firing)

    def _act(self, firing: Firing) -> None:
        if firing.rule.mode is Mode.END:
            self._to_end.append(firing)
            self._news.set()

    def _tell(self, firing: Firing) -> None:
        if firing.rule.name in self.counters.fired:
            self.counters.fired[firing.rule.name] += 1
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

    # --- other nodes --------------------------------------------------------------------------------------

    def share(self) -> None:
        """From now on others count for our rules, and we for theirs."""
        self._is_shared = True

    def to_tell(self, node: str) -> FraudTold:
        counts = self.windows.told(self.now_ms(), self._hold_seen)
        if counts.not_told and not (self._told_before and self._told_before.not_told):
            log.warning("fraud_counts_not_told", keys=counts.not_told, advice="rules count them by node")
        is_new = counts != self._told_before
        self._told_before = counts
        claims = [
            FraudHold(
                rule=firing.rule.name,
                identity=firing.rule.identity,
                key=firing.key,
                node=node,
                measured=firing.measured,
                since_ms=firing.at_ms,
                until_ms=firing.until_ms,
            )
            for firing in self._unclaimed.values()
        ]
        return FraudTold(counts=counts if is_new else None, claims=claims, hold_seen=self._hold_seen)

    def hear(self, told: FraudTold, news: FraudNews, present: Collection[str]) -> None:
        """What came of what was told, and what the others told."""
        now_ms = self.now_ms()
        for claim in told.claims:
            if (firing := self._unclaimed.get((claim.rule, claim.key))) is None:
                continue
            if firing.at_ms == claim.since_ms:
                if (claim.rule, claim.key) in news.claimed - self._told_alone:
                    self._tell(firing)
                self._forget(claim.rule, claim.key)
        for hold in news.holds:
            self._hold_seen = hold.change
            if hold.is_lifted:
                self.windows.lift(hold.rule, hold.key, now_ms, hold.change)
            elif (found := self.windows.hold(hold, now_ms)) is not None:
                self._act(found)
        for node, (counts, age_ms) in news.counts.items():
            self._heard[node] = CountsHeard(counts=counts, told_ms=now_ms - age_ms)
        self._heard = {
            node: replace(one, is_present=node in present)
            for node, one in self._heard.items()
            if node in present or now_ms - one.told_ms < WINDOW_S_MAX * 1_000
        }
        self._carry_out(self.windows.hear(self._heard, now_ms))

    def hear_nothing(self) -> None:
        """The database is away: whoever finds something tells it, and the others act by it later."""
        self._told_before = None
        now_ms = self.now_ms()
        for place, firing in list(self._unclaimed.items()):
            if place not in self._told_alone:
                self._told_alone.add(place)
                self._tell(firing)
            elif firing.until_ms is not None and firing.until_ms <= now_ms:
                self._forget(*place)

    def _forget(self, rule: str, key: str) -> None:
        self._unclaimed.pop((rule, key), None)
        self._told_alone.discard((rule, key))

    # --- people -------------------------------------------------------------------------------------------

    def held(self) -> Sequence[Held]:
        return self.windows.held(self.now_ms())

    def lift(self, rule: str, key: str, change: int = 0) -> Held | None:
        """`change`: its number, where it is let go on all nodes."""
        firing = self._unclaimed.get((rule, key))
        if firing is not None and (rule, key) not in self._told_alone:
            self._tell(firing)  # or nobody would be told of what was found here
        self._forget(rule, key)
        return self.windows.lift(rule, key, self.now_ms(), change)


def hold_of(held: Held, node: str) -> FraudHold:
    return FraudHold(
        rule=held.rule.name,
        identity=held.rule.identity,
        key=held.key,
        node=node,
        measured=held.measured,
        since_ms=held.since_ms,
        until_ms=held.until_ms,
    )


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
