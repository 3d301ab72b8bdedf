"""URNs in the place of numbers (RFC 5031): carried where a route names them, and bare ones in From and To."""

from __future__ import annotations

import itertools
from typing import Final

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AckReceived, AnswerHeld, ByeReceived, InviteReceived, LegTerminated
from sidecar.core.terms import LegName
from tests.b2bua.rig import ANSWER, OFFER, SDP, Dialog, Rig
from tests.b2bua.scripted_ua import Message, sip

SOS: Final = "urn:service:sos"

_numbers = itertools.count(1)


def sent_to(rig: Rig, urn: str, to: str = "") -> Message:
    """An INVITE to it from the caller."""
    caller = rig.caller
    number = next(_numbers)
    data = sip(
        f"INVITE {urn} SIP/2.0",
        caller.via_line(f"z9hG4bK-urn-{number}"),
        "Max-Forwards: 70",
        f"From: <sip:1000@{caller.host}>;tag=from-a",
        f"To: {to or f'<{urn}>'}",
        f"Call-ID: urn-{number}",
        "CSeq: 1 INVITE",
        caller.contact(),
        SDP,
        body=OFFER,
    )
    caller.send(data)
    return Message(data, (caller.host, caller.port))


async def routed(rig: Rig, sent: Message) -> tuple[InviteReceived, Message]:
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite, urn=invite.request_uri))
    return invite, await rig.gateway.expect("INVITE")


@pytest.mark.parametrize("urn", [SOS, "urn:service:sos.fire", "URN:Service:SOS.police.municipal"])
async def test_a_urn_that_a_route_names_is_carried_as_it_came(urn: str) -> None:
    async with Rig(carried_urns=(SOS,)) as rig:
        sent = sent_to(rig, urn)
        invite, at_b = await routed(rig, sent)
        assert (invite.request_uri, invite.request_user) == (urn, urn)
        assert (at_b.uri, at_b["To"].strip("<>").lower()) == (urn, urn.lower())
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        await rig.until(AckReceived)
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await rig.gateway.expect(200, "BYE")
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.idle()


async def test_a_call_to_a_urn_is_cancelled_and_refused_as_any_other() -> None:
    async with Rig(carried_urns=(SOS,)) as rig:
        sent = sent_to(rig, SOS)
        _, at_b = await routed(rig, sent)
        rig.gateway.reply(at_b, 180, tag="to-b")
        await rig.caller.expect(180)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.caller.expect(487)
        cancel = await rig.gateway.expect("CANCEL")
        assert cancel.uri == SOS
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        assert (await rig.gateway.expect("ACK")).uri == SOS


@pytest.mark.parametrize(
    "urn", ["urn:service:counseling", "urn:service:sosx", "urn:nena:service:sos", "urn:service:so"]
)
async def test_a_urn_that_no_route_names_gets_416(urn: str) -> None:
    async with Rig(carried_urns=(SOS,)) as rig:
        sent_to(rig, urn)
        await rig.caller.expect(416)
        assert rig.events == []


async def test_an_emergency_call_is_taken_by_a_node_that_is_full_and_not_by_one_that_drains() -> None:
    async with Rig(carried_urns=(SOS, "urn:service:counseling"), calls_max=1) as rig:
        rig.invite()
        await rig.caller.expect(100)
        sent_to(rig, "urn:service:counseling")
        await rig.caller.expect(503)
        sent_to(rig, "urn:service:sos.ambulance")
        await rig.caller.expect(100)
    async with Rig(carried_urns=(SOS,)) as rig:
        await rig.accepting("drain")
        sent_to(rig, SOS)
        await rig.caller.expect(503)


async def test_an_emergency_number_is_one_exactly_and_has_places_of_its_own() -> None:
    async with Rig(emergency_users=frozenset({"112"}), calls_max=1, emergency_places=2) as rig:
        rig.invite()
        await rig.caller.expect(100)
        for user, code in (("1123", 503), ("11", 503), ("112", 100), ("112;phone-context=+49", 100)):
            sent_to(rig, f"sip:{user}@127.0.0.1")
            await rig.caller.expect(code)
        sent_to(rig, "sip:112@127.0.0.1")  # both of its places are taken
        await rig.caller.expect(503)


async def test_an_emergency_call_is_under_no_limit_of_requests() -> None:
    async with Rig(carried_urns=(SOS,), of_callers={"requests_per_s": 1}) as rig:
        for _ in range(5):
            sent_to(rig, SOS)
            await rig.caller.expect(100)
            await rig.until(InviteReceived)


@pytest.mark.parametrize("to", [SOS, f"<{SOS}>", f"{SOS};x=1", "sip:4930123@127.0.0.1"])
async def test_a_bare_urn_in_to_has_its_tag_behind_it(to: str) -> None:
    """RFC 3261 §20: without brackets, what follows a semicolon is the header field's."""
    async with Rig(carried_urns=(SOS,)) as rig:
        sent = sent_to(rig, SOS, to=to)
        invite, at_b = await routed(rig, sent)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        tag = ok["To"].rpartition(";tag=")[2]
        a = Dialog.of_caller(sent, ok)
        a.remote = f"{to};tag={tag}"
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        await rig.until(AckReceived)
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        assert (await rig.until(ByeReceived)).leg_name is LegName.A
        await rig.caller.expect(200, "BYE")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.until(LegTerminated)


async def test_a_bare_urn_in_from_has_its_tag_behind_it() -> None:
    async with Rig() as rig:
        _, _, b = await rig.answered_call()
        b.local = f"{SOS};tag=to-b"
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        assert (await rig.until(ByeReceived)).leg_name is LegName.B
        await rig.gateway.expect(200, "BYE")
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.idle()
