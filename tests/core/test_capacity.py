"""How many calls there may be: at once, per second, ringing."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core import capacity, token_buckets
from sidecar.core.admit import open_call
from sidecar.core.call import Call, Phase, Stamp
from sidecar.core.policy import Given, Load, Peer, Policy
from sidecar.core.token_buckets import NODE, TokenBuckets, share
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


# --- among other nodes --------------------------------------------------------------------------------------


def test_calls_of_a_peer_group_on_other_nodes_count_for_its_limit() -> None:
    policy = policy_of(peers=with_peer(calls_max=3))
    load = Load(by_peer_elsewhere={"carrier": 2})
    assert [verdict(opened(policy, load)) for _ in range(2)] == ["", "peer_limit calls_max"]
    load.by_peer_elsewhere = {}
    assert verdict(opened(policy, load)) == ""


counts = st.integers(0, 200)


@given(st.integers(1, 100), st.lists(counts, min_size=1, max_size=8), st.integers(0, 5))
def test_what_all_nodes_want_is_within_the_limit_once_all_have_heard(
    per_s: int, wanted: list[int], idle: int
) -> None:
    nodes = len(wanted) + idle
    shares = [share(per_s, one, wanted[:at] + wanted[at + 1 :], nodes) for at, one in enumerate(wanted)]
    taken = [min(one, its) for one, its in zip(wanted, shares, strict=True)]
    assert sum(taken) <= per_s + 1e-6
    assert sum(taken) >= min(per_s, sum(wanted)) - 1e-6, "nothing is left while somebody wants it"
    assert all(per_s / nodes - 1e-6 <= its <= per_s + 1e-6 for its in shares)


KEY = ("account", "acme")


def passed_by(nodes: int, per_s: int, wants: list[list[int]], chance: Random) -> list[int]:
    """When calls were let through by any of the nodes, in ns: `wants` is for each second what comes to each
    of them. Each tells and hears once a second, in a moment of its own."""
    buckets = [TokenBuckets() for _ in range(nodes)]
    told = [dict[tuple[str, str], int]() for _ in range(nodes)]
    due = list[tuple[int, bool, int]]()
    for node in range(nodes):
        phase_ns = chance.randrange(SECOND_NS)
        buckets[node].hear([{}] * (nodes - 1))  # as they begin
        for second, wanted in enumerate(wants):
            late_ns = chance.randrange(SECOND_NS // 50)
            due.append((second * SECOND_NS + phase_ns + late_ns, False, node))
            due += [
                (second * SECOND_NS + chance.randrange(SECOND_NS), True, node) for _ in range(wanted[node])
            ]
    passed = list[int]()
    for at_ns, is_call, node in sorted(due):
        if not is_call:
            told[node] = dict(buckets[node].wanted(at_ns))
            buckets[node].hear(told[:node] + told[node + 1 :])
        elif buckets[node].has(KEY, per_s, at_ns):
            buckets[node].take(KEY, per_s, at_ns)
            passed.append(at_ns)
    return passed


def at_most(passed: list[int], seconds: int) -> int:
    """The most that passed within so many seconds."""
    first, most = 0, 0
    for last, at_ns in enumerate(passed):
        while passed[first] <= at_ns - seconds * SECOND_NS:
            first += 1
        most = max(most, last - first + 1)
    return most


@settings(max_examples=60)
@given(st.data())
def test_whatever_comes_to_which_node_all_together_stay_within_what_the_setting_says(
    data: st.DataObject,
) -> None:
    nodes, per_s = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 12))
    of_one = st.sampled_from([0, 0, 1, per_s // 2, per_s, 3 * per_s])
    wants = data.draw(st.lists(st.lists(of_one, min_size=nodes, max_size=nodes), min_size=5, max_size=20))
    passed = passed_by(nodes, per_s, wants, Random(data.draw(st.integers(0, 999))))
    for seconds in (1, 2, 5):
        assert at_most(passed, seconds) <= 2 * per_s * (seconds + 1) + nodes


@settings(max_examples=40)
@given(st.integers(2, 4), st.integers(3, 12), st.integers(0, 999), st.data())
def test_with_calls_that_come_as_before_all_nodes_together_have_the_limit(
    nodes: int, per_s: int, seed: int, data: st.DataObject
) -> None:
    """Also where one has them all."""
    of_one = st.sampled_from([0, 3 * per_s + 3])
    wanted = data.draw(st.lists(of_one, min_size=nodes, max_size=nodes).filter(any))
    passed = [at for at in passed_by(nodes, per_s, [wanted] * 26, Random(seed)) if at >= 5 * SECOND_NS]
    assert at_most(passed, 20) <= per_s * 21 + nodes
    assert len(passed) >= 0.8 * per_s * 20
    assert at_most(passed, 1) <= 2 * per_s + nodes


def test_a_limit_of_the_node_is_of_it_alone() -> None:
    buckets = TokenBuckets()
    buckets.hear([{NODE: 10, KEY: 10}])
    for key, passes in ((NODE, 10), (KEY, 5)):
        for _ in range(passes):
            assert buckets.has(key, 10, 0)
            buckets.take(key, 10, 0)
        assert not buckets.has(key, 10, 0)
    assert buckets.wanted(SECOND_NS) == {KEY: 10}, "it has taken its share: it wants more"


def test_of_too_many_limits_those_are_told_that_most_was_taken_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_buckets, "TOLD_MAX", 2)
    buckets = TokenBuckets()
    for name, count in (("a", 1), ("b", 3), ("c", 2)):
        for _ in range(count):
            buckets.take(("account", name), 100, 0)
    assert buckets.wanted(SECOND_NS) == {("account", "b"): 3, ("account", "c"): 2}
