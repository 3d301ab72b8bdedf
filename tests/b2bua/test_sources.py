"""Who may speak in a call: the addresses that its INVITE or its answer came from or named, and others of
their group only where it shares its dialogs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from sidecar.b2bua.hook import BridgeHook
from sidecar.b2bua.settings import Listener, PeerGroup
from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AckReceived, AnswerHeld, ByeReceived, InviteReceived, MessageDropped
from sidecar.core.terms import LegName, TransportName
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig, bridge_settings
from tests.b2bua.scripted_ua import PATIENCE_S, Message, ScriptedUA, sip
from tests.rig.addresses import own_network

LEGS = list(LegName)


def block(shared: bool = False) -> Rig:
    """All are in one block, those too who have nothing to do with the call."""
    return Rig(peers=(PeerGroup(name="block", cidrs=("127.0.0.0/8",), shared_dialogs=shared),))


async def answered(
    rig: Rig, in_invite: Sequence[str] = (), in_answer: Sequence[str] = (), contact: str = ""
) -> dict[LegName, Dialog]:
    """As rig.answered_call, with header fields that name other addresses. `contact`: that of either."""
    for agent in (rig.caller, rig.gateway):
        if contact:
            agent.contact = lambda: contact  # type: ignore[method-assign]
    sent = rig.invite(*in_invite)
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite))
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 200, *in_answer, tag="to-b", body=ANSWER)
    await rig.event(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=invite.bridge_id))
    host, port = rig.address()
    ok = await rig.caller.expect(200)
    a = Dialog(f"sip:{host}:{port}", sent["From"], ok["To"], sent["Call-ID"])
    b = Dialog(f"sip:{host}:{port}", f"{at_b['To']};tag=to-b", at_b["From"], at_b["Call-ID"])
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    await rig.until(AckReceived)
    return {LegName.A: a, LegName.B: b}


async def is_heard(rig: Rig, agent: ScriptedUA, dialog: Dialog, leg: LegName) -> bool:
    """Whether its BYE ends the call."""
    dropped = rig.hook.stats()["dropped_foreign"]
    rig.in_dialog(agent, "BYE", dialog, cseq=50)
    async with asyncio.timeout(PATIENCE_S):
        while rig.hook.stats()["dropped_foreign"] == dropped:
            if byes := [event for event in rig.events if isinstance(event, ByeReceived)]:
                assert [bye.leg_name for bye in byes] == [leg]
                return True
            await asyncio.sleep(0.005)
    return False


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO", "REFER", "ACK", "PRACK", "CANCEL"])
async def test_another_of_the_block_that_knows_the_tags_does_nothing(method: str, leg: LegName) -> None:
    async with block() as rig:
        dialogs = await answered(rig)
        other = await rig.agent(5)
        for cseq in (1, 2, 50):
            rig.in_dialog(other, method, dialogs[leg], other.contact(), cseq=cseq)
        await rig.counted("dropped_foreign", 3)
        assert other.quiet
        near, far = (rig.caller, rig.gateway) if leg is LegName.A else (rig.gateway, rig.caller)
        rig.in_dialog(near, "BYE", dialogs[leg], cseq=2)  # what it sent has moved no counter
        await near.until(200, "BYE")
        await far.until("BYE")


async def test_another_of_the_block_that_knows_the_branch_cancels_nothing() -> None:
    async with block() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        await rig.event(InviteReceived)
        rig.cancel(sent, agent=await rig.agent(5))
        await rig.counted("dropped_foreign", 1)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")


@pytest.mark.parametrize("leg", LEGS)
async def test_another_of_the_block_that_knows_the_branch_cancels_no_re_invite(leg: LegName) -> None:
    async with block() as rig:
        dialogs = await answered(rig)
        near, far = (rig.caller, rig.gateway) if leg is LegName.A else (rig.gateway, rig.caller)
        if leg is LegName.A:
            await far.expect("ACK")
        near.peer = rig.address()
        asked = rig.in_dialog(near, "INVITE", dialogs[leg], near.contact(), cseq=50, body=OFFER)
        await near.until(100)
        far.reply(await far.until("INVITE"), 180)
        await near.until(180)
        rig.cancel(asked, agent=await rig.agent(5))
        # One that names the transaction alone is for its own to send, too.
        undialogued = Message(asked.raw.replace(asked["To"].encode(), b"<sip:any@192.0.2.1>"), asked.source)
        rig.cancel(undialogued, agent=await rig.agent(5))
        await rig.counted("dropped_foreign", 2)
        assert not [message for message in far.everything if message.start.startswith("CANCEL")]
        rig.cancel(asked, agent=near)
        await near.until(200, "CANCEL")
        await far.until("CANCEL")


@pytest.mark.parametrize("code", [180, 200, 486])
async def test_another_of_the_block_answers_nothing(code: int) -> None:
    async with block() as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        other = await rig.agent(5)
        other.send(other.response(at_b, code, other.contact(), tag="forged"), at_b.source)
        await rig.counted("dropped_foreign", 1)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.caller.expect(100)
        await rig.caller.expect(200)


@pytest.mark.parametrize("leg", LEGS)
async def test_another_of_a_group_that_shares_its_dialogs_may_speak_in_them(leg: LegName) -> None:
    async with block(shared=True) as rig:
        dialogs = await answered(rig)
        assert await is_heard(rig, await rig.agent(5), dialogs[leg], leg)


async def test_another_of_a_group_that_shares_its_dialogs_may_answer() -> None:
    async with block(shared=True) as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        other = await rig.agent(5)
        other.send(other.response(at_b, 486, tag="to-b"), at_b.source)
        await rig.caller.expect(100)
        await rig.caller.expect(486)


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("name", ["Contact", "Record-Route"])
async def test_an_address_that_the_peer_names_may_speak(name: str, leg: LegName) -> None:
    async with block() as rig:
        uri = f"<sip:{rig.network}.5:5060;lr>"
        routes = [f"Record-Route: <sip:{rig.network}.6;lr>, {uri}"] if name == "Record-Route" else []
        dialogs = await answered(rig, routes, routes, contact=f"Contact: {uri}" if name == "Contact" else "")
        assert await is_heard(rig, await rig.agent(5), dialogs[leg], leg)


@pytest.mark.parametrize(
    "via", ["SIP/2.0/UDP {}.5;branch=z9hG4bK-1", "SIP/2.0/TLS a.example;received={}.5;branch=z9hG4bK-1"]
)
async def test_an_address_that_the_invite_came_through_may_speak(via: str) -> None:
    async with block() as rig:
        dialogs = await answered(rig, [f"Via: {via.format(rig.network)}"])
        assert await is_heard(rig, await rig.agent(5), dialogs[LegName.A], LegName.A)


@pytest.mark.parametrize("leg", LEGS)
async def test_an_address_that_a_re_invite_names_may_speak_from_then_on(leg: LegName) -> None:
    async with block() as rig:
        dialogs = await answered(rig)
        near, far = (rig.caller, rig.gateway) if leg is LegName.A else (rig.gateway, rig.caller)
        other = await rig.agent(5)
        assert not await is_heard(rig, other, dialogs[leg], leg)
        rig.in_dialog(near, "UPDATE", dialogs[leg], other.contact(), cseq=5)
        update = await far.until("UPDATE")
        far.reply(update, 200, far.contact())
        await near.until(200, "UPDATE")
        assert await is_heard(rig, other, dialogs[leg], leg)


@pytest.mark.parametrize("leg", LEGS)
async def test_an_address_in_no_group_may_speak_where_the_peer_has_named_it(leg: LegName) -> None:
    async with Rig() as rig:
        stranger = await rig.agent(9)
        dialogs = await answered(rig, contact=stranger.contact())
        assert await is_heard(rig, stranger, dialogs[leg], leg)


@pytest.mark.parametrize("leg", LEGS)
async def test_an_address_of_another_group_may_not_speak_though_the_peer_has_named_it(leg: LegName) -> None:
    async with Rig() as rig:
        dialogs = await answered(rig, contact=f"Contact: <sip:{rig.network}.{3 if leg is LegName.A else 2}>")
        other = rig.gateway if leg is LegName.A else rig.caller
        assert not await is_heard(rig, other, dialogs[leg], leg)


async def test_an_address_of_the_group_may_not_speak_from_another_port_than_the_group_has() -> None:
    network = own_network()
    caller, other, second = [await ScriptedUA.udp(f"{network}.{last}") for last in (2, 2, 5)]
    proxies = PeerGroup(name="proxies", cidrs=(f"{network}.0/28",), port=caller.port, shared_dialogs=True)
    async with Rig(peers=(proxies,)) as rig:
        for agent in (caller, other, second):
            agent.peer = rig.address()
            rig.adopt(agent)
        rig.caller = caller
        dialogs = await answered(rig, contact=f"Contact: <sip:{second.host}:{second.port}>")
        for agent in (other, second):
            assert not await is_heard(rig, agent, dialogs[LegName.A], LegName.A)
        assert await is_heard(rig, rig.gateway, dialogs[LegName.B], LegName.B)  # in no group, and was called


@pytest.mark.parametrize("leg", LEGS)
async def test_a_name_is_no_address(leg: LegName) -> None:
    async with block() as rig:
        dialogs = await answered(rig, contact="Contact: <sip:localhost>")
        assert not await is_heard(rig, await rig.agent(5), dialogs[leg], leg)


async def test_more_names_than_are_kept_do_not_push_out_the_peer_itself() -> None:
    async with block() as rig:
        many = [f"Record-Route: <sip:192.0.2.{number};lr>" for number in range(1, 41)]
        route = f"Record-Route: <sip:{rig.caller.host}:{rig.caller.port};lr>"
        dialogs = await answered(rig, [route, *many])
        assert await is_heard(rig, rig.caller, dialogs[LegName.A], LegName.A)


async def test_what_is_dropped_is_told_so_often_and_no_more() -> None:
    async with block() as rig:
        dialogs = await answered(rig)
        other = await rig.agent(5)
        began = time.monotonic()
        for number in range(200):
            rig.in_dialog(other, "BYE", dialogs[LegName.A], cseq=2 + number)
            if number % 50 == 49:
                await rig.counted("dropped_foreign", number + 1)
        seconds = time.monotonic() - began
        told = await rig.until(MessageDropped)
        assert (told.peer, told.method, told.reason) == ("block", "BYE", "source")
        assert told.source == f"{other.host}:{other.port}"
        assert told.sip_call_id == dialogs[LegName.A].call_id
        await rig.settled(rig.caller)
        count = sum(isinstance(event, MessageDropped) for event in rig.events)
        assert 1 <= count <= 10 * (seconds + 2)


async def test_what_another_branch_has_named_may_not_speak_for_this_one() -> None:
    async with block() as rig:
        other = await rig.agent(5)
        sent = rig.invite()
        rig.send(rig.route(await rig.event(InviteReceived)))
        at_b = await rig.gateway.expect("INVITE")
        for tag, contact in (("one", other.contact()), ("two", rig.gateway.contact())):
            rig.gateway.send(rig.gateway.response(at_b, 180, contact, tag=tag), at_b.source)
            await rig.caller.until(180)
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)
        rig.send(RelayAnswer(bridge_id=(await rig.until(AnswerHeld)).bridge_id))
        a = Dialog.of_caller(sent, await rig.caller.until(200))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.until(AckReceived)
        b = Dialog.of_callee(at_b, "two")
        assert not await is_heard(rig, other, b, LegName.B)
        rig.gateway.peer = rig.address()
        assert await is_heard(rig, rig.gateway, b, LegName.B)


async def test_a_caller_is_answered_from_the_socket_that_it_asked() -> None:
    network = own_network()
    hosts = [f"{network}.1", f"{network}.7"]
    hook = BridgeHook(
        bridge_settings(
            listeners=tuple(Listener(transport=TransportName.UDP, host=host, port=0) for host in hosts),
            peers=(PeerGroup(name="block", cidrs=("127.0.0.0/8",)),),
        )
    )
    await hook.start()
    caller = await ScriptedUA.udp(f"{network}.2")
    try:
        for number, address in enumerate(hook.addresses):
            host, _, port = address.removeprefix("udp:").rpartition(":")
            caller.send(
                sip(
                    f"INVITE sip:1@{host} SIP/2.0",
                    f"Via: SIP/2.0/UDP {caller.host}:{caller.port};branch=z9hG4bK-{number}",
                    "Max-Forwards: 70",
                    f"From: <sip:{caller.host}>;tag=x",
                    f"To: <sip:{host}>",
                    f"Call-ID: asked-{number}",
                    "CSeq: 1 INVITE",
                    caller.contact(),
                ),
                (host, int(port)),
            )
            trying = await caller.expect(100)
            assert trying.source == (host, int(port))
    finally:
        caller.close()
        await hook.stop()
