"""A caller over UDP behind NAT: its Contact is an address of its own network, which does not lead to it."""

from __future__ import annotations

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AckReceived, AnswerHeld, DeadlineReached, InviteReceived, Life
from sidecar.core.terms import LegName
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import Message

PRIVATE = [
    "10.0.0.7",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.1.50",
    "100.64.0.9",
    "169.254.3.4",
    "[fd00::7]",
]


async def answered(rig: Rig, contact: str, *headers: str) -> tuple[Message, Dialog]:
    """A call whose caller names this Contact: what it sent, and the dialog as the gateway sees it."""
    own = rig.caller.contact()
    sent = rig.invite(*headers, contact=contact)
    assert own not in sent.raw.decode()
    invite = await rig.event(InviteReceived)
    await rig.caller.expect(100)
    rig.send(rig.route(invite))
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
    await rig.event(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=invite.bridge_id))
    a = Dialog.of_caller(sent, await rig.caller.expect(200))
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    await rig.gateway.expect("ACK")
    await rig.until(AckReceived)
    return sent, Dialog.of_callee(at_b, "to-b")


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_caller_behind_nat_is_reached_where_its_invite_came_from(host: str) -> None:
    async with Rig(options_interval_ms=300) as rig:
        rig.gateway.answers = frozenset({"OPTIONS"})
        _, b = await answered(rig, f"<sip:a@{host}:5062>")
        asked = await rig.caller.expect("OPTIONS")
        assert asked.uri == f"sip:a@{host}:5062"
        rig.caller.reply(asked, 200)
        while (await rig.until(Life)).leg_name is not LegName.A:
            pass
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        rig.caller.reply(await rig.caller.until("BYE"), 200)
        assert rig.hook.stats()["unresolved_targets"] == 0
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


async def test_a_caller_whose_proxy_records_the_route_is_reached_through_it() -> None:
    async with Rig() as rig:
        proxy = await rig.agent(4)
        _, b = await answered(
            rig, "<sip:a@192.168.1.50:5062>", f"Record-Route: <sip:{proxy.host}:{proxy.port};lr>"
        )
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        bye = await proxy.expect("BYE")
        assert bye.uri == "sip:a@192.168.1.50:5062"


async def test_where_a_route_leads_is_not_second_guessed() -> None:
    async with Rig() as rig:
        _, b = await answered(rig, "<sip:a@192.168.1.50:5062>", "Record-Route: <sip:192.168.1.1;lr>")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200, "BYE")
        await rig.settled(rig.caller)
        assert not [message for message in rig.caller.everything if message.method == "BYE"]


async def test_a_caller_is_reached_at_another_public_address_of_its_contact() -> None:
    async with Rig() as rig:
        other = await rig.agent(4)
        _, b = await answered(rig, f"<sip:a@{other.host}:{other.port}>")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await other.expect("BYE")
