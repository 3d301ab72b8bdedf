"""One header field that cannot be read loses no message that does not need it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pytest

from sidecar.b2bua.settings import Credentials
from sidecar.core.commands import RelayAnswer, RelayFailure, WireCommand
from sidecar.core.events import (
    AckReceived,
    AnswerHeld,
    ByeReceived,
    CancelReceived,
    Event,
    InviteReceived,
    Life,
    MessageDropped,
    RouteFailed,
)
from sidecar.core.terms import LegName, RouteFailure, TransportName
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, sip
from tests.b2bua.test_admission import rig_invite
from tests.fuzz.corpus import FIELDS

VALUES: Final = {
    "empty": "",
    "garbage": '<<;"=%,@:\x01',
    "members": ", ".join(["a;b"] * 100),
    "4-kB": "x" * 4096,
}
# An INVITE that has one more of them gets a refusal of its own.
NEEDED: Final = {
    *("Call-ID", "i", "Contact", "m", "Content-Length", "l", "Content-Type", "CSeq", "Date", "From", "f"),
    *("Max-Forwards", "Record-Route", "To", "t"),
    *("Proxy-Require", "Replaces", "Join"),
}
LINES: Final = [f"{name}: {value}" for name in FIELDS for value in VALUES.values()]


class Ends:
    """A caller and a gateway of one transport."""

    def __init__(self, rig: Rig, caller: ScriptedUA, gateway: ScriptedUA) -> None:
        self.rig, self.caller, self.gateway = rig, caller, gateway
        rig.on_event = self._act

    @classmethod
    async def of(cls, rig: Rig, transport: TransportName) -> Ends:
        if transport is TransportName.UDP:
            return cls(rig, rig.caller, rig.gateway)
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), rig.caller.host))
        return cls(rig, caller, rig.adopt(await ScriptedUA.tcp_server(rig.gateway.host)))

    def _act(self, event: Event) -> Sequence[WireCommand]:
        match event:
            case InviteReceived():
                transport = TransportName(self.gateway.via.lower())
                to = self.gateway
                return [self.rig.route(event, host=to.host, port=to.port, transport=transport)]
            case AnswerHeld(bridge_id=i):
                return [RelayAnswer(bridge_id=i)]
            case RouteFailed(bridge_id=i):
                return [RelayFailure(bridge_id=i)]
        return ()

    async def invited(self, *lines: str) -> tuple[Message, Message]:
        """An INVITE, and the gateway's."""
        sent = self.rig.invite(*lines, agent=self.caller)
        await self.caller.expect(100)
        return sent, await self.gateway.expect("INVITE")

    async def whole_call(self, line: str, last: LegName) -> None:
        """With that line in each message but the INVITE. `last` hangs up."""
        rig, caller, gateway = self.rig, self.caller, self.gateway
        sent, at_b = await self.invited()
        gateway.reply(at_b, 183, line, tag="to-b", body=ANSWER)
        await caller.expect(183)
        gateway.reply(at_b, 200, line, tag="to-b", body=ANSWER)
        ok = await caller.expect(200, "INVITE")
        assert ok.body == ANSWER
        a, b = Dialog.of_caller(sent, ok), Dialog.of_callee(at_b, "to-b")
        rig.in_dialog(caller, "ACK", a, line, cseq=1)
        await gateway.expect("ACK")
        await self.offered_again(line, a)
        if last is LegName.A:
            rig.in_dialog(caller, "BYE", a, line, cseq=3)
        else:
            rig.in_dialog(gateway, "BYE", b, line, cseq=1)
        near, far = (caller, gateway) if last is LegName.A else (gateway, caller)
        await near.expect(200, "BYE")
        far.reply(await far.expect("BYE"), 200, line)
        assert (await rig.until(ByeReceived)).leg_name is last

    async def offered_again(self, line: str, a: Dialog) -> None:
        """The re-INVITE may be refused; what is not has its ACK heard."""
        rig, caller, gateway = self.rig, self.caller, self.gateway
        again = rig.in_dialog(caller, "INVITE", a, caller.contact(), line, cseq=2, body=OFFER)
        first = await caller.receive()
        if first.code == 400:
            self.acknowledge_failure(again, first)
            return
        assert first.code == 100
        gateway.reply(await gateway.expect("INVITE"), 200, line, body=ANSWER)
        await caller.expect(200, "INVITE")
        rig.in_dialog(caller, "ACK", a, line, cseq=2)
        await gateway.expect("ACK")

    def acknowledge_failure(self, invite: Message, response: Message) -> None:
        self.rig.ack_failure(invite, response, agent=self.caller)

    async def cancelled(self, line: str) -> None:
        """An INVITE with that line, and where it is not refused, a CANCEL with it."""
        rig, caller, gateway = self.rig, self.caller, self.gateway
        sent = rig.invite(line, agent=caller)
        first = await caller.receive()
        if first.code != 100:
            assert first.code in (400, 420, 481)
            assert line.partition(":")[0] in NEEDED
            self.acknowledge_failure(sent, first)
            return
        at_b = await gateway.expect("INVITE")
        gateway.reply(at_b, 180, line, tag="to-b")
        await caller.expect(180)
        rig.cancel(sent, line, agent=caller)
        codes = {(await caller.receive()).code, (await caller.receive()).code}
        assert codes == {200, 487}
        gateway.reply(await gateway.expect("CANCEL"), 200, line)
        gateway.reply(at_b, 487, line, tag="to-b")
        await gateway.expect("ACK")
        await rig.until(CancelReceived)


