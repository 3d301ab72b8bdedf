"""CANCEL, BYE, failures and the bound of every held decision."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.commands import Reject, RelayAnswer, RelayFailure, Release
from sidecar.core.events import (
    AnswerDropped,
    AnswerHeld,
    ByeReceived,
    CancelReceived,
    DeadlineReached,
    InviteReceived,
    LegTerminated,
    ProvisionalReceived,
    RouteFailed,
)
from sidecar.core.terms import DeadlineKind, LegName, RouteFailure
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import Message


async def routed(rig: Rig, **route: int) -> tuple[Message, InviteReceived, Message]:
    sent = rig.invite()
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite, **route))
    return sent, invite, await rig.gateway.expect("INVITE")


async def ringing(rig: Rig) -> tuple[Message, InviteReceived, Message]:
    sent, invite, at_b = await routed(rig)
    rig.gateway.reply(at_b, 180, tag="to-b")
    await rig.caller.expect(180)
    await rig.event(ProvisionalReceived)
    return sent, invite, at_b


async def held(rig: Rig) -> tuple[Message, Message]:
    sent, _, at_b = await routed(rig)
    rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
    await rig.event(AnswerHeld)
    return sent, at_b


async def both_legs_end(rig: Rig) -> None:
    legs = [await rig.event(LegTerminated), await rig.event(LegTerminated)]
    assert {leg.leg_name for leg in legs} == {LegName.A, LegName.B}
    await rig.idle()


async def test_a_rejected_invite_is_answered_with_our_reason() -> None:
    async with Rig() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(
            Reject(bridge_id=invite.bridge_id, sip_code=403, q850_cause=21, text="no_rate", retry_after_s=7)
        )
        refusal = await rig.caller.expect(403)
        assert refusal["Reason"] == 'Q.850;cause=21;text="no_rate"'
        assert refusal["Retry-After"] == "7"
        rig.ack_failure(sent, refusal)
        leg = await rig.event(LegTerminated)
        assert (leg.leg_name, leg.sip_code) == (LegName.A, 403)
        await rig.idle()


async def test_a_failure_is_held_and_then_relayed_with_its_headers_but_no_retry_after() -> None:
    async with Rig() as rig:
        sent, invite, at_b = await routed(rig)
        rig.gateway.reply(at_b, 486, "Reason: Q.850;cause=17", "X-Why: busy", "Retry-After: 30", tag="to-b")
        await rig.gateway.expect("ACK")
        failed = await rig.event(RouteFailed)
        assert (failed.cause, failed.sip_code, failed.phrase) == (RouteFailure.FINAL_RESPONSE, 486, "Reason")
        assert failed.reasons == ("Q.850;cause=17",)
        assert rig.caller.quiet
        rig.send(RelayFailure(bridge_id=invite.bridge_id))
        busy = await rig.caller.expect(486)
        assert (busy["X-Why"], busy["Reason"]) == ("busy", "Q.850;cause=17")
        assert "Retry-After" not in busy
        assert "Contact" not in busy
        rig.ack_failure(sent, busy)
        await both_legs_end(rig)


async def test_a_failure_is_reported_with_the_headers_that_the_profile_names() -> None:
    async with Rig(wanted_headers=("X-Ended-By",)) as rig:
        _, _, at_b = await routed(rig)
        rig.gateway.reply(at_b, 480, "X-Ended-By: limit", "X-Other: 1", "X-Ended-By: twice", tag="to-b")
        failed = await rig.event(RouteFailed)
        assert failed.headers == (("x-ended-by", "limit"), ("x-ended-by", "twice"))


async def test_a_relayed_failure_may_carry_another_code() -> None:
    async with Rig() as rig:
        _, invite, at_b = await routed(rig)
        rig.gateway.reply(at_b, 503, "Retry-After: 30", tag="to-b")
        await rig.event(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id, sip_code=500, keep_retry_after=True))
        assert (await rig.caller.expect(500))["Retry-After"] == "30"


async def test_the_challenge_of_a_401_passes() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 401, 'WWW-Authenticate: Digest realm="b", nonce="n"', tag="to-b")
        await rig.caller.expect(100)
        assert 'realm="b"' in (await rig.caller.expect(401))["WWW-Authenticate"]


async def test_the_next_gateway_is_tried_after_a_failure() -> None:
    async with Rig() as rig:
        second = await rig.agent(4)
        _, invite, at_b = await routed(rig)
        rig.gateway.reply(at_b, 503, tag="to-b")
        await rig.event(RouteFailed)
        rig.send(rig.route(invite, attempt=2, host=second.host, port=second.port))
        again = await second.expect("INVITE")
        assert again["Call-ID"] != at_b["Call-ID"]
        assert again.body == at_b.body
        second.reply(again, 200, tag="to-b2", body=ANSWER)
        answer = await rig.event(AnswerHeld)
        assert (answer.attempt, answer.leg.remote_tag) == (2, "to-b2")
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        await rig.caller.expect(200)


async def test_a_gateway_that_says_nothing_is_given_up_and_its_late_answer_dropped() -> None:
    async with Rig() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, no_response_ms=50))
        at_b = await rig.gateway.expect("INVITE")
        failed = await rig.event(RouteFailed)
        assert (failed.cause, failed.sip_code) == (RouteFailure.NO_RESPONSE, 0)
        rig.send(RelayFailure(bridge_id=invite.bridge_id))
        rig.ack_failure(sent, await rig.caller.expect(408))
        await both_legs_end(rig)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.gateway.expect("ACK")
        bye = await rig.gateway.expect("BYE")
        rig.gateway.reply(bye, 200)
        dropped = await rig.event(AnswerDropped)
        assert (dropped.attempt, dropped.sip_code, dropped.leg.remote_tag) == (1, 200, "to-b")


async def test_a_gateway_that_says_only_100_is_cancelled_and_the_next_one_tried() -> None:
    async with Rig() as rig:
        second = await rig.agent(4)
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, no_progress_ms=300))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 100)
        failed = await rig.event(RouteFailed)
        assert (failed.cause, failed.sip_code, failed.heard_code) == (RouteFailure.NO_RESPONSE, 0, 100)
        assert not failed.early_media_relayed
        cancel = await rig.gateway.expect("CANCEL")
        assert cancel.branch == at_b.branch
        rig.send(rig.route(invite, 2, host=second.host, port=second.port, no_progress_ms=300))
        again = await second.expect("INVITE")
        second.reply(again, 200, tag="to-b2", body=ANSWER)
        assert (await rig.event(AnswerHeld)).attempt == 2


async def test_a_gateway_that_rings_in_time_may_ring_on() -> None:
    async with Rig() as rig:
        _, invite, at_b = await routed(rig, no_progress_ms=1500)
        for code in (100, 183, 100):  # a 100 that was overtaken begins nothing anew
            rig.gateway.reply(at_b, code, tag="to-b" if code > 100 else "")
        await rig.event(ProvisionalReceived)
        sent = rig.invite()  # its time is up after that of the call before
        await rig.caller.expect(183)
        await rig.caller.expect(100)
        later = await rig.event(InviteReceived)
        rig.send(rig.route(later, no_progress_ms=1500))
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 100)
        failed = await rig.event(RouteFailed)
        assert failed.bridge_id == later.bridge_id != invite.bridge_id
        rig.send(RelayFailure(bridge_id=later.bridge_id))
        rig.ack_failure(sent, await rig.caller.expect(408))


async def test_the_reason_in_the_answer_to_our_cancel_is_reported() -> None:
    async with Rig() as rig:
        sent, _, at_b = await ringing(rig)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        rig.ack_failure(sent, await rig.caller.expect(487))
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        rig.gateway.reply(at_b, 487, "Reason: Q.850;cause=31, SIP;cause=487", tag="to-b")
        await rig.gateway.expect("ACK")
        await rig.event(CancelReceived)
        legs = {leg.leg_name: leg for leg in (await rig.event(LegTerminated), await rig.event(LegTerminated))}
        assert legs[LegName.A].reasons == ()
        assert legs[LegName.B].sip_code == 487
        assert ", ".join(legs[LegName.B].reasons) == "Q.850;cause=31, SIP;cause=487"


async def test_an_attempt_that_was_given_up_is_cancelled_once_it_is_heard() -> None:
    async with Rig() as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, no_response_ms=50))
        at_b = await rig.gateway.expect("INVITE")
        await rig.event(RouteFailed)
        rig.gateway.reply(at_b, 100)
        cancel = await rig.gateway.expect("CANCEL")
        assert (cancel.branch, cancel.cseq, cancel.uri) == (at_b.branch, at_b.cseq, at_b.uri)


async def test_a_gateway_that_cannot_be_reached_fails_at_once() -> None:
    async with Rig() as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, host="240.0.0.1", port=5090))
        assert (await rig.event(RouteFailed)).cause == RouteFailure.UNREACHABLE


async def test_caller_cancels_while_it_rings() -> None:
    async with Rig() as rig:
        sent, _, at_b = await ringing(rig)
        rig.cancel(sent, 'Reason: SIP;cause=200;text="elsewhere"')
        await rig.caller.expect(200, "CANCEL")
        rig.ack_failure(sent, await rig.caller.expect(487))
        event = await rig.event(CancelReceived)
        assert event.reasons == ('SIP;cause=200;text="elsewhere"',)
        cancel = await rig.gateway.expect("CANCEL")
        assert cancel["Reason"] == 'SIP;cause=200;text="elsewhere"'
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        await rig.gateway.expect("ACK")
        await both_legs_end(rig)


async def test_a_cancel_before_any_provisional_waits_for_one() -> None:
    async with Rig() as rig:
        sent, _, at_b = await routed(rig)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.caller.expect(487)
        await rig.gateway.until_repeated("INVITE")
        assert rig.gateway.quiet
        rig.gateway.reply(at_b, 100)
        cancel = await rig.gateway.expect("CANCEL")
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        await rig.gateway.expect("ACK")


async def test_an_answer_that_crosses_the_cancel_is_dropped() -> None:
    async with Rig() as rig:
        sent, _, at_b = await ringing(rig)
        rig.cancel(sent)
        await rig.gateway.expect("CANCEL")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.gateway.expect("ACK")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.event(CancelReceived)
        await rig.event(LegTerminated)
        assert (await rig.event(AnswerDropped)).leg.remote_tag == "to-b"
        leg = await rig.event(LegTerminated)
        assert (leg.leg_name, leg.alive) == (LegName.B, True)


async def test_a_cancel_while_the_answer_is_held_ends_both_legs() -> None:
    async with Rig() as rig:
        sent, _ = await held(rig)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.caller.expect(487)
        await rig.gateway.expect("ACK")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.event(CancelReceived)
        await both_legs_end(rig)


async def test_a_bye_on_b_while_its_answer_is_held_gives_480() -> None:
    async with Rig() as rig:
        _, at_b = await held(rig)
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), "Reason: Q.850;cause=31", cseq=1)
        await rig.gateway.expect(200, "BYE")
        await rig.gateway.expect("ACK")
        assert (await rig.caller.expect(480))["Reason"] == "Q.850;cause=31"
        assert (await rig.event(ByeReceived)).leg_name == LegName.B
        await both_legs_end(rig)


@pytest.mark.parametrize("stage", ["invite", "failure", "answer"])
async def test_no_decision_in_time_ends_the_call_with_500(stage: str) -> None:
    async with Rig(answer_hold_ms_max=150) as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        if stage != "invite":
            rig.send(rig.route(invite))
            at_b = await rig.gateway.expect("INVITE")
            if stage == "failure":
                rig.gateway.reply(at_b, 486, tag="to-b")
                await rig.event(RouteFailed)
            else:
                rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
                await rig.event(AnswerHeld)
        assert (await rig.caller.expect(500))["Reason"] == 'Q.850;cause=41;text="journal"'
        assert (await rig.event(DeadlineReached)).kind == DeadlineKind.HOLD
        if stage == "answer":
            await rig.gateway.expect("ACK")
            bye = await rig.gateway.expect("BYE")
            assert bye["Reason"] == 'Q.850;cause=41;text="journal"'
            rig.gateway.reply(bye, 200)
        await rig.event(LegTerminated)
        if stage != "invite":
            await rig.event(LegTerminated)


async def test_release_while_it_rings() -> None:
    async with Rig() as rig:
        _, invite, at_b = await ringing(rig)
        rig.send(Release(bridge_id=invite.bridge_id, sip_code=480, q850_cause=31, text="operator"))
        assert (await rig.caller.expect(480))["Reason"] == 'Q.850;cause=31;text="operator"'
        cancel = await rig.gateway.expect("CANCEL")
        assert cancel["Reason"] == 'Q.850;cause=31;text="operator"'
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        await both_legs_end(rig)


async def test_release_in_a_call() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        rig.send(Release(bridge_id=invite.bridge_id, sip_code=480, q850_cause=31, text="operator"))
        for agent in (rig.caller, rig.gateway):
            bye = await agent.expect("BYE")
            assert bye["Reason"] == 'Q.850;cause=31;text="operator"'
            agent.reply(bye, 200)
        await both_legs_end(rig)


async def test_callee_hangs_up() -> None:
    async with Rig() as rig:
        _, _, b = await rig.answered_call()
        rig.in_dialog(rig.gateway, "BYE", b, "X-Last: word", cseq=1)
        await rig.gateway.expect(200)
        bye = await rig.caller.expect("BYE")
        assert bye["X-Last"] == "word"
        rig.caller.reply(bye, 200)
        assert (await rig.event(ByeReceived)).leg_name == LegName.B
        await both_legs_end(rig)


async def test_bye_and_bye_cross() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.caller.expect(200)
        bye = await rig.gateway.expect("BYE")
        await rig.gateway.expect(200)
        rig.gateway.reply(bye, 200)
        sides = {(await rig.until(ByeReceived)).leg_name, (await rig.until(ByeReceived)).leg_name}
        assert sides == {LegName.A, LegName.B}
        legs = [event for event in rig.events if isinstance(event, LegTerminated)]
        while len(legs) < 2:
            legs = [*legs, await rig.until(LegTerminated)]
        assert {leg.leg_name: leg.alive for leg in legs}[LegName.B]  # it was there to send its own


async def test_a_cancelled_invite_is_cancelled_once() -> None:
    async with Rig() as rig:
        sent, _, at_b = await ringing(rig)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        rig.ack_failure(sent, await rig.caller.expect(487))
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        rig.gateway.reply(at_b, 183, tag="to-b")
        rig.gateway.reply(at_b, 487, tag="to-b")
        await rig.gateway.expect("ACK")


async def test_a_cancelled_invite_that_gets_no_final_response_is_over_after_64_t1() -> None:
    async with Rig(t1_ms=20) as rig:
        sent, _, _ = await ringing(rig)
        rig.cancel(sent)
        await rig.caller.until(487)
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        await rig.event(CancelReceived)
        await both_legs_end(rig)


async def test_a_bye_that_comes_after_the_answer_to_ours_gets_200() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        await rig.caller.expect(200)
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.event(ByeReceived)
        await both_legs_end(rig)
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200)
        assert rig.hook.stats()["late_byes"] == 1


async def test_a_repeated_bye_is_answered_again() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        bye = rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        await rig.caller.expect(200)
        rig.caller.send(bye.raw)
        await rig.caller.until_repeated(200)


async def test_a_peer_that_does_not_answer_our_bye_is_not_alive() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("BYE"), 481)
        await rig.event(ByeReceived)
        await rig.event(LegTerminated)
        leg = await rig.event(LegTerminated)
        assert (leg.leg_name, leg.sip_code, leg.alive) == (LegName.B, 481, False)


async def test_asyncio_stays_responsive() -> None:
    async with Rig() as rig:
        await asyncio.wait_for(asyncio.sleep(0), 1)
        assert rig.hook.engine.startswith("pjproject 2.")
