"""Calls of an earlier boot: the bridge knows them from what was saved, answers in them and ends them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.commands import Adopt, GivenUp, RelayAnswer, Release, Route
from sidecar.core.events import (
    AnswerDropped,
    AnswerHeld,
    ByeReceived,
    CancelReceived,
    Event,
    InviteReceived,
    LegIdentity,
    LegTerminated,
    RouteFailed,
)
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.terms import LegName, SavedLegState, TransportName
from tests.b2bua.rig import ANSWER, SDP, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, parameter
from tests.b2bua.test_digest import CREDENTIALS, QOP, assert_answers, challenge, challenged
from tests.b2bua.test_tcp import BOTH

OVER, EARLY, ANSWERING, ANSWERED = SavedLegState
RELEASE = Release(bridge_id=RECOVERED_IDS, sip_code=500, q850_cause=41, text="crash_recovered")
CSEQ_STEP = 1_000_000


def adopt(invite: InviteReceived, **given: Any) -> Adopt:
    values: dict[str, Any] = {
        "bridge_id": RECOVERED_IDS,
        "peer": invite.peer,
        "request_uri": invite.request_uri,
        "echoed": invite.echoed,
        "b_token": invite.b_token,
        "attempt": 1,
        "gateway": "gw",
        "a_state": ANSWERED,
        "leg_a": invite.leg,
        "b_state": ANSWERED,
        "leg_b": None,
        "route": None,
    }
    return Adopt(**(values | given))


def leg_b_of(rig: Rig) -> LegIdentity:
    (held,) = (event for event in rig.events if isinstance(event, AnswerHeld))
    return held.leg


async def early(rig: Rig, **route: Any) -> tuple[Message, InviteReceived, Message, Adopt]:
    sent = rig.invite()
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    command: Route = rig.route(invite, **route)
    rig.send(command)
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 180, tag="to-b")
    await rig.caller.expect(180)
    return sent, invite, at_b, adopt(invite, a_state=EARLY, b_state=EARLY, route=command)


async def legs(rig: Rig) -> dict[LegName, LegTerminated]:
    ended: list[Event] = [await rig.until(LegTerminated), await rig.until(LegTerminated)]
    return {one.leg_name: one for one in ended if isinstance(one, LegTerminated)}


async def test_both_legs_of_a_call_get_a_bye_of_the_saved_dialogs() -> None:
    async with Rig() as rig:
        invite, a, b = await rig.answered_call()
        leg_b = leg_b_of(rig)
        await rig.killed(adopt(invite, leg_b=leg_b))
        rig.send(RELEASE)
        for agent, dialog, leg in ((rig.caller, a, invite.leg), (rig.gateway, b, leg_b)):
            bye = await agent.expect("BYE")
            assert (bye["Call-ID"], bye["To"]) == (dialog.call_id, dialog.local)
            assert parameter(bye["From"], "tag") == leg.local_tag
            assert bye.uri == f"sip:{agent.host}:{agent.port}"
            assert bye.cseq == leg.local_cseq + CSEQ_STEP
            assert bye["Reason"] == 'Q.850;cause=41;text="crash_recovered"'
            agent.reply(bye, 200)
        ended = await legs(rig)
        assert {one.alive for one in ended.values()} == {True}
        await rig.idle()


async def test_a_leg_whose_peer_knows_no_call_any_more_is_not_alive() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        rig.send(RELEASE)
        rig.caller.reply(await rig.caller.expect("BYE"), 481)
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        ended = await legs(rig)
        assert {side: one.alive for side, one in ended.items()} == {LegName.A: False, LegName.B: True}


async def test_silent_legs_are_given_up_after_64_t1() -> None:
    async with Rig(t1_ms=20) as rig:
        invite, _, _ = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        rig.send(RELEASE)
        await rig.caller.until_repeated("BYE")
        await rig.gateway.until_repeated("BYE")
        ended = await legs(rig)
        assert {one.alive for one in ended.values()} == {False}
        await rig.idle()


async def test_a_node_that_is_killed_again_repeats_its_bye() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        saved = adopt(invite, leg_b=leg_b_of(rig))
        await rig.killed(saved)
        rig.send(RELEASE)
        first = await rig.caller.expect("BYE")
        await rig.killed(saved)
        rig.send(RELEASE)
        await rig.caller.until_repeated("BYE")  # not a byte is another: no peer takes it for a second one
        rig.caller.reply(first, 200)
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await legs(rig)


async def test_the_bye_of_a_live_call_and_that_of_the_next_boot_are_one_transaction() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        rig.send(replace(RELEASE, bridge_id=invite.bridge_id))
        first = await rig.caller.expect("BYE")
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        rig.send(RELEASE)
        assert (await rig.caller.expect("BYE")).branch == first.branch


@pytest.mark.parametrize("side", list(LegName))
async def test_a_peers_own_bye_is_answered_and_ends_the_other_leg(side: LegName) -> None:
    async with Rig() as rig:
        invite, a, b = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        agents = {LegName.A: (rig.caller, a), LegName.B: (rig.gateway, b)}
        (leaver, dialog), (other, _) = agents.pop(side), *agents.values()
        rig.in_dialog(leaver, "BYE", dialog, cseq=7)
        await leaver.expect(200, "BYE")
        assert (await rig.event(ByeReceived)).leg_name is side
        other.reply(await other.expect("BYE"), 200)
        ended = await legs(rig)
        assert ended[side].alive is False
        assert rig.hook.stats()["unmatched_requests"] == 0
        await rig.idle()


async def test_a_bye_that_crosses_ours_is_told_too() -> None:
    async with Rig() as rig:
        invite, a, _ = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        rig.send(RELEASE)
        await rig.caller.expect("BYE")
        rig.in_dialog(rig.caller, "BYE", a, cseq=7)
        await rig.caller.expect(200, "BYE")
        assert (await rig.event(ByeReceived)).leg_name is LegName.A
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await legs(rig)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "OPTIONS"])
async def test_what_else_comes_in_its_dialogs_is_refused_and_ends_nothing(method: str) -> None:
    async with Rig() as rig:
        invite, a, _ = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        sent = rig.in_dialog(rig.caller, method, a, rig.caller.contact(), cseq=7)
        refused = await rig.caller.expect(500, method)
        if method == "INVITE":
            rig.ack_failure(sent, refused)
        rig.send(RELEASE)
        for agent in (rig.caller, rig.gateway):
            agent.reply(await agent.expect("BYE"), 200)
        await legs(rig)


async def test_a_gateway_that_challenges_the_bye_gets_its_answer() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        invite, _, _ = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        rig.send(RELEASE)
        bye = await rig.gateway.expect("BYE")
        rig.gateway.reply(bye, 401, challenge("n1", QOP))
        again = await rig.gateway.expect("BYE")
        assert_answers(again, "n1")
        assert (again.cseq, again.branch == bye.branch) == (bye.cseq + 1, False)
        rig.gateway.reply(again, 200)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        assert (await legs(rig))[LegName.B].alive


async def test_a_record_route_is_followed() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        proxy = await rig.agent(4)
        routes = (f"<sip:{proxy.host}:{proxy.port};lr>",)
        await rig.killed(adopt(invite, leg_b=replace(leg_b_of(rig), route_set=routes)))
        rig.send(RELEASE)
        bye = await proxy.expect("BYE")
        assert bye.all("Route") == list(routes)
        assert bye.uri == f"sip:{rig.gateway.host}:{rig.gateway.port}"
        proxy.reply(bye, 200)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        assert (await legs(rig))[LegName.B].alive


async def test_a_call_that_rings_gets_a_500_and_a_cancel() -> None:
    async with Rig() as rig:
        sent, invite, at_b, saved = await early(rig)
        await rig.killed(saved)
        rig.send(RELEASE)
        refused = await rig.caller.expect(500, "INVITE")
        for name in ("Via", "From", "Call-ID", "CSeq"):
            assert refused[name].startswith(sent[name].replace(";rport", "")[:20])
        assert refused["From"] == sent["From"]
        assert refused.branch == sent.branch
        assert refused["To"] == f"{sent['To']};tag={invite.leg.local_tag}"
        rig.ack_failure(sent, refused)
        cancel = await rig.gateway.expect("CANCEL")
        for name in ("Via", "From", "To", "Call-ID"):
            assert cancel[name] == at_b[name]
        assert (cancel.uri, cancel.cseq) == (at_b.uri, at_b.cseq)
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        ack = await rig.gateway.expect("ACK")
        assert (ack.branch, ack.cseq, parameter(ack["To"], "tag")) == (at_b.branch, at_b.cseq, "to-b")
        assert {one.alive for one in (await legs(rig)).values()} == {False, True}
        await rig.idle()


async def test_a_500_that_nobody_acknowledges_is_repeated() -> None:
    async with Rig(t1_ms=50) as rig:
        _, _, _, saved = await early(rig)
        await rig.killed(saved)
        rig.send(RELEASE)
        await rig.caller.expect(500, "INVITE")
        await rig.caller.until_repeated(500)


async def test_a_2xx_that_crosses_the_cancel_gets_ack_and_bye() -> None:
    async with Rig() as rig:
        _, _, at_b, saved = await early(rig)
        await rig.killed(saved)
        rig.send(RELEASE)
        cancel = await rig.gateway.expect("CANCEL")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        ack = await rig.gateway.expect("ACK")
        assert (ack.cseq, parameter(ack["To"], "tag")) == (at_b.cseq, "to-b")
        bye = await rig.gateway.expect("BYE")
        rig.gateway.reply(cancel, 481)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)  # it has not heard our ACK
        await rig.gateway.until_repeated("ACK")
        rig.gateway.reply(bye, 200)
        assert (await rig.until(AnswerDropped)).leg.remote_tag == "to-b"
        await rig.idle()


@pytest.mark.parametrize("challenged_too", [False, True])
async def test_a_late_2xx_of_an_attempt_that_was_given_up_gets_ack_and_bye(challenged_too: bool) -> None:
    """The node was killed before it came; another gateway rings meanwhile."""
    async with Rig(credentials=CREDENTIALS if challenged_too else ()) as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        first = await rig.agent(4)
        rig.send(rig.route(invite, host=first.host, port=first.port, no_response_ms=200))
        at_first = await first.expect("INVITE")
        await rig.until(RouteFailed)
        second = rig.route(invite, attempt=2)
        rig.send(second)
        await rig.gateway.expect("INVITE")
        given_up = GivenUp(
            attempt=1,
            gateway="gw",
            leg=replace(invite.leg, remote_address=f"{first.host}:{first.port}", transport=TransportName.UDP),
        )
        await rig.killed(
            adopt(invite, attempt=2, a_state=EARLY, b_state=EARLY, route=second, given_up=(given_up,))
        )
        if challenged_too:  # its answer to a challenge had the next number
            old, new = (f"CSeq: {number} INVITE".encode() for number in (at_first.cseq, at_first.cseq + 1))
            at_first = Message(at_first.raw.replace(old, new), at_first.source)
        first.reply(at_first, 200, tag="late", body=ANSWER)
        ack = await first.expect("ACK")
        assert (ack.cseq, parameter(ack["To"], "tag")) == (at_first.cseq, "late")
        bye = await first.expect("BYE")
        assert (bye.cseq, parameter(bye["To"], "tag")) == (at_first.cseq + 1, "late")
        first.reply(bye, 200)
        dropped = await rig.until(AnswerDropped)
        assert (dropped.bridge_id, dropped.attempt, dropped.leg.remote_tag) == (RECOVERED_IDS, 1, "late")
        stranger = await rig.agent(9)
        stranger.reply(at_first, 200, tag="other", body=ANSWER)
        await rig.settled(rig.caller)
        assert stranger.quiet
        rig.send(RELEASE)
        rig.ack_failure(sent, await rig.caller.expect(500, "INVITE"))
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 481)


async def test_a_callee_that_hears_no_cancel_is_given_up_after_64_t1() -> None:
    async with Rig(t1_ms=20) as rig:
        _, _, _, saved = await early(rig)
        await rig.killed(saved)
        rig.send(RELEASE)
        assert (await legs(rig))[LegName.B].sip_code == 0
        await rig.idle()


async def test_the_callers_own_cancel_is_answered_and_passed_on() -> None:
    async with Rig() as rig:
        sent, _, at_b, saved = await early(rig)
        await rig.killed(saved)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.event(CancelReceived)
        rig.ack_failure(sent, await rig.caller.expect(487, "INVITE"))
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        await rig.gateway.expect("ACK")
        await legs(rig)


async def test_an_invite_that_is_repeated_after_the_start_is_no_other_call() -> None:
    async with Rig() as rig:
        sent, _, _, saved = await early(rig)
        await rig.killed(saved)
        rig.caller.send(sent.raw)
        await rig.settled(rig.caller)
        assert rig.hook.stats()["invites"] == 0


async def test_the_cancel_of_an_invite_that_answered_a_challenge_is_that_of_its_own_branch() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, invite, _, second = await challenged(rig, 401, challenge("n1", QOP))
        rig.gateway.reply(second, 180, tag="to-b")
        await rig.caller.expect(180)
        saved = adopt(invite, a_state=EARLY, b_state=EARLY, route=rig.route(invite))
        await rig.killed(saved)
        rig.send(RELEASE)
        cancels = [await rig.gateway.expect("CANCEL") for _ in range(3)]
        (right,) = (one for one in cancels if (one.branch, one.cseq) == (second.branch, second.cseq))
        for one in cancels:
            rig.gateway.reply(one, 200 if one is right else 481)
        rig.gateway.reply(second, 487, tag="to-b")
        ack = await rig.gateway.expect("ACK")
        assert (ack.branch, ack.cseq) == (second.branch, second.cseq)


async def test_a_held_answer_gets_its_ack_and_a_bye_and_its_caller_a_500_and_a_bye() -> None:
    """Whether our 2xx had left is not known: who is in no dialog takes the 500, who is takes the BYE."""
    async with Rig() as rig:
        sent, _, at_b, saved = await early(rig)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        held = await rig.until(AnswerHeld)
        saved = replace(saved, a_state=ANSWERING, b_state=ANSWERING, leg_b=held.leg, route=None)
        await rig.killed(saved)
        rig.send(RELEASE)
        ack = await rig.gateway.expect("ACK")
        assert ack.cseq == at_b.cseq
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        rig.ack_failure(sent, await rig.caller.expect(500, "INVITE"))
        rig.caller.reply(await rig.caller.expect("BYE"), 481)
        assert {side: one.alive for side, one in (await legs(rig)).items()} == {
            LegName.A: False,
            LegName.B: True,
        }


async def test_a_leg_that_its_peer_had_left_hears_nothing_and_its_bye_is_answered_again() -> None:
    async with Rig() as rig:
        invite, a, _ = await rig.answered_call()
        bye = rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        await rig.caller.expect(200, "BYE")
        await rig.gateway.expect("BYE")
        await rig.killed(adopt(invite, a_state=OVER, leg_b=leg_b_of(rig)))
        rig.send(RELEASE)
        rig.caller.send(bye.raw)
        await rig.caller.expect(200, "BYE")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        assert (await rig.event(LegTerminated)).leg_name is LegName.B
        await rig.idle()
        assert rig.caller.quiet


async def test_a_stranger_is_not_heard_in_an_adopted_call() -> None:
    async with Rig() as rig:
        invite, a, _ = await rig.answered_call()
        await rig.killed(adopt(invite, leg_b=leg_b_of(rig)))
        stranger = await rig.agent(9)
        rig.in_dialog(stranger, "BYE", a, cseq=7)
        await rig.counted("dropped_foreign", 1)
        assert stranger.quiet
        assert rig.hook.stats()["live_calls"] == 1


async def test_what_cannot_be_read_is_no_call() -> None:
    async with Rig() as rig:
        invite, _, _ = await rig.answered_call()
        broken = replace(invite.leg, remote_target="no uri", remote_address="nowhere")
        await rig.killed(adopt(invite, leg_a=broken))
        await rig.counted("commands_unmatched", 1)
        await rig.idle()


# --- over connections ---------------------------------------------------------------------------------------


async def test_a_gateway_that_was_spoken_to_by_tcp_gets_its_bye_by_a_new_connection() -> None:
    """Its Contact need not say so: no datagram leaves for it."""
    async with Rig(transports=BOTH) as rig:
        gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3"))
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, port=gateway.port, transport=TransportName.TCP))
        at_b = await gateway.expect("INVITE")
        contact = f"Contact: <sip:{gateway.host}:{gateway.port}>"
        gateway.send(gateway.response(at_b, 200, contact, SDP, tag="to-b", body=ANSWER))
        held = await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=held.bridge_id))
        ok = await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        await gateway.expect("ACK")
        await rig.killed(adopt(invite, leg_b=held.leg))
        gateway.hang_up()  # what was left of the connection
        rig.send(RELEASE)
        bye = await gateway.expect("BYE")
        assert bye["Via"].startswith("SIP/2.0/TCP")
        gateway.reply(bye, 200)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        assert {one.alive for one in (await legs(rig)).values()} == {True}


async def test_a_caller_whose_connection_went_gets_its_500_where_its_via_says() -> None:
    async with Rig(transports=BOTH) as rig:
        listening = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.2"))
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        caller.port = listening.port  # of its Via and its Contact: where it takes connections
        sent = rig.invite(agent=caller)
        await caller.expect(100)
        invite = await rig.event(InviteReceived)
        command = rig.route(invite)
        rig.send(command)
        await rig.gateway.expect("INVITE")
        await rig.killed(adopt(invite, a_state=EARLY, b_state=EARLY, route=command))
        rig.send(RELEASE)
        refused = await listening.expect(500, "INVITE")
        assert refused.branch == sent.branch
        rig.ack_failure(sent, refused, agent=listening)
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 481)