@pytest.mark.parametrize("transport", [TransportName.UDP, TransportName.TCP])
@pytest.mark.parametrize("value", VALUES)
async def test_no_field_keeps_a_call_from_its_end(value: str, transport: TransportName) -> None:
    async with Rig(transports=_transports(transport)) as rig:
        ends = await Ends.of(rig, transport)
        for at, name in enumerate(FIELDS):
            line = f"{name}: {VALUES[value]}"
            try:
                await ends.whole_call(line, LegName.A if at % 2 else LegName.B)
                await ends.cancelled(line)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(line[:80]) from error
        await rig.idle()
        assert rig.hook.stats()["dropped_unparsable"] == 0


def _transports(transport: TransportName) -> tuple[TransportName, ...]:
    return (transport,) if transport is TransportName.UDP else (TransportName.UDP, transport)


def bye(rig: Rig, agent: ScriptedUA, a: Dialog) -> bytes:
    return sip(
        f"BYE {a.target} SIP/2.0",
        agent.via_line("z9hG4bK-bye"),
        "Max-Forwards: 70",
        f"From: {a.local}",
        f"To: {a.remote}",
        f"Call-ID: {a.call_id}",
        "CSeq: 2 BYE",
    )


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (rb"From: [^\r]*\r\n", b""),
        (rb"From: [^\r]*", b"From: <<>>"),
        (rb"From: <?", b'From: "nobody <'),
        (rb"To: <sip:[^>]*>", b'To: "nobody <sip:x>'),
        (rb"To: <sip:[^>]*>", b"To: <urn:x y>"),
        (rb"Call-ID: [^\r]*\r\n", b""),
        (rb"Call-ID: [^\r]*", b"Call-ID:"),
        (rb"CSeq: [^\r]*\r\n", b""),
        (rb"CSeq: 2 BYE", b"CSeq:"),
        (rb"CSeq: 2 BYE", b"CSeq: two BYE"),
        (rb"CSeq: 2 BYE", b"CSeq: 2 INVITE"),
        (rb"CSeq: 2 BYE", b"CSeq: 2147483648 BYE"),
        (rb"CSeq: 2 BYE", b"CSeq: 99999999999999999999 BYE"),
        (rb"Max-Forwards: 70", b"Max-Forwards: 70, 70"),
        (rb"Max-Forwards: 70", b"Max-Forwards: 1000"),
        (rb"Max-Forwards: 70", b"no header field"),
        (rb"Max-Forwards: 70", b": 70"),
        (rb"Max-Forwards: 70", b"X: a\x00b"),
        (rb"BYE [^\r]*", b"BYE urn:service:sos SIP/2.0"),
        (rb"BYE [^\r]*", b"BYE sip:[ SIP/2.0"),
        (rb"BYE [^\r]*", b"BYE  SIP/2.0"),
        (rb"BYE [^\r]*", b"BYE nobody"),
        (rb"Content-Length: 0", b"Content-Length:"),
        (rb"Content-Length: 0", b"Content-Length: none"),
        (rb"Content-Length: 0", b"Content-Length: 9999999999"),
    ],
    ids=lambda one: one.decode("latin-1"),
)
@pytest.mark.parametrize("transport", [TransportName.UDP, TransportName.TCP])
async def test_a_bye_that_can_be_matched_ends_its_call(
    what: bytes, instead: bytes, transport: TransportName
) -> None:
    async with Rig(transports=_transports(transport)) as rig:
        ends = await Ends.of(rig, transport)
        caller, gateway = ends.caller, ends.gateway
        sent, at_b = await ends.invited()
        gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        ok = await caller.expect(200)
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(caller, "ACK", a, cseq=1)
        await gateway.expect("ACK")
        whole = bye(rig, caller, a)
        wrong = re.sub(what, lambda _: instead, whole, count=1)
        assert wrong != whole
        caller.send(wrong)
        assert (await rig.until(ByeReceived)).leg_name is LegName.A
        answer = await caller.receive()
        assert answer.code == 200
        # As it was sent: its sender looks for that.
        given = Message(wrong, answer.source)
        assert answer.all("CSeq") == [
            value for value in given.all("CSeq") if value and "INVITE" not in value
        ] or ("INVITE" in given["CSeq"])
        assert answer.all("From") == given.all("From")
        gateway.reply(await gateway.expect("BYE"), 200)
        await rig.idle()


