"""Beside a real proxy: SIPp -> Kamailio -> sidecar -> Kamailio -> SIPp. What the CDR says of each ending, and
above all of those that Kamailio made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from msgspec.structs import replace

from sidecar.demo.check import summary
from sidecar.demo.subscriber import Record
from tests.kamailio.harness import Proxy
from tests.kamailio.rig import Network, Node, places_of, proxy_at
from tests.sipp.rig import begun_seconds, nobody_answers

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETAIL_44 = Decimal("0.011")  # per minute, sidecar/decks/retail.csv
CONFIRMED = "4"  # Kamailio's word for it
DIALLED = "0044123456789"
MILLIONTH = Decimal("0.000001")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    made = Node(tmp_path_factory.mktemp("beside"), places_of(Network()))
    async with made.up():
        await made.daemon.command("account", "topup", "bluebird", "1")
        yield made


class Case(NamedTuple):
    """What is placed, and what the record of it must say. Caller and callee play the files of the name,
    unless others are named; `cdr` is the `summary` of the record."""

    name: str
    cdr: str
    caller: str | None = None
    callee: str | None = None
    carrier_silent: bool = False  # nobody answers there
    talk_ms: int = 0  # at the least
    proxy: str | None = None
    timers: tuple[tuple[str, int], ...] = ()  # Kamailio's
    failure: str | None = None  # of the attempt


RINGS = "caller-cancel-while-ringing"
CASES = (
    Case("caller-bye-in-call", "caller/bye 200 16 answered", talk_ms=600),
    Case("callee-bye-in-call", "callee/bye 200 16 answered", talk_ms=600),
    Case("caller-cancel-while-ringing", "caller/cancel 487 16 cancelled"),
    Case("callee-rejected-busy", "callee/rejected 486 17 rejected", failure="final_response"),
    Case(
        "proxy-bye-in-call",
        "server/timeout/max_duration 408 16 answered",
        callee="caller-bye-in-call",  # waits to be hung up on
        talk_ms=500,  # Kamailio counts ticks of a second
        proxy="kamailio",
        timers=(("call_s", 2),),
    ),
    Case(
        "proxy-ring-timeout",
        "server/timeout/ring_timeout 408 19 no_answer",
        callee=RINGS,
        proxy="kamailio",
        timers=(("ring_s", 2),),
    ),
    Case(
        "proxy-ring-timeout-of-carrier",
        "server/timeout/ring_timeout 408 19 no_answer",
        caller="proxy-ring-timeout",
        callee=RINGS,
        proxy="kamailio",
        timers=(("carrier_ring_ms", 2_000),),
        failure="final_response",
    ),
    Case(
        "proxy-carrier-silent",
        "server/resource/gateway_unreachable 408 38 failed",
        caller="proxy-ring-timeout",
        carrier_silent=True,
        proxy="kamailio",
        timers=(("carrier_ms", 1_000),),
        failure="final_response",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_record_says_who_ended_the_call_beside_kamailio(
    node: Node, tmp_path: Path, case: Case
) -> None:
    places = replace(node.places, **dict(case.timers))
    caller = case.caller or case.name
    async with proxy_at(tmp_path, places):
        if case.carrier_silent:
            with nobody_answers(*places.carrier):
                cdr = await node.call(caller, None, dialled=DIALLED)
        else:
            cdr = await node.call(caller, case.callee or case.name, dialled=DIALLED)
    assert summary(cdr) == case.cdr
    found = (cdr["proxy"], cdr["glare"], cdr["revision"], cdr["recorded"])
    assert found == (case.proxy, False, 0, True)
    assert cdr["talk_ms"] >= case.talk_ms
    assert (cdr["talk_ms"] > 0) is (cdr["disposition"] == "answered")
    _both_sides_are_kamailios(cdr, node, case)
    _seconds_are_charged(cdr)


def _both_sides_are_kamailios(cdr: Record, node: Node, case: Case) -> None:
    proxy, sidecar = (":".join(map(str, at)) for at in (node.places.proxy, node.places.sidecars[0]))
    assert (cdr["account"], cdr["peer"], cdr["gateway"]) == ("acme", "kamailio", "kamailio")
    for leg in (cdr["leg_a"], cdr["leg_b"]):
        assert (leg["local_address"], leg["remote_address"], leg["transport"]) == (sidecar, proxy, "udp")
    assert cdr["leg_a"]["sip_call_id"] != cdr["leg_b"]["sip_call_id"]
    [attempt] = cdr["attempts"]
    assert (attempt["gateway"], attempt["target"]) == ("kamailio", f"sip:{DIALLED}@{proxy}")
    assert attempt["failure"] == case.failure
    if case.failure is not None:
        assert attempt["sip_code"] == cdr["sip_code"]


def _seconds_are_charged(cdr: Record) -> None:
    sell, buy = cdr["charges"]
    assert (sell["side"], buy["side"]) == ("sell", "buy")
    assert cdr["callee"]["billed"] == "44123456789"
    seconds = begun_seconds(cdr["billable_ms"])
    assert cdr["billable_ms"] == cdr["talk_ms"]
    assert cdr["billed_s"] == sell["billed_s"] == seconds
    assert Decimal(sell["total"] or 0) == (RETAIL_44 * seconds / 60).quantize(MILLIONTH)
    assert (sell["prefix"], buy["prefix"]) == (("44", "44") if seconds else (sell["prefix"], buy["prefix"]))


async def test_what_kamailios_operator_ends_is_the_servers(node: Node, tmp_path: Path) -> None:
    async with proxy_at(tmp_path, node.places) as proxy:
        cdr = await node.call(
            "proxy-bye-in-call", "caller-bye-in-call", meanwhile=_operator_ends(node, proxy)
        )
    assert (cdr["hangup_origin"], cdr["server_reason"], cdr["detail"], cdr["proxy"]) == (
        "server",
        "admin",
        "operator",
        "kamailio",
    )


def _operator_ends(node: Node, proxy: Proxy) -> Callable[[str], Awaitable[None]]:
    async def end(dialled: str) -> None:
        await node.live(dialled, answered=True)
        while (found := _dialog(await asyncio.to_thread(proxy.command, "dlg.list"))) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.to_thread(proxy.command, "dlg.end_dlg", *found, "X-Proxy-Hangup: operator\r\n")

    return end


def _dialog(listed: str) -> tuple[str, str] | None:
    """How Kamailio calls the only dialog, once that has had its ACK."""
    entry, number, state = (re.search(rf"\b{name}: (\d+)", listed) for name in ("h_entry", "h_id", "state"))
    if entry is None or number is None or state is None or state[1] != CONFIRMED:
        return None
    return entry[1], number[1]


async def test_what_our_own_operator_ends_reaches_both_through_kamailio(node: Node, tmp_path: Path) -> None:
    async def release(dialled: str) -> None:
        live = await node.live(dialled, answered=True)
        await node.daemon.command("call", "release", live["call_id"], "--operator", "ops")

    pair = "server-operator-release-in-call"  # both want our Reason in their BYE
    async with proxy_at(tmp_path, node.places):
        cdr = await node.call(pair, pair, meanwhile=release)
    assert (cdr["server_reason"], cdr["detail"], cdr["proxy"], cdr["operator"]) == (
        "admin",
        "operator",
        None,
        "ops",
    )


async def test_a_prepaid_customers_national_number_is_sold_and_bought_by_its_country_code(
    node: Node, tmp_path: Path
) -> None:
    async with proxy_at(tmp_path, node.places):
        cdr = await node.call(
            "caller-bye-in-call",
            "caller-bye-in-call",
            dialled="01511234567",
            host=node.places.bluebird_host,
            account="acme",
        )
    assert cdr["account"] == "bluebird"
    assert cdr["granted_s"] > 0
    assert (cdr["callee"]["received"], cdr["callee"]["billed"]) == ("00491511234567", "491511234567")
    assert [charge["prefix"] for charge in cdr["charges"]] == ["4915", "4915"]
    [balance] = (await node.daemon.command("account", "show", "bluebird"))["balances"]
    assert Decimal(balance["amount"]) == 1 - Decimal(cdr["charges"][0]["total"])


async def test_a_kamailio_that_restarts_in_a_call_changes_nothing(node: Node, tmp_path: Path) -> None:
    """What it knew of the dialog is gone; the recorded route is enough."""
    async with AsyncExitStack() as before, AsyncExitStack() as after:
        await before.enter_async_context(proxy_at(tmp_path, node.places))

        async def restart(dialled: str) -> None:
            await node.live(dialled, answered=True)
            await before.aclose()
            await after.enter_async_context(proxy_at(tmp_path, node.places))

        pair = "caller-bye-in-call"
        cdr = await node.call(pair, pair, pause_ms=3_000, patience_s=40, meanwhile=restart)
    assert (cdr["hangup_origin"], cdr["detail"], cdr["proxy"]) == ("caller", "bye", None)
    assert cdr["talk_ms"] >= 2_900
