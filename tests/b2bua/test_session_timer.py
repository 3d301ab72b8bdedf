"""RFC 4028: whose refresh is owed, a call that nobody refreshes, and the refreshes of our own."""

from __future__ import annotations

import asyncio
import time

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AnswerHeld, DeadlineReached, InviteReceived, SessionRefreshed
from sidecar.core.terms import DeadlineKind, LegName, LivenessCheck
from tests.b2bua.answered import answered_call
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA

BUSY_S = 2.0  # what other tests on the same cores may cost


@pytest.mark.parametrize("name", ["Session-Expires", "x"])
async def test_a_session_that_nobody_refreshes_ends_at_its_interval(name: str) -> None:
    async with Rig() as rig:
        await answered_call(rig, f"{name}: 1;refresher=uac")
        began = time.monotonic()
        assert (await rig.until(DeadlineReached)).kind is DeadlineKind.SESSION_TIMER
        assert 0.5 <= time.monotonic() - began <= 1.3 + BUSY_S
        for agent in (rig.caller, rig.gateway):
            bye = await agent.expect("BYE")
            assert bye["Reason"] == 'Q.850;cause=102;text="session_timer"'
            agent.reply(bye, 200)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_refresh_of_either_side_begins_the_interval_anew(who: str, method: str) -> None:
    async with Rig() as rig:
        a, b = await answered_call(rig, "Session-Expires: 2;refresher=uac")
        near, dialog, far = (rig.caller, a, rig.gateway) if who == "caller" else (rig.gateway, b, rig.caller)
        await asyncio.sleep(0.3)
        rig.in_dialog(near, method, dialog, near.contact(), "Session-Expires: 2;refresher=uac", cseq=5)
        if method == "INVITE":
            await near.expect(100)
        asked = await far.expect(method)
        assert asked["Session-Expires"].replace(" ", "") == "2;refresher=uac"
        far.reply(asked, 200, "Session-Expires: 2;refresher=uac", "Require: timer")
        assert (await near.expect(200))["Session-Expires"].startswith("2")
        if method == "INVITE":
            rig.in_dialog(near, "ACK", dialog, cseq=5)
            await far.expect("ACK")
        refreshed = [await rig.until(SessionRefreshed) for _ in range(2)]
        assert {one.leg_name for one in refreshed} == set(LegName)
        reached = await rig.until(DeadlineReached)
        assert reached.kind is DeadlineKind.SESSION_TIMER
        assert reached.mono_ns - refreshed[0].mono_ns > 1.8e9  # that of the answer had 1.7 s left at the most


async def test_a_refresh_that_is_refused_refreshes_nothing() -> None:
    async with Rig() as rig:
        a, _ = await answered_call(rig, "Session-Expires: 2;refresher=uac")
        began_ns = time.monotonic_ns()
        await asyncio.sleep(1.5)
        rig.in_dialog(rig.caller, "UPDATE", a, "Session-Expires: 2", cseq=5)
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 491)
        await rig.caller.expect(491)
        reached = await rig.until(DeadlineReached)
        assert reached.kind is DeadlineKind.SESSION_TIMER
        assert reached.mono_ns - began_ns < 3.4e9  # refreshed, it would have lasted until then


async def test_an_answer_without_session_expires_ends_the_timer() -> None:
    async with Rig() as rig:
        a, _ = await answered_call(rig, "Session-Expires: 1;refresher=uac")
        rig.in_dialog(rig.caller, "UPDATE", a, rig.caller.contact(), cseq=5)
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200)
        await rig.caller.expect(200)
        await asyncio.sleep(1.3)
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]
        assert rig.caller.quiet


async def test_a_refresh_that_the_callee_has_taken_upon_itself_is_owed() -> None:
    async with Rig() as rig:
        await answered_call(rig, "Session-Expires: 1;refresher=uas", in_invite=())
        assert (await rig.until(DeadlineReached)).kind is DeadlineKind.SESSION_TIMER


# --- nobody's -----------------------------------------------------------------------------------------------


async def goes_on(rig: Rig) -> None:
    """No end at the interval of a second, and nothing is asked of anybody."""
    await asyncio.sleep(1.5)
    await rig.settled(rig.caller)
    assert not [event for event in rig.events if isinstance(event, DeadlineReached)]
    assert rig.gateway.quiet
    assert rig.caller.quiet