@pytest.mark.parametrize(
    ("what", "instead", "code"),
    [
        (rb"From: [^\r]*\r\n", b"", 400),
        (rb"To: [^\r]*\r\n", b"", 400),
        (rb"Call-ID: [^\r]*\r\n", b"", 400),
        (rb"CSeq: [^\r]*\r\n", b"", 400),
        (rb"Contact: [^\r]*\r\n", b"", 400),
        (rb"Contact: [^\r]*", b"Contact: <<>", 400),
        (rb"From: [^\r]*", b"From:", 400),
        (rb"To: [^\r]*", b"To: <", 400),
        (rb"Call-ID: [^\r]*", b"Call-ID:", 400),
        (rb"CSeq: [^\r]*", b"CSeq: 2147483648 INVITE", 400),
        (rb"Max-Forwards: 70", b"Max-Forwards: many", 400),
        (rb"Max-Forwards: 70", b"Record-Route: <<>", 400),
        (rb"Max-Forwards: 70", b"Record-Route: <tel:1>", 400),
        (rb"Max-Forwards: 70", b"Record-Route: <sip:192.0.2.1;lr>, -1tel:;x", 400),
        (rb"Max-Forwards: 70", b"no header field", 400),
        (rb"Content-Type: [^\r]*", b"Content-Type:", 400),
        (rb"INVITE [^\r]*", b"INVITE sip:[ SIP/2.0", 400),
        (rb"INVITE [^\r]*", b"INVITE sip: SIP/2.0", 400),
        (rb"INVITE [^\r]*", b"INVITE nobody SIP/2.0", 400),
        (rb"INVITE [^\r]*", b"INVITE", 0),
        (rb"INVITE [^\r]*", b"INVITE urn:service:fire.x SIP/2.0", 416),
        (rb"INVITE [^\r]*", b"INVITE urn:ser\x01vice SIP/2.0", 400),
        (rb"INVITE [^\r]*", b"INVITE urn:service:fire.x SIP/7.0", 400),
        (rb"INVITE [^\r]*", b"INVITE http://127.0.0.1/ SIP/2.0", 416),
        (rb"INVITE [^\r]*", b"INVITE mailto:a@b SIP/2.0", 416),
        (rb"Via: [^\r]*\r\n", b"", 0),
        (rb"Via: [^\r]*", b"Via: <", 0),
    ],
    ids=lambda one: one.decode("latin-1") if isinstance(one, bytes) else str(one),
)
async def test_an_invite_whose_needed_part_cannot_be_read_is_refused(
    what: bytes, instead: bytes, code: int
) -> None:
    async with Rig() as rig:
        whole = rig_invite(rig)
        wrong = re.sub(what, lambda _: instead, whole, count=1)
        assert wrong != whole
        rig.caller.send(wrong)
        if code:
            answer = await rig.caller.expect(code)
            assert answer["Via"].startswith(Message(wrong, answer.source)["Via"].partition(";")[0])
            assert rig.events == []
        else:  # nobody would know whose answer it is
            dropped = await rig.event(MessageDropped)
            assert (dropped.peer, dropped.source) == ("callers", f"{rig.caller.host}:{rig.caller.port}")
            assert dropped.method == "INVITE"
            assert dropped.sip_call_id == Message(whole, ("", 0))["Call-ID"]
            assert dropped.reason in ("Via", "first line")
            await rig.settled(rig.caller)


