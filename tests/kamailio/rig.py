"""SIPp -> Kamailio -> sidecar -> Kamailio -> SIPp, with the profile and the kamailio.cfg that are shipped.

The node, its broker, its subscriber and the SIPp pairs are those of tests/sipp; what is new is the proxy on
both its sides. A Kamailio lives as long as its test: its timers are the test's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.demo.children import free_ports
from sidecar.demo.subscriber import Record
from tests.kamailio.harness import Places, Proxy, kamailio, profile
from tests.rig.addresses import own_network
from tests.sipp.rig import Rig


class Network:
    """The addresses of one test."""

    def __init__(self) -> None:
        self.net = own_network()
        hosts = (f"{self.net}.{host}" for host in range(1, 10))
        self.carrier, self.stranger, self.proxy, self.acme, self.bluebird, *sidecars, self.behind = hosts
        self.sidecars = tuple(sidecars)  # `behind` is a second Kamailio


class Node(Rig):
    """A node beside the Kamailio of `places`, its first or second sidecar. The callee of `place` is the
    carrier."""

    def __init__(self, folder: Path, places: Places, number: int = 0, behind: str = "") -> None:
        super().__init__(folder, network=places.carrier[0].removesuffix(".1"), strip_digits=None)
        self.gateways["main"] = places.carrier[1]
        self.places = places
        self._text = profile(places, number, behind)

    def profile_text(self) -> str:
        return self._text

    async def call(self, caller: str, callee: str | None, **how: Any) -> Record:
        """One call of the customer acme, or of the one at `host`, by way of Kamailio."""
        return await self.place(caller, callee, **self.by_kamailio(how))

    def by_kamailio(self, how: dict[str, Any]) -> dict[str, Any]:
        """SIPp claims to be `account`, which Kamailio must not believe."""
        remote = ":".join(map(str, self.places.proxy))
        return {"remote": remote, "host": self.places.acme_host, "account": "bluebird", **how}


def places_of(network: Network, *, sidecars: int = 1) -> Places:
    def free(host: str) -> tuple[str, int]:
        return host, free_ports(host, 1)[0]

    [port] = free_ports(network.sidecars[0], 1)
    return Places(
        proxy=free(network.proxy),
        sidecars=tuple((host, port) for host in network.sidecars[:sidecars]),
        carrier=free(network.carrier),
        acme_host=network.acme,
        bluebird_host=network.bluebird,
    )


@asynccontextmanager
async def proxy_at(folder: Path, places: Places) -> AsyncIterator[Proxy]:
    with ExitStack() as stack:
        running = await asyncio.to_thread(stack.enter_context, kamailio(folder, places))
        try:
            yield running
        finally:
            await asyncio.to_thread(stack.close)