@pytest.mark.parametrize("value", ["1", "1;refresher=nobody", "1;refreshers=uac"])
@pytest.mark.parametrize("in_invite", [(), ("Session-Expires: 1",), ("Supported: timers, 100rel",)])
async def test_a_call_whose_caller_knows_no_timers_goes_on(value: str, in_invite: tuple[str, ...]) -> None:
    async with Rig() as rig:
        await answered_call(rig, f"Session-Expires: {value}", in_invite=in_invite)
        await goes_on(rig)


# --- ours ---------------------------------------------------------------------------------------------------

INSISTS = "Session-Expires: 1;refresher=uac"
ALLOW = "Allow: INVITE, ACK, BYE, UPDATE"
OTHER_OFFER = OFFER.replace(b"o=- 1 1", b"o=- 1 2")


@pytest.mark.parametrize(
    "insists",
    [
        (INSISTS,),
        ("Session-Expires: 1 ; Refresher = UAC",),
        ("x: 1;refresher=uac",),
        ("Session-Expires: 1", "Require: timer"),
    ],
)
async def test_where_the_callee_insists_and_the_caller_cannot_we_refresh(insists: tuple[str, ...]) -> None:
    async with Rig() as rig:
        await answered_call(rig, ALLOW, *insists, in_invite=())
        for _ in range(3):
            update = await rig.gateway.expect("UPDATE")
            assert not update.body
            assert update["Session-Expires"] == "1;refresher=uac"
            assert update["Supported"] == "timer"
            assert "Contact" in update
            rig.gateway.reply(update, 200, INSISTS, "Require: timer", rig.gateway.contact())
            assert (await rig.until(SessionRefreshed)).leg_name is LegName.B
        assert rig.caller.quiet
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


async def test_our_refresh_leaves_while_half_of_the_interval_is_left() -> None:
    """RFC 4028 §10."""
    async with Rig() as rig:
        interval_s = 6
        await answered_call(rig, ALLOW, f"Session-Expires: {interval_s};refresher=uac", in_invite=())
        began = time.monotonic()
        await rig.gateway.expect("UPDATE")
        assert interval_s / 3 <= time.monotonic() - began < interval_s - 0.5


async def refreshed_by_invite(rig: Rig, agent: ScriptedUA, body: bytes) -> None:
    again = await agent.expect("INVITE")
    assert again.body == body
    assert again["Content-Type"] == "application/sdp"
    assert again["Session-Expires"] == "1;refresher=uac"
    agent.reply(again, 200, INSISTS, body=ANSWER)
    ack = await agent.expect("ACK")
    assert (ack.cseq, ack.body) == (again.cseq, b"")


async def reinvited(rig: Rig, a: Dialog, code: int, cseq: int) -> None:
    """The caller offers something else, and the callee takes it or not."""
    rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=cseq, body=OTHER_OFFER)
    await rig.caller.expect(100)
    passed = await rig.gateway.expect("INVITE")
    rig.gateway.reply(passed, code, *((INSISTS,) if code == 200 else ()), body=ANSWER if code == 200 else b"")
    await rig.caller.expect(code)
    if code == 200:
        rig.in_dialog(rig.caller, "ACK", a, cseq=cseq)
    await rig.gateway.expect("ACK")


BOUNDED = "Content-Type: multipart/mixed;boundary=one"
ISUP = b"--one\r\nContent-Type: application/isup\r\nContent-Disposition: signal\r\n\r\n\x01\x02\r\n"
ALONE = b"--one\r\nContent-Type: application/sdp\r\n\r\n" + OTHER_OFFER


@pytest.mark.parametrize(
    "body",
    [
        ISUP + ALONE + b"--one--\r\n",
        ALONE + b"\r\n" + ISUP + b"--one--\r\n",
        b'--one\r\nContent-Type: multipart/alternative; boundary="two"\r\n\r\n'
        + ALONE.replace(b"--one", b"--two")
        + b"--two--\r\n"
        + ISUP
        + b"--one--\r\n",
        ISUP + ALONE,  # without its end
    ],
)
@pytest.mark.parametrize("content", [BOUNDED, 'Content-Type: multipart/mixed; x=y; boundary="one"'])
async def test_sdp_in_a_multipart_body_is_offered_again_as_it_was_and_alone(
    body: bytes, content: str
) -> None:
    """What else is in the body was of its moment: an IAM is not sent twice."""
    async with Rig() as rig:
        a, _ = await answered_call(rig, INSISTS, in_invite=())
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=2, body=body, content=content)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        assert passed.body == body
        rig.gateway.reply(passed, 200, INSISTS, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=2)
        await rig.gateway.expect("ACK")
        for _ in range(2):
            await refreshed_by_invite(rig, rig.gateway, OTHER_OFFER)