DIGEST: Final = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        (503, ("Retry-After: Wed, 26 Nov 2036 10:00:00 GMT",)),
        (401, ('WWW-Authenticate: Bearer authz_server="https://x/"',)),
        (407, ("Proxy-Authenticate: NTLM", "Proxy-Authenticate:")),
        (302, ("Contact: <<>",)),
        (486, ("Expires: soon", "Accept: " + ", ".join(["a/b"] * 40))),
        (500, ("To: <", "From:", "CSeq:", "Call-ID:", "Via: <")),
    ],
)
async def test_a_refusal_is_heard_whatever_else_is_in_it(code: int, headers: tuple[str, ...]) -> None:
    async with Rig() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 100)
        rig.gateway.reply(at_b, code, *headers, tag="to-b")
        await rig.gateway.expect("ACK")
        failed = await rig.event(RouteFailed)
        assert (failed.sip_code, failed.cause) == (code, RouteFailure.FINAL_RESPONSE)
        rig.send(RelayFailure(bridge_id=invite.bridge_id, sip_code=500))
        refused = await rig.caller.expect(500)
        rig.ack_failure(sent, refused)
        # What is B's word with its own code alone does not pass with another.
        assert not {"Retry-After", "WWW-Authenticate", "Proxy-Authenticate"} & {
            name for name, _ in refused.headers
        }


@pytest.mark.parametrize("other", ['NTLM targetname="x"', "Bearer", "", 'Basic realm="x"', "a, b, c"])
async def test_a_digest_challenge_beside_another_is_answered(other: str) -> None:
    async with Rig(credentials=(Credentials(gateway="gw", username="u", password="p"),)) as rig:
        rig.invite()
        rig.send(rig.route(await rig.event(InviteReceived)))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(
            at_b, 407, f"Proxy-Authenticate: {other}", f"Proxy-Authenticate: {DIGEST}", tag="to-b"
        )
        await rig.gateway.expect("ACK")
        assert (await rig.gateway.expect("INVITE"))["Proxy-Authorization"].startswith("Digest ")


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: NTLM a",
        "Expires: soon",
        "Accept: " + ", ".join(["a/b"] * 40),
        "Supported: " + ", ".join(f"x{i}" for i in range(33)),
        "Session-Expires: now",
        "Min-SE: -1",
        "Retry-After: Wed, 26 Nov 2036 10:00:00 GMT",
        "Proxy-Authorization: Bearer x",
        "Unsupported: " + ", ".join(["y"] * 50),
        "Subscription-State:",
        "Subscription-State: active;expires=007;reason=x",
        "Expires: 99999999999999999999",
        "Session-Expires: 99999999999999999999",
        "Session-Expires: 1800;refresher=UAC;x=y",
        "Min-SE: 0090",
        "Retry-After: 120 (busy) ;duration=60",
        'Authorization: Digest realm="x", nonce=abc, x-y="z", qop=auth-int',
        'Proxy-Authorization: Digest username=a, realm="x", nonce=abc, uri="sip:x", response="0"',
    ],
)
async def test_what_nobody_here_needs_passes_as_it_came(line: str) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite(line)
        name, _, value = line.partition(":")
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.all(name) == [value.strip()]
        rig.gateway.reply(at_b, 180, line, tag="to-b")
        await rig.caller.expect(100)
        assert (await rig.caller.expect(180)).all(name) == [value.strip()]


async def test_of_many_messages_that_are_dropped_ten_a_second_are_told() -> None:
    async with Rig() as rig:
        stranger = await rig.agent(9)
        for _ in range(50):
            stranger.send(b"INVITE nobody\r\nCall-ID: y\r\nSubject: nothing\r\n\r\n")
            rig.caller.send(b"SIP/2.0 nobody\r\nCall-ID: x\r\nSubject: nothing\r\n\r\n")
        await rig.counted("dropped_unparsable", 100)
        told = [await rig.event(MessageDropped) for _ in range(10)]
        assert {(event.peer, event.sip_call_id, event.reason) for event in told} == {
            ("callers", "x", "first line")
        }
        assert len(rig.events) < 50


