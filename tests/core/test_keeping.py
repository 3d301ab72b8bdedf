"""Calls over a planned restart: which go on, with what, and what becomes of the others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.call import Call, Phase
from sidecar.core.commands import Adopt, Append, ArmDeadline, Command, EntryKind
from sidecar.core.decide import decide
from sidecar.core.events import CallFoundOpen
from sidecar.core.keeping import BOOKS_ANSWER_MS, SILENT_NS_MAX
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.terms import DeadlineKind, Detail, SavedLegState
from tests.core.streams import ANSWERED, FOUND, KEPT, KEPT_STATE, store
from tests.core.test_extending import EXTEND_DUE, PREPAID, granted, talking
from tests.scenarios import world
from tests.scenarios.world import policy_of

KEPT_MS, TALKED_MS = 30_000, 29_000
A_SECOND_NS = 1_000_000_000


def kept(policy: Policy | None = None) -> Call:
    """Answered at 0 ms."""
    run = talking(policy or policy_of())
    run.play([((KEPT_MS, 1), KEPT)])
    assert run.call.phase is Phase.KEPT
    return run.call


def found(call: Call, policy: Policy | None = None, **given: Any) -> tuple[Call, tuple[Command, ...]]:
    values = {"now_mono_ns": world.mono_ns(KEPT_MS + 2_000), "now_wall_ns": world.wall_ns(KEPT_MS + 2_000)}
    event = CallFoundOpen(**world.stamps(KEPT_MS), call_id=call.call_id, **(values | given))
    return decide(call, event, Given(policy or policy_of(), Load()))


def armed(commands: tuple[Command, ...]) -> dict[DeadlineKind, int]:
    return {one.kind: one.after_ms for one in commands if isinstance(one, ArmDeadline)}


def test_what_the_bridge_told_is_written() -> None:
    run = talking(policy_of())
    run.play([((KEPT_MS, 1), KEPT)])
    (entry,) = run.steps[-1].commands
    assert entry == Append(kind=EntryKind.KEPT, call=run.call)
    assert run.call.kept is not None
    assert run.call.kept.state == KEPT_STATE
    assert (run.call.invite.leg.local_cseq, run.call.attempts[-1].leg.local_cseq) == (20, 40)


def test_a_call_goes_on_with_all_that_was_told() -> None:
    call = kept()
    after, (adopt, limit, entry) = found(call)
    assert isinstance(adopt, Adopt)
    assert (adopt.a_state, adopt.b_state) == (SavedLegState.ANSWERED, SavedLegState.ANSWERED)
    assert (adopt.leg_a, adopt.leg_b, adopt.kept) == (call.invite.leg, call.attempts[-1].leg, KEPT_STATE)
    assert adopt.route is not None
    assert adopt.route.gateway == adopt.gateway == call.attempts[-1].gateway
    assert isinstance(limit, ArmDeadline)
    assert (limit.kind, limit.after_ms) == (
        DeadlineKind.MAX_DURATION,
        policy_of().timers.max_duration_ms,
    )
    assert entry == Append(kind=EntryKind.ADOPTED, call=after)
    assert after.phase is Phase.TALKING
    assert after.kept is None
    assert after.answered == call.answered


@pytest.mark.parametrize(
    "given",
    [
        {"now_mono_ns": 0, "now_wall_ns": 0},
        {"now_mono_ns": world.mono_ns(KEPT_MS) - 1},
        {
            "now_mono_ns": world.mono_ns(KEPT_MS) + SILENT_NS_MAX + 1,
            "now_wall_ns": world.wall_ns(KEPT_MS) + SILENT_NS_MAX + 1,
        },
        {"now_wall_ns": world.wall_ns(KEPT_MS + 2_000) + A_SECOND_NS + 1},
        {"now_wall_ns": world.wall_ns(KEPT_MS + 2_000) - A_SECOND_NS - 1},
    ],
    ids=["no clock", "another machine", "too late", "clock set forward", "clock set back"],
)
def test_a_call_that_was_silent_for_too_long_or_nobody_knows_how_long_ends_as_after_a_crash(
    given: dict[str, Any],
) -> None:
    after, (adopt,) = found(kept(), **given)
    assert after.phase is Phase.ENDING
    assert after.hangup is not None
    assert after.hangup.detail is Detail.CRASH_RECOVERED
    assert isinstance(adopt, Adopt)
    assert adopt.kept is None


@pytest.mark.parametrize("part", ["peers", "gateways"])
def test_a_call_whose_peer_or_gateway_the_settings_have_no_more_ends_as_after_a_crash(part: str) -> None:
    after, _ = found(kept(), replace(policy_of(), **{part: {}}))
    assert after.phase is Phase.ENDING
    assert after.kept is None


def test_a_grant_that_was_used_up_in_the_silence_gives_the_books_time_to_answer() -> None:
    call = replace(kept(PREPAID), granted_s=TALKED_MS // 1000)
    after, commands = found(call, PREPAID)
    talked_ms = (KEPT_MS + 2_000) - 0
    assert armed(commands)[DeadlineKind.GRANT] == talked_ms + BOOKS_ANSWER_MS
    assert armed(commands)[DeadlineKind.EXTEND] < talked_ms
    ask = decide(after, EXTEND_DUE(talked_ms, after, None), Given(PREPAID, Load()))[1][0]
    assert ask.total_s == talked_ms // 1000 + PREPAID.slice_s  # type: ignore[attr-defined]


def test_a_grant_that_the_books_have_refused_to_extend_ends_where_it_ended() -> None:
    call = kept(PREPAID)
    assert call.answered is not None
    call = replace(call, granted_s=31, final=call.answered)
    _, commands = found(call, PREPAID)
    assert armed(commands) == {DeadlineKind.GRANT: 31_000}


def test_a_grant_that_was_asked_for_when_the_call_was_kept_is_asked_for_again() -> None:
    run = talking(PREPAID, "1")
    run.play([((59_000, 1), EXTEND_DUE), ((100, 1), KEPT)])
    assert run.call.extending is not None
    run.happens(granted(59_200, 120))  # it is in the books, and nobody heard
    assert (run.call.phase, run.call.granted_s) == (Phase.KEPT, 60)
    after = run.play([((1_000, 1), FOUND)]).steps[-1]
    assert after.call.phase is Phase.TALKING
    assert after.call.extending is None
    assert armed(after.commands)[DeadlineKind.EXTEND] < 60_000


def test_a_call_that_is_kept_twice_has_its_one_record_with_all_that_it_talked() -> None:
    run = talking(policy_of())
    run.play([((1_000, 1), make) for make in (KEPT, FOUND, KEPT, FOUND)])
    run.play([((1_000, 1), store(CallFoundOpen))])  # and then a crash
    run.close()
    [record] = run.records
    assert record.cdr.answered_at is not None
    assert record.cdr.detail == "crash_recovered"
    assert Decimal(record.cdr.talk_ms or 0) >= 4_000
    assert len(ANSWERED) == 4
