"""TLS: who is let in, who is called, by which names of their certificates (RFC 5922 §7) and authorities."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from sidecar.b2bua.settings import PeerGroup, TlsFiles
from sidecar.core.commands import RelayAnswer, SetServers
from sidecar.core.events import AnswerHeld, InviteReceived, RouteFailed
from sidecar.core.terms import LegName, RouteFailure, TransportName
from tests.b2bua.authority import PROXY, TLS, VERSIONS, Authority, client, comes_from, refused_from, server
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.b2bua.test_adopted import RELEASE, adopt, legs


def named(*names: str) -> dict[str, Any]:
    group = PeerGroup(name="proxy", cidrs=("127.0.0.0/8",), tls_names=names)
    return {"peers": (group,), **TLS}


# --- who connects to us -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("cn", "alternatives"),
    [
        (PROXY, ""),
        ("Proxy.EXAMPLE", ""),
        (PROXY, "IP:127.0.0.1"),  # no domain
        ("", f"DNS:{PROXY}"),
        ("", "DNS:PROXY.example"),
        ("", f"URI:sip:{PROXY}"),
        ("other.example", f"DNS:other.example,DNS:{PROXY}"),
        ("", f"URI:sip:other.example,URI:SIP:{PROXY}"),
    ],
)
async def test_a_peer_is_known_by_its_certificate(
    ours: TlsFiles, authority: Authority, cn: str, alternatives: str, version: ssl.TLSVersion
) -> None:
    async with Rig(tls=ours, **named(PROXY)) as rig:
        context = client(authority.certificate, authority.sign(cn, alternatives), version)
        peer = await comes_from(rig, 2, context)
        rig.invite(agent=peer)
        await peer.expect(100)
        invite = await rig.event(InviteReceived)
        assert (invite.peer, invite.leg.transport) == ("proxy", TransportName.TLS)
        assert invite.tls_name in (PROXY, "other.example")


@pytest.mark.parametrize(
    ("cn", "alternatives"),
    [
        ("other.example", ""),
        ("", ""),
        (PROXY, "DNS:other.example"),  # the common name counts only where there is no domain
        (PROXY, "URI:sip:other.example"),
        (PROXY, "URI:https://other.example"),
        ("*.example", ""),
        ("", "DNS:*.example"),
        ("", f"URI:sip:a@{PROXY}"),
        ("", f"URI:https://{PROXY}"),
        ("", f"email:a@{PROXY}"),
        ("", f"DNS:a.{PROXY}"),
        ("", f"DNS:{PROXY}.net"),
    ],
)
async def test_a_peer_without_the_name_is_none(
    ours: TlsFiles, authority: Authority, cn: str, alternatives: str
) -> None:
    async with Rig(tls=ours, **named(PROXY)) as rig:
        await gets_nothing(rig, client(authority.certificate, authority.sign(cn, alternatives)))
        await rig.counted("refused_certificates", 1)


async def test_a_peer_that_is_known_by_its_certificate_is_not_known_without_tls(ours: TlsFiles) -> None:
    async with Rig(tls=ours, **named(PROXY)) as rig:
        rig.invite()
        await rig.counted("dropped_unlisted", 1)
        assert rig.caller.quiet


async def gets_nothing(rig: Rig, context: ssl.SSLContext) -> None:
    try:
        agent = await comes_from(rig, 2, context)
        rig.invite(agent=agent)
        await agent.until_closed()
    except (ssl.SSLError, ConnectionError):
        return  # already while it connects
    assert agent.quiet


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", ["none", "expired", "another authority", "its own authority"])
async def test_who_has_no_valid_certificate_gets_nothing_where_a_ca_is_set(
    ours: TlsFiles, authority: Authority, other: Authority, which: str, version: ssl.TLSVersion
) -> None:
    certificates: dict[str, Callable[[], tuple[str, str] | None]] = {
        "none": lambda: None,
        "expired": lambda: authority.sign(PROXY, days=0),
        "another authority": lambda: other.sign(PROXY),
        "its own authority": lambda: (other.certificate, other.certificate.replace(".pem", ".key")),
    }
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        await gets_nothing(rig, client(authority.certificate, certificates[which](), version))
        await rig.settled(rig.caller)
        assert rig.hook.stats()["invites"] == 0
        peer = await comes_from(rig, 2, client(authority.certificate, authority.sign(PROXY), version))
        rig.invite(agent=peer)
        await peer.expect(100)


async def test_nobody_needs_a_certificate_where_no_ca_is_set(ours: TlsFiles, authority: Authority) -> None:
    files = TlsFiles(certificate=ours.certificate, private_key=ours.private_key)
    async with Rig(tls=files, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        peer = await comes_from(rig, 2, client(authority.certificate, None))
        rig.invite(agent=peer)
        await peer.expect(100)


# --- whom we connect to -------------------------------------------------------------------------------------


async def called(rig: Rig, context: ssl.SSLContext) -> tuple[ScriptedUA, InviteReceived]:
    gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3", context))
    rig.invite()
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite, host=gateway.host, port=gateway.port, transport=TransportName.TLS))
    return gateway, invite


def gateway_rig(ours: TlsFiles, *names: str) -> Rig:
    rig = Rig(tls=ours, **TLS)
    hosts = ((f"{rig.network}.3", names),)
    rig.settings = msgspec.structs.replace(rig.settings, gateway_tls_names=hosts)
    rig.hook = rig.hook.__class__(rig.settings)
    rig.hook.on_events(rig._take)
    return rig


@pytest.mark.parametrize(
    "alternatives", ["IP:{host}", "DNS:{host}", "DNS:Carrier.example", "URI:sip:carrier.example"]
)
async def test_a_gateway_bears_its_host_or_one_of_its_names(
    ours: TlsFiles, authority: Authority, alternatives: str
) -> None:
    async with gateway_rig(ours, "carrier.EXAMPLE", "other.example") as rig:
        own = authority.sign("", alternatives.format(host=f"{rig.network}.3"))
        gateway, _ = await called(rig, server(authority.certificate, own))
        at_b = await gateway.expect("INVITE")
        gateway.reply(at_b, 486, tag="to-b")
        failed = await rig.until(RouteFailed)
        assert (failed.cause, failed.sip_code) == (RouteFailure.FINAL_RESPONSE, 486)


@pytest.mark.parametrize(
    ("alternatives", "days", "signer"),
    [
        ("DNS:elsewhere.example", 2, "authority"),
        ("DNS:*.example", 2, "authority"),
        ("IP:127.0.0.9", 2, "authority"),
        ("DNS:carrier.example", 0, "authority"),
        ("DNS:carrier.example", 2, "other"),
        ("IP:{host}", 2, "other"),
    ],
)
async def test_a_gateway_with_another_certificate_is_told_nothing(
    ours: TlsFiles, authority: Authority, other: Authority, alternatives: str, days: int, signer: str
) -> None:
    async with gateway_rig(ours, "carrier.example") as rig:
        by = {"authority": authority, "other": other}[signer]
        cn = "carrier.example" if "DNS" in alternatives else ""  # which counts where there is no domain
        own = by.sign(cn, alternatives.format(host=f"{rig.network}.3"), days)
        gateway, _ = await called(rig, server(authority.certificate, own))
        assert (await rig.until(RouteFailed)).cause is RouteFailure.UNREACHABLE
        assert gateway.everything == []
        assert rig.hook.stats()["refused_certificates"] == 1


async def test_any_certificate_of_a_gateway_will_do_where_no_ca_is_set(
    ours: TlsFiles, authority: Authority, other: Authority
) -> None:
    files = TlsFiles(certificate=ours.certificate, private_key=ours.private_key)
    async with gateway_rig(files) as rig:
        gateway, _ = await called(rig, server(authority.certificate, other.sign("elsewhere.example")))
        await gateway.expect("INVITE")


PAI: Final = "P-Asserted-Identity: <sip:+4930777@x.example>"


async def test_a_call_over_tls_on_both_sides(ours: TlsFiles, authority: Authority) -> None:
    """The gateway's group is known by its certificate, which nobody has seen before it is called."""
    group = PeerGroup(name="all", cidrs=("127.0.0.0/8",), tls_names=(PROXY,), asserts_identity=True)
    async with Rig(tls=ours, peers=(group,), **TLS) as rig:
        own = authority.sign("", f"DNS:{PROXY},IP:{rig.network}.3")
        peer = await comes_from(rig, 2, client(authority.certificate, own))
        gateway = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.3", server(authority.certificate, own))
        )
        sent = rig.invite(PAI, agent=peer)
        await peer.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, host=gateway.host, port=gateway.port, transport=TransportName.TLS))
        at_b = await gateway.expect("INVITE")
        assert "P-Asserted-Identity" in at_b
        gateway.reply(at_b, 200, PAI, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await peer.expect(200)
        assert "P-Asserted-Identity" in ok
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(peer, "ACK", a, cseq=1)
        await gateway.expect("ACK")
        rig.in_dialog(gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await gateway.expect(200, "BYE")
        peer.reply(await peer.expect("BYE"), 200)
        await rig.idle()


# --- an authority of one's own ------------------------------------------------------------------------------


def two_peers(rig: Rig, of_a: Authority, of_b: Authority, **changes: Any) -> tuple[PeerGroup, PeerGroup]:
    """`.2` is peer a, `.3` peer b."""
    a, b = (
        PeerGroup(name=name, cidrs=(f"{rig.network}.{last}/32",), tls_ca=own.certificate)
        for name, last, own in (("a", 2, of_a), ("b", 3, of_b))
    )
    return msgspec.structs.replace(a, **changes), b


def rig_with(rig: Rig, **changes: Any) -> Rig:
    """Of settings that need to know its addresses."""
    rig.settings = msgspec.structs.replace(rig.settings, **changes)
    rig.hook = rig.hook.__class__(rig.settings)
    rig.hook.on_events(rig._take)
    return rig


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("node_has_one", [False, True])
async def test_a_peer_goes_back_to_its_own_authority_and_no_other_will_do(
    ours: TlsFiles,
    authority: Authority,
    other: Authority,
    third: Authority,
    version: ssl.TLSVersion,
    node_has_one: bool,
) -> None:
    tls = ours if node_has_one else msgspec.structs.replace(ours, ca="")
    rig = Rig(tls=tls, **TLS)
    async with rig_with(rig, peers=two_peers(rig, other, third)):
        of_other, of_third, of_node = (one.sign(PROXY) for one in (other, third, authority))
        await refused_from(rig, 2, client(authority.certificate, of_third, version))
        await refused_from(rig, 3, client(authority.certificate, of_other, version))
        await refused_from(rig, 2, client(authority.certificate, of_node, version))
        if not node_has_one:  # else the handshake itself fails
            await refused_from(rig, 2, client(authority.certificate, None, version))
        for last, own, name in ((2, of_other, "a"), (3, of_third, "b")):
            agent = await comes_from(rig, last, client(authority.certificate, own, version))
            rig.invite(agent=agent)
            await agent.expect(100)
            invite = await rig.event(InviteReceived)
            # An authority of one group vouches for none of the names that accounts are found by.
            assert (invite.peer, invite.tls_name) == (name, "")


async def test_a_name_that_the_group_lists_is_told_whoever_its_authority_is(
    ours: TlsFiles, authority: Authority, other: Authority, third: Authority
) -> None:
    rig = Rig(tls=ours, **TLS)
    async with rig_with(rig, peers=two_peers(rig, other, third, tls_names=("a.example", PROXY))):
        await refused_from(rig, 2, client(authority.certificate, other.sign("b.example")))
        own = other.sign("", f"DNS:b.example,DNS:{PROXY}")
        agent = await comes_from(rig, 2, client(authority.certificate, own))
        rig.invite(agent=agent)
        assert (await rig.event(InviteReceived)).tls_name == PROXY


async def test_the_authority_of_one_peer_vouches_for_nobody_else(
    ours: TlsFiles, authority: Authority, other: Authority, third: Authority
) -> None:
    rig = Rig(tls=ours, **TLS)
    a, _ = two_peers(rig, other, third)
    rest = PeerGroup(name="rest", cidrs=(f"{rig.network}.3/32",))
    async with rig_with(rig, peers=(a, rest)):
        await refused_from(rig, 3, client(authority.certificate, other.sign(PROXY)))
        await refused_from(rig, 9, client(authority.certificate, other.sign(PROXY)))  # of no group
        agent = await comes_from(rig, 3, client(authority.certificate, authority.sign(PROXY)))
        rig.invite(agent=agent)
        assert (await rig.event(InviteReceived)).peer == "rest"


async def test_a_peer_with_an_authority_of_its_own_is_not_known_without_tls(
    ours: TlsFiles, other: Authority, third: Authority
) -> None:
    rig = Rig(tls=ours, **TLS)
    async with rig_with(rig, peers=two_peers(rig, other, third)):
        rig.invite()
        await rig.counted("dropped_unlisted", 1)
        assert rig.caller.quiet


async def test_peers_without_an_authority_need_no_certificate_where_the_node_has_none(
    ours: TlsFiles, authority: Authority, other: Authority, third: Authority
) -> None:
    rig = Rig(tls=msgspec.structs.replace(ours, ca=""), **TLS)
    a, _ = two_peers(rig, other, third)
    rest = PeerGroup(name="rest", cidrs=(f"{rig.network}.3/32",))
    async with rig_with(rig, peers=(a, rest)):
        for own in (None, third.sign(PROXY)):
            agent = await comes_from(rig, 3, client(authority.certificate, own))
            rig.invite(agent=agent)
            invite = await rig.event(InviteReceived)
            assert (invite.peer, invite.tls_name) == ("rest", "")


@pytest.mark.parametrize("whose", ["its own", "its group's"])
@pytest.mark.parametrize(("signer", "reached"), [("other", True), ("authority", False), ("third", False)])
async def test_a_gateway_goes_back_to_its_own_authority(
    ours: TlsFiles,
    authority: Authority,
    other: Authority,
    third: Authority,
    whose: str,
    signer: str,
    reached: bool,
) -> None:
    rig = Rig(tls=ours, **TLS)
    host = f"{rig.network}.3"
    own = whose == "its own"
    groups = (
        PeerGroup(name="callers", cidrs=(f"{rig.network}.2/32",)),
        PeerGroup(name="gateways", cidrs=(f"{host}/32",), tls_ca="" if own else other.certificate),
    )
    cas = ((host, other.certificate),) if own else ()
    rig_with(rig, peers=groups, gateway_tls_names=((host, ("carrier.example",)),), gateway_tls_cas=cas)
    async with rig:
        by = {"authority": authority, "other": other, "third": third}[signer]
        gateway, _ = await called(rig, server(authority.certificate, by.sign("carrier.example")))
        if reached:
            gateway.reply(await gateway.expect("INVITE"), 486, tag="to-b")
            assert (await rig.until(RouteFailed)).sip_code == 486
        else:
            assert (await rig.until(RouteFailed)).cause is RouteFailure.UNREACHABLE
            assert gateway.everything == []
            assert rig.hook.stats()["refused_certificates"] == 1


# --- a gateway whose host is a name -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alternatives", "heard"),
    [
        ("DNS:gw.carrier.test", True),
        ("URI:sip:gw.carrier.test", True),
        ("DNS:srv1.carrier.test", False),  # what SRV led to (RFC 5922 §7.1: the domain, not that)
        ("IP:{host}", False),
    ],
)
async def test_a_server_of_a_name_bears_the_name_and_nothing_that_dns_led_to(
    ours: TlsFiles, authority: Authority, alternatives: str, heard: bool
) -> None:
    async with Rig(tls=ours, **TLS) as rig:
        own = authority.sign("", alternatives.format(host=f"{rig.network}.21"))
        gateway = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.21", server(authority.certificate, own))
        )
        place = f"{gateway.host}:{gateway.port}"
        rig.hook.set_servers(SetServers(gateway="gw", host_name="gw.carrier.test", addresses=(place,)))
        rig.invite()
        invite = await rig.event(InviteReceived)
        route = rig.route(invite, host=gateway.host, port=gateway.port, transport=TransportName.TLS)
        rig.send(msgspec.structs.replace(route, authority="gw.carrier.test"))
        if heard:
            at_b = await gateway.expect("INVITE")
            assert at_b.uri == "sip:4930123@gw.carrier.test;transport=tls"
            gateway.reply(at_b, 486, tag="to-b")
        failed = await rig.until(RouteFailed)
        assert failed.cause is (RouteFailure.FINAL_RESPONSE if heard else RouteFailure.UNREACHABLE)
        assert rig.hook.stats()["refused_certificates"] == (not heard)


