"""What a source may cost us before it has a call: requests, refusals, connections, INVITEs half-way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sidecar.b2bua.settings import PeerGroup, TlsFiles
from sidecar.core.commands import Reject
from sidecar.core.events import InviteReceived, InviteRefused
from sidecar.core.terms import TransportName
from tests.b2bua.authority import openssl
from tests.b2bua.rig import Rig, bridge_settings
from tests.b2bua.scripted_ua import ScriptedUA
from tests.b2bua.test_admission import request

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "sidecar" / "b2bua" / "native"
CHUNK = 50  # datagrams that a socket's buffer holds in any case
BOTH = (TransportName.UDP, TransportName.TCP)


class LimitedRig(Rig):
    """Callers may send 20 requests a second each; gateways have no limit."""

    def __init__(self, requests_per_s: int = 20) -> None:
        super().__init__()
        callers, gateways = self.settings.peers
        limited = PeerGroup(name=callers.name, cidrs=callers.cidrs, requests_per_s=requests_per_s)
        self.settings = bridge_settings(listeners=self.settings.listeners, peers=(limited, gateways))
        self.hook = self.hook.__class__(self.settings)
        self.hook.on_events(self._take)


@pytest.mark.parametrize("what", ["source_limit", "admission_gate"])
def test_limits_at_given_times(tmp_path: Path, what: str) -> None:
    program = tmp_path / "check"
    sources = (HERE / f"{what}_check.cpp", NATIVE / f"{what}.cpp")
    subprocess.run(
        ["g++", "-std=c++20", "-O1", f"-I{NATIVE}", *sources, "-o", program], check=True, timeout=50
    )
    run = subprocess.run([program], check=False, capture_output=True, text=True, timeout=50)
    assert (run.returncode, run.stdout, run.stderr) == (0, "all is so\n", "")


async def test_a_source_above_its_rate_is_not_heard_and_its_call_goes_on() -> None:
    async with LimitedRig() as rig:
        _, a, _ = await rig.answered_call()
        for number in range(500):
            rig.caller.send(request(rig, "OPTIONS", f"flood-{number}"))
            if number % CHUNK == 0:
                await rig.settled(rig.gateway)
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)  # belongs to a call
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.caller.until(200, "BYE")
        stats = rig.hook.stats()
        assert stats["dropped_over_rate"] + stats["options_answered"] == 500 + 500 // CHUNK
        assert stats["dropped_over_rate"] >= 250  # a second's worth, and what comes back while 500 are sent
        for _ in range(100):
            await rig.settled(rig.gateway)  # has no limit


async def test_a_call_that_is_set_up_can_be_cancelled_above_the_rate() -> None:
    async with LimitedRig(requests_per_s=1) as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 180, tag="b")
        await rig.caller.expect(180)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.gateway.expect("CANCEL")


async def test_strangers_are_refused_so_often_and_then_dropped() -> None:
    async with Rig(unlisted_source="reject", unlisted_refused_per_s=5) as rig:
        stranger = await rig.agent(9)
        for number in range(300):
            rig.invite(agent=stranger)
            if number % CHUNK == CHUNK - 1:
                await rig.settled(rig.caller)
        stats = rig.hook.stats()
        assert stats["refused_unlisted"] + stats["dropped_unlisted"] == 300
        assert 5 <= stats["refused_unlisted"] <= 100
        await rig.event(InviteRefused)


async def test_an_invite_whose_refusal_is_not_acknowledged_keeps_its_place() -> None:
    async with Rig(calls_max=2) as rig:
        refused = []
        for _ in range(2):
            sent = rig.invite()
            await rig.caller.expect(100)
            invite = await rig.until(InviteReceived)
            rig.send(Reject(bridge_id=invite.bridge_id, sip_code=403, q850_cause=21, text="rule"))
            refused.append((sent, await rig.caller.expect(403)))
        await rig.idle()
        rig.invite()
        await rig.caller.expect(503)
        assert (await rig.until(InviteRefused)).detail == "node_full"
        rig.ack_failure(*refused[0])
        await rig.settled(rig.caller)
        rig.invite()
        await rig.caller.expect(100)


async def test_one_peer_that_acknowledges_no_refusal_does_not_take_the_places_of_another() -> None:
    async with Rig(calls_max=30) as rig:
        other = await rig.agent(3)  # of another group
        for _ in range(3):  # a tenth
            rig.invite()
            await rig.caller.expect(100)
            invite = await rig.until(InviteReceived)
            rig.send(Reject(bridge_id=invite.bridge_id, sip_code=403, q850_cause=21, text="rule"))
            await rig.caller.expect(403)
        await rig.idle()
        rig.invite()
        await rig.caller.expect(503)
        assert (await rig.until(InviteRefused)).detail == "node_full"
        rig.invite(agent=other)
        await other.expect(100)


class Connections:
    """From one address of the rig's network; closed at the end, whoever closed them before."""

    def __init__(self, rig: Rig, last: int, count: int, transport: str = "tcp") -> None:
        self.all = []
        for _ in range(count):
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.all.append(one)
            one.bind((f"{rig.network}.{last}", 0))
            one.connect(rig.address(transport))
            one.setblocking(False)
            time.sleep(
                0.002
            )  # pjsip's queue holds five; what finds no place in it comes again after a second

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.all:
            one.close()

    @property
    def closed(self) -> int:
        """How many the other side has closed by now."""
        count = 0
        for one in self.all:
            with contextlib.suppress(BlockingIOError):
                try:
                    count += one.recv(100) == b""
                except ConnectionError:
                    count += 1
        return count

    async def until_closed(self, count: int) -> None:
        async with asyncio.timeout(40):  # ten seconds are the bridge's own patience
            while self.closed < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.mark.timeout(180)
