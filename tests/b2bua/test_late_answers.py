"""A 2xx that nobody waits for any more: whoever sends it is off the hook, and gets ACK and BYE."""

from __future__ import annotations

import pytest

from sidecar.core.commands import RelayAnswer, Snapshot
from sidecar.core.events import (
    AckReceived,
    AnswerDropped,
    AnswerHeld,
    InviteReceived,
    RouteFailed,
    SnapshotTaken,
)
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, parameter


async def hung_up_on(agent: ScriptedUA, invite: Message, tag: str) -> None:
    ack = await agent.expect("ACK")
    bye = await agent.expect("BYE")
    for request in (ack, bye):
        assert (parameter(request["To"], "tag"), request["Call-ID"]) == (tag, invite["Call-ID"])
        assert request.uri == f"sip:{agent.host}:{agent.port}"
    assert (ack.cseq, bye.cseq > ack.cseq) == (invite.cseq, True)
    agent.reply(bye, 200)


async def cancelled(rig: Rig) -> Message:
    """A call that its caller has given up, and whose callee has agreed."""
    sent, _, at_b = await rig.routed_call()
    rig.gateway.reply(at_b, 180, tag="one")
    await rig.caller.expect(180)
    rig.cancel(sent)
    rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
    rig.gateway.reply(at_b, 487, tag="one")
    await rig.gateway.expect("ACK")
    await rig.idle()
    return at_b


async def test_an_answer_after_the_487_is_hung_up_on_once() -> None:
    async with Rig() as rig:
        at_b = await cancelled(rig)
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)
        await hung_up_on(rig.gateway, at_b, "two")
        dropped = await rig.until(AnswerDropped)
        assert (dropped.attempt, dropped.leg.remote_tag, dropped.leg.sip_call_id) == (
            1,
            "two",
            at_b["Call-ID"],
        )
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)  # it has not heard our ACK
        await rig.gateway.expect("ACK")
        assert rig.hook.stats()["dropped_answers"] == 1
        await rig.counted("repeated_answers", 1)


async def test_an_answer_of_the_branch_that_said_487_is_hung_up_on() -> None:
    async with Rig() as rig:
        at_b = await cancelled(rig)
        rig.gateway.reply(at_b, 200, tag="one", body=ANSWER)
        await hung_up_on(rig.gateway, at_b, "one")


async def test_a_stranger_cannot_have_us_hang_up() -> None:
    async with Rig() as rig:
        at_b = await cancelled(rig)
        stranger = await rig.agent(9)
        stranger.send(stranger.response(at_b, 200, stranger.contact(), tag="two"), at_b.source)
        await rig.counted("dropped_foreign", 1)
        await rig.settled(await rig.agent(2))
        assert stranger.quiet


@pytest.mark.parametrize("cseq", [0, 2**31 - 1])
async def test_an_answer_to_another_invite_than_ours_is_nobodys(cseq: int) -> None:
    async with Rig() as rig:
        at_b = await cancelled(rig)
        answer = rig.gateway.response(at_b, 200, rig.gateway.contact(), tag="two")
        changed = answer.replace(f"CSeq: {at_b.cseq} ".encode(), f"CSeq: {cseq} ".encode())
        rig.gateway.send(changed, at_b.source)
        await rig.counted("unmatched_responses", 1)
        assert rig.gateway.quiet


async def test_branches_that_answer_in_the_call_are_hung_up_on_once_each_and_so_many_alone() -> None:
    async with Rig() as rig:
        await rig.answered_call()
        at_b = rig.gateway.everything[0]
        for number in range(8):
            rig.gateway.reply(at_b, 200, tag=f"branch-{number}", body=ANSWER)
            await hung_up_on(rig.gateway, at_b, f"branch-{number}")
        rig.gateway.reply(at_b, 200, tag="branch-0", body=ANSWER)  # it has not heard our ACK
        await rig.gateway.expect("ACK")
        rig.gateway.reply(at_b, 200, tag="one-too-many", body=ANSWER)
        await rig.counted("unmatched_responses", 1)
        assert rig.gateway.quiet
        assert rig.hook.stats()["dropped_answers"] == 8


