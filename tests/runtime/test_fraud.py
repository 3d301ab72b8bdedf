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
from sidecar.core.hangup import hangup
from sidecar.core.terms import Detail, Evidence, HangupOrigin
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