# --- of an earlier boot -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bears", ["carrier.example", "other.example"])
async def test_a_gateway_gets_its_bye_by_a_new_connection_if_it_bears_its_name(
    ours: TlsFiles, authority: Authority, bears: str
) -> None:
    async with gateway_rig(ours, "carrier.example") as rig:
        host = f"{rig.network}.3"
        right = server(authority.certificate, authority.sign("", "DNS:carrier.example"))
        gateway = rig.adopt(await ScriptedUA.tcp_server(host, right))
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, host=host, port=gateway.port, transport=TransportName.TLS))
        gateway.reply(await gateway.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        held = await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=held.bridge_id))
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, await rig.caller.expect(200)), cseq=1)
        await gateway.expect("ACK")
        await rig.killed(adopt(invite, leg_b=held.leg))
        gateway.hang_up()
        right.load_cert_chain(*authority.sign("", f"DNS:{bears}"))  # of each handshake from now on
        rig.send(RELEASE)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        if bears == "carrier.example":
            gateway.reply(await gateway.expect("BYE"), 200)
        ended = await legs(rig)
        assert ended[LegName.B].alive == (bears == "carrier.example")
        assert rig.hook.stats()["refused_certificates"] == (bears != "carrier.example")


async def test_a_caller_gets_its_bye_where_its_contact_says(ours: TlsFiles, authority: Authority) -> None:
    """It had made the connection, which is gone with the node that was killed."""
    group = PeerGroup(name="all", cidrs=("127.0.0.0/8",), tls_names=(PROXY,))
    gateways = PeerGroup(name="gateways", cidrs=("127.0.0.0/8",))
    async with Rig(tls=ours, peers=(group, gateways), **TLS) as rig:
        own = authority.sign("", f"DNS:{PROXY}")
        listens = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.2", server(authority.certificate, own))
        )
        caller = await comes_from(rig, 2, client(authority.certificate, own))
        caller.port = listens.port  # of its Via and its Contact
        sent = rig.invite(agent=caller)
        await caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        held = await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=held.bridge_id))
        rig.in_dialog(caller, "ACK", Dialog.of_caller(sent, await caller.expect(200)), cseq=1)
        await rig.gateway.expect("ACK")
        await rig.killed(adopt(invite, leg_b=held.leg))
        rig.send(RELEASE)
        bye = await listens.expect("BYE")
        assert bye["Via"].startswith("SIP/2.0/TLS")
        listens.reply(bye, 200)
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        assert {one.alive for one in (await legs(rig)).values()} == {True}


async def test_what_is_heard_of_a_tls_peer_without_tls_moves_no_call_off_its_connection(
    ours: TlsFiles, authority: Authority
) -> None:
    """Nobody listens where its Contact says: but for its own connection it could not be reached."""
    group = PeerGroup(name="all", cidrs=("127.0.0.0/8",))
    transports = (TransportName.UDP, TransportName.TCP, TransportName.TLS)
    files = TlsFiles(certificate=ours.certificate, private_key=ours.private_key)
    async with Rig(tls=files, peers=(group,), transports=transports) as rig:
        caller = await comes_from(rig, 2, client(authority.certificate, None))
        sent = rig.invite(agent=caller)
        await caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await caller.expect(200))
        rig.in_dialog(caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        plain = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        rig.in_dialog(plain, "INFO", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await plain.expect(200, "INFO")
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        caller.reply(await caller.expect("BYE"), 200)
        assert plain.quiet
