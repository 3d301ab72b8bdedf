"""A gateway whose host is a name: what its INVITE says and where it goes, and whose words in the call are
believed as DNS changes."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.commands import RelayAnswer, Route, SetServers, Snapshot
from sidecar.core.events import AnswerHeld, ByeReceived, InviteReceived, ProvisionalReceived, SnapshotTaken
from sidecar.core.terms import LegName, TransportName
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.b2bua.test_adopted import RELEASE, adopt, early, legs
from tests.b2bua.test_gateway_requests import ended, options

NAME = "gw.carrier.test"


async def now_at(rig: Rig, *agents: ScriptedUA, name: str = NAME, gateway: str = "gw") -> None:
    """What DNS says of it from now on."""
    addresses = tuple(f"{agent.host}:{agent.port}" for agent in agents)
    rig.hook.set_servers(SetServers(gateway=gateway, host_name=name, addresses=addresses))
    rig.send(Snapshot())
    await rig.until(SnapshotTaken)


def by_name(rig: Rig, invite: InviteReceived, server: ScriptedUA, **changes: Any) -> Route:
    return rig.route(invite, host=server.host, port=server.port, authority=NAME, **changes)


async def answered(rig: Rig, server: ScriptedUA, *headers: str, answer: Any = None) -> tuple[Dialog, Dialog]:
    """A call to the name that talks, as the caller sees it and as the server does."""
    sent = rig.invite()
    await rig.caller.expect(100)
    rig.send(by_name(rig, await rig.until(InviteReceived), server))
    at_b = await server.expect("INVITE")
    extra = headers or (server.contact(),)
    server.send(
        server.response(at_b, 200, *extra, "Content-Type: application/sdp", tag="to-b", body=ANSWER),
        at_b.source,
    )
    rig.send(RelayAnswer(bridge_id=(await rig.until(AnswerHeld)).bridge_id))
    a = Dialog.of_caller(sent, await rig.caller.expect(200))
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    return a, Dialog.of_callee(at_b, "to-b")


async def end_from_a(rig: Rig, a: Dialog, server: ScriptedUA) -> None:
    rig.in_dialog(rig.caller, "BYE", a, cseq=2)
    await rig.caller.expect(200, "BYE")
    bye = await server.until("BYE")
    server.reply(bye, 200)
    await rig.idle()


@pytest.mark.parametrize("with_port", [False, True])
async def test_the_invite_bears_the_name_and_goes_to_the_server(with_port: bool) -> None:
    async with Rig() as rig:
        authority = f"{NAME}:{rig.gateway.port}" if with_port else NAME
        await now_at(rig, rig.gateway)
        rig.invite()
        invite = await rig.until(InviteReceived)
        rig.send(rig.route(invite, authority=authority, uri_parameters=";user=phone"))
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.uri == f"sip:4930123@{authority};user=phone"
        assert at_b["To"] == f"<sip:4930123@{NAME}>"  # RFC 3261 §19.1.1: no port there
        rig.gateway.reply(at_b, 180, tag="b")
        await rig.until(ProvisionalReceived)
        assert rig.hook.stats()["unresolved_targets"] == 0


async def test_a_user_with_an_at_sign_does_not_make_the_name_another() -> None:
    async with Rig() as rig:
        rig.invite()
        invite = await rig.until(InviteReceived)
        rig.send(rig.route(invite, authority=NAME, user="1@elsewhere.test;x="))
        assert (await rig.caller.until(100)).code == 100
        await rig.settled(rig.gateway)  # nothing came


async def test_a_bye_is_heard_from_each_server_that_the_name_has_or_had_when_the_call_began() -> None:
    """Alone its groups would not let them: no address but the one that was called is in any."""
    groups: dict[str, Any] = {}
    for speaker in ("called", "beside it", "new"):
        async with Rig(**groups) as rig:
            agents = [await ScriptedUA.udp(f"{rig.network}.{last}") for last in (21, 22, 23)]
            for agent in agents:
                agent.peer = rig.address()
                rig.adopt(agent)
            called, beside, new = agents
            await now_at(rig, called, beside)
            a, b = await answered(rig, called)
            await called.expect("ACK")
            await now_at(rig, new)
            from_whom = {"called": called, "beside it": beside, "new": new}[speaker]
            rig.in_dialog(from_whom, "BYE", b, cseq=1)
            await from_whom.expect(200, "BYE")
            assert (await rig.until(ByeReceived)).leg_name is LegName.B
            await rig.caller.expect("BYE")
            assert rig.hook.stats()["dropped_foreign"] == 0
            assert a.call_id


async def test_nobody_else_is_heard_also_not_a_server_of_another_name_or_one_that_came_and_went() -> None:
    async with Rig() as rig:
        agents = [await ScriptedUA.udp(f"{rig.network}.{last}") for last in (21, 22, 23)]
        for agent in agents:
            agent.peer = rig.address()
            rig.adopt(agent)
        called, stranger, gone = agents
        await now_at(rig, stranger, name="other.test", gateway="other")
        await now_at(rig, called)
        a, b = await answered(rig, called)
        await called.expect("ACK")
        await now_at(rig, gone)
        await now_at(rig, called)
        for agent in (stranger, gone):
            rig.in_dialog(agent, "BYE", b, cseq=1)
        await rig.counted("dropped_foreign", 2)
        await end_from_a(rig, a, called)


async def test_an_answer_of_a_server_that_was_not_asked_is_heard_where_the_name_has_both() -> None:
    async with Rig() as rig:
        agents = [rig.adopt(await ScriptedUA.udp(f"{rig.network}.{last}")) for last in (21, 22)]
        asked, answering = agents
        await now_at(rig, asked, answering)
        ask = options(rig, host=asked.host, port=asked.port, target=f"sip:{NAME}")
        rig.hook.ask([ask])
        request = await asked.expect("OPTIONS")
        assert request.uri == f"sip:{NAME}"
        answering.send(answering.response(request, 200, tag="x"), rig.address())
        assert (await ended(rig, ask)).sip_code == 200


@pytest.mark.parametrize("contact", [NAME, f"{NAME.upper()}.", "ours"])
async def test_a_contact_that_is_the_name_is_where_the_call_is_and_not_counted(contact: str) -> None:
    async with Rig() as rig:
        await now_at(rig, rig.gateway, await rig.agent(4))
        host = NAME if contact == "ours" else contact
        a, _ = await answered(rig, rig.gateway, f"Contact: <sip:x@{host}>")
        await rig.gateway.expect("ACK")
        await end_from_a(rig, a, rig.gateway)
        assert rig.hook.stats()["unresolved_targets"] == 0


async def test_a_contact_that_is_another_gateways_name_is_reached_there() -> None:
    async with Rig() as rig:
        other = await rig.agent(4)
        await now_at(rig, other, name="other.test", gateway="other")
        a, _ = await answered(rig, rig.gateway, "Contact: <sip:x@other.test>")
        assert (await other.expect("ACK")).uri == "sip:x@other.test"
        await end_from_a(rig, a, other)
        assert rig.hook.stats()["unresolved_targets"] == 0


async def test_a_port_in_such_a_contact_counts() -> None:
    async with Rig() as rig:
        elsewhere = rig.adopt(await ScriptedUA.udp(rig.gateway.host))
        await now_at(rig, rig.gateway)
        a, _ = await answered(rig, rig.gateway, f"Contact: <sip:x@{NAME}:{elsewhere.port}>")
        await elsewhere.expect("ACK")
        await end_from_a(rig, a, elsewhere)


async def test_a_name_of_nobody_is_where_the_peer_speaks_from_and_counted() -> None:
    async with Rig() as rig:
        await now_at(rig, rig.gateway)
        a, _ = await answered(
            rig, rig.gateway, "Contact: <sip:x@nobody.test>", "Record-Route: <sip:proxy.nobody.test;lr>"
        )
        await rig.gateway.expect("ACK")
        await end_from_a(rig, a, rig.gateway)
        assert rig.hook.stats()["unresolved_targets"] >= 2


async def test_what_is_said_before_the_start_holds_after_it() -> None:
    rig = Rig()
    rig.hook.set_servers(SetServers(gateway="gw", host_name=NAME, addresses=(f"{rig.network}.22:5060",)))
    async with rig:
        called, beside = [rig.adopt(await ScriptedUA.udp(f"{rig.network}.{last}")) for last in (21, 22)]
        beside.peer = rig.address()
        _, b = await answered(rig, called)
        await called.expect("ACK")
        rig.in_dialog(beside, "BYE", b, cseq=1)
        await beside.expect(200, "BYE")


async def test_a_name_is_called_by_ipv6_too() -> None:
    async with Rig(host="::1") as rig:
        server = rig.adopt(await ScriptedUA.udp("::1"))
        rig.hook.set_servers(SetServers(gateway="gw", host_name=NAME, addresses=(f"[::1]:{server.port}",)))
        caller = rig.adopt(await ScriptedUA.udp("::1"))
        assert caller.port
        ask = options(rig, host="::1", port=server.port, target=f"sip:{NAME}", transport=TransportName.UDP)
        rig.hook.ask([ask])
        request = await server.expect("OPTIONS")
        server.reply(request, 200, tag="x")
        assert (await ended(rig, ask)).sip_code == 200


async def test_a_large_invite_to_a_name_by_udp_goes_by_tcp_where_it_listens() -> None:
    """RFC 3261 §18.1.1, at the server that was chosen."""
    async with Rig(transports=(TransportName.UDP, TransportName.TCP)) as rig:
        stream = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.21"))
        rig.hook.set_servers(
            SetServers(gateway="gw", host_name=NAME, addresses=(f"{stream.host}:{stream.port}",))
        )
        rig.invite(f"X-Long: {'x' * 1400}")
        invite = await rig.until(InviteReceived)
        rig.send(by_name(rig, invite, stream))
        at_b = await stream.expect("INVITE")
        assert at_b.uri == f"sip:4930123@{NAME}"


# --- of an earlier boot -------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked_up", [False, True])
async def test_a_call_to_a_name_is_ended_by_the_next_start_also_before_dns_has_answered(
    looked_up: bool,
) -> None:
    """Its server is known from the journal, whatever its Contact says."""
    async with Rig() as rig:
        await now_at(rig, rig.gateway)
        _, b = await answered(rig, rig.gateway, f"Contact: <sip:{NAME}>")
        await rig.gateway.expect("ACK")
        (invite,) = (one for one in rig.events if isinstance(one, InviteReceived))
        (held,) = (one for one in rig.events if isinstance(one, AnswerHeld))
        await rig.killed(adopt(invite, leg_b=held.leg))
        if looked_up:
            await now_at(rig, rig.gateway)
        rig.send(RELEASE)
        bye = await rig.gateway.expect("BYE")
        assert (bye.uri, bye["To"], bye["Call-ID"]) == (f"sip:{NAME}", b.local, b.call_id)
        rig.gateway.reply(bye, 200)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        assert {one.alive for one in (await legs(rig)).values()} == {True}


async def test_a_call_that_rang_at_a_name_is_cancelled_at_its_server_by_the_next_start() -> None:
    async with Rig() as rig:
        await now_at(rig, rig.gateway)
        sent, invite, at_b, saved = await early(rig, authority=NAME)
        await rig.killed(saved)
        rig.send(RELEASE)
        rig.ack_failure(sent, await rig.caller.expect(500, "INVITE"))
        cancel = await rig.gateway.expect("CANCEL")
        assert (cancel.uri, cancel.branch) == (at_b.uri, at_b.branch)
        assert NAME in cancel.uri
        rig.gateway.reply(cancel, 200)
        rig.gateway.reply(at_b, 487, tag="to-b")
        await rig.gateway.expect("ACK")
        await legs(rig)
        assert invite.b_token
