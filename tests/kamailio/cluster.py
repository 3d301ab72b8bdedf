"""Nodes on one database and one broker between two Kamailios, as they are shipped; a crowd of phones on both
sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from tests.faults.phone import Phone, Script
from tests.kamailio.harness import Places, Proxy, profile
from tests.kamailio.rig import Network, places_of, proxy_at
from tests.kamailio.states import UP, until_known
from tests.rig import node
from tests.rig.broker import mosquitto
from tests.rig.listener import Listener, listening
from tests.rig.node import until

LEASE_S = 2


class Node(node.Node):
    """The one of this number; `behind` is the Kamailio that leads to the carrier."""

    def __init__(self, folder: Path, places: Places, number: int, behind: str, dsn: str) -> None:
        folder.mkdir()
        host, _, _ = places.sidecars[number][0].rpartition(".")
        super().__init__(folder, profile(places, number, behind), network=host, dsn=dsn)
        self.name = f"n{number + 1}"
        self._settings |= {"SIDECAR_NODE__NAME": self.name, "SIDECAR_STORE__LEASE_S": str(LEASE_S)}


class Cluster(NamedTuple):
    nodes: list[Node]
    front: Proxy
    caller: Phone  # the customer acme
    callee: Phone
    listener: Listener


@asynccontextmanager
async def cluster(folder: Path, dsn: str, script: Script, *, count: int = 3) -> AsyncIterator[Cluster]:
    network = Network()
    front = replace(places_of(network, sidecars=count), probe_s=1, sidecar_ms=600)
    behind = replace(front, proxy=(network.behind, front.proxy[1]))  # the profile has one port for both
    for name in ("front", "behind"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        broker = await enter(mosquitto(folder))
        listener = await enter(listening(broker.host, broker.port))
        nodes = [Node(folder / f"n{number}", front, number, network.behind, dsn) for number in range(count)]
        for one in nodes:
            await enter(one.up(**broker.settings()))
        proxies = [
            await enter(proxy_at(folder / "front", front)),
            await enter(proxy_at(folder / "behind", behind)),
        ]
        caller = await enter(await Phone.listen(front.acme_host))
        callee = await enter(await Phone.listen(*front.carrier, script))
        caller.peer, callee.peer = front.proxy, behind.proxy
        for proxy in proxies:
            await until_known(proxy, *[UP] * count)
        await until(lambda: _know_each_other(nodes))
        yield Cluster(nodes, proxies[0], caller, callee, listener)


async def _know_each_other(nodes: list[Node]) -> bool:
    """Each has answered all others, and Kamailio."""
    counts = [await one.metric("sidecar_bridge_total", '"options_answered"') for one in nodes]
    return all(count >= len(nodes) + 1 for count in counts)
