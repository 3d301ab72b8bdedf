"""A caller over UDP behind NAT: its Contact is an address of its own network, which does not lead to it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AckReceived, AnswerHeld, DeadlineReached, InviteReceived, Life
from sidecar.core.terms import LegName
from tests.b2bua.rig import ANSWER, OFFER, SDP, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, sip
from tests.rig.node import Node

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


async def test_where_the_setting_says_so_a_caller_is_reached_at_its_contact_alone() -> None:
    async with Rig(of_callers={"finds_nat": False}) as rig:
        _, b = await answered(rig, "<sip:a@192.168.1.50:5062>")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200, "BYE")
        await rig.settled(rig.caller)
        assert rig.caller.quiet


PROFILE: Final = """
[sip]
listen_udp = ["{network}.1:0"]

[peers.all]
addresses = ["{network}.0/24"]
nat = "{nat}"

[gateways.carrier]
host = "{network}.3"
port = {port}
"""


@pytest.mark.parametrize("nat", ["auto", "off"])
async def test_the_setting_decides_for_calls_of_a_node(tmp_path: Path, nat: str) -> None:
    node = Node(tmp_path)
    caller, gateway = [await ScriptedUA.udp(f"{node.network}.{last}") for last in (2, 3)]
    node._profile = PROFILE.format(network=node.network, nat=nat, port=gateway.port)
    async with node.up():
        host, port = node.daemon.sip
        caller.peer = gateway.peer = (host, port)

        def from_caller(
            method: str, uri: str, to: str, cseq: int, *headers: str, body: bytes = b""
        ) -> Message:
            data = sip(
                f"{method} {uri} SIP/2.0",
                caller.via_line(f"z9hG4bK-{method}-{cseq}"),
                f"From: <sip:a@{caller.host}>;tag=a",
                f"To: {to}",
                "Call-ID: nat",
                f"CSeq: {cseq} {method}",
                "Max-Forwards: 70",
                *headers,
                body=body,
            )
            caller.send(data)
            return Message(data, (caller.host, caller.port))

        contact = "Contact: <sip:a@192.168.1.50:5062>"
        from_caller(
            "INVITE", f"sip:4930123@{host}:{port}", f"<sip:4930123@{host}>", 1, contact, SDP, body=OFFER
        )
        at_b = await gateway.expect("INVITE")
        gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        ok = await caller.until(200)
        from_caller("ACK", ok["Contact"].strip("<>"), ok["To"], 1)
        await gateway.expect("ACK")
        b = Dialog.of_callee(at_b, "to-b")
        gateway.send(
            sip(
                f"BYE {b.target} SIP/2.0",
                gateway.via_line("z9hG4bK-bye"),
                f"From: {b.local}",
                f"To: {b.remote}",
                f"Call-ID: {b.call_id}",
                "CSeq: 1 BYE",
                "Max-Forwards: 70",
            )
        )
        await gateway.expect(200, "BYE")
        if nat == "auto":
            caller.reply(await caller.expect("BYE"), 200)
        else:
            from_caller("OPTIONS", f"sip:{host}:{port}", f"<sip:{host}>", 3)
            await caller.expect(200, "OPTIONS")  # and nothing before it
        caller.close()
        gateway.close()
