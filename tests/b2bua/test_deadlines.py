"""Native timers: they fire while Python stalls."""

from __future__ import annotations

import time

import pytest

from sidecar.core.commands import ArmDeadline, RelayAnswer, Release, Snapshot
from sidecar.core.events import (
    AnswerHeld,
    AnswerRelayed,
    DeadlineReached,
    InviteReceived,
    LegTerminated,
    ProvisionalReceived,
    RouteFailed,
    SnapshotTaken,
)
from sidecar.core.terms import DeadlineKind
from tests.b2bua.rig import ANSWER, Dialog, Rig


def stall(seconds: float) -> None:
    """All of Python stands still, as in a long collection: the native timer must not feel it."""
    time.sleep(seconds)


def deadline(bridge_id: int, kind: DeadlineKind, after_ms: int) -> ArmDeadline:
    return ArmDeadline(
        bridge_id=bridge_id, kind=kind, after_ms=after_ms, sip_code=408, q850_cause=16, text="max_duration"
    )


@pytest.mark.parametrize(("code", "heard"), [(0, 0), (100, 100), (180, 180)])
async def test_ring_reports_what_was_heard_and_waits(code: int, heard: int) -> None:
    async with Rig() as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        if code:
            rig.gateway.reply(at_b, code, tag="to-b")
        if code > 100:
            await rig.event(ProvisionalReceived)
            await rig.caller.expect(code)
        rig.send(deadline(invite.bridge_id, DeadlineKind.RING, 100))
        reached = await rig.event(DeadlineReached)
        assert (reached.kind, reached.heard_code) == (DeadlineKind.RING, heard)
        assert rig.caller.quiet
        rig.send(Release(bridge_id=invite.bridge_id, sip_code=408, q850_cause=19, text="ring_timeout"))
        assert (await rig.caller.expect(408))["Reason"] == 'Q.850;cause=19;text="ring_timeout"'


async def test_what_was_heard_is_the_most_that_was() -> None:
    async with Rig() as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        for code in (183, 180):
            rig.gateway.reply(at_b, code, tag="to-b")
            await rig.caller.until(code)
        rig.send(deadline(invite.bridge_id, DeadlineKind.RING, 50))
        assert (await rig.until(DeadlineReached)).heard_code == 183


async def test_the_time_for_progress_counts_from_the_invite() -> None:
    async with Rig() as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, no_progress_ms=3000))
        at_b = await rig.gateway.expect("INVITE")
        sent = time.monotonic_ns()
        stall(2)
        rig.gateway.reply(at_b, 100)
        assert (await rig.until(RouteFailed)).mono_ns - sent < 5e9


@pytest.mark.parametrize("kind", [DeadlineKind.MAX_DURATION, DeadlineKind.GRANT])
async def test_a_limit_counts_from_our_answer_and_holds_while_python_stalls(kind: DeadlineKind) -> None:
    async with Rig() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite), deadline(invite.bridge_id, kind, 300))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        relayed = time.monotonic_ns()
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        answered = time.monotonic_ns()
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        await rig.gateway.expect("ACK")
        stall(1.5)
        reached = await rig.until(DeadlineReached)
        assert reached.kind == kind
        assert reached.mono_ns - relayed >= 300e6
        assert reached.mono_ns - answered <= 1200e6
        for agent in (rig.caller, rig.gateway):
            bye = await agent.expect("BYE")
            assert bye["Reason"] == 'Q.850;cause=16;text="max_duration"'
            agent.reply(bye, 200)
        await rig.event(LegTerminated)
        await rig.event(LegTerminated)


async def test_a_limit_can_be_armed_in_the_call() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        rig.send(deadline(invite.bridge_id, DeadlineKind.GRANT, 50))
        await rig.gateway.expect("BYE")
        await rig.caller.expect("BYE")


async def test_a_limit_that_is_armed_in_the_call_counts_from_the_answer_too() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        [answered] = [event for event in rig.events if isinstance(event, AnswerRelayed)]
        stall(2)
        rig.send(deadline(invite.bridge_id, DeadlineKind.GRANT, 3000))
        reached = await rig.until(DeadlineReached)
        assert 3e9 <= reached.mono_ns - answered.mono_ns < 5e9


async def test_no_bye_leaves_before_the_caller_has_acknowledged() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.caller.expect(100)
        ok = await rig.caller.expect(200)
        rig.send(Release(bridge_id=1, sip_code=480, q850_cause=31, text="operator"))
        await rig.gateway.expect("ACK")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.caller.until_repeated(200)
        assert rig.caller.quiet
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        bye = await rig.caller.expect("BYE")
        assert bye["Reason"] == 'Q.850;cause=31;text="operator"'
        rig.caller.reply(bye, 200)
        await rig.until(LegTerminated)
        await rig.until(LegTerminated)


async def test_a_snapshot_names_the_live_calls() -> None:
    async with Rig() as rig:
        await rig.answered_call()
        rig.invite()
        await rig.caller.expect(100)
        rig.send(Snapshot())
        assert (await rig.until(SnapshotTaken)).bridge_ids == {1, 2}


async def test_a_slice_that_ends_is_reported_and_the_call_goes_on_until_its_limit() -> None:
    async with Rig() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        first = deadline(invite.bridge_id, DeadlineKind.GRANT, 60_000)
        rig.send(rig.route(invite), first, deadline(invite.bridge_id, DeadlineKind.EXTEND, 100))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        await rig.gateway.expect("ACK")
        answered = (await rig.until(AnswerRelayed)).mono_ns
        for after_ms in (100, 400):  # it may be armed again, as often as it is due
            reached = await rig.until(DeadlineReached)
            assert reached.kind is DeadlineKind.EXTEND
            assert reached.mono_ns - answered >= after_ms * 1_000_000
            rig.send(deadline(invite.bridge_id, DeadlineKind.EXTEND, 400))
        assert rig.caller.quiet
        assert rig.gateway.quiet
        # The limit is one: the shorter of two that come after each other is not kept beside the longer.
        rig.send(
            deadline(invite.bridge_id, DeadlineKind.GRANT, 500),
            deadline(invite.bridge_id, DeadlineKind.MAX_DURATION, 900),
        )
        reached = await rig.until(DeadlineReached)
        while reached.kind is DeadlineKind.EXTEND:
            reached = await rig.until(DeadlineReached)
        assert reached.kind is DeadlineKind.MAX_DURATION
        assert reached.mono_ns - answered >= 900e6
        for agent in (rig.caller, rig.gateway):
            await agent.expect("BYE")
