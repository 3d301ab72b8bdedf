"""Fraud rules beside the calls of a node: clocks that are set, rules that are changed while calls are up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from sidecar.core.alarms import FraudRuleFired
from sidecar.core.call import Call, Phase, Stamp
from sidecar.core.fraud_rules import FraudRule, Measure, Mode, Scope
from sidecar.core.fraud_told import FraudHold
from sidecar.core.hangup import hangup
from sidecar.core.terms import Detail, Evidence, HangupOrigin
from sidecar.ports import FraudNews, FraudTold
from sidecar.runtime.fraud import FraudWatch
from tests.scenarios.table import SCENARIOS

PER_MINUTE = FraudRule(
    name="per-minute",
    scope=Scope.ACCOUNT,
    measure=Measure.CALLS,
    threshold=Decimal(2),
    window_s=60,
    mode=Mode.REFUSE,
    lift_after_s=60,
)
TALKED = FraudRule(
    name="talked",
    scope=Scope.ACCOUNT,
    measure=Measure.MINUTES,
    threshold=Decimal(10),
    window_s=3_600,
    mode=Mode.END,
)
AT_ONCE = replace(PER_MINUTE, name="at-once", measure=Measure.CALLS_AT_ONCE, window_s=0, mode=Mode.END)


class SetClock:
    """`wall_s` may be set; `mono_s` goes on."""

    def __init__(self) -> None:
        self.mono_s = 1_000.0
        self.wall_s = 1_795_518_000.0

    def mono_ns(self) -> int:
        return int(self.mono_s * 1e9)

    def wall_ns(self) -> int:
        return int(self.wall_s * 1e9)

    def go_on(self, seconds: float) -> None:
        self.mono_s += seconds
        self.wall_s += seconds


class Rig:
    def __init__(self, *rules: FraudRule) -> None:
        [scenario] = [one for one in SCENARIOS if one.name == "caller-bye-in-call"]
        ended = scenario.play().call
        assert ended is not None
        self._ended = ended
        self.clock = SetClock()
        self.alarms: list[FraudRuleFired] = []
        self.watch = FraudWatch(rules, clock=self.clock, raise_alarm=self.alarms.append)
        self.count = 0

    def invite(self, **changes: Any) -> Call:
        self.count += 1
        clock = self.clock
        invite = replace(self._ended.invite, mono_ns=clock.mono_ns(), wall_ns=clock.wall_ns())
        ended = self._ended
        call_id = type(ended.call_id)(int=ended.call_id.int + self.count)
        call = replace(
            ended,
            call_id=call_id,
            invite=invite,
            phase=Phase.ADMITTING,
            answered=None,
            hangup=None,
            ended=None,
        )
        return replace(call, **changes)

    def place(self) -> str | None:
        """An INVITE: the rule that refuses it, or None where it is let through."""
        call = self.invite()
        rule = self.watch.refusal(call)
        if rule is not None:
            cause = hangup(HangupOrigin.SERVER, Detail.RULE, Evidence.MESSAGE, refused=True, rule=rule)
            call = replace(call, hangup=cause, phase=Phase.ENDED)
        self.watch.opened(call)
        return rule

    def answer(self) -> Call:
        call = self.invite()
        self.watch.opened(call)
        call = replace(call, answered=Stamp(self.clock.mono_ns(), self.clock.wall_ns()), phase=Phase.TALKING)
        self.watch.answered(call)
        return call


def test_a_clock_that_is_set_neither_opens_nor_fills_a_window() -> None:
    rig = Rig(PER_MINUTE)
    assert [rig.place() for _ in range(3)] == [None, None, "per-minute"]
    rig.clock.wall_s += 86_400  # a day ahead: it is held all the same
    rig.clock.go_on(30)
    assert rig.place() == "per-minute"
    rig.clock.wall_s -= 3 * 86_400  # and two days back: it lifts when it was to
    rig.clock.go_on(31)
    assert rig.watch.held() == []
    rig.clock.go_on(30)
    assert [rig.place() for _ in range(3)] == [None, None, "per-minute"]
    assert len(rig.alarms) == 2


def test_a_clock_that_was_set_back_over_a_start_does_not_empty_what_the_journal_has() -> None:
    clock = SetClock()
    last_known_ns = clock.wall_ns() + 7_200_000_000_000  # the journal knows of two hours later
    watch = FraudWatch([PER_MINUTE], clock=clock, last_known_wall_ns=last_known_ns)
    assert watch.now_ms() == last_known_ns // 1_000_000


def test_minutes_of_calls_that_are_up_count_without_an_event() -> None:
    rig = Rig(TALKED)
    calls = [rig.answer() for _ in range(2)]
    rig.clock.go_on(299)
    rig.watch.tick()
    assert rig.alarms == []
    rig.clock.go_on(6)
    rig.watch.tick()
    [alarm] = rig.alarms
    assert (alarm.rule, alarm.call_id, alarm.account) == ("talked", None, None)
    assert Decimal(10) < alarm.measured < Decimal("10.3")
    for call in calls:
        rig.watch.left(call)
    assert rig.watch.counters.held == {"talked": 1}


async def test_a_rule_that_is_new_counts_the_calls_that_are_up_and_ends_them() -> None:
    rig = Rig(PER_MINUTE)
    calls = [rig.answer() for _ in range(2)]
    ended = asyncio.Event()

    async def release_where(predicate: Callable[[Call], bool], detail: Detail, rule: str) -> int:
        assert (detail, rule) == (Detail.RULE, "at-once")
        assert all(predicate(call) for call in calls)
        ended.set()
        return 2

    rig.watch.change_rules([replace(AT_ONCE, threshold=Decimal(1))], calls)
    assert [alarm.rule for alarm in rig.alarms] == ["at-once"]
    assert rig.watch.counters.fired == {"at-once": 1}
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(rig.watch.run(release_where), name="fraud")
        async with asyncio.timeout(30):
            await ended.wait()
        running.cancel()
    assert rig.place() == "at-once"


def test_a_rule_that_is_as_it_was_keeps_what_it_counted_and_one_that_is_gone_holds_nothing() -> None:
    rig = Rig(PER_MINUTE, AT_ONCE)
    calls = [rig.answer() for _ in range(2)]
    assert rig.place() == "per-minute"
    rig.watch.change_rules([PER_MINUTE], calls)
    assert rig.place() == "per-minute"
    rig.watch.change_rules([], calls)
    assert rig.place() is None
    for call in calls:
        rig.watch.left(call)
    rig.watch.change_rules([AT_ONCE], [])
    assert [rig.place() for _ in range(3)] == [None, None, "at-once"]


def test_a_call_that_goes_on_after_a_restart_counts_among_those_at_once_until_it_leaves() -> None:
    before, rig = Rig(AT_ONCE), Rig(AT_ONCE)
    calls = [before.answer() for _ in range(2)]
    for call in calls:
        rig.watch.joined(call)
    rig.watch.left(calls[0])
    assert [rig.place() for _ in range(2)] == [None, "at-once"]


def test_calls_at_once_are_those_that_have_not_left() -> None:
    rig = Rig(AT_ONCE)
    calls = [rig.answer() for _ in range(2)]
    rig.watch.left(calls[0])
    rig.watch.left(calls[0])  # it has left once, however often that is said
    assert [rig.place() for _ in range(2)] == [None, "at-once"]


# --- of several nodes ---------------------------------------------------------------------------------------


class Pair:
    """Two nodes with a rule, and what the database keeps of who was first."""

    def __init__(self, rule: FraudRule) -> None:
        self.one, self.two = Rig(rule), Rig(rule)
        self.two.clock = self.two.watch._clock = self.one.clock
        for rig in (self.one, self.two):
            rig.watch.share()
        self.holds: list[FraudHold] = []

    def tell(self, rig: Rig) -> FraudTold:
        return rig.watch.to_tell("one" if rig is self.one else "two")

    def hear(self, rig: Rig, told: FraudTold, others: FraudTold) -> None:
        before = {(one.rule, one.key) for one in self.holds}
        fresh = [claim for claim in told.claims if (claim.rule, claim.key) not in before]
        self.holds += [replace(claim, change=len(self.holds) + 1) for claim in fresh]
        name = "two" if rig is self.one else "one"
        news = FraudNews(
            counts={} if others.counts is None else {name: (others.counts, 0)},
            claimed={(claim.rule, claim.key) for claim in fresh},
            holds=[hold for hold in self.holds if hold.change > told.hold_seen],
        )
        rig.watch.hear(told, news, {name})

    def exchange(self) -> None:
        first, second = self.tell(self.one), self.tell(self.two)
        self.hear(self.one, first, second)
        self.hear(self.two, second, first)


def test_what_two_nodes_find_at_the_same_time_is_told_by_the_first() -> None:
    pair = Pair(PER_MINUTE)
    assert [rig.place() for rig in (pair.one, pair.two) for _ in range(2)] == [None] * 4
    pair.exchange()  # each hears that there are four
    assert pair.one.place() == pair.two.place() == "per-minute"
    assert pair.one.alarms == pair.two.alarms == [], "it is not known who was first"
    pair.exchange()
    [alarm] = pair.one.alarms
    assert (alarm.key, alarm.measured) == (pair.two.watch.held()[0].key, Decimal(4))
    assert alarm.call_id is None, "it was found when others were heard"
    pair.exchange()
    assert (len(pair.one.alarms), pair.two.alarms) == (1, [])
    assert [rig.watch.counters.fired for rig in (pair.one, pair.two)] == [
        {"per-minute": 1},
        {"per-minute": 0},
    ]


async def test_calls_are_ended_at_a_node_that_counted_none_too_many() -> None:
    pair = Pair(AT_ONCE)
    up = pair.one.answer()
    for _ in range(3):
        pair.two.answer()  # the third is one too many
    ended = asyncio.Event()

    async def release_where(predicate: Callable[[Call], bool], _: Detail, rule: str) -> int:
        assert predicate(up)
        assert rule == "at-once"
        ended.set()
        return 1

    pair.exchange()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(pair.one.watch.run(release_where), name="fraud rules")
        await ended.wait()
        running.cancel()
    assert pair.one.alarms == []


def test_with_the_database_away_what_was_heard_last_holds_and_each_tells_what_it_finds() -> None:
    pair = Pair(PER_MINUTE)
    assert pair.two.place() is None
    pair.exchange()
    assert pair.one.place() is None
    assert pair.one.place() == "per-minute"
    pair.one.watch.to_tell("one")  # and it does not arrive
    pair.one.watch.hear_nothing()
    assert len(pair.one.alarms) == 1
    pair.one.watch.hear_nothing()
    pair.exchange()
    assert (len(pair.one.alarms), pair.two.alarms) == (1, [])
    assert pair.two.place() == "per-minute", "it is held here too by now"
    pair.exchange()
    assert pair.two.alarms == []


def test_what_was_found_here_and_is_lifted_before_it_was_told_is_told() -> None:
    pair = Pair(PER_MINUTE)
    assert [pair.one.place() for _ in range(3)] == [None, None, "per-minute"]
    [held] = pair.one.watch.held()
    assert pair.one.watch.lift(held.rule.name, held.key, 1) == held
    pair.exchange()
    assert len(pair.one.alarms) == 1
    assert (pair.two.watch.held(), pair.holds) == ([], [])
