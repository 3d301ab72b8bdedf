"""Where calls go: spread by weight, and on to the next gateway where one fails."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from uuid import UUID

from sidecar.core.identity import HASH_BITS
from sidecar.demo.check import summary
from sidecar.demo.subscriber import Record
from tests.sipp.conftest import MakeRig

CALLS = 60
SPREAD = "0744123456789"  # main=3, second=1
# Many calls at once, on a machine that may be starved: nothing is refused or given up for that.
PATIENCE = {
    "SIDECAR_TIMERS__ANSWER_HOLD_MS_MAX": "30000",
    "SIDECAR_TIMERS__ADMISSION_WAIT_MS_MAX": "30000",
    "SIDECAR_TIMERS__NO_RESPONSE_FAILOVER_S": "30",
}


def drawn_first(cdr: Record) -> str:
    """By hand: the hash in the call's id, modulo the sum of the weights."""
    return "main" if (UUID(cdr["call_id"]).int & HASH_BITS) % 4 < 3 else "second"


def gateways(cdr: Record) -> list[str]:
    return [attempt["gateway"] for attempt in cdr["attempts"]]


async def test_calls_are_spread_over_a_group_by_weight(make_rig: MakeRig) -> None:
    async with make_rig(**PATIENCE) as rig:
        callees = dict.fromkeys(("main", "second"), "caller-bye-in-call")
        cdrs = await rig.place_many(CALLS, "caller-bye-in-call", callees, dialled=SPREAD)
    assert [gateways(cdr) for cdr in cdrs] == [[drawn_first(cdr)] for cdr in cdrs]
    spread = Counter(cdr["gateway"] for cdr in cdrs)
    assert abs(spread["main"] - CALLS * 0.75) <= 6 * sqrt(CALLS * 0.75 * 0.25), spread
    assert {cdr["disposition"] for cdr in cdrs} == {"answered"}


async def test_a_gateway_of_a_group_that_fails_leaves_its_calls_to_the_others(make_rig: MakeRig) -> None:
    async with make_rig(**PATIENCE) as rig:
        callees = {"main": "gateway-unavailable", "second": "caller-bye-in-call"}
        cdrs = await rig.place_many(CALLS, "caller-bye-in-call", callees, dialled=SPREAD)
    assert {cdr["gateway"] for cdr in cdrs} == {"second"}
    assert {cdr["disposition"] for cdr in cdrs} == {"answered"}
    for cdr in cdrs:
        assert gateways(cdr) == (["main", "second"] if drawn_first(cdr) == "main" else ["second"])
        assert all(one["sip_code"] == 503 for one in cdr["attempts"][:-1])


async def test_a_code_that_the_gateway_lists_sends_the_call_to_the_next(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        cdr = await rig.place(
            "caller-bye-in-call",
            "gateway-not-found",
            gateway="elsewhere",
            others={"second": "caller-bye-in-call"},
            dialled="0844123456789",
        )
    first, second = cdr["attempts"]
    assert (cdr["gateway"], cdr["disposition"]) == ("second", "answered")
    assert (first["gateway"], first["sip_code"], first["failure"]) == ("elsewhere", 404, "final_response")
    assert (first["q850_cause"], first["reasons"]) == (1, ['Q.850;cause=1;text="unallocated"'])
    assert (second["gateway"], second["sip_code"], second["reasons"]) == ("second", 200, [])
    assert first["started_at"] < first["ended_at"] <= second["started_at"]


async def test_a_code_that_the_gateway_does_not_list_ends_the_call(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        cdr = await rig.place(
            "callee-rejected-unavailable", "gateway-unavailable", gateway="elsewhere", dialled="0844123456789"
        )
    assert summary(cdr) == "callee/rejected 503 41 rejected"
    assert gateways(cdr) == ["elsewhere"]


async def test_a_gateway_that_only_ever_says_100_loses_the_call_to_the_next(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        cdr = await rig.place(
            "caller-bye-in-call",
            "gateway-slow",
            gateway="slow",
            others={"second": "caller-bye-in-call"},
            dialled="1044123456789",
        )
    first, second = cdr["attempts"]
    assert (cdr["gateway"], cdr["disposition"]) == ("second", "answered")
    assert (first["failure"], first["sip_code"], first["heard_code"]) == ("no_response", 0, 100)
    assert (second["failure"], second["sip_code"], second["heard_code"]) == (None, 200, 180)


async def test_what_the_gateway_says_to_a_cancel_is_in_its_attempt(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        cdr = await rig.place("caller-cancel-before-provisional", "gateway-slow")
    assert summary(cdr) == "caller/cancel 487 16 cancelled"
    (attempt,) = cdr["attempts"]
    assert (attempt["sip_code"], attempt["failure"]) == (487, None)
    assert (attempt["q850_cause"], attempt["reasons"]) == (31, ["Q.850;cause=31"])
