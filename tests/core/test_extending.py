"""The grant of a call that is up: when it is asked for, what comes of each answer, and of none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.call import Call, Phase
from sidecar.core.commands import ArmDeadline, Command, Extend
from sidecar.core.decide import decide
from sidecar.core.events import CallEvent, DeadlineReached, Event, GrantExtended, StepFailed
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.terms import DeadlineKind, Detail, LegName, Money
from tests.core.streams import ACK, ADMITTED, CLOSE_A, HELD, RECORDED, RELAYED, Run, bye, deadline
from tests.scenarios import world
from tests.scenarios.world import account, policy_of

PREPAID = policy_of(accounts=account(prepaid=True))
EXTEND_DUE = deadline(DeadlineKind.EXTEND)


def talking(policy: Policy = PREPAID, balance: str = "1") -> Run:
    """Answered at 0 ms, with a slice of a minute."""
    run = Run(policy, Decimal(balance))
    return run.play([((0, 1), make) for make in (ADMITTED, HELD, RECORDED, RELAYED, ACK)])


def told(event: type[CallEvent], at_ms: int, **fields: Any) -> CallEvent:
    return event(**world.stamps(at_ms), call_id=world.call_id(), **fields)


def granted(at_ms: int, seconds: int) -> CallEvent:
    return told(GrantExtended, at_ms, granted_s=seconds, reserved=Money(Decimal(seconds) / 1000, "EUR"))


def armed(commands: tuple[Command, ...]) -> list[tuple[DeadlineKind, int, str]]:
    return [(one.kind, one.after_ms, one.text) for one in commands if isinstance(one, ArmDeadline)]


def happens(call: Call, event: Event, policy: Policy = PREPAID) -> tuple[Call, tuple[Command, ...]]:
    return decide(call, event, Given(policy, Load()))


def due(call: Call, at_ms: int, policy: Policy = PREPAID) -> tuple[Call, tuple[Command, ...]]:
    event = DeadlineReached(**world.stamps(at_ms), bridge_id=call.bridge_id, kind=DeadlineKind.EXTEND)
    return happens(call, event, policy)


def test_the_whole_call_up_to_the_end_of_the_next_slice_is_asked_for() -> None:
    call, (ask,) = due(talking().call, 59_800)
    assert isinstance(ask, Extend)
    assert (ask.call_id, ask.account, ask.total_s) == (world.call_id(), "acme", 120)
    assert (ask.rate, ask.terms) == (call.pricing.rate, call.pricing.terms)
    assert call.phase is Phase.TALKING
    assert call.extending is not None


@pytest.mark.parametrize(
    ("max_duration_ms", "total_s"), [(90_000, 90), (90_001, 91), (60_001, 61), (200_000, 120)]
)
def test_no_more_is_asked_for_than_the_longest_call(max_duration_ms: int, total_s: int) -> None:
    timers = replace(PREPAID.timers, max_duration_ms=max_duration_ms)
    policy = policy_of(accounts=account(prepaid=True), timers=timers)
    _, (ask,) = due(talking(policy).call, 59_800, policy)
    assert isinstance(ask, Extend)
    assert ask.total_s == total_s


def test_more_is_talked_for_and_asked_for_again() -> None:
    call, _ = due(talking().call, 59_800)
    call, commands = happens(call, granted(59_805, 120))
    assert (call.granted_s, call.reserved) == (120, Money(Decimal("0.12"), "EUR"))
    assert (call.extending, call.final) == (None, None)
    assert armed(commands) == [
        (DeadlineKind.GRANT, 120_000, "ledger_unreachable"),
        (DeadlineKind.EXTEND, 119_800, "grant_used_up"),
    ]


def test_a_part_of_a_slice_is_extended_too_for_there_may_be_a_top_up() -> None:
    call, _ = due(talking().call, 59_800)
    call, commands = happens(call, replace(granted(59_805, 63), final=True))
    assert armed(commands)[1] == (DeadlineKind.EXTEND, 62_800, "grant_used_up")
    _, (ask,) = due(call, 62_800)
    assert isinstance(ask, Extend)
    assert ask.total_s == 123


def test_a_refusal_leaves_the_end_where_it_is_and_says_credit() -> None:
    call, _ = due(talking().call, 59_800)
    call, commands = happens(call, replace(granted(59_805, 60), final=True))
    assert armed(commands) == [(DeadlineKind.GRANT, 60_000, "grant_used_up")]
    assert due(call, 59_900) == (call, ())
    reached = DeadlineReached(**world.stamps(60_000), bridge_id=call.bridge_id, kind=DeadlineKind.GRANT)
    ended, _ = happens(call, reached)
    assert ended.hangup is not None
    assert ended.hangup.detail is Detail.GRANT_USED_UP


@pytest.mark.parametrize("at_ms", [60_001, 60_200])
@pytest.mark.parametrize("seconds", [60, 120])
def test_an_answer_that_comes_after_the_end_does_not_make_it_one_for_credit(at_ms: int, seconds: int) -> None:
    """The bridge has ended the call; the store's answer overtakes what it reports."""
    call, _ = due(talking().call, 59_800)
    call, _ = happens(call, replace(granted(at_ms, seconds), final=seconds == 60))
    reached = DeadlineReached(**world.stamps(60_000), bridge_id=call.bridge_id, kind=DeadlineKind.GRANT)
    ended, _ = happens(call, reached)
    assert ended.hangup is not None
    assert ended.hangup.detail is Detail.LEDGER_UNREACHABLE


def test_a_failure_is_asked_about_again_while_there_is_time() -> None:
    call, _ = due(talking().call, 59_000)
    after, commands = happens(call, told(StepFailed, 59_010))
    assert after == call
    assert armed(commands) == [(DeadlineKind.EXTEND, 59_210, "grant_used_up")]
    again, (ask,) = due(after, 59_210)
    assert isinstance(ask, Extend)
    assert again == call  # it waits since it first asked


def test_a_step_that_failed_and_is_no_extension_ends_nothing() -> None:
    call = talking().call
    assert happens(call, told(StepFailed, 1_000)) == (call, ())


@pytest.mark.parametrize("answer", [granted(60_000, 120), told(StepFailed, 60_000)])
def test_an_answer_that_comes_while_the_call_ends_is_what_its_record_says(answer: CallEvent) -> None:
    run = talking()
    run.happens(EXTEND_DUE(59_800, run.call, run.granted))
    run.happens(bye(LegName.A)(59_900, run.call, run.granted))
    run.happens(answer)
    assert run.call.phase is Phase.ENDING
    run.close()
    (record,) = run.records
    assert record.cdr.granted_s == (120 if isinstance(answer, GrantExtended) else 60)
    assert (record.cdr.detail, record.cdr.billable_ms) == (Detail.BYE, 59_900)


def test_nothing_is_asked_for_a_call_that_does_not_talk_or_that_nothing_is_reserved_for() -> None:
    postpaid = talking(policy_of())
    assert due(postpaid.call, 59_800) == (postpaid.call, ())
    ringing = Run(PREPAID).play([((0, 1), ADMITTED)])
    assert due(ringing.call, 59_800) == (ringing.call, ())
    ending = talking()
    ending.happens(bye(LegName.B)(1_000, ending.call, None))
    ending.happens(CLOSE_A(1_000, ending.call, None))
    assert due(ending.call, 59_800) == (ending.call, ())
