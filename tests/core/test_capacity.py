"""How many calls there may be: at once, per second, ringing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core import capacity
from sidecar.core.admit import open_call
from sidecar.core.call import Call, Phase, Stamp
from sidecar.core.policy import Given, Load, Peer, Policy
from sidecar.core.token_buckets import TokenBuckets
from tests.scenarios import world
from tests.scenarios.world import PEERS, account, gateways, policy_of

SECOND_NS = 1_000_000_000


def with_peer(**limits: Any) -> dict[str, Peer]:
    return {**PEERS, "carrier": replace(PEERS["carrier"], **limits)}


def opened(policy: Policy, load: Load, at_ms: int = 0, *, peer: str = "carrier") -> Call:
    """One more call, which the load then knows of."""
    number = len(load.senders) + load.calls + at_ms + 1
    call, _ = open_call(world.call_id(number), world.invite(at_ms, peer=peer), Given(policy, load))
    capacity.changed(None, call, policy, load)
    return call


def verdict(call: Call) -> str:
    return "" if call.hangup is None else f"{call.hangup.detail} {call.hangup.rule}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"calls_max": 2}, "node_full calls_max"),
        ({"calls_per_s": 2}, "node_full calls_per_s"),
        ({"peers": with_peer(calls_max=2)}, "peer_limit calls_max"),
        ({"peers": with_peer(calls_per_s=2)}, "peer_limit calls_per_s"),
        ({"accounts": account(calls_max=2)}, "account_limit calls_max"),
        ({"accounts": account(calls_per_s=2)}, "account_limit calls_per_s"),
        ({"gateways": gateways({"calls_max": 2})}, "gateway_limit None"),
        ({"gateways": gateways({"calls_per_s": 2})}, "gateway_limit None"),
        ({"peers": with_peer(calls_max=2), "accounts": account(calls_max=2)}, "peer_limit calls_max"),
    ],
)
def test_the_third_call_of_a_second_meets_the_limit(changes: dict[str, Any], expected: str) -> None:
    policy, load = policy_of(**changes), Load()
    assert [verdict(opened(policy, load)) for _ in range(3)] == ["", "", expected]
    assert load.calls == 2, "what is refused occupies nothing"
    of_a_second = "'calls_max'" not in str(changes) and "calls_max=2" not in str(changes)
    assert verdict(opened(policy, load, 500)) == ("" if of_a_second else expected)


def test_a_gateway_at_its_rate_is_passed_over_for_the_next() -> None:
    policy, load = policy_of(routes=("alpha", "beta"), gateways=gateways({"calls_per_s": 1})), Load()
    at = [opened(policy, load, at_ms).attempts[-1].gateway for at_ms in (0, 1, 999, 1_000, 1_001)]
    assert at == ["alpha", "beta", "beta", "alpha", "beta"]


def test_a_call_that_has_ended_gives_up_every_place() -> None:
    policy, load = policy_of(), Load()
    call = opened(policy, load)
    assert (load.calls, load.by_peer, load.ringing_by_peer) == (1, {"carrier": 1}, {"carrier": 1})
    talking = replace(call, phase=Phase.TALKING)
    capacity.changed(call, talking, policy, load)
    assert (load.calls, load.by_peer, load.ringing_by_peer) == (1, {"carrier": 1}, {"carrier": 0})
    capacity.changed(talking, replace(talking, phase=Phase.ENDING), policy, load)
    assert (load.calls, load.by_peer, load.by_gateway) == (0, {"carrier": 0}, {"alpha": 0})


def test_a_call_that_goes_on_after_a_restart_has_its_places_and_takes_no_token() -> None:
    policy, load = policy_of(peers=with_peer(calls_per_s=1), accounts=account(calls_max=1)), Load()
    answered = Stamp(world.mono_ns(1), world.wall_ns(1))
    talking = replace(opened(policy, Load()), phase=Phase.TALKING, answered=answered)
    for _ in range(3):
        capacity.changed(None, talking, policy, load)
    assert (load.calls, load.by_peer, load.by_gateway) == (3, {"carrier": 3}, {"alpha": 3})
    assert verdict(opened(policy, load)) == "account_limit calls_max"


def test_ringing_calls_of_one_group_leave_places_to_others_that_call() -> None:
    policy, load = policy_of(calls_max=10), Load()
    alone = [verdict(opened(policy, load)) for _ in range(9)]
    assert alone == [""] * 9, "nobody else has called yet"
    assert verdict(opened(policy, load, peer="vendor")) == ""
    flood = [opened(policy_of(calls_max=11), load) for _ in range(3)]
    assert {verdict(call) for call in flood} == {"peer_limit ringing_share_percent"}
    load.ringing_by_peer["carrier"] = 7
    assert verdict(opened(policy_of(calls_max=11), load)) == "", "its answered calls are not counted"


@pytest.mark.parametrize("calls_max", [1, 2, 3])
def test_a_small_node_can_ring_too(calls_max: int) -> None:
    load = Load(senders={"carrier", "vendor"})
    assert verdict(opened(policy_of(calls_max=calls_max), load)) == ""


def test_an_emergency_call_passes_every_limit_and_takes_no_token() -> None:
    everywhere: dict[str, Any] = {"calls_max": 1, "calls_per_s": 1}
    policy = policy_of(
        emergency_numbers=frozenset({"112"}),
        peers=with_peer(**everywhere),
        accounts=account(**everywhere),
        gateways=gateways(everywhere),
        **everywhere,
    )
    load = Load()
    for number in range(1, 4):
        invite = world.invite(0, number="112", bridge_id=number)
        call, _ = open_call(world.call_id(number), invite, Given(policy, load))
        capacity.changed(None, call, policy, load)
        assert verdict(call) == ""
    assert (load.calls, len(load.buckets)) == (3, 0)


# --- token buckets ------------------------------------------------------------------------------------------


@given(st.integers(1, 50), st.lists(st.integers(0, 300_000_000), max_size=300))
def test_never_more_pass_than_a_bucket_holds_and_the_time_brings(per_s: int, gaps_ns: list[int]) -> None:
    buckets, now_ns, passed = TokenBuckets(), 0, []
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        if buckets.has(("x", ""), per_s, now_ns):
            buckets.take(("x", ""), per_s, now_ns)
            passed.append(now_ns)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            brought = (passed[last] - passed[first]) * per_s / SECOND_NS
            assert last - first + 1 <= per_s + brought + 1e-3
    assert len(passed) >= min(len(gaps_ns), per_s)


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    buckets = TokenBuckets()
    buckets.take(("a", ""), 10, 0)
    buckets.take(("b", ""), 1, 0)
    buckets.forget_full(SECOND_NS // 2)
    assert len(buckets) == 1
    buckets.forget_full(SECOND_NS)
    assert len(buckets) == 0