async def test_sdp_that_is_encoded_within_its_body_is_not_offered_again() -> None:
    encoded = b"Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n"
    body = b"--one\r\n" + encoded + b"--one--\r\n"
    async with Rig() as rig:
        a, _ = await answered_call(rig, INSISTS, in_invite=())
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=2, body=body, content=BOUNDED)
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, INSISTS, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=2)
        await rig.gateway.expect("ACK")
        await goes_on(rig)


@pytest.mark.parametrize(("code", "body"), [(200, OTHER_OFFER), (488, OFFER)])
async def test_without_update_we_refresh_by_the_last_sdp_that_was_taken(code: int, body: bytes) -> None:
    async with Rig() as rig:
        a, _ = await answered_call(rig, INSISTS, in_invite=())
        for _ in range(2):
            await refreshed_by_invite(rig, rig.gateway, OFFER)
        await reinvited(rig, a, code, cseq=2)
        for _ in range(2):
            await refreshed_by_invite(rig, rig.gateway, body)
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_an_invite_that_meets_our_refresh_is_put_off(who: str) -> None:
    async with Rig() as rig:
        a, b = await answered_call(rig, INSISTS, in_invite=())
        again = await rig.gateway.expect("INVITE")
        near, dialog = (rig.caller, a) if who == "caller" else (rig.gateway, b)
        asked = rig.in_dialog(near, "INVITE", dialog, near.contact(), cseq=7, body=OTHER_OFFER)
        assert (await near.expect(491)).cseq == asked.cseq
        rig.gateway.reply(again, 200, INSISTS, body=ANSWER)
        await rig.gateway.expect("ACK")


async def test_our_refresh_waits_until_an_invite_that_is_open_is_answered() -> None:
    async with Rig() as rig:
        a, _ = await answered_call(rig, INSISTS, in_invite=())
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=2, body=OTHER_OFFER)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        assert passed.body == OTHER_OFFER
        rig.gateway.reply(passed, 180)
        await rig.caller.expect(180)
        await asyncio.sleep(1)  # it was due after half of that
        await rig.settled(rig.caller)
        assert rig.gateway.quiet
        rig.gateway.reply(passed, 200, INSISTS, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=2)
        await rig.gateway.expect("ACK")
        await refreshed_by_invite(rig, rig.gateway, OTHER_OFFER)


async def test_the_answer_in_the_ack_of_a_re_invite_is_what_is_refreshed_by() -> None:
    async with Rig() as rig:
        a, _ = await answered_call(rig, INSISTS, in_invite=())
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=2)
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, INSISTS, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=2, body=OTHER_OFFER)
        assert (await rig.gateway.expect("ACK")).body == OTHER_OFFER
        await refreshed_by_invite(rig, rig.gateway, OTHER_OFFER)


async def test_a_peer_that_is_not_to_be_asked_is_not_given_up_for_what_it_knows_of_options() -> None:
    async with Rig(t1_ms=50) as rig:
        await answered_call(rig, ALLOW, INSISTS, in_invite=(), liveness=LivenessCheck.OFF)
        for method in ("UPDATE", "OPTIONS"):
            rig.gateway.reply(await rig.gateway.until(method), 481)
        rig.gateway.reply(await rig.gateway.until("UPDATE"), 200, INSISTS)
        await rig.until(SessionRefreshed)
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


async def test_what_an_early_update_has_changed_is_not_offered_again_as_it_was() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 183, tag="to-b", body=ANSWER)
        early = Dialog.of_caller(sent, await rig.caller.until(183))
        rig.in_dialog(rig.caller, "UPDATE", early, rig.caller.contact(), cseq=2, body=OTHER_OFFER)
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200, rig.gateway.contact(), body=ANSWER)
        await rig.caller.expect(200, "UPDATE")
        rig.gateway.reply(at_b, 200, INSISTS, tag="to-b")
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        await goes_on(rig)


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_bye_ends_a_refresh_that_is_open(who: str) -> None:
    async with Rig(t1_ms=50) as rig:
        a, b = await answered_call(rig, INSISTS, in_invite=())
        again = await rig.gateway.expect("INVITE")
        near, dialog, far = (rig.caller, a, rig.gateway) if who == "caller" else (rig.gateway, b, rig.caller)
        rig.in_dialog(near, "BYE", dialog, cseq=7)
        await near.expect(200)
        far.reply(await far.expect("BYE"), 200)
        await rig.idle()
        rig.gateway.reply(again, 200, INSISTS, body=ANSWER)  # RFC 3261 §13.2.2.4
        assert (await rig.gateway.expect("ACK")).cseq == again.cseq


