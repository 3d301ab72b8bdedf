"""Gateways whose host is a name, through the whole node, with real DNS: addresses that change while calls
run, resolvers that die, answers that no honest server gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import pytest

from sidecar.demo.children import free_ports
from sidecar.demo.subscriber import Record
from tests.b2bua.scripted_ua import ScriptedUA
from tests.faults.phone import Phone, Plan
from tests.rig.dns import Dnsmasq, answer, dnsmasq, scripted_dns
from tests.rig.listener import Listener, listening
from tests.rig.node import Node, until

PROFILE = """
[sip]
listen_udp = ["{host}:0"]
listen_tcp = ["{host}:0"]

[peers.callers]
addresses = ["{network}.2/32"]

[gateways.named]
host = "gw.test"
no_response_failover_s = 1
{gateway}

[gateways.other]
host = "{network}.8"
port = {port}

[[routes]]
prefix = ""
gateways = ["named"]
[[routes]]
prefix = "2"
gateways = ["named", "other"]

[dns]
servers = ["{dns}"]
timeout_s = 1
lifetime_s = 2
"""
TALK = Plan(answer_s=0.0)
BYE = Plan(caller_bye_s=0.05)


class Named(Node):
    """127.x.y.1 is the node, .2 the caller, .3 to .5 servers of the name at one port, .8 another gateway, .9
    the resolver."""

    def __init__(self, folder: Path, gateway: str = "") -> None:
        super().__init__(folder, settings={"SIDECAR_LOG__LEVEL": "info"})
        [self.port] = free_ports(f"{self.network}.3", 1)
        self.resolver = f"{self.network}.9"
        self.dns = f"{self.resolver}:53"
        self._gateway = gateway
        self.listener: Listener

    def profile_text(self) -> str:
        return PROFILE.format(
            host=self.host, network=self.network, gateway=self._gateway, port=self.port, dns=self.dns
        )

    def at(self, last: int) -> str:
        return f"{self.network}.{last}"

    def asks(self, address: tuple[str, int]) -> None:
        self.dns = f"{address[0]}:{address[1]}"

    @asynccontextmanager
    async def calling(self, *servers: int) -> AsyncIterator[tuple[Phone, ...]]:
        """The node, a listener, the caller, and a phone at each of these."""
        async with AsyncExitStack() as stack:
            phones = [
                await stack.enter_async_context(
                    await Phone.listen(self.at(last), self.port if last != 2 else 0, lambda _: TALK)
                )
                for last in (2, *servers)
            ]
            child = await stack.enter_async_context(self.up())
            self.listener = await stack.enter_async_context(listening(*child.broker))
            for phone in phones:
                phone.peer = child.sip
            yield tuple(phones)

    async def gateway(self, name: str = "named") -> Record:
        shown = (await self.control("node.gateways"))["gateways"]
        return dict(next(one for one in shown if one["gateway"] == name))

    async def is_at(self, *addresses: str, state: str = "resolved") -> None:
        """Until DNS has led to exactly these."""

        async def is_so() -> bool:
            shown = await self.gateway()
            return (shown["name_state"], {one["address"] for one in shown["servers"]}) == (
                state,
                set(addresses),
            )

        await until(is_so, 60)

    def udp(self, last: int, port: int = 0) -> str:
        return f"udp:{self.at(last)}:{port or self.port}"

    async def record(self, call_id: str) -> Record:
        def found() -> list[Record]:
            return [one for one in self.listener.records if one["leg_a"]["sip_call_id"] == call_id]

        await self.listener.until(lambda: bool(found()))
        return found()[0]

    async def place(self, caller: Phone, number: str = "1000", plan: Plan = BYE) -> Record:
        return await self.record((await caller.place(number, plan)).call_id)


def went(cdr: Record) -> list[Any]:
    return [one["address"] for one in cdr["attempts"]]


def who(cdr: Record) -> str:
    return f"{cdr['hangup_origin']}/{cdr['detail']}"


def named(folder: Path, *lines: str) -> Named:
    return Named(folder, "\n".join(lines))


@asynccontextmanager
async def resolver(node: Named, *options: str, **hosts: Any) -> AsyncIterator[Dnsmasq]:
    async with dnsmasq(node.folder, node.resolver, *options, ttl_s=1, **hosts) as server:
        node.asks(server.address)
        yield server


async def test_the_address_changes_while_calls_run(tmp_path: Path) -> None:
    """New calls go to the new one; those that began at the old one end there, by either side."""
    node = named(tmp_path)
    node._gateway = f"port = {node.port}"
    async with resolver(node, gw=[node.at(3)]) as server, node.calling(3, 4) as (caller, old, new):
        await node.is_at(node.udp(3))
        by_old, by_caller = (caller.dial(number, Plan()) for number in ("1001", "1002"))
        await until(lambda: by_old.final == by_caller.final == 200)
        server.hosts(gw=[node.at(4)])
        await node.is_at(node.udp(4))
        cdr = await node.place(caller)
        assert (went(cdr), who(cdr)) == ([node.udp(4)], "caller/bye")
        assert cdr["attempts"][0]["gateway"] == "named"
        assert cdr["attempts"][0]["target"] == f"sip:1000@gw.test:{node.port}"
        [ends] = [side for side in old.sides.values() if side.number == "1001"]
        old.hang_up(ends)
        caller.hang_up(by_caller)
        for side, expected in ((by_old, "callee/bye"), (by_caller, "caller/bye")):
            cdr = await node.record(side.call_id)
            assert (went(cdr), who(cdr)) == ([node.udp(3)], expected)
        assert len(new.sides) == 1
    node.check_books()


async def test_a_resolver_that_dies_leaves_what_it_said_last_until_one_speaks_again(tmp_path: Path) -> None:
    node = named(tmp_path, 'transport = "udp"')
    async with AsyncExitStack() as stack:
        srv = f"--srv-host=_sip._udp.gw.test,a.test,{node.port}"
        server = await stack.enter_async_context(resolver(node, srv, a=[node.at(3)]))
        caller, old, new = await stack.enter_async_context(node.calling(3, 4))
        await node.is_at(node.udp(3))
        await server.stop()
        await node.is_at(node.udp(3), state="stale")
        assert went(await node.place(caller)) == [node.udp(3)]
        assert await node.metric("sidecar_gateway_lookups_failed_total", '"named"') >= 1
        assert await node.metric("sidecar_gateway_servers", '"named"') == 1
        server.hosts(a=[node.at(4)])
        await server.start()
        await node.is_at(node.udp(4))
        assert went(await node.place(caller)) == [node.udp(4)]
        assert (len(old.sides), len(new.sides)) == (1, 1)
    log = await asyncio.to_thread(node.log.read_text)
    assert log.count("gateway_name_stale") == 1
    assert log.count("gateway_name_resolved") >= 2


async def test_calls_to_a_name_that_nobody_knows_yet_are_refused_as_unreachable_or_go_elsewhere(
    tmp_path: Path,
) -> None:
    node = named(tmp_path)
    node._gateway = f"port = {node.port}"
    server = Dnsmasq(tmp_path / "dnsmasq", node.resolver, ttl_s=1)
    server.hosts(gw=[node.at(3)])
    node.asks(server.address)
    async with node.calling(3, 8) as (caller, *_):
        await until(lambda: node.metric("sidecar_gateway_lookups_failed_total", '"named"'), 60)
        side = await caller.place("1000", BYE)
        cdr = await node.record(side.call_id)
        assert (side.final, who(cdr), cdr["disposition"], cdr["q850_cause"]) == (
            500,
            "server/gateway_unreachable",
            "refused",
            38,
        )
        assert cdr["attempts"] == []
        cdr = await node.place(caller, "2000")
        assert ([one["gateway"] for one in cdr["attempts"]], went(cdr)) == (["other"], [None])
        assert (await node.gateway())["name_state"] == "unresolved"
        assert await node.metric("sidecar_gateway_servers", '"named"') == 0
        await server.start()
        try:
            await node.is_at(node.udp(3))
            assert went(await node.place(caller)) == [node.udp(3)]
        finally:
            await server.stop()
    assert (await asyncio.to_thread(node.log.read_text)).count("gateway_name_unresolved") == 1


async def test_the_second_target_of_srv_is_tried_where_the_first_is_silent_and_first_once_probes_say_so(
    tmp_path: Path,
) -> None:
    node = named(tmp_path, "probe_interval_s = 1", "probe_timeout_s = 1", "probe_down_after = 1")
    targets = [f"--srv-host=_sip._udp.gw.test,{name}.test,{node.port},{n}" for n, name in enumerate("ab")]
    async with resolver(node, *targets, a=[node.at(3)], b=[node.at(4)]), node.calling(3, 4) as phones:
        caller, first, second = phones
        await node.is_at(node.udp(3), node.udp(4))
        assert went(await node.place(caller)) == [node.udp(3)]
        first.unresponsive = True
        cdr = await node.place(caller, "2000")
        if len(cdr["attempts"]) == 2:  # else a probe was quicker
            assert went(cdr) == [node.udp(3), node.udp(4)]
            assert {one["gateway"] for one in cdr["attempts"]} == {"named"}
            assert cdr["attempts"][0]["failure"] == "no_response"
        assert who(cdr) == "caller/bye"

        async def is_down() -> bool:
            states = {one["address"]: one["state"] for one in (await node.gateway())["servers"]}
            return states == {node.udp(3): "down", node.udp(4): "up"}

        await until(is_down, 60)
        assert (await node.gateway())["state"] == "up"
        assert went(await node.place(caller)) == [node.udp(4)]
        assert len(second.sides) == 2


async def test_a_target_that_refuses_packets_and_one_that_says_503_are_followed_by_the_next(
    tmp_path: Path,
) -> None:
    node = named(tmp_path)
    targets = [f"--srv-host=_sip._udp.gw.test,{name}.test,{node.port},{n}" for n, name in enumerate("abc")]
    hosts = {"a": [node.at(5)], "b": [node.at(3)], "c": [node.at(4)]}
    async with resolver(node, *targets, **hosts), node.calling(4) as (caller, _), AsyncExitStack() as stack:
        busy = await Phone.listen(node.at(3), node.port, lambda _: Plan(reject=503))
        busy = await stack.enter_async_context(busy)
        busy.peer = caller.peer
        await node.is_at(node.udp(3), node.udp(4), node.udp(5))
        cdr = await node.place(caller, "2000")
        assert went(cdr) == [node.udp(5), node.udp(3), node.udp(4)]
        assert [one["sip_code"] for one in cdr["attempts"]][1:] == [503, 200]
        assert who(cdr) == "caller/bye"


async def test_calls_are_spread_by_the_weights_of_srv(tmp_path: Path) -> None:
    node = named(tmp_path)
    targets = [
        f"--srv-host=_sip._udp.gw.test,{name}.test,{node.port},1,{weight}"
        for name, weight in (("a", 30), ("b", 10))
    ]
    async with resolver(node, *targets, a=[node.at(3)], b=[node.at(4)]), node.calling(3, 4) as phones:
        caller, heavy, light = phones
        await node.is_at(node.udp(3), node.udp(4))
        for side in [caller.dial(f"1{n:03}", BYE) for n in range(60)]:
            await side.ended.wait()
            assert side.final == 200
        assert len(heavy.sides) + len(light.sides) == 60
        assert len(heavy.sides) > len(light.sides) > 0  # each fails once in 100,000 times


@pytest.mark.parametrize("preferred", ["tcp", "udp"])
async def test_naptr_chooses_the_transport(tmp_path: Path, preferred: str) -> None:
    node = named(tmp_path)
    async with AsyncExitStack() as stack:
        tcp = await ScriptedUA.tcp_server(node.at(3))
        stack.callback(tcp.close)
        udp = await ScriptedUA.udp(node.at(3))
        stack.callback(udp.close)
        order = {"tcp": (1, 2), "udp": (2, 1)}[preferred]
        options = [
            f"--naptr-record=gw.test,{order[0]},1,s,SIP+D2T,,_sip._tcp.gw.test",
            f"--naptr-record=gw.test,{order[1]},1,s,SIP+D2U,,_sip._udp.gw.test",
            f"--srv-host=_sip._tcp.gw.test,a.test,{tcp.port}",
            f"--srv-host=_sip._udp.gw.test,a.test,{udp.port}",
        ]
        await stack.enter_async_context(resolver(node, *options, a=[node.at(3)]))
        (caller,) = await stack.enter_async_context(node.calling())
        server = {"tcp": tcp, "udp": udp}[preferred]
        await node.is_at(f"{preferred}:{node.at(3)}:{server.port}")
        side = caller.dial("1000", Plan())
        invite = await server.expect("INVITE")
        assert invite.uri.startswith("sip:1000@gw.test")
        server.reply(invite, 486, tag="b")
        await server.expect("ACK")
        cdr = await node.record(side.call_id)
        assert went(cdr) == [f"{preferred}:{node.at(3)}:{server.port}"]
        assert who(cdr) == "callee/rejected"


async def test_a_name_with_an_ipv6_address_is_called_there(tmp_path: Path) -> None:
    node = named(tmp_path, 'transport = "udp"')
    whole = node.profile_text
    node.profile_text = lambda: whole().replace(  # type: ignore[method-assign]
        f'listen_udp = ["{node.host}:0"]', f'listen_udp = ["{node.host}:0", "[::1]:0"]'
    )
    async with AsyncExitStack() as stack:
        server = await ScriptedUA.udp("::1")
        stack.callback(server.close)
        srv = f"--srv-host=_sip._udp.gw.test,six.test,{server.port}"
        await stack.enter_async_context(resolver(node, srv, six=["::1"]))
        (caller,) = await stack.enter_async_context(node.calling())
        await node.is_at(f"udp:[::1]:{server.port}")
        side = caller.dial("1000", Plan())
        invite = await server.expect("INVITE")
        server.reply(invite, 486, tag="b")
        cdr = await node.record(side.call_id)
        assert (went(cdr), who(cdr)) == ([f"udp:[::1]:{server.port}"], "callee/rejected")


async def test_a_node_registers_at_a_name_and_at_its_next_server_where_one_is_silent(tmp_path: Path) -> None:
    node = named(tmp_path, "register = true", "register_user = 'us'")
    async with AsyncExitStack() as stack:
        silent, registrar = [await ScriptedUA.udp(node.at(last), node.port) for last in (3, 4)]
        stack.callback(silent.close)
        stack.callback(registrar.close)
        targets = [f"--srv-host=_sip._udp.gw.test,{name}.test,{node.port},{n}" for n, name in enumerate("ab")]
        await stack.enter_async_context(resolver(node, *targets, a=[node.at(3)], b=[node.at(4)]))
        await stack.enter_async_context(node.calling())
        first = await silent.expect("REGISTER")
        assert (first.uri, first["To"]) == ("sip:gw.test", "<sip:us@gw.test>")
        silent.reply(first, 503, tag="x")
        second = await asyncio.wait_for(registrar.receive(), 60)
        assert (second.method, second.uri) == ("REGISTER", "sip:gw.test")
        registrar.reply(second, 200, f"Contact: {second['Contact']};expires=900", tag="x")

        async def is_registered() -> bool:
            return bool((await node.gateway())["registration"] == "registered")

        await until(is_registered)
        registrar.answers = frozenset({"REGISTER"})


def _lines(*lines: str) -> Any:
    return lambda query: answer(query, *lines)


HOSTILE = {
    "a loop of names": ("gw.test. 60 IN CNAME a.test.", "a.test. 60 IN CNAME gw.test."),
    "another name": ("other.test. 60 IN A 127.0.0.99",),
    "a name for itself": ("gw.test. 60 IN CNAME gw.test.",),
}


@pytest.mark.parametrize("lines", HOSTILE.values(), ids=HOSTILE)
async def test_an_answer_that_leads_nowhere_leaves_the_last_good_one(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    node = named(tmp_path)
    node._gateway = f"port = {node.port}"
    good = _lines(f"gw.test. 1 IN A {node.at(3)}")
    async with scripted_dns(node.resolver, good) as server:
        node.asks(server.address)
        async with node.calling(3) as (caller, _):
            await node.is_at(node.udp(3))
            server.script = _lines(*lines)
            await node.is_at(node.udp(3), state="stale")
            assert went(await node.place(caller)) == [node.udp(3)]


async def test_a_thousand_records_are_a_bounded_number_of_servers_and_calls_go_on(tmp_path: Path) -> None:
    node = named(tmp_path, 'transport = "udp"')

    def script(query: dns.message.Message) -> bytes:
        name, kind = query.question[0].name.to_text(), query.question[0].rdtype
        if name.startswith("_sip"):
            lines = [f"{name} 60 IN SRV {n} 1 {node.port} s{n}.test." for n in range(1000)]
        elif kind == dns.rdatatype.A:
            lines = [f"{name} 60 IN A 127.99.{n // 250}.{n % 250 + 1}" for n in range(1000)]
            lines = [f"{name} 60 IN A {node.at(3)}"] if name == "s0.test." else lines
        else:
            lines = []
        return answer(query, *lines)

    async with scripted_dns(node.resolver, script) as server:
        node.asks(server.address)
        async with node.calling(3) as (caller, _):

            async def is_there() -> bool:
                return bool((await node.gateway())["servers"])

            await until(is_there, 90)
            shown = (await node.gateway())["servers"]
            assert shown[0]["address"] == node.udp(3)
            assert len(shown) <= 32
            assert len(set(server.asked)) <= 1 + 16
            assert went(await node.place(caller)) == [node.udp(3)]


async def test_a_ttl_of_0_is_not_asked_for_without_end(tmp_path: Path) -> None:
    node = named(tmp_path)
    node._gateway = f"port = {node.port}"
    loop = asyncio.get_running_loop()
    async with scripted_dns(node.resolver, _lines(f"gw.test. 0 IN A {node.at(3)}")) as server:
        node.asks(server.address)
        began = loop.time()
        async with node.calling(3) as (caller, _):
            await until(lambda: len(server.asked) >= 3)
            assert went(await node.place(caller)) == [node.udp(3)]
            assert len(server.asked) <= 2 + (loop.time() - began) / 1.5  # TTL_S_MIN, less what is in advance
