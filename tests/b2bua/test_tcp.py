"""The same over connections."""

from __future__ import annotations

import re
import socket

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AnswerHeld, InviteReceived, LegTerminated, RouteFailed
from sidecar.core.terms import RouteFailure, TransportName
from tests.b2bua.rig import ANSWER, OFFER, SDP, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, sip

BOTH = (TransportName.UDP, TransportName.TCP)


async def test_a_call_from_tcp_to_udp() -> None:
    async with Rig(transports=BOTH) as rig:
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        sent = rig.invite(agent=caller)
        await caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert invite.leg.transport == TransportName.TCP
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        assert at_b["Via"].startswith("SIP/2.0/UDP")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await caller.expect(200)
        assert "transport=tcp" in ok["Contact"]
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        # The caller's Contact names a port that nobody listens on: the BYE takes the caller's own connection.
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        caller.reply(await caller.expect("BYE"), 200)
        await rig.until(LegTerminated)
        assert (await rig.until(LegTerminated)).alive


async def test_a_call_from_udp_to_tcp() -> None:
    async with Rig(transports=BOTH) as rig:
        gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3"))
        sent = rig.invite(body=OFFER + b"a=x:" + b"y" * 9000 + b"\r\n")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, port=gateway.port, transport=TransportName.TCP))
        at_b = await gateway.expect("INVITE")
        assert at_b.body == sent.body
        assert "transport=tcp" in at_b["Contact"]
        gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        held = await rig.event(AnswerHeld)
        assert held.leg.transport == TransportName.TCP
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await gateway.expect("ACK")
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        gateway.reply(await gateway.expect("BYE"), 200)
        await rig.until(LegTerminated)
        assert (await rig.until(LegTerminated)).alive


async def test_a_large_invite_moves_to_tcp_where_the_gateway_speaks_it() -> None:
    async with Rig(transports=BOTH) as rig:
        gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3"))
        rig.invite(body=OFFER + b"a=x:" + b"y" * 2000 + b"\r\n")
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, port=gateway.port))
        assert (await gateway.expect("INVITE"))["Via"].startswith("SIP/2.0/TCP")


LARGE = OFFER + b"a=x:" + b"y" * 2000 + b"\r\n"


async def test_a_large_invite_goes_by_udp_where_nobody_answers_for_tcp() -> None:
    async with Rig(transports=BOTH) as rig:
        with socket.create_server((rig.gateway.host, rig.gateway.port), backlog=0):
            waiting = [socket.socket() for _ in range(3)]  # the backlog is full: further SYNs are dropped
            for one in waiting:
                one.setblocking(False)
                one.connect_ex((rig.gateway.host, rig.gateway.port))
            rig.invite(body=LARGE)
            # It may take longer than a gateway has for its 100: nothing has left yet.
            rig.send(rig.route(await rig.event(InviteReceived), no_response_ms=700))
            invite = await rig.gateway.expect("INVITE")
            assert invite["Via"].startswith("SIP/2.0/UDP")
            assert invite.body == LARGE
            assert (await rig.event(RouteFailed)).cause == RouteFailure.NO_RESPONSE
            for one in waiting:
                one.close()


async def test_a_large_invite_goes_by_udp_at_once_where_the_gateway_says_so() -> None:
    async with Rig(transports=BOTH) as rig:
        with socket.create_server((rig.gateway.host, rig.gateway.port)) as server:
            server.setblocking(False)
            rig.invite(body=LARGE)
            rig.send(rig.route(await rig.event(InviteReceived), large_by_udp=True))
            invite = await rig.gateway.expect("INVITE")
            assert invite["Via"].startswith("SIP/2.0/UDP")
            assert invite.body == LARGE
            with pytest.raises(BlockingIOError):
                server.accept()


async def test_a_gateway_that_takes_no_connection_is_unreachable() -> None:
    async with Rig(transports=BOTH) as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, transport=TransportName.TCP))
        assert (await rig.event(RouteFailed)).cause == RouteFailure.UNREACHABLE


