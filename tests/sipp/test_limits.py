"""Refusals at a limit, calls that an operator or a drain ends, and sources that are not listed."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.demo.check import summary
from sidecar.demo.subscriber import Record
from tests.sipp.conftest import MakeRig
from tests.sipp.rig import Rig

UNTIL_RELEASED = ("server-operator-release-in-call", "server-operator-release-in-call")
RELEASED = "server/admin/operator 480 31 answered"
LONG_S = 30  # nobody waits for it


async def _second_call(rig: Rig, first: dict[str, Any], second: str, **how: Any) -> tuple[Record, Record]:
    """A call, and another one while it is up. The operator ends the first, when the second is over."""
    refused: list[Record] = []

    async def meanwhile(dialled: str) -> None:
        call = await rig.live(dialled, answered=True)
        refused.append(await rig.place(second, **how))
        await rig.daemon.command("call", "release", call["call_id"], "--operator", "jane")

    talked = await rig.place(*UNTIL_RELEASED, meanwhile=meanwhile, **first)
    return talked, refused[0]


async def test_a_full_node_refuses_and_says_so_in_a_record(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=LONG_S, SIDECAR_NODE__CALLS_MAX="1") as rig:
        talked, refused = await _second_call(rig, {}, "server-node-full")
    assert summary(refused) == "server/resource/node_full 503 42 refused"
    assert summary(talked) == RELEASED


async def test_an_account_has_so_many_calls_and_no_more(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=LONG_S) as rig:
        first = {"account": "single", "dialled": "0044123456789"}
        talked, refused = await _second_call(
            rig, first, "server-account-limit", account="single", dialled="0044123456780"
        )
        again = await rig.place("callee-rejected-busy", "callee-rejected-busy", account="single")
    assert summary(refused) == "server/resource/account_limit 480 34 refused"
    assert refused["account"] == talked["account"] == "single"
    assert summary(again) == "callee/rejected 486 17 rejected"  # its place is free again


async def test_a_gateway_has_so_many_calls_and_no_more(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=LONG_S) as rig:
        small = {"dialled": "0544123456789", "gateway": "small"}
        talked, refused = await _second_call(rig, small, "server-gateway-limit", dialled="0544123456780")
    assert summary(refused) == "server/resource/gateway_limit 500 34 refused"
    assert talked["gateway"] == "small"


async def test_a_drained_node_ends_its_calls_and_refuses_new_ones(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=LONG_S) as rig:

        async def drain(dialled: str) -> None:
            await rig.live(dialled, answered=True)
            await rig.daemon.command("node", "drain", "--release", "--operator", "jane", "--text", "update")

        ended = await rig.place("server-drain-in-call", "caller-bye-in-call", meanwhile=drain)
        refused = await rig.place("server-node-full")
    assert summary(ended) == "server/admin/drain 480 31 answered"
    assert (ended["operator"], ended["operator_text"]) == ("jane", "update")
    assert summary(refused) == "server/admin/drain 503 31 refused"


@pytest.mark.parametrize(
    ("scenario", "ending"),
    [
        ("server-operator-release-in-call", RELEASED),
        ("server-operator-release-while-ringing", "server/admin/operator 480 31 failed"),
    ],
)
async def test_an_operator_ends_a_call(make_rig: MakeRig, scenario: str, ending: str) -> None:
    async with make_rig(max_duration_s=LONG_S, SIDECAR_TIMERS__RING_TIMEOUT_S=str(LONG_S)) as rig:

        async def release(dialled: str) -> None:
            call = await rig.live(dialled, answered=ending == RELEASED)
            words = ("--operator", "jane", "--text", "fraud desk, ticket 7")
            await rig.daemon.command("call", "release", call["call_id"], *words)

        cdr = await rig.place(scenario, scenario, meanwhile=release)
    assert summary(cdr) == ending
    assert (cdr["operator"], cdr["operator_text"]) == ("jane", "fraud desk, ticket 7")


async def test_a_source_that_is_not_listed_is_refused_with_a_record(make_rig: MakeRig) -> None:
    async with make_rig(SIDECAR_SIP__UNLISTED_SOURCE="reject") as rig:
        cdr = await rig.place("server-source-not-allowed", host=rig.stranger)
    assert summary(cdr) == "server/policy/source_not_allowed 403 21 refused"
    assert cdr["leg_a"]["remote_address"].startswith(f"{rig.stranger}:")
    assert cdr["attempts"] == []
