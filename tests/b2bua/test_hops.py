"""Where responses go, how often a message is passed on, and names in any case."""

from __future__ import annotations

import pytest

from sidecar.core.events import AckReceived, AnswerHeld, InviteReceived
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, parameter, sip


def options(rig: Rig, via: str) -> bytes:
    return sip(
        f"OPTIONS sip:{rig.host} SIP/2.0",
        f"Via: {via}",
        f"From: <sip:1@{rig.caller.host}>;tag=x",
        f"To: <sip:1@{rig.host}>",
        "Call-ID: via",
        "CSeq: 1 OPTIONS",
    )


async def test_without_rport_the_answer_goes_to_the_port_of_the_via() -> None:
    """RFC 3261 §18.2.2: to the address it came from, and the port that the Via names."""
    async with Rig() as rig:
        other = await rig.agent(2)
        rig.caller.send(options(rig, f"SIP/2.0/UDP {other.host}:{other.port};branch=z9hG4bK-v"))
        via = (await other.expect(200))["Via"]
        assert ";rport" not in via
        assert rig.caller.quiet


async def test_without_rport_a_name_in_the_via_is_not_looked_up() -> None:
    async with Rig() as rig:
        rig.caller.send(options(rig, f"SIP/2.0/UDP phone.invalid:{rig.caller.port};branch=z9hG4bK-v"))
        assert parameter((await rig.caller.expect(200))["Via"], "received") == rig.caller.host


@pytest.mark.parametrize("rport", ["rport", "RPORT"])
async def test_with_rport_the_answer_goes_where_the_request_came_from(rport: str) -> None:
    async with Rig() as rig:
        rig.caller.send(options(rig, f"SIP/2.0/UDP 192.0.2.1:9;{rport};branch=z9hG4bK-v"))
        via = (await rig.caller.expect(200))["Via"]
        assert parameter(via, "received") == rig.caller.host
        assert parameter(via, "rport") == str(rig.caller.port)


