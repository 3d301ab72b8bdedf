"""Nodes on one database and one broker between two Kamailios, as they are shipped; a crowd of phones on both
sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from tests.faults.phone import Phone, Script
from tests.kamailio.harness import Places, Proxy, profile
from tests.kamailio.rig import Network, places_of, proxy_at
from tests.kamailio.states import UP, until_known
from tests.rig import node
from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.listener import Listener, listening
from tests.rig.node import until, with_lines

LEASE_S = 2


class Node(node.Node):
    """The one of this number; `behind` is the Kamailio that leads to the carrier. `lines` of its profile, by
    table."""

    def __init__(
        self,
        folder: Path,
        places: Places,
        number: int,
        behind: str,
        dsn: str,
        lines: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir()
        network, _, _ = places.sidecars[number][0].rpartition(".")
        text = with_lines(profile(places, number, behind), lines or {})
        super().__init__(folder, text, network=network, dsn=dsn)
        self.name = f"n{number + 1}"
        self._settings |= {"SIDECAR_NODE__NAME": self.name, "SIDECAR_STORE__LEASE_S": str(LEASE_S)}


class Between(NamedTuple):
    """Nodes that know each other, and both Kamailios all of them."""

    nodes: list[Node]
    front: Proxy
    behind: Proxy
    broker: Mosquitto


@asynccontextmanager
async def between(
    folder: Path, dsn: str, *, count: int = 3, lines: Mapping[str, str] | None = None
) -> AsyncIterator[Between]:
    network = Network()
    front = replace(places_of(network, sidecars=count), probe_s=1, sidecar_ms=600)
    behind = replace(front, proxy=(network.behind, front.proxy[1]))  # the profile has one port for both
    for name in ("front", "behind"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        broker = await enter(mosquitto(folder))
        nodes = [Node(folder / f"n{n}", front, n, network.behind, dsn, lines) for n in range(count)]
        for one in nodes:
            await enter(one.up(**broker.settings()))
        before = await enter(proxy_at(folder / "front", front))
        after = await enter(proxy_at(folder / "behind", behind))
        for proxy in (before, after):
            await until_known(proxy, *[UP] * count)
        await until(lambda: _know_each_other(nodes))
        yield Between(nodes, before, after, broker)


class Cluster(NamedTuple):
    nodes: list[Node]
    front: Proxy
    caller: Phone  # the customer acme
    callee: Phone
    listener: Listener


@asynccontextmanager
async def cluster(folder: Path, dsn: str, script: Script) -> AsyncIterator[Cluster]:
    async with between(folder, dsn) as at, listening(at.broker.host, at.broker.port) as listener:
        places = at.front.places
        async with (
            await Phone.listen(places.acme_host) as caller,
            await Phone.listen(*places.carrier, script) as callee,
        ):
            caller.peer, callee.peer = places.proxy, at.behind.places.proxy
            yield Cluster(at.nodes, at.front, caller, callee, listener)


async def _know_each_other(nodes: list[Node]) -> bool:
    """Each has answered all others, and Kamailio."""
    counts = [await one.metric("sidecar_bridge_total", '"options_answered"') for one in nodes]
    return all(count >= len(nodes) + 1 for count in counts)
