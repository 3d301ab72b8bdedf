"""The keeping of names: what is asked when, and what routing, the bridge, people and the log get to know. The
test plays DNS and the bridge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from sidecar.adapters.metrics import Metrics
from sidecar.core.commands import SetServers
from sidecar.core.policy import Gateway, Load, peer_of
from sidecar.core.servers import Answer, Lookup, NameState, Question, Reach, RecordType, Srv
from sidecar.core.terms import TransportName
from sidecar.ports import NoAnswerError
from sidecar.runtime.names import QUESTIONS_MAX, ROUNDS_MAX, Names
from tests.policies import declared_gateway
from tests.rig.node import until
from tests.runtime.node_help import StoppedClock

A, SRV = RecordType.A, RecordType.SRV
REACH = Reach.of([(TransportName.UDP, ("127.0.0.1", 5060))])


def named(name: str = "gw", host: str = "gw.test", port: int | None = 5060) -> Gateway:
    lookup = Lookup(name=host, port=port, transport=TransportName.UDP)
    return declared_gateway(name=name, host=host, port=port or 5060, lookup=lookup)


class Dns:
    """DNS, the bridge, the clock, and the names."""

    def __init__(self, *gateways: Gateway) -> None:
        self.clock = StoppedClock()
        self.load = Load()
        self.metrics = Metrics()
        self.told: list[SetServers] = []
        self.asked: list[Question] = []
        self.zone: dict[Question, tuple[str | Srv, ...]] = {}
        self.silent = False
        self.silent_types: set[RecordType] = set()
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.open = self.open_most = 0
        self.names = Names(
            gateways={gateway.name: gateway for gateway in gateways},
            reach=REACH,
            load=self.load,
            resolver=self,
            door=self,
            peer_of=lambda address: peer_of(address, [("carrier", ("10.1.0.0/24",))]),
            clock=self.clock,
            meter=self.metrics,
            chance=lambda: 0.0,
        )

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        self.open += 1
        self.open_most = max(self.open, self.open_most)
        try:
            await self.gate.wait()
        finally:
            self.open -= 1
        if self.fault is not None:
            raise self.fault
        if self.silent or question.type in self.silent_types:
            raise NoAnswerError("nobody is there")
        return Answer(records=self.zone.get(question, ()), ttl_s=60)

    def set_servers(self, servers: SetServers) -> None:
        self.told.append(servers)

    def has(self, *addresses: str, name: str = "gw.test") -> None:
        self.zone[Question(name, A)] = addresses

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.names.run(), name="names")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def rounds(self, count: int) -> None:
        """Until so many are over, of all names together."""
        await until(lambda: sum(one.rounds for one in self.names.statuses()) >= count)

    async def later(self, seconds: float) -> None:
        """One more round of each name, after that time."""
        before = sum(one.rounds for one in self.names.statuses())
        self.clock.pass_ms(int(seconds * 1000))
        await self.rounds(before + len(self.names.statuses()))

    @property
    def servers(self) -> list[str]:
        return [str(one) for one in self.load.servers.get("gw", ())]


async def test_routing_and_the_bridge_know_the_servers_of_a_name_and_their_peer_group() -> None:
    dns = Dns(named(), declared_gateway(name="literal"))
    dns.has("10.1.0.1", "10.2.0.1")
    async with dns.running():
        await dns.rounds(1)
    assert dns.servers == ["udp:10.1.0.1:5060", "udp:10.2.0.1:5060"]
    assert [one.peer for one in dns.load.servers["gw"]] == ["carrier", ""]
    [told] = dns.told
    assert (told.gateway, told.host_name) == ("gw", "gw.test")
    assert set(told.addresses) == {"10.1.0.1:5060", "10.2.0.1:5060"}
    [status] = dns.names.statuses()
    assert (status.state, len(status.servers), status.rounds_failed) == (NameState.RESOLVED, 2, 0)


async def test_what_is_told_is_what_changed_and_a_line_of_the_log_for_each_change() -> None:
    dns = Dns(named())
    with capture_logs() as logs:
        dns.has("10.1.0.1")
        async with dns.running():
            await dns.rounds(1)
            await dns.later(60)  # the same
            dns.has("10.1.0.2")
            await dns.later(60)
            dns.silent = True
            await dns.later(60)
            await dns.later(60)  # still
            dns.silent = False
            dns.has()
            await dns.later(60)
    assert [one.addresses for one in dns.told] == [("10.1.0.1:5060",), ("10.1.0.2:5060",), ()]
    assert dns.servers == []
    assert [(line["event"], line["servers"]) for line in logs] == [
        ("gateway_name_resolved", ["udp:10.1.0.1:5060"]),
        ("gateway_name_resolved", ["udp:10.1.0.2:5060"]),
        ("gateway_name_stale", ["udp:10.1.0.2:5060"]),
        ("gateway_name_absent", []),
    ]
    assert logs[2]["why"] == "A gw.test: nobody is there"


async def test_a_resolver_that_is_dead_from_the_start_leaves_no_servers_and_one_line() -> None:
    dns = Dns(named())
    dns.silent = True
    with capture_logs() as logs:
        async with dns.running():
            await dns.rounds(1)
            await dns.later(60)
    [status] = dns.names.statuses()
    assert (status.state, status.rounds_failed, dns.servers) == (NameState.UNRESOLVED, 2, [])
    assert [line["event"] for line in logs] == ["gateway_name_unresolved"]


async def test_an_answer_that_is_late_in_one_place_is_what_it_was_there() -> None:
    """SRV answers, the address does not: that of the last time."""
    dns = Dns(named(port=None))
    dns.zone[Question("_sip._udp.gw.test", SRV)] = (Srv(priority=1, weight=1, port=5099, target="a.test"),)
    dns.has("10.1.0.1", name="a.test")
    async with dns.running():
        await dns.rounds(1)
        assert dns.servers == ["udp:10.1.0.1:5099"]
        dns.zone[Question("_sip._udp.gw.test", SRV)] = (
            Srv(priority=1, weight=1, port=5070, target="a.test"),
        )
        dns.silent_types = {A}
        await dns.later(60)
    assert dns.servers == ["udp:10.1.0.1:5070"]


async def test_a_fault_of_our_own_is_counted_and_the_name_is_asked_for_again() -> None:
    dns = Dns(named())
    dns.has("10.1.0.1")
    dns.fault = RuntimeError("ours")
    with capture_logs() as logs:
        async with dns.running():
            await dns.rounds(1)
            dns.fault = None
            await dns.later(60)
    assert dns.servers == ["udp:10.1.0.1:5060"]
    assert "name_lookup_broken" in [line["event"] for line in logs]
    broken = dns.metrics.registry.get_sample_value("sidecar_broken_promises_total", {"where": "names"})
    assert broken == 1


async def test_many_names_wait_for_their_turn() -> None:
    dns = Dns(*(named(f"gw{n}", f"gw{n}.test") for n in range(3 * ROUNDS_MAX)))
    dns.gate.clear()
    async with dns.running():
        await until(lambda: dns.open == ROUNDS_MAX)
        dns.gate.set()
        await dns.rounds(3 * ROUNDS_MAX)
    assert dns.open_most <= ROUNDS_MAX < QUESTIONS_MAX
    assert len(dns.asked) == 3 * ROUNDS_MAX


async def test_names_of_another_policy_are_asked_for_and_those_of_before_are_not() -> None:
    dns = Dns(declared_gateway(name="literal"))
    dns.has("10.1.0.1")
    dns.has("10.1.0.2", name="other.test")
    async with dns.running():
        dns.names.take_over({"gw": named()}, REACH, dns)
        await dns.rounds(1)
        assert dns.servers == ["udp:10.1.0.1:5060"]
        dns.names.take_over({"gw": named(host="other.test")}, REACH, dns)
        assert dns.servers == []
        await dns.rounds(1)
        assert dns.servers == ["udp:10.1.0.2:5060"]
        dns.names.take_over({}, REACH, dns)
    assert (dns.servers, dns.names.statuses()) == ([], [])
    assert [(one.host_name, one.addresses) for one in dns.told] == [
        ("gw.test", ("10.1.0.1:5060",)),
        ("", ()),
        ("other.test", ("10.1.0.2:5060",)),
        ("", ()),
    ]