async def test_a_caller_who_insists_is_refreshed_where_the_callee_cannot() -> None:
    async with Rig() as rig:
        _, b = await answered_call(rig, in_invite=(ALLOW,))
        rig.in_dialog(rig.gateway, "UPDATE", b, rig.gateway.contact(), cseq=1)
        rig.caller.reply(await rig.caller.expect("UPDATE"), 200, INSISTS, rig.caller.contact())
        await rig.gateway.expect(200)
        for _ in range(2):
            update = await rig.caller.expect("UPDATE")
            assert update["Session-Expires"] == "1;refresher=uac"
            rig.caller.reply(update, 200, INSISTS)
        assert rig.gateway.quiet


async def test_the_answer_in_the_ack_is_what_a_delayed_offer_is_refreshed_by() -> None:
    async with Rig() as rig:
        sent = rig.invite(body=b"")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, INSISTS, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1, body=OTHER_OFFER)
        assert (await rig.gateway.expect("ACK")).body == OTHER_OFFER
        await refreshed_by_invite(rig, rig.gateway, OTHER_OFFER)


async def test_a_callee_that_refuses_update_is_refreshed_by_invite() -> None:
    async with Rig() as rig:
        await answered_call(rig, ALLOW, INSISTS, in_invite=())
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 405)
        for _ in range(2):
            again = await rig.gateway.expect("INVITE")
            rig.gateway.reply(again, 200, INSISTS, body=ANSWER)
            await rig.gateway.expect("ACK")


@pytest.mark.parametrize("code", [408, 481, 491, 500, 503])
async def test_a_refresh_that_fails_is_tried_again_and_ends_nothing(code: int) -> None:
    async with Rig(t1_ms=50) as rig:
        rig.gateway.answers = frozenset({"OPTIONS"})  # by which a peer is asked that says 408 or 481
        await answered_call(rig, ALLOW, INSISTS, in_invite=())
        for _ in range(3):
            rig.gateway.reply(await rig.gateway.until("UPDATE"), code)
        rig.gateway.reply(await rig.gateway.until("UPDATE"), 200, INSISTS)
        await rig.until(SessionRefreshed)
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


async def test_an_unanswered_refresh_ends_nothing() -> None:
    async with Rig(t1_ms=10) as rig:
        await answered_call(rig, INSISTS, in_invite=())
        for _ in range(3):  # each is given up after 64*T1
            await rig.gateway.expect("INVITE")
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


async def test_a_refresh_that_rings_is_cancelled() -> None:
    async with Rig(t1_ms=10) as rig:
        await answered_call(rig, INSISTS, in_invite=())
        again = await rig.gateway.expect("INVITE")
        rig.gateway.reply(again, 180)
        cancel = await rig.gateway.expect("CANCEL")
        assert cancel.cseq == again.cseq
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(again, 487)
        await rig.gateway.expect("ACK")
        await rig.gateway.expect("INVITE")


async def test_an_interval_that_is_too_small_is_made_larger() -> None:
    async with Rig(t1_ms=50) as rig:
        await answered_call(rig, ALLOW, INSISTS, in_invite=())
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 422, "Min-SE: 90")
        assert (await rig.gateway.expect("UPDATE"))["Session-Expires"] == "90;refresher=uac"


async def test_an_answer_without_session_expires_ends_our_refreshes() -> None:
    async with Rig() as rig:
        await answered_call(rig, ALLOW, INSISTS, in_invite=())
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200)
        await goes_on(rig)


async def test_a_callee_that_takes_the_refreshes_over_owes_them() -> None:
    async with Rig() as rig:
        await answered_call(rig, ALLOW, INSISTS, in_invite=())
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200, "Session-Expires: 1;refresher=uas")
        assert (await rig.until(DeadlineReached)).kind is DeadlineKind.SESSION_TIMER
