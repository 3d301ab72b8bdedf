"""A 3xx: its Contacts reach the core, and the caller only where the core says so."""

from __future__ import annotations

import pytest

from sidecar.core.commands import RelayFailure
from sidecar.core.events import Contact, InviteReceived, RouteFailed
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import Message

CONTACTS = (
    'Contact: "One, 2" <sip:4930%23111@10.0.2.1:5070;transport=TCP>;q=0.05, <sip:4930222@[2001:db8::1]>;q=1',
    "m:\t<sips:4930333;npdi@gw.example>\r\n ;expires=60;q=0.7",
    "Contact: <tel:+4930444>, <sip:10.0.2.1>",
)


async def redirected(rig: Rig, *headers: str, code: int = 302) -> tuple[InviteReceived, Message]:
    rig.invite()
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite))
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, code, *headers, tag="to-b")
    await rig.gateway.expect("ACK")
    return invite, at_b


async def test_the_contacts_of_a_3xx_are_reported_as_they_stand() -> None:
    async with Rig() as rig:
        await redirected(rig, *CONTACTS)
        failed = await rig.event(RouteFailed)
        assert failed.contacts == (
            Contact(user="4930%23111", host="10.0.2.1", port=5070, transport="TCP", q_thousandths=50),
            Contact(user="4930222", host="2001:db8::1", q_thousandths=1000),
            Contact(user="4930333;npdi", host="gw.example", transport="tls", q_thousandths=700),
            Contact(user="", host="10.0.2.1"),
        )


async def test_a_caller_who_is_sent_there_gets_them_byte_for_byte() -> None:
    async with Rig() as rig:
        invite, _ = await redirected(rig, *CONTACTS)
        await rig.event(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id, keep_contacts=True))
        shown = await rig.caller.expect(302)
        values = [line.partition(":")[2].strip().replace("\r\n", "") for line in CONTACTS]
        assert shown.all("Contact") == values


@pytest.mark.parametrize("sip_code", [0, 480])
async def test_nobody_else_sees_them(sip_code: int) -> None:
    async with Rig() as rig:
        invite, _ = await redirected(rig, *CONTACTS)
        await rig.event(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id, sip_code=sip_code))
        assert "Contact" not in await rig.caller.expect(sip_code or 302)


async def test_contacts_of_other_failures_are_nobodys_business() -> None:
    async with Rig() as rig:
        invite, _ = await redirected(rig, *CONTACTS, code=486)
        assert (await rig.event(RouteFailed)).contacts == ()
        rig.send(RelayFailure(bridge_id=invite.bridge_id, keep_contacts=True))
        assert "Contact" not in await rig.caller.expect(486)


async def test_more_contacts_than_anybody_needs_are_cut() -> None:
    async with Rig() as rig:
        await redirected(rig, *(f"Contact: <sip:{number}@10.0.2.1>" for number in range(40)))
        assert [one.user for one in (await rig.event(RouteFailed)).contacts] == [str(n) for n in range(16)]
