"""One Kamailio in front of the sidecar and another one behind it, with the same kamailio.cfg: each records
its route in its own dialog, and the requests of either side find their way through both."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.kamailio.rig import Network, Node, places_of, proxy_at


@pytest.mark.parametrize(
    ("pair", "origin"), [("caller-bye-in-call", "caller"), ("callee-bye-in-call", "callee")]
)
async def test_both_proxies_stay_in_the_dialogs_to_the_end(tmp_path: Path, pair: str, origin: str) -> None:
    network = Network()
    front = places_of(network)
    behind = replace(front, proxy=(network.behind, front.proxy[1]))
    for name in ("front", "behind"):
        (tmp_path / name).mkdir()
    node = Node(tmp_path, front, behind=network.behind)
    async with node.up(), proxy_at(tmp_path / "front", front), proxy_at(tmp_path / "behind", behind):
        cdr = await node.call(pair, pair)
    assert (cdr["hangup_origin"], cdr["detail"], cdr["account"]) == (origin, "bye", "acme")
    remotes = [cdr[leg]["remote_address"] for leg in ("leg_a", "leg_b")]
    assert remotes == [f"{host}:{port}" for host, port in (front.proxy, behind.proxy)]
    assert cdr["talk_ms"] >= 600
