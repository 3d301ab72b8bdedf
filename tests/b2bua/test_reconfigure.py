"""Other settings while calls run: what begins has the new ones, what was begun goes on with the old ones."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.b2bua.hook import HookError
from sidecar.b2bua.settings import BridgeSettings, Credentials, Listener, PeerGroup, TlsFiles, needs_restart
from sidecar.core.commands import RelayAnswer, RelayFailure, SetServers
from sidecar.core.events import (
    AnswerHeld,
    ByeReceived,
    CancelReceived,
    InviteReceived,
    InviteRefused,
    RouteFailed,
)
from sidecar.core.terms import TransportName
from tests.b2bua.rig import ANSWER, Dialog, Rig, bridge_settings
from tests.b2bua.scripted_ua import ScriptedUA


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


async def put_in_force(rig: Rig, **changes: Any) -> None:
    done = rig.hook.stats()["reconfigurations"]
    rig.settings = replace(rig.settings, **changes)
    rig.hook.reconfigure(rig.settings)
    await rig.counted("reconfigurations", done + 1)


def without(rig: Rig, *names: str) -> tuple[PeerGroup, ...]:
    return tuple(group for group in rig.settings.peers if group.name not in names)


async def end_by(rig: Rig, who: ScriptedUA, dialog: Dialog, other: ScriptedUA, cseq: int) -> None:
    rig.in_dialog(who, "BYE", dialog, cseq=cseq)
    await who.expect(200, "BYE")
    other.reply(await other.expect("BYE"), 200)
    await rig.until(ByeReceived)
    await rig.idle()


@pytest.mark.parametrize("gone", [("callers",), ("gateways",), ("callers", "gateways")])
@pytest.mark.parametrize("ends", ["caller", "callee"])
async def test_a_confirmed_call_of_removed_peers_is_heard_until_it_ends(
    rig: Rig, gone: tuple[str, ...], ends: str
) -> None:
    _, a, b = await rig.answered_call()
    await put_in_force(rig, peers=without(rig, *gone))
    rig.in_dialog(rig.caller, "INFO", a, cseq=2)
    rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
    await rig.caller.expect(200, "INFO")
    rig.in_dialog(rig.gateway, "UPDATE", b, cseq=1)
    rig.caller.reply(await rig.caller.expect("UPDATE"), 200)
    await rig.gateway.expect(200, "UPDATE")
    if ends == "caller":
        await end_by(rig, rig.caller, a, rig.gateway, 3)
    else:
        await end_by(rig, rig.gateway, b, rig.caller, 2)


async def test_a_removed_peer_has_no_new_call(rig: Rig) -> None:
    await put_in_force(rig, peers=without(rig, "callers"))
    dropped = rig.hook.stats()["dropped_unlisted"]
    rig.invite()
    await rig.counted("dropped_unlisted", dropped + 1)
    await put_in_force(rig, unlisted_source="reject")
    rig.invite()
    await rig.caller.expect(403)
    assert (await rig.event(InviteRefused)).detail.value == "source_not_allowed"


async def test_a_new_peer_is_heard_from_the_next_message_on(rig: Rig) -> None:
    stranger = await rig.agent(9)
    added = PeerGroup(name="new", cidrs=(f"{rig.network}.9/32",))
    await put_in_force(rig, peers=(*rig.settings.peers, added))
    rig.invite(agent=stranger)
    await stranger.expect(100)
    assert (await rig.event(InviteReceived)).peer == "new"


@pytest.mark.parametrize("becomes", ["nobody", "another", "renamed"])
async def test_an_early_call_of_a_peer_that_is_somebody_else_now_can_be_cancelled(
    rig: Rig, becomes: str
) -> None:
    sent, invite, at_b = await rig.routed_call()
    rig.gateway.reply(at_b, 180, tag="to-b")
    await rig.caller.expect(180)
    peers = without(rig, "callers")
    if becomes == "another":
        peers = (PeerGroup(name="all", cidrs=(f"{rig.network}.0/24",)), *rig.settings.peers)
    elif becomes == "renamed":
        peers = (PeerGroup(name="customers", cidrs=(f"{rig.network}.2/32",)), *peers)
    await put_in_force(rig, peers=peers)
    rig.caller.send(sent.raw)  # its repeat is no second call, and is absorbed
    await rig.caller.until_repeated(180)
    rig.cancel(sent)
    await rig.caller.expect(200, "CANCEL")
    refused = await rig.caller.expect(487)
    rig.ack_failure(sent, refused)
    rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
    rig.gateway.reply(at_b, 487, tag="to-b")
    await rig.gateway.expect("ACK")
    await rig.until(CancelReceived)
    await rig.idle()
    assert not [one for one in rig.events if isinstance(one, InviteReceived) and one != invite]
    assert rig.hook.stats()["invites"] == 1


async def test_an_early_call_of_removed_peers_is_answered(rig: Rig) -> None:
    sent, _, at_b = await rig.routed_call()
    await put_in_force(rig, peers=())
    rig.gateway.reply(at_b, 180, tag="to-b")
    await rig.caller.expect(180)
    rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
    held = await rig.until(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=held.bridge_id))
    a = Dialog.of_caller(sent, await rig.caller.expect(200))
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    await rig.gateway.expect("ACK")
    await end_by(rig, rig.caller, a, rig.gateway, 2)


async def test_a_bye_that_crossed_ours_is_answered_though_its_peer_is_gone(rig: Rig) -> None:
    _, a, b = await rig.answered_call()
    await end_by(rig, rig.caller, a, rig.gateway, 2)
    await put_in_force(rig, peers=())
    rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
    await rig.gateway.expect(200, "BYE")


async def test_strangers_stay_strangers_in_the_calls_of_removed_peers(rig: Rig) -> None:
    _, a, _ = await rig.answered_call()
    stranger = await rig.agent(9)
    other = await rig.agent(5)  # listed by now, and of no part in the call
    await put_in_force(rig, peers=(PeerGroup(name="new", cidrs=(f"{rig.network}.5/32",)),))
    foreign = rig.hook.stats()["dropped_foreign"]
    for count, who in enumerate((stranger, other), 1):
        rig.in_dialog(who, "BYE", a, cseq=2)
        await rig.counted("dropped_foreign", foreign + count)
    await end_by(rig, rig.caller, a, rig.gateway, 3)


async def test_credentials_of_a_call_are_those_it_began_with(rig: Rig) -> None:
    challenge = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'
    old = Credentials(gateway="gw", username="old", password="p")
    await put_in_force(rig, credentials=(old,))
    rig.invite()
    await rig.caller.expect(100)
    rig.send(rig.route(await rig.event(InviteReceived)))
    first = await rig.gateway.expect("INVITE")
    await put_in_force(rig, credentials=(replace(old, username="new"),))
    rig.gateway.reply(first, 401, challenge, tag="x")
    await rig.gateway.expect("ACK")
    again = await rig.gateway.expect("INVITE")
    assert 'username="old"' in again["Authorization"]
    rig.gateway.reply(again, 486, tag="y")
    await rig.gateway.expect("ACK")
    failed = await rig.until(RouteFailed)
    rig.send(RelayFailure(bridge_id=failed.bridge_id))
    await rig.caller.expect(486)
    rig.invite()
    await rig.caller.expect(100)
    rig.send(rig.route(await rig.until(InviteReceived)))
    rig.gateway.reply(await rig.gateway.expect("INVITE"), 401, challenge, tag="z")
    await rig.gateway.expect("ACK")
    assert 'username="new"' in (await rig.gateway.expect("INVITE"))["Authorization"]


async def test_limits_and_headers_are_those_of_the_new_settings(rig: Rig) -> None:
    await put_in_force(rig, wanted_headers=("X-Test",), retry_after_s=77)
    rig.invite("X-Test: 1")
    await rig.caller.expect(100)
    assert (await rig.event(InviteReceived)).headers == (("x-test", "1"),)
    await put_in_force(rig, calls_max=1)
    rig.invite(tag="second")
    refused = await rig.caller.expect(503)
    assert refused["Retry-After"] == "77"


async def test_a_listener_is_added(rig: Rig) -> None:
    added = Listener(transport=TransportName.TCP, host=rig.host, port=0)
    before = rig.hook.addresses
    await put_in_force(rig, listeners=(*rig.settings.listeners, added))
    assert rig.hook.addresses[: len(before)] == before
    agent = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
    rig.invite(agent=agent)
    await agent.expect(100)
    invite = await rig.event(InviteReceived)
    assert invite.leg.transport is TransportName.TCP


async def test_a_listener_that_cannot_be_opened_leaves_all_as_it_was(rig: Rig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind((rig.host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = rig.hook.addresses
        good = Listener(transport=TransportName.UDP, host=rig.host, port=0)
        bad = Listener(transport=TransportName.TCP, host=rig.host, port=port)
        with pytest.raises(HookError, match=f"cannot listen on tcp {rig.host}:{port}"):
            rig.hook.reconfigure(
                replace(rig.settings, peers=(), listeners=(*rig.settings.listeners, good, bad))
            )
    assert rig.hook.addresses == before
    assert rig.hook.stats()["reconfigurations"] == 0
    _, a, _ = await rig.answered_call()
    await end_by(rig, rig.caller, a, rig.gateway, 2)


async def test_a_block_that_is_none_leaves_all_as_it_was(rig: Rig) -> None:
    bad = PeerGroup(name="bad", cidrs=("10.0.0.0/33",))
    with pytest.raises(HookError, match="peer group bad: not a CIDR"):
        rig.hook.reconfigure(replace(rig.settings, peers=(bad,)))
    _, a, _ = await rig.answered_call()
    await end_by(rig, rig.caller, a, rig.gateway, 2)


async def test_servers_of_a_gateway_that_is_gone_are_forgotten(rig: Rig) -> None:
    await put_in_force(rig, peers=without(rig, "gateways"))
    named = SetServers(gateway="gw", host_name="sip.test", addresses=(f"{rig.network}.4:5070",))
    fourth = await rig.agent(4)
    rig.hook.set_servers(named)
    rig.hook.set_servers(SetServers(gateway="gw", host_name="", addresses=()))
    _, _, b = await rig.answered_call()
    foreign = rig.hook.stats()["dropped_foreign"]
    rig.in_dialog(fourth, "BYE", b, cseq=1)
    await rig.counted("dropped_foreign", foreign + 1)
    rig.hook.set_servers(named)
    rig.in_dialog(fourth, "INFO", b, cseq=1)
    rig.caller.reply(await rig.caller.expect("INFO"), 200)
    await fourth.expect(200, "INFO")


async def test_calls_go_on_while_settings_change_all_the_time(rig: Rig) -> None:
    rig.autopilot()
    both = rig.settings.peers
    tables = (both, tuple(reversed(both)), without(rig, "callers"), both)
    for turn in range(40):
        sent = rig.invite()
        await rig.caller.expect(100)
        at_b = await rig.gateway.expect("INVITE")
        rig.hook.reconfigure(replace(rig.settings, peers=tables[turn % 3], retry_after_s=1 + turn))
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        rig.hook.reconfigure(replace(rig.settings, peers=tables[(turn + 1) % 3]))
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        await rig.caller.expect(200, "BYE")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        rig.hook.reconfigure(rig.settings)
        await rig.counted("reconfigurations", 3 * (turn + 1))
    await rig.idle()
    assert rig.hook.stats()["dropped_foreign"] == 0
    assert rig.hook.stats()["dropped_unlisted"] == 0


UDP = Listener(transport=TransportName.UDP, host="127.0.0.1", port=5080)
TLS = Listener(transport=TransportName.TLS, host="127.0.0.1", port=5081)
FILES = TlsFiles(certificate="c", private_key="k")


def settings(**given: Any) -> BridgeSettings:
    return bridge_settings(**{"listeners": (UDP,), "peers": (), **given})


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        (settings(), settings(listeners=(TLS, UDP), tls=FILES), []),
        (settings(), settings(listeners=()), ["listeners"]),
        (settings(), settings(listeners=(replace(UDP, advertised="192.0.2.1"),)), ["listeners"]),
        (settings(listeners=(UDP, UDP)), settings(listeners=(UDP,)), ["listeners"]),
        (settings(), settings(patience_ms=1, batch_interval_ms=1), ["patience_ms", "batch_interval_ms"]),
        (settings(), settings(t1_ms=100, calls_max=7, events_max=9, retry_after_s=3, refer="pass"), []),
        (
            settings(listeners=(TLS,), tls=FILES),
            settings(listeners=(TLS,), tls=replace(FILES, certificate="d")),
            [],
        ),
        (
            settings(listeners=(TLS,), tls=FILES),
            settings(listeners=(TLS,), tls=replace(FILES, ca="a")),
            ["tls"],
        ),
        (
            settings(listeners=(TLS,), tls=replace(FILES, ca="a")),
            settings(listeners=(TLS,), tls=replace(FILES, ca="b")),
            [],
        ),
        (settings(listeners=(TLS,), tls=FILES), settings(listeners=(TLS,)), ["tls"]),
    ],
)
def test_what_needs_a_restart_is_named(old: BridgeSettings, new: BridgeSettings, fields: list[str]) -> None:
    assert needs_restart(old, new) == fields


async def test_what_needs_a_restart_is_refused(rig: Rig) -> None:
    with pytest.raises(HookError, match="cannot change while it runs: listeners"):
        rig.hook.reconfigure(replace(rig.settings, listeners=()))
