"""From INVITE to ACK to BYE."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from sidecar.b2bua.settings import PeerGroup
from sidecar.core.commands import RelayAnswer
from sidecar.core.events import (
    AckReceived,
    AnswerHeld,
    AnswerRelayed,
    ByeReceived,
    InviteReceived,
    LegTerminated,
    ProvisionalReceived,
    RouteFailed,
)
from sidecar.core.identity import leg_b_names
from sidecar.core.terms import LegName, RouteFailure
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA


async def test_a_call_is_set_up_and_ended_by_the_caller() -> None:
    async with Rig() as rig:
        sent = rig.invite("X-Custom: one, two")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert (invite.bridge_id, invite.peer) == (1, "callers")
        assert (invite.request_user, invite.from_user) == ("4930123", "1000")
        assert invite.leg.sip_call_id == sent["Call-ID"]
        assert invite.leg.remote_tag == "from-a"
        assert invite.leg.branch == sent.branch
        assert invite.leg.remote_target == f"sip:{rig.caller.host}:{rig.caller.port}"
        assert invite.leg.remote_address == f"{rig.caller.host}:{rig.caller.port}"

        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        assert (at_b["Call-ID"], at_b["From"].rpartition("tag=")[2], at_b.branch) == leg_b_names(
            invite.b_token, 1
        )
        assert at_b.uri == f"sip:4930123@{rig.gateway.host}:{rig.gateway.port}"
        assert at_b.body == OFFER
        assert at_b["X-Custom"] == "one, two"
        assert at_b["Max-Forwards"] == "69"
        assert at_b["From"].startswith('"Alice" <sip:1000@')

        rig.gateway.reply(at_b, 180, "X-Ring: loud", tag="to-b")
        ringing = await rig.caller.expect(180)
        assert ringing["X-Ring"] == "loud"
        assert (await rig.event(ProvisionalReceived)).sip_code == 180
        rig.gateway.reply(at_b, 200, "X-Answer: yes", tag="to-b", body=ANSWER)
        held = await rig.event(AnswerHeld)
        assert (held.sip_code, held.attempt, held.leg.remote_tag) == (200, 1, "to-b")
        assert rig.caller.quiet
        rig.send(RelayAnswer(bridge_id=1))
        ok = await rig.caller.expect(200)
        assert ok.body == ANSWER
        assert ok["X-Answer"] == "yes"
        assert "X-Ring" not in ok
        await rig.event(AnswerRelayed)
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        ack = await rig.gateway.expect("ACK")
        assert (ack.cseq, ack.uri) == (at_b.cseq, f"sip:{rig.gateway.host}:{rig.gateway.port}")
        await rig.event(AckReceived)

        rig.in_dialog(rig.caller, "BYE", a, "Reason: Q.850;cause=16", cseq=2)
        await rig.caller.expect(200, "BYE")
        bye = await rig.gateway.expect("BYE")
        assert bye["Reason"] == "Q.850;cause=16"
        rig.gateway.reply(bye, 200)
        event = await rig.event(ByeReceived)
        assert (event.leg_name, event.reasons) == (LegName.A, ("Q.850;cause=16",))
        ended = [await rig.event(LegTerminated), await rig.event(LegTerminated)]
        assert [(one.leg_name, one.alive) for one in ended] == [(LegName.A, False), (LegName.B, True)]
        await rig.idle()


async def test_compact_forms_folded_lines_and_several_vias_are_understood() -> None:
    async with Rig() as rig:
        rig.autopilot()
        host, port = rig.address()
        me = f"{rig.caller.host}:{rig.caller.port}"
        rig.caller.send(
            (
                f"INVITE sip:+4930;phone-context=x@{host}:{port};transport=UDP SIP/2.0\r\n"
                f"v: SIP/2.0/UDP {me};branch=z9hG4bKone\r\n"
                "v: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKtwo, SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKthree\r\n"
                "mAX-fORWARDS: 70\r\n"
                f"f: Alice <sip:1000@{me}>;tag=compact\r\n"
                "Subject: one\r\n two\r\n"
                f"t: sip:4930@{host}\r\n"
                "i: compact@x\r\n"
                "CSeq:  1   INVITE\r\n"
                f"m: <sip:1000@{me};TRANSPORT=udp>\r\n"
                "k: timer\r\n"
                "c: application/sdp\r\n"
                f"l: {len(OFFER)}\r\n\r\n"
            ).encode()
            + OFFER
        )
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert (invite.request_user, invite.from_user) == ("+4930;phone-context=x", "1000")
        at_b = await rig.gateway.expect("INVITE")
        assert (at_b.body, at_b["Supported"], len(at_b.all("Via"))) == (OFFER, "timer", 1)
        rig.gateway.reply(at_b, 486, tag="b")
        busy = await rig.caller.expect(486)
        assert sum(len(value.split(",")) for value in busy.all("Via")) == 3


async def test_a_tel_uri_is_a_number() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        await rig.caller.expect(100)
        rig.caller.send(
            sent.raw.replace(sent.uri.encode(), b"tel:+4930123")
            .replace(sent["Call-ID"].encode(), b"tel")
            .replace(sent.branch.encode(), b"z9hG4bK-tel")
            .replace(sent["From"].encode(), b'"Alice" <tel:+491234>;tag=from-t')
        )
        await rig.gateway.expect("INVITE")
        at_b = await rig.gateway.expect("INVITE")
        assert at_b["From"].startswith('"Alice" <sip:+491234@')
        invites = [event for event in rig.events if isinstance(event, InviteReceived)]
        assert (invites[1].request_uri, invites[1].request_user) == ("tel:+4930123", "+4930123")


async def test_ipv6() -> None:
    peers = (PeerGroup(name="all", cidrs=("::1/128",)),)
    async with Rig(host="::1", peers=peers) as rig:
        caller, gateway = [rig.adopt(await ScriptedUA.udp("::1")) for _ in range(2)]
        caller.peer = gateway.peer = rig.address()
        sent = rig.invite(agent=caller)
        await caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert invite.leg.remote_address == f"[::1]:{caller.port}"
        rig.send(rig.route(invite, host="::1", port=gateway.port))
        at_b = await gateway.expect("INVITE")
        assert at_b.uri == f"sip:4930123@[::1]:{gateway.port}"
        gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.until(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await caller.expect(200)
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(caller, "ACK", a, cseq=1)
        await gateway.expect("ACK")
        rig.in_dialog(gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await gateway.expect(200)
        await caller.expect("BYE")


@pytest.mark.parametrize("user", ["x%40192.0.2.9%3A1", "x%0D%0AX-Evil%3A%201", "a;b=c", "%23123%2A"])
async def test_escapes_in_the_number_stay_escaped(user: str) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite(number=user)
        at_b = await rig.gateway.expect("INVITE")
        invite = rig.events[0]
        assert isinstance(invite, InviteReceived)
        assert invite.request_user.lower() == user.lower()
        assert unquote(at_b.uri) == unquote(f"sip:{user}@{rig.gateway.host}:{rig.gateway.port}")
        assert "X-Evil" not in at_b


@pytest.mark.parametrize("user", ["x@192.0.2.9", "x@192.0.2.9:5060;a", "x>\r\nX-Evil: 1"])
async def test_a_user_that_would_change_the_target_is_not_sent(user: str) -> None:
    async with Rig() as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, user=user))
        assert (await rig.event(RouteFailed)).cause == RouteFailure.UNREACHABLE
        await rig.settled(rig.gateway)
