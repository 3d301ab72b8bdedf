"""Calls over a planned restart: the bridge lets go of those that nothing is open of, and the next one goes on
with them as if it had been there from the beginning."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.commands import Adopt, ArmDeadline, Release, Snapshot
from sidecar.core.events import (
    AckReceived,
    ByeReceived,
    CallKept,
    DeadlineReached,
    InviteReceived,
    LegTerminated,
    SnapshotTaken,
)
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.terms import DeadlineKind, LegName, LivenessCheck, SavedLegState
from tests.b2bua.answered import answered_call
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.b2bua.test_refer import rig as rig_that_refers
from tests.b2bua.test_tcp import BOTH

INSISTS = "Session-Expires: 1;refresher=uac"
LARGE_OFFER = OFFER + b"a=x:\xff\xfe" + b"y" * 3000 + b"\r\n"


def invite_of(rig: Rig) -> InviteReceived:
    (invite,) = (event for event in rig.events if isinstance(event, InviteReceived))
    return invite


async def kept(rig: Rig) -> CallKept:
    rig.hook.keep()
    return await rig.until(CallKept)


async def not_kept(rig: Rig) -> None:
    rig.hook.keep()
    rig.send(Snapshot())
    await rig.until(SnapshotTaken)
    assert not [event for event in rig.events if isinstance(event, CallKept)]


def adopt(rig: Rig, told: CallKept, **route: Any) -> Adopt:
    invite = invite_of(rig)
    return Adopt(
        bridge_id=RECOVERED_IDS,
        peer=invite.peer,
        request_uri=invite.request_uri,
        echoed=(),
        b_token=invite.b_token,
        attempt=1,
        gateway="gw",
        a_state=SavedLegState.ANSWERED,
        leg_a=told.leg_a,
        b_state=SavedLegState.ANSWERED,
        leg_b=told.leg_b,
        route=rig.route(invite, **route),
        kept=told.kept,
    )


async def restarted(rig: Rig, **route: Any) -> CallKept:
    told = await kept(rig)
    await rig.killed(adopt(rig, told, **route))
    return told


async def ends_by_bye_of(rig: Rig, side: LegName, near: Any, far: Any, cseq: int) -> Any:
    agent, dialog = near
    rig.in_dialog(agent, "BYE", dialog, cseq=cseq)
    await agent.expect(200, "BYE")
    assert (await rig.until(ByeReceived)).leg_name is side
    bye = await far.expect("BYE")
    far.reply(bye, 200)
    assert {(await rig.until(LegTerminated)).leg_name for _ in LegName} == set(LegName)
    await rig.idle()
    return bye


@pytest.mark.parametrize("side", list(LegName))
async def test_a_call_goes_on_in_the_same_dialogs_with_the_next_numbers(side: LegName) -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        told = None
        for number in (2, 3):  # twice in a row, each with a request that has taken a number
            rig.in_dialog(rig.caller, "INFO", a, cseq=number)
            passed = await rig.gateway.expect("INFO")
            rig.gateway.reply(passed, 200)
            await rig.caller.expect(200)
            told = await kept(rig)
            assert (told.leg_a.remote_cseq, told.leg_b.local_cseq) == (number, passed.cseq + 1)
            invite = invite_of(rig)
            await rig.killed(adopt(rig, told))
            rig.events.insert(0, invite)
            rig._taken = 1
        assert told is not None
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=4, body=OFFER)
        await rig.caller.expect(100)
        again = await rig.gateway.expect("INVITE")
        assert again.cseq == told.leg_b.local_cseq
        assert again["Contact"] == f"<sip:{rig.host}:{rig.address()[1]}>"
        rig.gateway.reply(again, 200, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=4)
        assert (await rig.gateway.expect("ACK")).cseq == again.cseq
        caller, gateway = (rig.caller, a), (rig.gateway, b)
        near, far = (caller, rig.gateway) if side is LegName.A else (gateway, rig.caller)
        bye = await ends_by_bye_of(rig, side, near, far, cseq=5)
        assert bye.cseq == (again.cseq + 1 if side is LegName.A else told.leg_a.local_cseq)


async def test_what_is_said_meanwhile_is_answered_when_it_is_said_again() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        told = await kept(rig)
        asked = rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        left = rig.in_dialog(rig.gateway, "BYE", b, cseq=3)
        await rig.settled(rig.caller)
        await rig.settled(rig.gateway)
        assert rig.caller.quiet
        assert rig.gateway.quiet
        await rig.killed(adopt(rig, told))
        rig.caller.send(asked.raw)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await rig.caller.expect(200, "INFO")
        rig.gateway.send(left.raw)
        await rig.gateway.expect(200, "BYE")
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.idle()


async def test_a_call_with_an_open_request_is_not_kept_before_that_is_answered() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        passed = await rig.gateway.expect("INFO")
        await not_kept(rig)
        rig.gateway.reply(passed, 200)
        await rig.caller.expect(200)
        await restarted(rig)


async def test_a_call_that_is_not_answered_or_not_acknowledged_is_not_kept() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        await rig.caller.expect(100)
        at_b = await rig.gateway.expect("INVITE")
        await not_kept(rig)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.caller.expect(200)
        await not_kept(rig)


async def test_a_2xx_that_is_repeated_gets_the_same_ack_again() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        await rig.caller.expect(100)
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        ok = await rig.caller.expect(200)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        await rig.until(AckReceived)
        rig.on_event = None
        told = await kept(rig)
        await rig.killed(adopt(rig, told))
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.gateway.until_repeated("ACK")  # not a byte is another


async def test_a_session_that_we_refresh_is_refreshed_by_the_same_sdp() -> None:
    async with Rig() as rig:
        a, _ = await answered_call(rig, INSISTS, in_invite=())
        rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=2, body=LARGE_OFFER)
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, INSISTS, body=ANSWER)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=2)
        await rig.gateway.expect("ACK")
        await restarted(rig)
        again = await rig.gateway.expect("INVITE")
        assert again.body == LARGE_OFFER
        assert again["Session-Expires"] == "1;refresher=uac"
        rig.gateway.reply(again, 200, INSISTS, body=ANSWER)
        await rig.gateway.expect("ACK")


async def test_a_session_that_a_peer_refreshes_ends_where_it_does_not() -> None:
    async with Rig(t1_ms=20) as rig:
        await answered_call(rig, INSISTS)
        await restarted(rig)
        assert (await rig.until(DeadlineReached)).kind is DeadlineKind.SESSION_TIMER
        for agent in (rig.caller, rig.gateway):
            agent.reply(await agent.expect("BYE"), 200)
        await rig.idle()


async def test_the_maximum_duration_counts_from_the_answer() -> None:
    async with Rig() as rig:
        await rig.answered_call()
        told = await kept(rig)
        hour_ns = 3_600 * 1_000_000_000
        answered = {"answered_mono_ns": told.kept.answered_mono_ns - hour_ns}
        told = replace(told, kept=replace(told.kept, **answered))
        limit = ArmDeadline(
            bridge_id=RECOVERED_IDS,
            kind=DeadlineKind.MAX_DURATION,
            after_ms=3_600_000,
            sip_code=408,
            q850_cause=16,
            text="max_duration",
        )
        await rig.killed(adopt(rig, told), limit)
        assert (await rig.until(DeadlineReached)).kind is DeadlineKind.MAX_DURATION
        for agent in (rig.caller, rig.gateway):
            agent.reply(await agent.expect("BYE"), 200)
        await rig.idle()


async def test_peers_are_asked_again_whether_they_are_there() -> None:
    async with Rig(options_interval_ms=400) as rig:
        await rig.answered_call()
        await restarted(rig, liveness=LivenessCheck.OPTIONS)
        for agent in (rig.caller, rig.gateway):
            agent.reply(await agent.expect("OPTIONS"), 200)


async def test_a_kept_call_that_is_ended_all_the_same_gets_its_byes() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        await kept(rig)
        rig.send(Release(bridge_id=invite.bridge_id, sip_code=480, q850_cause=31, text="operator"))
        for agent in (rig.caller, rig.gateway):
            agent.reply(await agent.expect("BYE"), 200)
        await rig.idle()


async def test_a_transfer_is_told_of_by_the_number_that_its_sender_knows() -> None:
    async with rig_that_refers() as rig:
        _, a, b = await rig.answered_call()
        target = "Refer-To: <sip:4930999@192.0.2.7>"
        rig.in_dialog(rig.caller, "REFER", a, target, rig.caller.contact(), cseq=31)
        passed = await rig.gateway.expect("REFER")
        rig.gateway.reply(passed, 202)
        await rig.caller.expect(202)
        told = await restarted(rig)
        assert told.leg_a.local_cseq
        rig.in_dialog(rig.gateway, "NOTIFY", b, f"Event: refer;id={passed.cseq}", cseq=9)
        notified = await rig.caller.expect("NOTIFY")
        assert notified["Event"] == "refer;id=31"
        assert notified["Contact"].startswith("<sip:4930123@")  # whom a transfer to us would reach


async def test_a_caller_whose_connection_went_goes_on_by_a_new_one() -> None:
    async with Rig(transports=BOTH) as rig:
        port = rig.address("tcp")
        caller = rig.adopt(await ScriptedUA.tcp_client(port, f"{rig.network}.2"))
        a, b = await answered_call(rig, caller=caller)
        told = await kept(rig)
        caller.hang_up()
        await rig.killed(adopt(rig, told))
        again = rig.adopt(await ScriptedUA.tcp_client(port, f"{rig.network}.2"))
        rig.in_dialog(again, "INFO", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await again.expect(200, "INFO")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=3)
        again.reply(await again.expect("BYE"), 200)
        await rig.idle()


async def test_a_call_of_which_a_part_is_missing_is_not_taken_up() -> None:
    async with Rig() as rig:
        await rig.answered_call()
        whole = adopt(rig, await kept(rig))
        broken = (
            replace(whole, leg_b=None),
            replace(whole, route=None),
            replace(whole, leg_a=replace(whole.leg_a, remote_address="nowhere")),
            replace(whole, request_uri="\r\n"),
        )
        await rig.killed(*broken)
        await rig.counted("commands_unmatched", len(broken))
        assert rig.hook.stats()["live_calls"] == 0
