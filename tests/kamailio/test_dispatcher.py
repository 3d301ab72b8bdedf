"""Two sidecars with a journal each behind Kamailio's dispatcher: it asks both by OPTIONS whether they take
calls, sends each call to the preferred one that does, and to the other one meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from sidecar.demo.subscriber import Record
from tests.kamailio.harness import Places
from tests.kamailio.peer import Peer, fields
from tests.kamailio.rig import Network, Node, places_of, proxy_at
from tests.kamailio.states import DOWN, UNKNOWN, UP, until_known

pytestmark = pytest.mark.timeout(300)

PATIENCE_S = 60
PAIR = "caller-bye-in-call"


class Pair(NamedTuple):
    first: Node
    second: Node
    places: Places


def pair_in(folder: Path) -> Pair:
    network = Network()
    places = replace(places_of(network, sidecars=2), probe_s=1, sharing="8")
    nodes = []
    for number in range(2):
        (folder / f"node-{number}").mkdir()
        nodes.append(Node(folder / f"node-{number}", places, number))
    return Pair(nodes[0], nodes[1], places)


async def call(pair: Pair, by: Node) -> Record:
    """A call that is answered, and its record at the node that carried it."""
    how = pair.first.by_kamailio({"patience_s": PATIENCE_S})
    sip_call_id = await pair.first.place_unrecorded(PAIR, PAIR, **how)
    [cdr] = await by.records(sip_call_id, 1)
    return cdr


def refused(pair: Pair) -> str:
    """What a caller hears when there is nobody to take the call."""
    with closing(Peer(pair.places.acme_host)) as caller:
        caller.invite("00441234", pair.places.proxy)
        return caller.receive("SIP/2.0 5")


async def test_a_drained_node_gets_no_calls_and_gets_them_again_when_it_is_back(tmp_path: Path) -> None:
    pair = pair_in(tmp_path)
    async with proxy_at(tmp_path, pair.places) as proxy, pair.second.up():
        async with pair.first.up():
            await until_known(proxy, UP, UP)
            await call(pair, by=pair.first)
            await pair.first.daemon.command("node", "drain")
            await until_known(proxy, DOWN, UP)
            await call(pair, by=pair.second)
            assert len(pair.first.listener.records) == 1
        async with pair.first.up():
            await until_known(proxy, UP, UP)
            await call(pair, by=pair.first)
        assert len(pair.second.listener.records) == 1


async def test_a_node_that_dies_is_replaced_by_the_other_and_without_any_callers_hear_503(
    tmp_path: Path,
) -> None:
    pair = pair_in(tmp_path)
    async with proxy_at(tmp_path, pair.places) as proxy, AsyncExitStack() as second:
        await second.enter_async_context(pair.second.up())
        async with pair.first.up():
            await until_known(proxy, UP, UP)
        await call(pair, by=pair.second)  # Kamailio may not know it yet
        await until_known(proxy, DOWN, UP)
        await second.aclose()
        await until_known(proxy, DOWN, DOWN)
        refusal = await asyncio.to_thread(refused, pair)
        assert refusal.startswith("SIP/2.0 503 ")
        assert fields(refusal, "Retry-After")
        async with pair.first.up():
            await until_known(proxy, UP, DOWN)
            await call(pair, by=pair.first)


async def test_what_a_node_refuses_before_its_next_probe_goes_to_the_other(tmp_path: Path) -> None:
    pair = pair_in(tmp_path)
    places = replace(pair.places, probe_s=3_600)
    async with proxy_at(tmp_path, places) as proxy, pair.first.up(), pair.second.up():
        await until_known(proxy, UNKNOWN, UNKNOWN)
        await pair.first.daemon.command("node", "drain")
        cdr = await call(pair, by=pair.second)
        await until_known(proxy, DOWN, UNKNOWN)
        [refusal] = await pair.first.records(cdr["leg_a"]["sip_call_id"], 1)
        assert (refusal["disposition"], refusal["detail"], refusal["sip_code"]) == ("refused", "drain", 503)
        await pair.second.daemon.command("node", "drain")
        assert (await asyncio.to_thread(refused, pair)).startswith("SIP/2.0 503 ")
        await until_known(proxy, DOWN, DOWN)


async def test_a_full_node_gets_no_calls_until_one_of_its_calls_ends(tmp_path: Path) -> None:
    pair = pair_in(tmp_path)
    at = pair.places.proxy
    with closing(Peer(pair.places.acme_host)) as caller, closing(Peer(*pair.places.carrier)) as carrier:
        async with (
            proxy_at(tmp_path, pair.places) as proxy,
            pair.first.up(SIDECAR_NODE__CALLS_MAX="1"),
            pair.second.up(),
        ):
            await until_known(proxy, UP, UP)
            invites = {}
            for number in ("00441", "00442"):
                caller.invite(number, at)
                invites[number] = await asyncio.to_thread(carrier.receive, f"INVITE sip:{number}@")
                carrier.answer(invites[number], "180 Ringing", at)
                await asyncio.to_thread(caller.receive, "SIP/2.0 180", f"call-{number}@")
            assert await called(pair.first) == ["00441"]
            assert await called(pair.second) == ["00442"]
            await until_known(proxy, DOWN, UP)
            for number, invite in invites.items():
                caller.cancel(number, at)
                await asyncio.to_thread(carrier.receive, f"CANCEL sip:{number}@")
                carrier.answer(invite, "487 Request Terminated", at)
            await until_known(proxy, UP, UP)


async def called(node: Node) -> list[str]:
    return [one["callee"] for one in await node.daemon.live_calls()]
