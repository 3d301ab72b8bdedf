"""Copies of a call's messages to a collector, by HEP: read by the letter of the protocol, and by sngrep."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import pty
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.b2bua.settings import Collector, PeerGroup, TlsFiles
from sidecar.core.commands import Capture, GivenUp, RelayAnswer, RelayFailure
from sidecar.core.events import AnswerDropped, AnswerHeld, CancelReceived, InviteReceived, RouteFailed
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.terms import SavedLegState, TransportName
from sidecar.demo.children import free_ports
from tests.b2bua.authority import PROXY, TLS, Authority, client, comes_from, server
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA
from tests.b2bua.test_adopted import RELEASE
from tests.b2bua.test_adopted import adopt as left_open
from tests.b2bua.test_kept import adopt as go_on
from tests.b2bua.test_kept import kept
from tests.rig.collector import Homer, Place, copy_of
from tests.rig.node import until

KEY = "let me in"
ID = "0198c0de-0000-8000-8000-00000000abcd"


async def collector_of(homer: Homer) -> Collector:
    host, port = await homer.listen("127.0.0.1")
    return Collector(host=host, port=port, capture_id=2001, key=KEY)


class CapturedRig(Rig):
    def __init__(self, collector: Collector | None, **settings: Any) -> None:
        super().__init__(collector=collector, **settings)

    def capture(self, bridge_id: int, correlation_id: str = ID) -> None:
        self.send(Capture(bridge_id=bridge_id, correlation_id=correlation_id))


class Traffic:
    """What an agent sends and gets from now on."""

    def __init__(self, agent: ScriptedUA) -> None:
        self._agent = agent
        self._heard_before = len(agent.everything)
        self.sent: list[bytes] = []
        send = agent.send

        def noted(data: bytes, to: Place | None = None) -> None:
            self.sent.append(data)
            send(data, to)

        agent.send = noted  # type: ignore[method-assign]

    @property
    def got(self) -> list[bytes]:
        return [message.raw for message in self._agent.everything[self._heard_before :]]

    @property
    def all(self) -> list[bytes]:
        return self.sent + self.got

    def on_the_wire(self, rig: Rig) -> list[tuple[Place, Place, bytes]]:
        there, here = (self._agent.host, self._agent.port), rig.address(self._agent.via.lower())
        return [*((there, here, data) for data in self.sent), *((here, there, data) for data in self.got)]


@pytest.fixture
async def homer() -> AsyncIterator[Homer]:
    homer = Homer()
    yield homer
    homer.transport.close()


async def test_every_message_of_both_legs_is_copied_as_it_was_on_the_wire(homer: Homer) -> None:
    collector = await collector_of(homer)
    began_s = time.time()
    async with CapturedRig(collector) as rig:
        a_traffic, b_traffic = Traffic(rig.caller), Traffic(rig.gateway)
        sent = rig.invite()
        await rig.caller.expect(100)
        rig.caller.send(sent.raw)  # a repeat
        await rig.caller.until_repeated(100)
        invite = await rig.event(InviteReceived)
        assert homer.copies == []  # nobody has decided yet
        rig.capture(invite.bridge_id)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        await rig.gateway.until_repeated("INVITE")
        rig.gateway.reply(at_b, 180, tag="to-b")
        await rig.caller.expect(180)
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.until(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await rig.caller.expect(200))
        await rig.caller.until_repeated(200)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await rig.gateway.expect(200, "BYE")
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.idle()
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=2)  # late
        await rig.gateway.expect(200, "BYE")
        await until(lambda: homer.seen == sorted(a_traffic.on_the_wire(rig) + b_traffic.on_the_wire(rig)))
        assert rig.hook.stats()["hep_sent"] == len(homer.copies)
        assert rig.hook.stats()["hep_dropped"] == 0
    assert {one.correlation_id for one in homer.copies} == {ID.encode()}
    assert {(one.key, one.node, one.protocol) for one in homer.copies} == {(KEY.encode(), 2001, 17)}
    assert all(began_s - 1 < one.wall_s < time.time() + 1 for one in homer.copies)


async def test_a_cancelled_call_is_copied_whole_though_nobody_had_decided(homer: Homer) -> None:
    async with CapturedRig(await collector_of(homer)) as rig:
        a_traffic, b_traffic = Traffic(rig.caller), Traffic(rig.gateway)
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        rig.ack_failure(sent, await rig.caller.expect(487))
        await rig.event(CancelReceived)
        rig.capture(invite.bridge_id)
        await rig.idle()
        await until(lambda: homer.seen == sorted(a_traffic.on_the_wire(rig) + b_traffic.on_the_wire(rig)))
        assert len(homer.copies) >= 6


async def test_a_call_over_tls_is_copied_in_the_clear(
    homer: Homer, ours: TlsFiles, authority: Authority
) -> None:
    group = PeerGroup(name="all", cidrs=("127.0.0.0/8",), tls_names=(PROXY,))
    async with CapturedRig(await collector_of(homer), tls=ours, peers=(group,), **TLS) as rig:
        own = authority.sign("", f"DNS:{PROXY},IP:{rig.network}.3")
        peer = await comes_from(rig, 2, client(authority.certificate, own))
        gateway = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.3", server(authority.certificate, own))
        )
        a_traffic, b_traffic = Traffic(peer), Traffic(gateway)
        sent = rig.invite(agent=peer)
        await peer.expect(100)
        invite = await rig.event(InviteReceived)
        rig.capture(invite.bridge_id)
        rig.send(rig.route(invite, host=gateway.host, port=gateway.port, transport=TransportName.TLS))
        at_b = await gateway.expect("INVITE")
        gateway.reply(at_b, 486, tag="to-b")
        await gateway.expect("ACK")
        await rig.until(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id))
        rig.ack_failure(sent, await peer.expect(486), agent=peer)

        def texts() -> list[bytes]:
            return sorted(text for _, _, text in a_traffic.on_the_wire(rig) + b_traffic.on_the_wire(rig))

        await until(lambda: sorted(one.text for one in homer.copies) == texts())
        assert {one.protocol for one in homer.copies} == {6}
        tls, from_here = rig.address("tls"), {one.source for one in homer.copies if one.text in b_traffic.got}
        for one in homer.copies:
            if one.text in a_traffic.sent:
                assert (one.source, one.destination) == ((peer.host, peer.port), tls)
            elif one.text in b_traffic.sent:
                assert one.source == (gateway.host, gateway.port)
                assert one.destination in from_here  # of the connection that we have opened
        assert {(host, port > 0) for host, port in from_here} == {(rig.host, True)}


async def test_a_call_that_goes_on_over_a_restart_is_copied_on(homer: Homer) -> None:
    async with CapturedRig(await collector_of(homer)) as rig:
        _, a, _ = await rig.answered_call()
        told = await kept(rig)
        await rig.killed(go_on(rig, told), Capture(bridge_id=RECOVERED_IDS, correlation_id=ID))
        a_traffic, b_traffic = Traffic(rig.caller), Traffic(rig.gateway)
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "BYE", a, cseq=3)
        await rig.caller.expect(200, "BYE")
        rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.idle()
        await until(lambda: homer.seen == sorted(a_traffic.on_the_wire(rig) + b_traffic.on_the_wire(rig)))
        assert len(homer.copies) == 8
    assert {one.correlation_id for one in homer.copies} == {ID.encode()}


async def test_a_call_that_a_crash_has_left_is_copied_until_it_is_over(homer: Homer) -> None:
    """With what a gateway says late that had been given up before."""
    async with CapturedRig(await collector_of(homer)) as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        first = await rig.agent(4)
        rig.send(rig.route(invite, host=first.host, port=first.port, no_response_ms=200))
        at_first = await first.expect("INVITE")
        await rig.until(RouteFailed)
        second = rig.route(invite, attempt=2)
        rig.send(second)
        at_second = await rig.gateway.expect("INVITE")
        leg = replace(invite.leg, remote_address=f"{first.host}:{first.port}", transport=TransportName.UDP)
        given_up = (GivenUp(attempt=1, gateway="gw", leg=leg),)
        early = {"a_state": SavedLegState.EARLY, "b_state": SavedLegState.EARLY}
        found = left_open(invite, attempt=2, route=second, given_up=given_up, **early)
        await rig.killed(found, Capture(bridge_id=RECOVERED_IDS, correlation_id=ID))
        traffic = [Traffic(agent) for agent in (rig.caller, rig.gateway, first)]
        first.reply(at_first, 200, tag="late", body=ANSWER)
        await first.expect("ACK")
        first.reply(await first.expect("BYE"), 200)
        await rig.until(AnswerDropped)
        rig.send(RELEASE)
        rig.ack_failure(sent, await rig.caller.expect(500, "INVITE"))
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        rig.gateway.reply(at_second, 487, tag="to-b")
        await rig.gateway.until("ACK")
        await rig.idle()
        await until(lambda: homer.seen == sorted(one for each in traffic for one in each.on_the_wire(rig)))
    assert {one.correlation_id for one in homer.copies} == {ID.encode()}


async def test_what_is_not_chosen_or_of_no_call_is_not_copied(homer: Homer) -> None:
    async with CapturedRig(await collector_of(homer)) as rig:
        await rig.settled(rig.caller)  # an OPTIONS
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.capture(invite.bridge_id, "")
        rig.send(rig.route(invite))
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 486, tag="to-b")
        await rig.until(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id))
        rig.ack_failure(sent, await rig.caller.expect(486))
        await rig.idle()
        assert (rig.hook.stats()["hep_sent"], rig.hook.stats()["hep_dropped"]) == (0, 0)


async def test_addresses_of_ipv6_are_copied_to_a_collector_that_is_reached_by_it(homer: Homer) -> None:
    host, port = await homer.listen("::1")
    peers = (PeerGroup(name="all", cidrs=("::1/128",)),)
    async with CapturedRig(Collector(host=host, port=port, capture_id=1), host="::1", peers=peers) as rig:
        caller, gateway = [rig.adopt(await ScriptedUA.udp("::1")) for _ in range(2)]
        caller.peer = gateway.peer = rig.address()
        a_traffic, b_traffic = Traffic(caller), Traffic(gateway)
        rig.invite(agent=caller)
        await caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.capture(invite.bridge_id)
        rig.send(rig.route(invite, host="::1", port=gateway.port))
        gateway.reply(await gateway.expect("INVITE"), 486, tag="to-b")
        await gateway.expect("ACK")
        await rig.until(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id))
        await caller.expect(486)
        await until(lambda: homer.seen == sorted(a_traffic.on_the_wire(rig) + b_traffic.on_the_wire(rig)))
    assert {one.source[0] for one in homer.copies} == {"::1"}


async def test_a_collector_that_is_away_costs_the_call_nothing_and_is_counted() -> None:
    async with CapturedRig(Collector(host="127.0.0.1", port=9, capture_id=1)) as rig:
        invite, *_ = await answered(rig)
        assert rig.hook.stats()["hep_dropped"] > 0
        taken = rig.hook.stats()
        assert taken["hep_dropped"] + taken["hep_sent"] >= 10
        assert invite.bridge_id


async def test_where_the_socket_has_no_room_the_copy_is_dropped_and_the_call_does_not_wait(
    homer: Homer,
) -> None:
    """In place of the bridge's own socket another is put, of the same kind but one that blocks, whose reader
    can be made to stop."""
    collector = await collector_of(homer)
    async with CapturedRig(collector) as rig:
        with full_socket_in_place_of_that_to((collector.host, collector.port)) as theirs:
            a_traffic, b_traffic = Traffic(rig.caller), Traffic(rig.gateway)
            await answered(rig)
            lost = len(a_traffic.all) + len(b_traffic.all)
            assert (rig.hook.stats()["hep_sent"], rig.hook.stats()["hep_dropped"]) == (0, lost)
            loop, arrived = asyncio.get_running_loop(), waiting_in(theirs)
            assert set(arrived) == {FILLER}
            loop.add_reader(theirs, lambda: arrived.extend(waiting_in(theirs)))
            await answered(rig)
            copied = len(a_traffic.all) + len(b_traffic.all)
            await until(lambda: rig.hook.stats()["hep_sent"] + rig.hook.stats()["hep_dropped"] == copied)
            loop.remove_reader(theirs)
            packets = [*arrived, *waiting_in(theirs)]
            sent = rig.hook.stats()["hep_sent"]
    copies = [packet for packet in packets if packet != FILLER]
    assert len(copies) == sent > 0
    assert {copy_of(packet).correlation_id for packet in copies} == {ID.encode()}


async def test_a_collector_that_does_not_read_costs_the_call_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that there is
        idle.bind(("127.0.0.1", 0))
        host, port = idle.getsockname()
        async with CapturedRig(Collector(host=host, port=port, capture_id=1)) as rig:
            a_traffic, b_traffic = Traffic(rig.caller), Traffic(rig.gateway)
            await answered(rig)
            copied = len(a_traffic.all) + len(b_traffic.all)
            assert rig.hook.stats()["hep_sent"] + rig.hook.stats()["hep_dropped"] == copied
        assert 0 < len(waiting_in(idle)) < copied


async def test_one_that_cannot_be_reached_at_all_is_tried_again() -> None:
    """The kernel refuses to send to a broadcast address."""
    async with CapturedRig(Collector(host="255.255.255.255", port=9, capture_id=1)) as rig:
        await answered(rig)
        assert rig.hook.stats()["hep_sent"] == 0
        assert rig.hook.stats()["hep_dropped"] >= 10


async def test_what_nobody_decides_about_is_bounded(homer: Homer) -> None:
    async with CapturedRig(await collector_of(homer)) as rig:
        sent = rig.invite()
        invite = await rig.event(InviteReceived)
        for _ in range(40):
            rig.caller.send(sent.raw)
        await rig.caller.until_repeated(100, 40)
        assert rig.hook.stats()["hep_dropped"] >= 82 - 16
        rig.capture(invite.bridge_id)
        await until(lambda: len(homer.copies) == 16)


async def test_it_is_switched_on_and_off_while_calls_run(homer: Homer) -> None:
    collector = await collector_of(homer)
    async with CapturedRig(None) as rig:
        _, a, _ = await rig.answered_call()
        for to in (collector, None):
            done = rig.hook.stats()["reconfigurations"]
            rig.settings = replace(rig.settings, collector=to)
            rig.hook.reconfigure(rig.settings)
            await rig.counted("reconfigurations", done + 1)
            before = len(homer.copies)
            sent = rig.invite()
            await rig.caller.expect(100)
            invite = await rig.until(InviteReceived)
            rig.capture(invite.bridge_id)
            rig.cancel(sent)
            await rig.caller.expect(200, "CANCEL")
            rig.ack_failure(sent, await rig.caller.expect(487))
            await rig.until(CancelReceived)
            if to is not None:
                await until(lambda before=before: len(homer.copies) >= before + 6)  # type: ignore[misc]
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)  # of a call from before
        await rig.gateway.expect("INFO")
        await until(lambda: rig.hook.stats()["hep_sent"] == len(homer.copies))
        assert {one.correlation_id for one in homer.copies} == {ID.encode()}


async def test_no_secret_is_in_a_copy(homer: Homer) -> None:
    async with CapturedRig(await collector_of(homer)) as rig:
        rig.invite(
            'Proxy-Authorization: Digest username="us",',
            '\tresponse="0123456789abcdef"',
            "AUTHORIZATION  : Basic c2VjcmV0",
            "X-Authorization: kept",
            body=OFFER + b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZi\r\na=sendrecv\r\n",
        )
        invite = await rig.event(InviteReceived)
        rig.capture(invite.bridge_id)
        await until(lambda: homer.copies)
        text = next(one.text for one in homer.copies if one.text.startswith(b"INVITE"))
        for secret in (b"Digest", b"us", b"0123456789abcdef", b"Basic", b"c2VjcmV0", b"inline", b"AES_CM"):
            assert secret not in text.replace(b"Via", b""), secret
        message = Message(text, ("", 0))
        assert message["X-Authorization"] == "kept"
        assert set(message["Proxy-Authorization"]) == {"*", " "}
        assert message.body.endswith(b"a=sendrecv\r\n")
        assert int(message["Content-Length"]) == len(message.body)


async def test_sngrep_reads_every_message(tmp_path: Path) -> None:
    saved = tmp_path / "saved.pcap"
    async with listening_sngrep(saved) as (sngrep, free):
        async with CapturedRig(free) as rig:
            a_traffic, b_traffic = Traffic(rig.caller), Traffic(rig.gateway)
            await answered(rig)
            await until(lambda: rig.hook.stats()["hep_sent"] == len(a_traffic.all) + len(b_traffic.all))
            expected = sorted(a_traffic.on_the_wire(rig) + b_traffic.on_the_wire(rig))
        await until(lambda: not waits_for_reader(free.port))
        sngrep.send_signal(signal.SIGINT)  # it writes what it has
        await sngrep.wait()
    assert datagrams_in(saved) == expected


@contextlib.asynccontextmanager
async def listening_sngrep(saved: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Collector]]:
    """At a port that was free; where somebody else was faster it tries another."""
    screen, terminal = pty.openpty()
    try:
        while True:
            (port,) = free_ports("127.0.0.1", 1)
            sngrep = await asyncio.create_subprocess_exec(
                *("sngrep", "-F", "-N", "-q", "-L", f"udp:127.0.0.1:{port}", "-O", str(saved)),
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env={**os.environ, "TERM": "xterm"},
            )
            try:
                with contextlib.suppress(TimeoutError):
                    await until(lambda sngrep=sngrep, port=port: sngrep.returncode or listens_at(port), 10)  # type: ignore[misc]
                if sngrep.returncode is None and listens_at(port):
                    yield sngrep, Collector(host="127.0.0.1", port=port, capture_id=2001)
                    return
            finally:
                if sngrep.returncode is None:
                    sngrep.kill()
                await sngrep.wait()
    finally:
        os.close(screen)
        os.close(terminal)


def listens_at(port: int) -> bool:
    return f"0100007F:{port:04X}" in Path("/proc/net/udp").read_text()


def waits_for_reader(port: int) -> bool:
    for line in Path("/proc/net/udp").read_text().splitlines():
        if f"0100007F:{port:04X}" in line.split()[1:2]:
            return not line.split()[4].endswith(":00000000")
    raise LookupError(port)


def datagrams_in(pcap: Path) -> list[tuple[Place, Place, bytes]]:
    """Of Ethernet, IPv4 and UDP."""
    data, at, found = pcap.read_bytes(), 24, []
    while at < len(data):
        length = int.from_bytes(data[at + 8 : at + 12], "little")
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        ip = frame[14:]
        udp = ip[(ip[0] & 15) * 4 :]
        places = [
            (str(ipaddress.ip_address(ip[12 + 4 * i : 16 + 4 * i])), int.from_bytes(udp[2 * i : 2 * i + 2]))
            for i in range(2)
        ]
        found.append((places[0], places[1], udp[8:]))
    return sorted(found)


FILLER = b"filler"


@contextlib.contextmanager
def full_socket_in_place_of_that_to(collector: Place) -> Iterator[socket.socket]:
    """Its other end, which nobody has read from. A send that would wait waits for ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(FILLER)
        ours.setblocking(True)
        os.dup2(ours.fileno(), descriptor_to(collector))
        yield theirs


def waiting_in(of: socket.socket) -> list[bytes]:
    """Datagrams."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(of.recv(65_536, socket.MSG_DONTWAIT))
    return found


def descriptor_to(peer: Place) -> int:
    """Of this process."""
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if file.readlink().name.startswith("socket:"):
                with socket.socket(fileno=os.dup(int(file.name))) as copy:
                    if copy.type == socket.SOCK_DGRAM and copy.getpeername() == peer:
                        return int(file.name)
    raise LookupError(peer)


async def answered(rig: CapturedRig) -> tuple[InviteReceived, Dialog, Dialog]:
    """A captured call from its INVITE to the end of its BYE."""
    sent = rig.invite()
    await rig.caller.expect(100)
    invite = await rig.until(InviteReceived)
    rig.capture(invite.bridge_id)
    rig.send(rig.route(invite))
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
    await rig.until(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=invite.bridge_id))
    a = Dialog.of_caller(sent, await rig.caller.expect(200))
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    await rig.gateway.expect("ACK")
    rig.in_dialog(rig.caller, "BYE", a, cseq=2)
    await rig.caller.expect(200, "BYE")
    rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
    await rig.idle()
    return invite, a, Dialog.of_callee(at_b, "to-b")