async def test_each_sender_gets_its_own_answer_whatever_blank_lines_come_first() -> None:
    async with Rig() as rig:
        other = await rig.agent(4)
        for at, agent in enumerate((rig.caller, other, rig.caller)):
            wrong = rig_invite(rig).replace(b"Max-Forwards: 70", b"Max-Forwards:")
            agent.send(b"\r\n" * at + wrong.replace(b"z9hG4bK-wrong", b"z9hG4bK-%d" % at))
            await agent.expect(400)


async def test_what_needs_more_than_one_reading_is_read_all_the_same() -> None:
    async with Rig() as rig:
        wrong = re.sub(rb"INVITE [^\r]*", b"INVITE urn:service:fire.x SIP/2.0", rig_invite(rig), count=1)
        rig.caller.send(wrong.replace(b"Max-Forwards: 70", b"Max-Forwards: 70\r\nExpires: soon\r\nMin-SE:"))
        await rig.caller.expect(416)


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
async def test_whose_own_via_cannot_be_read_is_not_answered_by_another(method: str) -> None:
    async with Rig() as rig:
        via = rb"Via: <\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-below"
        wrong = re.sub(rb"Via: [^\r]*", via, rig_invite(rig).replace(b"INVITE", method.encode()), count=1)
        rig.caller.send(wrong)
        assert (await rig.event(MessageDropped)).reason == "Via"
        await rig.settled(rig.caller)


@pytest.mark.parametrize("code", [700, 999])
async def test_a_response_of_no_class_is_dropped_whatever_else_is_in_it(code: int) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        strange = rig.gateway.response(at_b, 200, "Expires: soon", tag="to-b")
        rig.gateway.send(strange.replace(b"SIP/2.0 200", b"SIP/2.0 %03d" % code), at_b.source)
        dropped = await rig.until(MessageDropped)
        assert (dropped.peer, dropped.method, dropped.reason) == ("gateways", "INVITE", "status code")
        rig.gateway.reply(at_b, 486, tag="to-b")
        await rig.caller.until(486)


async def test_who_is_behind_nat_is_answered_where_it_speaks_from() -> None:
    """RFC 3581."""
    async with Rig() as rig:
        wrong = rig_invite(rig).replace(b"Max-Forwards: 70", b"Max-Forwards:")
        elsewhere = f"UDP {rig.caller.host}:1;".encode()
        rig.caller.send(re.sub(rb"UDP [^;]*;", elsewhere, wrong, count=1))
        assert f"rport={rig.caller.port}" in (await rig.caller.expect(400))["Via"]


async def test_an_ack_is_heard_though_its_length_cannot_be_read() -> None:
    async with Rig(transports=(TransportName.UDP, TransportName.TCP)) as rig:
        rig.autopilot()
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), rig.caller.host))
        sent = rig.invite(agent=caller)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        a = Dialog.of_caller(sent, await caller.until(200))
        send = caller.send
        caller.send = lambda data, to=None: send(  # type: ignore[method-assign]
            data.replace(b"Content-Length: 0", b"Content-Length: none"), to
        )
        rig.in_dialog(caller, "ACK", a, cseq=1)
        await rig.until(AckReceived)


@pytest.mark.parametrize(("body", "line"), [(OFFER, "Content-Type:"), (b"", "Content-Type: ;")])
async def test_a_type_that_no_body_needs_is_left_out(body: bytes, line: str) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite(line, body=body)
        at_b = await rig.gateway.expect("INVITE")
        assert (at_b.body, at_b.all("Content-Type")) == (body, ["application/sdp"] if body else [])


@pytest.mark.parametrize("route", ["-1tel:;branch=;;", "<tel:1>", "<urn:service:sos>, <mailto:a@b>"])
async def test_a_route_of_an_answer_that_does_not_lead_by_sip_is_left_out(route: str) -> None:
    async with Rig(options_interval_ms=200) as rig:
        rig.caller.answers = rig.gateway.answers = frozenset({"OPTIONS"})
        rig.autopilot()
        sent = rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        ours = f"<sip:{rig.gateway.host}:{rig.gateway.port};lr>"
        rig.gateway.reply(at_b, 200, f"Record-Route: {ours}, {route}", tag="to-b", body=ANSWER)
        a = Dialog.of_caller(sent, await rig.caller.until(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        assert (await rig.gateway.expect("ACK")).all("Route") == [ours]
        await rig.until(Life)
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.caller.expect(200, "BYE")
