"""What is refused for its form, and what looks odd and is not. Invalid ones: tests/fuzz/corpus.py."""

from __future__ import annotations

import pytest

from sidecar.core.events import InviteReceived
from tests.b2bua.rig import ANSWER, OFFER, Rig
from tests.b2bua.test_admission import request, rig_invite

FROM = b"From: <sip:1000@"


@pytest.mark.parametrize(
    "change",
    [
        (FROM, b'From: "Bell, Alexander; \\"<\\" >" <sip:1000@'),
        (FROM, b"From: Bell Alexander <sip:1000@"),
        (FROM, b"From: \xe9t\xe9 <sip:1000@"),
        (FROM, b'From:\r\n  "folded"\r\n\t<sip:1000@'),
        (b"To: <sip:4930123@", b't :  "a, b"  <sip:4930123@'),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nDate: Fri, 01 Jan 2027 16:00:00 GMT"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nRequire: unheard-of"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nSubject: From: a, b < c >\r\n To: d"),
    ],
    ids=lambda change: change[1].decode("latin-1"),
)
async def test_what_is_odd_and_valid_becomes_a_call(change: tuple[bytes, bytes]) -> None:
    async with Rig() as rig:
        whole = rig_invite(rig)
        assert change[0] in whole
        rig.caller.send(whole.replace(*change, 1))
        await rig.caller.expect(100)
        await rig.event(InviteReceived)


async def test_an_address_without_brackets_has_no_display_name() -> None:
    async with Rig() as rig:
        whole = (
            rig_invite(rig)
            .replace(b">;tag=from-a", b";tag=from-a;note=a,b")
            .replace(FROM, b"From: sip:1000@")
        )
        rig.caller.send(whole.replace(b";note=a,b", b';note="a,b"'))
        await rig.caller.expect(100)


@pytest.mark.parametrize(
    "body",
    [
        OFFER + b"m=image 4002 udptl t38\r\na=T38FaxVersion:0\r\nm=video 0 RTP/AVP 96\r\ni=\xff\xfe\r\n",
        OFFER.replace(b"\r\n", b"\n"),
        b"v=0\r\n",
        OFFER + b"\r\n\r\n",
        OFFER + b"a=\r\n",
    ],
)
async def test_a_body_of_sdp_lines_passes_whatever_they_say(body: bytes) -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite(body=body)
        assert (await rig.gateway.expect("INVITE")).body == body


async def test_sdp_with_a_nul_is_refused() -> None:
    async with Rig() as rig:
        rig.invite(body=OFFER.replace(b"s=-", b"s=\0"))
        await rig.caller.expect(400)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_broken_sdp_in_a_dialog_is_refused_and_the_call_goes_on(method: str) -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, method, a, cseq=2, body=b"v=0\r\nnonsense\r\n")
        refused = await rig.caller.expect(400)
        if method == "INVITE":
            rig.ack_failure(sent, refused)
        rig.in_dialog(rig.caller, "BYE", a, cseq=3)
        await rig.gateway.expect("BYE")


async def test_a_bye_ends_the_call_whatever_else_is_wrong_with_it() -> None:
    async with Rig() as rig:
        _, a, _ = await rig.answered_call()
        wrong = (
            "Date: yesterday",
            "Proxy-Require: unheard-of",
            "Max-Forwards: 5",
            "Content-Type: text/plain",
        )
        rig.in_dialog(rig.caller, "BYE", a, *wrong, cseq=2, body=b"no SDP")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.caller.expect(200, "BYE")


async def test_multipart_is_not_read() -> None:
    async with Rig() as rig:
        rig.autopilot()
        whole = rig_invite(rig).replace(b"application/sdp", b'multipart/mixed;boundary="b"')
        rig.caller.send(whole.replace(OFFER, b"-" * len(OFFER)))
        assert (await rig.gateway.expect("INVITE")).body == b"-" * len(OFFER)


async def test_an_extension_that_a_hop_must_know_gets_420() -> None:
    async with Rig() as rig:
        rig.invite("Proxy-Require: unheard-of, another")
        assert (await rig.caller.expect(420))["Unsupported"] == "unheard-of, another"
        rig.caller.send(request(rig, "OPTIONS", "x", "Require: unheard-of"))
        assert (await rig.caller.expect(420))["Unsupported"] == "unheard-of"
        assert rig.hook.stats()["refused_extension"] == 2
        assert rig.events == []


async def test_an_answer_with_broken_sdp_is_the_callers_to_judge() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER.replace(b"v=0", b"V:0"))
        await rig.caller.expect(100)
        assert (await rig.caller.expect(200)).body.startswith(b"V:0")