async def test_connections_of_strangers_are_few() -> None:
    async with Rig(transports=BOTH) as rig:
        with Connections(rig, 9, 100) as strangers:
            await strangers.until_closed(36)
            assert rig.hook.stats()["refused_connections"] >= 36
            listed = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
            rig.invite(agent=listed)
            await listed.expect(100)


@pytest.mark.timeout(180)
async def test_connections_of_one_peer_are_bounded_and_others_have_theirs() -> None:
    async with Rig(transports=BOTH) as rig:
        with Connections(rig, 2, 300) as many:
            await many.until_closed(44)
            await rig.counted("refused_connections", 44)
            other = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.3"))
            rig.invite(agent=other)
            await other.expect(100)
        for _ in range(50):  # those that were closed make room, once that is known
            with Connections(rig, 2, 1) as again:
                await asyncio.sleep(0.1)
                if again.closed == 0:
                    break
        else:
            pytest.fail("there is no room for another connection")


async def test_a_stranger_who_says_nothing_that_counts_is_disconnected() -> None:
    async with Rig(transports=BOTH) as rig:
        with Connections(rig, 9, 2) as strangers, Connections(rig, 2, 1) as listed:
            strangers.all[0].send(request(rig, "OPTIONS"))
            await strangers.until_closed(2)
            assert listed.closed == 0


async def test_whoever_begins_no_tls_is_disconnected(tmp_path: Path) -> None:
    key, signed = str(tmp_path / "key"), str(tmp_path / "pem")
    openssl(*f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=us -keyout {key} -out {signed}".split())
    tls = TlsFiles(certificate=signed, private_key=key)
    async with Rig(transports=(TransportName.TLS,), tls=tls) as rig:
        with Connections(rig, 2, 2, "tls") as silent:
            silent.all[1].send(b"INVITE sip:x SIP/2.0\r\n")
            await silent.until_closed(2)


async def test_no_socket_is_open_but_those_that_listen() -> None:
    """No media, no STUN, no resolver: pjsua has them, and none of them is to be reachable."""
    async with Rig(transports=BOTH) as rig:
        agents = {agent.port for agent in (rig.caller, rig.gateway)}
        ours = {int(port) for address in rig.hook.addresses for port in [address.rpartition(":")[2]]}
        assert sockets_of_this_process() - agents == ours


def sockets_of_this_process() -> set[int]:
    inodes = set()
    for name in Path("/proc/self/fd").iterdir():
        try:
            target = str(name.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("udp", "udp6", "tcp", "tcp6", "raw"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports
