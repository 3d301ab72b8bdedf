"""A body is an offer or an answer where it holds SDP of the session, and passes whatever it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AnswerHeld, InviteReceived, RouteFailed
from sidecar.core.terms import TransportName
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.b2bua.test_digest import CREDENTIALS, challenge

IAM = b"\x01\x00\x49\x00\x00\x03\x02\x00\x07\x04\x10\x00\x33\x63\x21\x43\x00"


@dataclass(frozen=True)
class Body:
    fields: tuple[str, ...]
    data: bytes


def typed(kind: str, data: bytes, *more: str) -> Body:
    return Body((f"Content-Type: {kind}", *more), data)


def part(data: bytes, *fields: str) -> bytes:
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + data


def parts(boundary: str, *inside: bytes) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + one + b"\r\n" for one in inside) + line + b"--\r\n"


SDP_PART = part(OFFER, "Content-Type: application/sdp")


def nested(depth: int) -> Body:
    """SDP in so many multipart bodies, each in the one before."""
    inside, kind = OFFER, "application/sdp"
    for number in range(depth):
        inside = parts(f"b{number}-", part(inside, f"Content-Type: {kind}"))
        kind = f"multipart/mixed;boundary=b{number}-"
    return typed(kind, inside)


ISUP_PART = part(
    IAM, "Content-Type: application/ISUP;version=itu-t92+", "Content-Disposition: signal;handling=required"
)
LOCATION = b'<?xml version="1.0"?><presence/>'

SESSIONS = {
    "sdp": typed("application/sdp", OFFER),
    "sdp in capitals": typed("Application/SDP", OFFER),
    "sdp with a parameter": typed("application/sdp ; charset=utf-8", OFFER),
    "sdp, compact": Body(("c: application/sdp",), OFFER),
    "sdp, folded": Body(("Content-Type:\r\n application/sdp",), OFFER),
    "sdp of the session": typed("application/sdp", OFFER, "Content-Disposition: Session;handling=optional"),
    "sdp of an empty disposition": typed("application/sdp", OFFER, "Content-Disposition:"),
    "sdp and isup": typed("multipart/mixed;boundary=b", parts("b", SDP_PART, ISUP_PART)),
    "isup and sdp": typed("multipart/mixed;boundary=b", parts("b", ISUP_PART, SDP_PART)),
    "optional sdp": typed(
        "multipart/mixed;boundary=b",
        parts(
            "b",
            ISUP_PART,
            part(
                OFFER,
                "Content-Disposition: session;\r\n\thandling=optional",
                "content-type: APPLICATION/sdp",
            ),
        ),
    ),
    "an odd boundary": typed(
        'multipart/related; start="<x;y>"; BOUNDARY = "a;b \'()+_,-./:=? c"',
        parts("a;b '()+_,-./:=? c", ISUP_PART, SDP_PART),
    ),
    "no boundary": typed("multipart/mixed", b"preamble\r\n" + parts("unique", ISUP_PART, SDP_PART)),
    "boundaries that begin alike": typed(
        "multipart/mixed;boundary=b",
        parts("b", part(parts("bb", ISUP_PART), "Content-Type: multipart/mixed;boundary=bb"), SDP_PART),
    ),
    "nested": typed(
        "multipart/mixed;boundary=outer",
        parts(
            "outer",
            ISUP_PART,
            part(
                parts("inner", part(LOCATION, "Content-Type: application/pidf+xml"), SDP_PART),
                'Content-Type: multipart/alternative;boundary="inner"',
            ),
        ),
    ),
    "nested as deep as it is read": nested(8),
    "a quote in a parameter": typed(
        'multipart/mixed; start="a\\";b"; boundary=real',
        b"--unreal\r\n\r\nread by none\r\n" + parts("real", SDP_PART),
    ),
    "lines of one byte": typed(
        "multipart/mixed;boundary=b", parts("b", ISUP_PART, SDP_PART).replace(b"\r\n", b"\n")
    ),
    "no end": typed("multipart/mixed;boundary=b", parts("b", ISUP_PART, SDP_PART).removesuffix(b"--b--\r\n")),
}

OTHERS = {
    "isup": typed("application/ISUP;version=itu-t92+", IAM),
    "a location": typed("application/pidf+xml", LOCATION),
    "recording metadata": typed("application/rs-metadata+xml", b"<recording/>"),
    "resource lists": typed("application/resource-lists+xml", b"<x/>", "Content-Disposition: recipient-list"),
    "text that looks like sdp": typed("text/plain", OFFER),
    "sdp in a message": typed("message/sipfrag", b"Content-Type: application/sdp\r\n\r\n" + OFFER),
    "sdp to look at": typed("application/sdp", OFFER, "Content-Disposition: render"),
    "sdp in the name only": typed("application/sdp-x", OFFER),
    "sdp in a parameter only": typed('application/x;a=";application/sdp"', OFFER),
    "isup in parts": typed("multipart/mixed;boundary=b", parts("b", ISUP_PART, ISUP_PART)),
    "sdp behind the end": typed("multipart/mixed;boundary=b", parts("b", ISUP_PART) + parts("c", SDP_PART)),
    "an empty sdp part": typed(
        "multipart/mixed;boundary=b", parts("b", ISUP_PART, part(b"", "Content-Type: application/sdp"))
    ),
    "a part without a type": typed("multipart/mixed;boundary=b", parts("b", part(OFFER))),
    "parts in parts without end": typed(
        "multipart/mixed;boundary=b",
        b"--b\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n" * 100 + SDP_PART,
    ),
    "nested too deep": nested(9),
    "no type": Body((), OFFER),
}
EARLY = {
    "early session": typed("application/sdp", OFFER, "Content-Disposition: early-session"),
}


def each(bodies: dict[str, Body]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("body", bodies.values(), ids=bodies.keys())


@each(OTHERS | EARLY)
async def test_without_an_offer_the_callers_ack_is_waited_for(body: Body) -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite(*body.fields, body=body.data, content="")
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.body == body.data
        rig.gateway.reply(at_b, 200, tag="to-b", body=OFFER)
        await rig.caller.expect(100)
        ok = await rig.caller.expect(200)
        await rig.settled(rig.caller)
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1, body=ANSWER)
        assert (await rig.gateway.expect("ACK")).body == ANSWER


@each(SESSIONS)
async def test_an_answer_to_an_offer_is_acknowledged_at_once(body: Body) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite(*body.fields, body=body.data, content="")
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.body == body.data
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        assert (await rig.gateway.expect("ACK")).body == b""


async def failed_after_183(rig: Rig, body: Body) -> RouteFailed:
    rig.invite()
    rig.send(rig.route(await rig.event(InviteReceived)))
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 183, *body.fields, tag="to-b", body=body.data, content="")
    await rig.caller.expect(100)
    assert (await rig.caller.expect(183)).body == body.data
    rig.gateway.reply(at_b, 503, tag="to-b")
    return await rig.until(RouteFailed)


@each(SESSIONS | EARLY)
async def test_sdp_in_a_183_is_early_media(body: Body) -> None:
    async with Rig() as rig:
        assert (await failed_after_183(rig, body)).early_media_relayed


@each(OTHERS)
async def test_no_other_body_of_a_183_is_early_media(body: Body) -> None:
    async with Rig() as rig:
        assert not (await failed_after_183(rig, body)).early_media_relayed


@pytest.mark.parametrize("transport", [TransportName.UDP, TransportName.TCP])
async def test_a_body_without_a_type_passes_whole_in_every_message(transport: TransportName) -> None:
    async with Rig(transports=(TransportName.UDP, TransportName.TCP)) as rig:
        caller = rig.caller
        if transport is TransportName.TCP:
            caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), rig.caller.host))
        sent = rig.invite(body=OFFER, content="", agent=caller)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        assert (at_b.body, "Content-Type" in at_b) == (OFFER, False)
        rig.gateway.reply(at_b, 183, tag="to-b", body=ANSWER, content="")
        await caller.expect(100)
        early = await caller.expect(183)
        assert (early.body, "Content-Type" in early) == (ANSWER, False)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER, content="")
        rig.send(RelayAnswer(bridge_id=(await rig.until(AnswerHeld)).bridge_id))
        ok = await caller.expect(200)
        assert (ok.body, "Content-Type" in ok) == (ANSWER, False)
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(caller, "ACK", a, cseq=1, body=b"ack", content="")
        assert (await rig.gateway.expect("ACK")).body == b"ack"
        rig.in_dialog(caller, "INFO", a, cseq=2, body=b"info", content="")
        info = await rig.gateway.expect("INFO")
        assert info.body == b"info"
        rig.gateway.reply(info, 200, body=b"heard", content="")
        assert (await caller.expect(200, "INFO")).body == b"heard"
        rig.in_dialog(caller, "BYE", a, cseq=3, body=b"bye", content="")
        bye = await rig.gateway.expect("BYE")
        assert (bye.body, "Content-Type" in bye) == (b"bye", False)


@pytest.mark.parametrize("name", ["Content-Encoding", "e"])
async def test_encoded_sdp_is_not_judged(name: str) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite("Content-Type: application/sdp", f"{name}: gzip", body=b"\x1f\x8b", content="")
        at_b = await rig.gateway.expect("INVITE")
        assert (at_b.body, at_b[name]) == (b"\x1f\x8b", "gzip")


async def test_a_body_without_a_type_is_sent_again_after_a_challenge() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        rig.autopilot()
        rig.invite(body=OFFER, content="")
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 401, challenge("n1"), tag="of-401")
        await rig.gateway.expect("ACK")
        again = await rig.gateway.expect("INVITE")
        assert (again.body, again["Content-Length"]) == (OFFER, str(len(OFFER)))