async def test_a_lost_connection_of_the_gateway_fails_the_attempt() -> None:
    async with Rig(transports=BOTH) as rig:
        gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3"))
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, port=gateway.port, transport=TransportName.TCP))
        await gateway.expect("INVITE")
        gateway.close()
        assert (await rig.event(RouteFailed)).cause == RouteFailure.UNREACHABLE


async def test_a_connection_may_bring_more_than_a_buffer_of_messages_at_once() -> None:
    async with Rig(transports=BOTH) as rig:
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        whole = rig.invite(agent=caller, body=OFFER + b"a=x:" + b"y" * 600 + b"\r\n").raw
        await caller.expect(100)
        copies = [
            whole.replace(b"Call-ID: ", f"Call-ID: {number}-".encode()).replace(
                b"branch=z9hG4bK-", f"branch=z9hG4bK-{number}-".encode()
            )
            for number in range(90)  # 100 kB, where a message may have 64; more undecided calls get 503
        ]
        caller.send(b"".join(copies))
        for _ in copies:
            await caller.expect(100)
        assert rig.hook.stats()["refused_too_large"] == 0


def large(caller: ScriptedUA, rig: Rig, *headers: str, method: str = "INVITE", body: bytes = b"") -> bytes:
    return sip(
        f"{method} sip:4930123@{rig.host} SIP/2.0",
        caller.via_line("z9hG4bK-large"),
        "v: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK-before",
        f"f: <sip:1000@{rig.host}>;tag=a",
        f"t: <sip:4930123@{rig.host}>",
        "i: large",
        f"CSeq: 1 {method}",
        caller.contact(),
        "Content-Type: text/plain",
        *headers,
        body=body or b"x" * 70_000,
    )


async def over_tcp(rig: Rig, last: int = 2) -> ScriptedUA:
    return rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.{last}"))


async def test_a_message_that_fits_no_buffer_gets_513_and_its_connection_is_closed() -> None:
    async with Rig(transports=BOTH) as rig:
        caller = await over_tcp(rig)
        body = b"x" * 65_536
        for number in range(9):  # as a third party would hide them in its body
            body += large(caller, rig, body=b"x").replace(b"large", b"hidden-%d" % number)
        caller.send(large(caller, rig, body=body))
        refusal = await caller.expect(513)
        assert (len(refusal.all("Via")), refusal["Call-ID"], refusal["CSeq"]) == (2, "large", "1 INVITE")
        assert ";tag=" in refusal["To"]
        await caller.until_closed()
        caller.send(large(caller, rig, body=b"x").replace(b"large", b"late"))
        await rig.settled(rig.caller)
        assert (rig.hook.stats()["refused_too_large"], rig.hook.stats()["invites"]) == (1, 0)


async def test_headers_that_fit_no_buffer_get_513_too() -> None:
    async with Rig(transports=BOTH) as rig:
        caller = await over_tcp(rig)
        caller.send(large(caller, rig, *(f"X-{number}: {'x' * 500}" for number in range(140)), body=b"x"))
        await caller.expect(513)
        await caller.until_closed()


async def test_a_large_ack_or_response_gets_no_answer_and_its_connection_is_closed() -> None:
    async with Rig(transports=BOTH) as rig:
        for change in (
            (b"INVITE sip:4930123@" + rig.host.encode() + b" SIP/2.0", b"SIP/2.0 200 OK"),
            (b"INVITE", b"ACK"),
            (b"CSeq", b"X-CSeq"),
        ):
            caller = await over_tcp(rig)
            caller.send(large(caller, rig).replace(*change))
            await caller.until_closed()
            assert caller.quiet


async def test_a_stranger_is_not_told_that_its_message_is_too_large() -> None:
    async with Rig(transports=BOTH) as rig:
        stranger = await over_tcp(rig, 9)
        stranger.send(large(stranger, rig))
        await stranger.until_closed()
        assert stranger.quiet


