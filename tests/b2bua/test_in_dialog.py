"""Requests inside the dialogs pass from end to end."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from sidecar.core.commands import RelayAnswer, Release
from sidecar.core.events import (
    AckReceived,
    AnswerHeld,
    DeadlineReached,
    InviteReceived,
    LegTerminated,
    Life,
    SessionRefreshed,
    TargetRefreshed,
)
from sidecar.core.terms import DeadlineKind, LegName
from tests.b2bua.rig import ANSWER, OFFER, SDP, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, parameter

HOLD = OFFER + b"a=sendonly\r\n"


def sides(rig: Rig, a: Dialog, b: Dialog, who: str) -> tuple[ScriptedUA, Dialog, ScriptedUA]:
    return (rig.caller, a, rig.gateway) if who == "caller" else (rig.gateway, b, rig.caller)


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_re_invite_passes_with_body_headers_and_its_own_ack(who: str) -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        near, dialog, far = sides(rig, a, b, who)
        rig.in_dialog(near, "INVITE", dialog, near.contact(), "X-Hold: on", cseq=5, body=HOLD)
        await near.expect(100)
        passed = await far.expect("INVITE")
        assert (passed.body, passed["X-Hold"]) == (HOLD, "on")
        assert "tag=" in passed["To"]
        far.reply(passed, 200, "X-Held: yes", body=ANSWER)
        ok = await near.expect(200)
        assert (ok.body, ok["X-Held"]) == (ANSWER, "yes")
        assert ok["Contact"] == f"<{dialog.target}>"
        rig.in_dialog(near, "ACK", dialog, cseq=5, body=ANSWER)
        ack = await far.expect("ACK")
        assert (ack.cseq, ack.body) == (passed.cseq, ANSWER)
        far.reply(passed, 200, "X-Held: yes", body=ANSWER)
        await far.until_repeated("ACK")


async def test_a_refused_re_invite_leaves_the_call_as_it_was() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        other = await rig.agent(2)
        sent = rig.in_dialog(rig.caller, "INVITE", a, other.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 488, other.contact())
        await rig.gateway.expect("ACK")
        refused = await rig.caller.expect(488)
        rig.ack_failure(sent, refused)
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200)
        await rig.caller.expect("BYE")


async def test_re_invites_that_meet_get_491() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.in_dialog(rig.gateway, "INVITE", b, rig.gateway.contact(), cseq=1, body=HOLD)
        await rig.gateway.expect(491)
        rig.gateway.reply(passed, 491)
        await rig.gateway.expect("ACK")
        await rig.caller.expect(491)
        assert rig.caller.quiet


async def test_a_second_re_invite_before_the_first_is_answered_gets_500() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=6, body=HOLD)
        overlap = await rig.caller.expect(500)
        assert 0 <= int(overlap["Retry-After"]) <= 10


async def test_a_re_invite_can_be_cancelled() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.cancel(sent, 'Reason: SIP;cause=200;text="elsewhere"')
        await rig.caller.expect(200, "CANCEL")
        await rig.gateway.until_repeated("INVITE")
        assert rig.gateway.quiet  # RFC 3261 §9.1: not before a provisional response
        rig.gateway.reply(passed, 100)
        cancel = await rig.gateway.expect("CANCEL")
        assert cancel["Reason"] == 'SIP;cause=200;text="elsewhere"'
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(passed, 180)
        await rig.caller.expect(180)
        rig.gateway.reply(passed, 487)
        await rig.caller.expect(487)
        await rig.gateway.expect("ACK")  # and no second CANCEL before it


async def test_a_cancelled_re_invite_that_gets_no_final_response_is_over_after_64_t1() -> None:
    async with Rig(t1_ms=20) as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        passed = await rig.gateway.expect("INVITE")
        rig.gateway.reply(passed, 180)
        await rig.caller.until(180)
        rig.cancel(sent)
        rig.gateway.reply(await rig.gateway.until("CANCEL"), 200)
        await rig.caller.until(408, "INVITE")


async def test_another_request_that_is_not_answered_gets_504() -> None:
    """RFC 4320 §4.2: never 408."""
    async with Rig(t1_ms=20) as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INFO", a, cseq=5)
        await rig.gateway.expect("INFO")
        await rig.caller.expect(504, "INFO")


async def test_a_re_invite_is_not_cancelled_by_anybody_else() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.gateway.reply(passed, 100)
        forged = Message(sent.raw.replace(sent["To"].encode(), b"<sip:any@192.0.2.1>"), sent.source)
        rig.cancel(sent, agent=rig.gateway)  # names the dialog
        rig.cancel(forged, agent=rig.gateway)  # names the transaction alone, which is enough
        await rig.settled(await rig.agent(2))
        rig.gateway.reply(passed, 200, body=ANSWER)
        await rig.caller.expect(200, "INVITE")
        rig.in_dialog(rig.caller, "ACK", a, cseq=5)
        await rig.gateway.until("ACK")
        assert not [message for message in rig.gateway.everything if message.start.startswith("CANCEL")]


@pytest.mark.parametrize("end", ["caller", "callee", "operator"])
@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_the_2xx_to_a_re_invite_is_acknowledged_when_the_call_ends_first(who: str, end: str) -> None:
    async with Rig() as rig:
        invite, a, b = await rig.answered_call()
        near, dialog, far = sides(rig, a, b, who)
        rig.in_dialog(near, "INVITE", dialog, near.contact(), cseq=5, body=HOLD)
        await near.expect(100)
        passed = await far.expect("INVITE")
        far.reply(passed, 200, body=ANSWER)
        await near.expect(200)
        if end == "operator":
            rig.send(Release(bridge_id=invite.bridge_id, sip_code=480, q850_cause=31, text="operator"))
        else:
            ending = sides(rig, a, b, end)
            rig.in_dialog(ending[0], "BYE", ending[1], cseq=6)
        ack = await far.until("ACK")
        assert (ack.cseq, parameter(ack["To"], "tag")) == (passed.cseq, parameter(passed["To"], "tag"))
        assert ack.body == b""


async def test_an_ack_of_another_invite_than_the_calls_own_acknowledges_nothing() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        a = Dialog.of_caller(sent, await rig.caller.until(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=9)
        await rig.counted("acks_unmatched", 1)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.until(AckReceived)


async def test_the_bye_that_waits_for_the_callers_ack_gives_the_callees_reason() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        a, b = Dialog.of_caller(sent, await rig.caller.until(200)), Dialog.of_callee(at_b, "to-b")
        await rig.gateway.expect("ACK")
        reason = 'Q.850;cause=21;text="not this one"'
        rig.in_dialog(rig.gateway, "BYE", b, f"Reason: {reason}", cseq=1)
        await rig.gateway.expect(200, "BYE")
        assert rig.caller.quiet
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        assert (await rig.caller.expect("BYE"))["Reason"] == reason


async def test_a_later_ringing_moves_no_target() -> None:
    """RFC 3261 §12.1.2: the response that makes the dialog says where it is."""
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        other = await rig.agent(3)
        rig.gateway.reply(at_b, 180, tag="to-b")
        early = await rig.caller.until(180)
        other.send(other.response(at_b, 183, other.contact(), tag="to-b"), at_b.source)
        await rig.caller.expect(183)
        rig.in_dialog(rig.caller, "UPDATE", Dialog.of_caller(sent, early), rig.caller.contact(), cseq=2)
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200, rig.gateway.contact())
        await rig.caller.expect(200, "UPDATE")
        assert other.quiet


async def test_an_ack_of_another_request_is_not_the_one_that_is_awaited() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.gateway.reply(passed, 200, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=4)
        rig.in_dialog(rig.caller, "ACK", a, cseq=6)
        rig.in_dialog(rig.gateway, "ACK", b, cseq=5)  # from the side that was asked
        await rig.counted("acks_unmatched", 3)
        assert rig.gateway.quiet
        rig.in_dialog(rig.caller, "ACK", a, cseq=5)
        assert (await rig.gateway.expect("ACK")).cseq == passed.cseq


async def test_an_old_answer_that_is_repeated_gets_no_ack_of_a_newer_one() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        at_b = rig.gateway.everything[0]
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=5)
        await rig.gateway.expect("ACK")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.counted("repeated_answers", 1)
        await rig.settled(rig.gateway)
        assert not rig.gateway.repeats


async def test_a_re_invite_that_is_not_acknowledged_ends_the_call() -> None:
    async with Rig(t1_ms=10) as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, body=ANSWER)
        await rig.caller.expect(200)
        assert (await rig.until(DeadlineReached)).kind == DeadlineKind.NO_ACK
        await rig.gateway.expect("ACK")
        await rig.gateway.expect("BYE")
        await rig.caller.expect("BYE")


@pytest.mark.parametrize("who", ["caller", "callee"])
@pytest.mark.parametrize("method", ["INFO", "UPDATE", "OPTIONS", "MESSAGE", "NOTIFY", "INVENTED"])
async def test_other_requests_pass_with_body_and_headers(who: str, method: str) -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        near, dialog, far = sides(rig, a, b, who)
        rig.in_dialog(near, method, dialog, "X-This: passes", cseq=7, body=OFFER)
        passed = await far.expect(method)
        assert (passed.body, passed["X-This"], passed["Max-Forwards"]) == (OFFER, "passes", "69")
        far.reply(passed, 202, "X-That: too", body=ANSWER)
        answer = await near.expect(202)
        assert (answer.body, answer["X-That"]) == (ANSWER, "too")


async def test_refer_is_refused() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "REFER", a, "Refer-To: <sip:elsewhere@192.0.2.7>", cseq=3)
        await rig.caller.expect(603)
        assert rig.gateway.quiet


async def test_a_request_out_of_order_gets_500_but_bye_always_wins() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INFO", a, cseq=9)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "INFO", a, cseq=8)
        await rig.caller.expect(500)
        rig.in_dialog(rig.caller, "BYE", a, cseq=8)
        await rig.caller.expect(200, "BYE")
        await rig.gateway.expect("BYE")


async def test_a_request_with_the_number_of_the_last_one_gets_500() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        for code in (200, 500):
            rig.in_dialog(rig.caller, "INFO", a, cseq=9)
            if code == 200:
                rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
            await rig.caller.expect(code)
        await rig.settled(rig.gateway)
        assert rig.hook.stats()["refused_out_of_order"] == 1


async def test_bye_ends_a_request_that_is_still_open() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        await rig.gateway.expect("INVITE")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200)
        await rig.caller.expect(487)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.until(LegTerminated)
        await rig.until(LegTerminated)


async def test_bye_ends_another_request_that_is_still_open() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        rig.in_dialog(rig.caller, "INFO", a, cseq=5)
        await rig.gateway.expect("INFO")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200)
        await rig.caller.expect(481, "INFO")
        await rig.caller.expect("BYE")


async def test_the_body_of_one_ack_is_not_that_of_the_next() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite(body=b"")
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, tag="to-b", body=OFFER)
        a = Dialog.of_caller(sent, await rig.caller.until(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1, body=ANSWER)
        assert (await rig.gateway.expect("ACK")).body == ANSWER
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, body=ANSWER)
        await rig.caller.until(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=5)
        assert (await rig.gateway.expect("ACK")).body == b""


async def test_a_contact_puts_no_header_fields_into_our_requests() -> None:
    """RFC 3261 §19.1.1: a Request-URI has none."""
    async with Rig() as rig:
        target = f"sip:a@{rig.caller.host}:{rig.caller.port}"
        rig.caller.contact = lambda: f"Contact: <{target}?X-Injected=1>"  # type: ignore[method-assign]
        _, _, b = await rig.answered_call()
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        bye = await rig.caller.expect("BYE")
        assert bye.uri == target
        assert "X-Injected" not in bye


async def test_targets_move_with_a_re_invite() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        other = await rig.agent(2)
        rig.in_dialog(rig.caller, "INVITE", a, other.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        rig.gateway.reply(
            await rig.gateway.expect("INVITE"), 200, "Session-Expires: 1800;refresher=uac", body=ANSWER
        )
        assert (await rig.caller.expect(200))["Session-Expires"] == "1800;refresher=uac"
        moved = await rig.until(TargetRefreshed)
        assert (moved.leg_name, moved.remote_target) == (LegName.A, f"sip:{other.host}:{other.port}")
        assert moved.remote_cseq == 5
        refreshed = {
            (await rig.until(SessionRefreshed)).leg_name,
            (await rig.until(SessionRefreshed)).leg_name,
        }
        assert refreshed == {LegName.A, LegName.B}
        rig.in_dialog(rig.caller, "ACK", a, cseq=5)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await other.expect("BYE")


async def test_the_callees_target_moves_with_its_answer_to_a_re_invite() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        other = await rig.agent(3)
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=HOLD)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        other.send(other.response(passed, 200, other.contact(), SDP, body=ANSWER), passed.source)
        await rig.caller.expect(200)
        moved = await rig.until(TargetRefreshed)
        assert (moved.leg_name, moved.remote_target) == (LegName.B, f"sip:{other.host}:{other.port}")
        rig.in_dialog(rig.caller, "BYE", a, cseq=6)
        await other.until("BYE")


async def test_a_rack_of_no_invite_of_ours_passes_as_it_is() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), "Supported: 100rel", cseq=5, body=HOLD)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.gateway.reply(passed, 183, "Require: 100rel", "RSeq: 1")
        await rig.caller.expect(183)
        for cseq, named in ((6, 5), (7, 4000)):
            rig.in_dialog(rig.caller, "PRACK", a, f"RAck: 1 {named} INVITE", cseq=cseq)
            prack = await rig.gateway.expect("PRACK")
            assert prack["RAck"] == f"1 {passed.cseq if named == 5 else named} INVITE"
            rig.gateway.reply(prack, 200)
            await rig.caller.expect(200, "PRACK")


async def test_so_many_requests_are_open_at_once_and_no_more() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        passed = []
        for number in range(16):
            rig.in_dialog(rig.caller, "INFO", a, cseq=2 + number)
            passed.append(await rig.gateway.expect("INFO"))
        rig.in_dialog(rig.caller, "INFO", a, cseq=50)
        assert (await rig.caller.expect(500, "INFO"))["Retry-After"] == "1"
        assert rig.gateway.quiet
        rig.gateway.reply(passed[0], 200)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "INFO", a, cseq=51)
        await rig.gateway.expect("INFO")


async def test_a_target_that_stays_where_it_is_is_not_told_again() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "UPDATE", a, rig.caller.contact(), cseq=5)
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200, rig.gateway.contact())
        await rig.caller.expect(200)
        await rig.settled(rig.caller)
        assert not [event for event in rig.events if isinstance(event, TargetRefreshed)]


async def test_an_answer_is_not_repeated_once_it_is_acknowledged() -> None:
    async with Rig(t1_ms=20) as rig:
        await rig.answered_call()
        seen = len(rig.caller.repeats)
        await asyncio.sleep(0.5)  # it would come every 160 ms at the latest
        await rig.settled(rig.caller)
        assert len(rig.caller.repeats) == seen


async def test_reliable_provisionals_pass_and_prack_names_the_right_invite() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite("Supported: 100rel", cseq=77)
        at_b = await rig.gateway.expect("INVITE")
        assert at_b["Supported"] == "100rel"
        rig.gateway.reply(at_b, 183, "Require: 100rel", "RSeq: 4711", tag="to-b", body=ANSWER)
        await rig.caller.expect(100)
        early = await rig.caller.expect(183)
        assert (early["RSeq"], early["Require"], early.body) == ("4711", "100rel", ANSWER)
        a = Dialog.of_caller(sent, early)
        rig.in_dialog(rig.caller, "PRACK", a, "RAck: 4711 77 INVITE", cseq=78)
        prack = await rig.gateway.expect("PRACK")
        assert prack["RAck"] == f"4711 {at_b.cseq} INVITE"
        rig.gateway.reply(prack, 200)
        await rig.caller.expect(200, "PRACK")
        rig.in_dialog(rig.caller, "UPDATE", a, rig.caller.contact(), cseq=79, body=HOLD)
        update = await rig.gateway.expect("UPDATE")
        assert update.body == HOLD
        rig.gateway.reply(update, 200, rig.gateway.contact(), body=ANSWER)
        assert (await rig.caller.expect(200, "UPDATE")).body == ANSWER
        rig.gateway.reply(at_b, 200, tag="to-b")
        await rig.caller.expect(200, "INVITE")


async def test_a_delayed_offer_is_answered_in_the_ack() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite(body=b"")
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.body == b""
        assert "Content-Type" not in at_b
        rig.gateway.reply(at_b, 200, tag="to-b", body=OFFER)
        await rig.caller.expect(100)
        ok = await rig.caller.expect(200)
        assert ok.body == OFFER
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1, body=ANSWER)
        ack = await rig.gateway.expect("ACK")
        assert ack.body == ANSWER
        rig.gateway.reply(at_b, 200, tag="to-b", body=OFFER)
        await rig.gateway.until_repeated("ACK")


async def test_a_repeated_answer_is_absorbed_while_it_is_held() -> None:
    async with Rig() as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        for _ in range(3):
            rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        assert rig.gateway.quiet
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        await rig.caller.expect(200)
        await rig.gateway.expect("ACK")
        assert rig.hook.stats()["repeated_answers"] == 2


async def test_an_answer_that_is_not_acknowledged_ends_both_legs() -> None:
    async with Rig(t1_ms=10) as rig:
        rig.autopilot()
        rig.invite()
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        await rig.caller.expect(100)
        await rig.caller.expect(200)
        assert (await rig.until(DeadlineReached)).kind == DeadlineKind.NO_ACK
        assert rig.caller.repeats
        for agent in (rig.gateway, rig.caller):
            if agent is rig.gateway:
                await agent.expect("ACK")
            bye = await agent.expect("BYE")
            assert bye["Reason"] == 'Q.850;cause=102;text="no_ack"'
            agent.reply(bye, 200)
        assert (await rig.event(LegTerminated)).alive
        assert (await rig.event(LegTerminated)).alive


async def test_life_is_reported_at_most_once_a_second() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        began, number = time.monotonic(), 2
        while time.monotonic() - began < 2.2:
            rig.in_dialog(rig.caller, "INFO", a, cseq=number)
            rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
            await rig.caller.expect(200)
            await asyncio.sleep(0.05)
            number += 1
        for leg in LegName:
            lives = [event for event in rig.events if isinstance(event, Life) and event.leg_name is leg]
            assert len(lives) >= 2
            assert all(after.mono_ns - before.mono_ns >= 0.99e9 for before, after in pairwise(lives))
