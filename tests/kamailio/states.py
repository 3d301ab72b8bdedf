"""What Kamailio knows of its sidecars."""

from __future__ import annotations

import asyncio
import re

from tests.kamailio.harness import Proxy

PERIOD_S = 0.1
UP, DOWN, UNKNOWN = "AP", "IP", "AX"
STATE_S_MAX = 60  # probes each second, and five until a silent node is one that failed; the rest is patience


def states(proxy: Proxy) -> dict[str, str]:
    """Each sidecar's flags, as an operator sees them: Active, Inactive; Probed, or X: not yet."""
    listed = proxy.command("dispatcher.list")
    found = re.findall(r"URI: (sip:[\d.]+:\d+)\s+FLAGS: (\w+)", listed)
    assert found, listed
    return dict(found)


async def until_known(proxy: Proxy, *expected: str) -> None:
    """Until Kamailio knows this of each sidecar."""
    names = [f"sip:{host}:{port}" for host, port in proxy.places.sidecars]
    wanted = dict(zip(names, expected, strict=True))
    async with asyncio.timeout(STATE_S_MAX):
        while (await asyncio.to_thread(states, proxy)) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(PERIOD_S)