@pytest.mark.parametrize(
    ("length", "code"),
    [("-1", 400), ("many", 400), ("", 400), ("99999999999", 513), ("4294967296", 513), (None, 400)],
)
async def test_a_stream_whose_next_message_cannot_be_found_is_closed(length: str | None, code: int) -> None:
    async with Rig(transports=BOTH) as rig:
        caller = await over_tcp(rig)
        line = b"" if length is None else b"Content-Length: " + length.encode() + b"\r\n"
        caller.send(large(caller, rig, body=b"xyz").replace(b"Content-Length: 3\r\n", line))
        assert (await caller.expect(code))["Call-ID"] == "large"
        await caller.until_closed()
        assert rig.events == []


async def test_a_call_outlives_the_connection_that_a_large_message_cost() -> None:
    async with Rig(transports=BOTH) as rig:
        rig.autopilot()
        caller = await over_tcp(rig)
        sent = rig.invite(agent=caller)
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await caller.expect(100)
        a = Dialog.of_caller(sent, await caller.expect(200))
        rig.in_dialog(caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        caller.send(large(caller, rig))
        await caller.expect(513)
        await caller.until_closed()
        again = await over_tcp(rig)
        rig.in_dialog(again, "INFO", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await again.expect(200, "INFO")
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        again.reply(await again.expect("BYE"), 200)
        await rig.idle()


@pytest.mark.parametrize(("size", "code"), [(65_534, 100), (65_535, 513)])
async def test_a_message_that_fills_the_buffer_gets_513(size: int, code: int) -> None:
    async with Rig(transports=BOTH) as rig:
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        head = [
            f"INVITE sip:4930123@{rig.host} SIP/2.0",
            caller.via_line("z9hG4bK-large"),
            f"From: <sip:1000@{rig.host}>;tag=a",
            f"To: <sip:4930123@{rig.host}>",
            "Call-ID: large",
            "CSeq: 1 INVITE",
            caller.contact(),
            "Content-Type: text/plain",
        ]
        spare = size - len(sip(*head, body=b"x" * 10_000)) + 10_000
        caller.send(sip(*head, body=b"x" * spare))
        await caller.expect(code)


# --- lengths that are wrong ---------------------------------------------------------------------------------


def with_length(data: bytes, line: bytes) -> bytes:
    return re.sub(rb"Content-Length: [^\r]*\r\n", lambda _: line, data)


class Composed(ScriptedUA):
    """Keeps what it would send, so that it can be spoilt first."""

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        self.kept = data


async def call_over_tcp(rig: Rig) -> tuple[ScriptedUA, Dialog, Message]:
    """Talking; the caller comes by TCP."""
    rig.autopilot()
    caller = await over_tcp(rig)
    sent = rig.invite(agent=caller)
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
    await caller.expect(100)
    a = Dialog.of_caller(sent, await caller.expect(200))
    rig.in_dialog(caller, "ACK", a, cseq=1)
    await rig.gateway.expect("ACK")
    return caller, a, at_b


def composed(rig: Rig, agent: ScriptedUA, method: str, dialog: Dialog, cseq: int, body: bytes = b"") -> bytes:
    paper = Composed()
    paper.via, paper.host, paper.port, paper.peer = agent.via, agent.host, agent.port, agent.peer
    rig.in_dialog(paper, method, dialog, cseq=cseq, body=body)
    return paper.kept


@pytest.mark.parametrize(
    "line", [b"", b"Content-Length: many\r\n", b"Content-Length: -1\r\n", b"l: 99999999999\r\n"]
)
async def test_a_call_does_not_outlive_a_bye_whose_length_is_wrong(line: bytes) -> None:
    async with Rig(transports=BOTH) as rig:
        caller, a, _ = await call_over_tcp(rig)
        caller.send(with_length(composed(rig, caller, "BYE", a, 2), line))
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        assert (await caller.expect(200, "BYE")).cseq == 2
        await rig.idle()


# What a body leaves behind where its length is too small; and what one takes along where it is too large.
@pytest.mark.parametrize("off", [-1, -7, -9, -20, 1, 3, 4, 12, 30])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_call_does_not_outlive_the_bye_behind_a_body_whose_length_is_wrong(
    off: int, at_once: bool
) -> None:
    async with Rig(transports=BOTH) as rig:
        caller, a, _ = await call_over_tcp(rig)
        body = OFFER.replace(b"107\r\n", b"107 9 RTP 9\r\n")
        info = composed(rig, caller, "INFO", a, 2, body=body)
        info = with_length(info, f"Content-Length: {len(body) + off}\r\n".encode())
        bye = composed(rig, caller, "BYE", a, 3)
        if at_once:
            caller.send(info + bye)
        else:
            caller.send(info)
            if off < 0:
                rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
                await caller.expect(200, "INFO")
            caller.send(bye)
        rig.gateway.reply(await rig.gateway.until("BYE"), 200)
        await caller.until(200, "BYE")
        await rig.idle()


async def test_nothing_but_an_end_is_read_out_of_a_body() -> None:
    """A caller may have written it, and the proxy in front of it the length."""
    async with Rig(transports=BOTH) as rig:
        caller, a, _ = await call_over_tcp(rig)
        within = rig_text(rig, caller)
        body = OFFER + within
        info = composed(rig, caller, "INFO", a, 2, body=body)
        caller.send(with_length(info, f"Content-Length: {len(OFFER) - 9}\r\n".encode()))
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await caller.expect(200, "INFO")
        assert rig.hook.stats()["invites"] == 1  # both came in one piece


def rig_text(rig: Rig, agent: ScriptedUA) -> bytes:
    paper = Composed()
    paper.via, paper.host, paper.port, paper.peer = agent.via, agent.host, agent.port, agent.peer
    rig.invite(agent=paper, tag="other", body=b"")
    return paper.kept


@pytest.mark.parametrize("line", [b"", b"Content-Length: many\r\n"])
@pytest.mark.parametrize("code", [180, 200, 486])
async def test_a_response_whose_length_is_wrong_is_heard(code: int, line: bytes) -> None:
    async with Rig(transports=BOTH) as rig:
        gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3"))
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, port=gateway.port, transport=TransportName.TCP))
        at_b = await gateway.expect("INVITE")
        body = ANSWER if code == 200 else b""
        headers = [gateway.contact(), *(["Content-Type: application/sdp"] if body else [])]
        whole = gateway.response(at_b, code, *headers, tag="to-b", body=body)
        gateway.send(with_length(whole, line))
        if code == 200:
            held = await rig.until(AnswerHeld)
            rig.send(RelayAnswer(bridge_id=held.bridge_id))
            assert (await rig.caller.expect(200)).body == ANSWER
        elif code == 486:
            assert (await rig.until(RouteFailed)).sip_code == 486
        else:
            await rig.caller.expect(180)


@pytest.mark.parametrize("large", ["body", "target"])
async def test_an_ack_that_is_too_large_for_udp_goes_by_udp_where_no_connection_is_taken(large: str) -> None:
    """RFC 3261 §18.1.1 would have it by TCP; a callee that never hears it ends the call."""
    async with Rig(transports=BOTH) as rig:
        sent = rig.invite(body=b"")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        user = "a" * 1400 if large == "target" else "b"
        contact = f"Contact: <sip:{user}@{rig.gateway.host}:{rig.gateway.port}>"
        rig.gateway.send(rig.gateway.response(at_b, 200, contact, SDP, tag="to-b", body=OFFER), at_b.source)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        answer = ANSWER + (b"a=x:" + b"y" * 1400 + b"\r\n" if large == "body" else b"")
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1, body=answer)
        ack = await rig.gateway.expect("ACK")
        assert ack["Via"].startswith("SIP/2.0/UDP")
        assert ack.body == answer
        assert user in ack.uri
        rig.gateway.send(rig.gateway.response(at_b, 200, contact, SDP, tag="to-b", body=OFFER), at_b.source)
        await rig.gateway.until_repeated("ACK")