async def test_a_call_without_rport_is_answered_at_its_via_and_called_at_its_contact() -> None:
    async with Rig() as rig:
        rig.autopilot()
        behind = await rig.agent(2)  # the port that it hears on
        sent = sip(
            f"INVITE sip:4930123@{rig.host} SIP/2.0",
            f"Via: SIP/2.0/UDP {behind.host}:{behind.port};branch=z9hG4bK-two-ports",
            f"From: <sip:1000@{behind.host}>;tag=from-a",
            f"To: <sip:4930123@{rig.host}>",
            "Call-ID: two-ports",
            "CSeq: 1 INVITE",
            behind.contact(),
            "Content-Type: application/sdp",
            body=OFFER,
        )
        rig.caller.send(sent)
        await behind.expect(100)
        at_b = await rig.gateway.expect("INVITE")
        assert at_b["Max-Forwards"] == "70"  # RFC 3261 §16.6: a request without one begins there
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        a = Dialog.of_caller(Message(sent, ("", 0)), await behind.expect(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        await rig.until(AckReceived)
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await rig.gateway.expect(200)
        behind.reply(await behind.expect("BYE"), 200)
        assert rig.caller.quiet


async def test_parameters_and_names_are_the_same_in_capital_letters() -> None:
    async with Rig() as rig:
        rig.autopilot()
        host, port = rig.address()
        me = f"{rig.caller.host}:{rig.caller.port}"
        sent = sip(
            f"INVITE SIP:4930123@{host}:{port};TRANSPORT=UDP;USER=PHONE SIP/2.0",
            f"VIA: SIP/2.0/UDP {me};RPORT;BRANCH=z9hG4bK-capitals",
            "MAX-FORWARDS: 70",
            f"FROM: <SIP:1000@{me}>;TAG=capitals",
            f"TO: <SIP:4930123@{host}>",
            "CALL-ID: capitals",
            "CSEQ: 1 INVITE",
            f"CONTACT: <SIP:1000@{me};TRANSPORT=UDP>",
            f"RECORD-ROUTE: <SIP:{me};LR>",
            "CONTENT-TYPE: APPLICATION/SDP",
            body=OFFER,
        )
        rig.caller.send(sent)
        await rig.caller.expect(100)
        at_b = await rig.gateway.expect("INVITE")
        invite = rig.events[0]
        assert isinstance(invite, InviteReceived)
        assert (invite.request_user, invite.leg.remote_tag) == ("4930123", "capitals")
        assert at_b.body == OFFER
        contact = f"Contact: <SIP:{rig.gateway.host}:{rig.gateway.port};TRANSPORT=UDP>"
        rig.gateway.send(
            rig.gateway.response(at_b, 200, contact, "CONTENT-TYPE: APPLICATION/SDP", tag="to-b", body=ANSWER)
        )
        ok = await rig.caller.expect(200)
        assert ok.body == ANSWER
        a = Dialog(ok["Contact"].strip("<>"), f"<sip:1000@{me}>;TAG=capitals", ok["To"], "capitals")
        a.remote = a.remote.replace(";tag=", ";TAG=")
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await rig.gateway.expect(200)
        bye = await rig.caller.expect("BYE")
        assert bye["Route"].lower() == f"<sip:{me};lr>"


@pytest.mark.parametrize("hops", [1, 2, 255])
async def test_each_request_is_passed_on_with_one_hop_less(hops: int) -> None:
    async with Rig() as rig:
        rig.invite(max_forwards=hops)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        assert (await rig.gateway.expect("INVITE"))["Max-Forwards"] == str(hops - 1)


async def test_hops_run_out_in_a_dialog_too() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        passed = await rig.gateway.expect("INFO")
        assert passed["Max-Forwards"] == "69"
        rig.gateway.reply(passed, 200)
        await rig.caller.expect(200)
        last = sent.raw.replace(b"Max-Forwards: 70", b"Max-Forwards: 0").replace(b"CSeq: 2", b"CSeq: 3")
        rig.caller.send(last.replace(sent.branch.encode(), b"z9hG4bK-last"))
        await rig.caller.expect(483)
        await rig.settled(rig.gateway)
        assert rig.hook.stats()["refused_hops"] == 1


async def test_our_own_invite_that_comes_back_by_the_caller_is_a_loop_and_the_call_goes_on() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        await rig.caller.expect(100)
        at_b = await rig.gateway.expect("INVITE")
        via = rig.caller.via_line("z9hG4bK-loop").encode()
        rig.caller.send(at_b.raw.replace(b"\r\nVia:", b"\r\n" + via + b"\r\nVia:"))
        assert (await rig.caller.expect(482))["Call-ID"] == at_b["Call-ID"]
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.until(AnswerHeld)
        await rig.caller.expect(200)
        assert rig.hook.stats()["refused_loop"] == 1


async def test_a_third_copy_of_an_answered_invite_is_merged_too() -> None:
    """RFC 3261 §8.2.2.2, for as long as the first copy's transaction lives."""
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite(call_id="copies")
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 486, tag="to-b")
        await rig.gateway.expect("ACK")
        await rig.caller.expect(486)
        for branch in (b"z9hG4bK-second", b"z9hG4bK-third"):
            rig.caller.send(sent.raw.replace(sent.branch.encode(), branch))
            await rig.caller.expect(482)
        assert sum(isinstance(event, InviteReceived) for event in rig.events) == 1


async def test_a_message_of_hardly_more_than_100_bytes_is_whole() -> None:
    async with Rig() as rig:
        short = (
            b"OPTIONS sip:a SIP/2.0\r\nv:SIP/2.0/UDP h;rport;branch=z9hG4bKa\r\nf:<sip:a>;tag=a\r\n"
            b"t:<sip:a>\r\ni:a\r\nCSeq:1 OPTIONS\r\n\r\n"
        )
        assert len(short) < 120
        rig.caller.send(short)
        assert (await rig.caller.expect(200))["Call-ID"] == "a"