async def test_an_answer_of_another_branch_to_another_invite_is_nobodys() -> None:
    async with Rig() as rig:
        await rig.answered_call()
        at_b = rig.gateway.everything[0]
        for change in (-1, 1):
            stray = rig.gateway.response(at_b, 200, rig.gateway.contact(), tag="two")
            number = f"CSeq: {at_b.cseq + change} ".encode()
            rig.gateway.send(stray.replace(f"CSeq: {at_b.cseq} ".encode(), number), at_b.source)
        await rig.settled(rig.gateway)
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)
        await hung_up_on(rig.gateway, at_b, "two")
        await rig.counted("dropped_answers", 1)


async def test_more_branches_than_anybody_has_are_not_answered() -> None:
    async with Rig() as rig:
        at_b = await cancelled(rig)
        for number in range(8):
            rig.gateway.reply(at_b, 200, tag=f"branch-{number}")
            await hung_up_on(rig.gateway, at_b, f"branch-{number}")
        rig.gateway.reply(at_b, 200, tag="one-too-many")
        await rig.counted("unmatched_responses", 1)
        assert rig.gateway.quiet


async def test_an_answer_of_a_gateway_that_had_failed_does_not_touch_the_call() -> None:
    async with Rig() as rig:
        second = await rig.agent(4)
        sent, invite, at_b = await rig.routed_call()
        rig.gateway.reply(at_b, 503, tag="one")
        await rig.gateway.expect("ACK")
        await rig.event(RouteFailed)
        rig.send(rig.route(invite, attempt=2, host=second.host, port=second.port))
        again = await second.expect("INVITE")
        second.reply(again, 200, tag="to-c", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await second.expect("ACK")
        await rig.until(AckReceived)
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)
        await hung_up_on(rig.gateway, at_b, "two")
        assert (await rig.event(AnswerDropped)).attempt == 1
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        second.reply(await second.expect("INFO"), 200)
        await rig.caller.expect(200)


async def test_a_second_branch_that_answers_in_the_call_is_hung_up_on_and_the_call_goes_on() -> None:
    async with Rig() as rig:
        sent, invite, at_b = await rig.routed_call()
        rig.gateway.reply(at_b, 180, tag="two")
        await rig.caller.expect(180)
        rig.gateway.reply(at_b, 200, tag="one", body=ANSWER)  # not the branch that rang
        held = await rig.until(AnswerHeld)
        assert held.leg.remote_tag == "one"
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.until(AckReceived)
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)
        await hung_up_on(rig.gateway, at_b, "two")
        assert (await rig.until(AnswerDropped)).leg.remote_tag == "two"
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        await rig.caller.expect(200)
        bye = await rig.gateway.expect("BYE")
        assert parameter(bye["To"], "tag") == "one"
        rig.gateway.reply(bye, 200)
        await rig.idle()
        rig.gateway.reply(at_b, 200, tag="three", body=ANSWER)  # when all is over
        await hung_up_on(rig.gateway, at_b, "three")
        rig.gateway.reply(at_b, 200, tag="one", body=ANSWER)  # of the call itself: it has had its BYE
        await rig.gateway.expect("ACK")
        await rig.counted("dropped_answers", 2)


async def test_a_snapshot_names_attempts_that_may_yet_be_answered() -> None:
    async with Rig() as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, no_response_ms=50))
        at_b = await rig.gateway.expect("INVITE")
        await rig.event(RouteFailed)
        rig.send(Snapshot())
        taken = await rig.until(SnapshotTaken)
        assert taken.bridge_ids == taken.given_up_ids == frozenset({invite.bridge_id})
        rig.gateway.reply(at_b, 404, tag="to-b")
        await rig.counted("abandoned_legs", 0)
        rig.send(Snapshot())
        assert (await rig.until(SnapshotTaken)).given_up_ids == frozenset()
