"""In which order the gateways of a route are tried: a group is spread by weight, the rest is as written."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import sqrt
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.identity import call_id_of
from sidecar.core.numbers import StripPlan, billed_number
from sidecar.core.policy import Load, RouteRule, Routes, Share
from sidecar.core.routing import next_server, route_of, servers_of
from sidecar.core.servers import Lookup, Server
from sidecar.core.terms import TransportName
from tests.policies import declared_gateway
from tests.scenarios.world import policy_of

CALLS = 2_000
MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
SIGMAS_MAX = 6  # chance alone goes beyond it once in 500 million times
WEIGHTS = st.lists(st.integers(1, 1_000), min_size=1, max_size=6)
POLICY = policy_of()
NUMBER = billed_number("4930123456", StripPlan())


def group(*weights: int, name: str = "g") -> tuple[Share, ...]:
    return tuple(Share(gateway=f"{name}{place}", weight=weight) for place, weight in enumerate(weights))


def order(call_id: UUID, *gateways: str | tuple[Share, ...]) -> tuple[str, ...]:
    return route_of(
        NUMBER, call_id, replace(POLICY, routes=Routes([RouteRule(prefix="49", gateways=gateways)]))
    )


def orders(boot_id: str, *gateways: str | tuple[Share, ...]) -> list[tuple[str, ...]]:
    """Those of a node's first calls, which all came in one millisecond."""
    policy = replace(POLICY, routes=Routes([RouteRule(prefix="49", gateways=gateways)]))
    return [
        route_of(NUMBER, call_id_of("_", "n1", boot_id, number, MS), policy) for number in range(1, CALLS + 1)
    ]


def assert_near(found: int, calls: int, share: float) -> None:
    sigma = sqrt(calls * share * (1 - share))
    assert abs(found - calls * share) <= SIGMAS_MAX * sigma + 1, f"{found} of {calls}, not {share:.3f}"


@settings(max_examples=10)
@given(weights=WEIGHTS, boot_id=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_group_gets_calls_by_weight_and_so_does_what_is_left_of_it(
    weights: list[int], boot_id: str
) -> None:
    share = group(*weights)
    tried = orders(boot_id, share)
    first = Counter(one[0] for one in tried)
    for one in share:
        assert_near(first[one.gateway], CALLS, one.weight / sum(weights))
        after = Counter(names[1] for names in tried if names[0] == one.gateway and len(names) > 1)
        for other in share:
            if other is not one:
                left = sum(weights) - one.weight
                assert_near(after[other.gateway], first[one.gateway], other.weight / left)


@pytest.mark.parametrize(
    "weights",
    [(1, 1), (3, 1), (999, 1), (1, 1, 1), (60, 30, 10), (1, 2, 4), (1,) * 7, (1, 2, 4, 8, 16, 32, 64)],
    ids=str,
)
def test_the_first_and_the_second_draw_are_even_together(weights: tuple[int, ...]) -> None:
    """Chi-square of who is drawn first and who second, over calls in batches as a busy node has them: some in
    one millisecond, their counters one after the other."""
    calls, share = 20_000, group(*weights)
    drawn = Counter(
        order(call_id_of("_", "n1", "b1", number, MS + number // 5), share)[:2] for number in range(calls)
    )
    chi_square = freedom = 0.0
    for first, second in permutations(share, 2):
        left = sum(weights) - first.weight
        expected = calls * first.weight / sum(weights) * second.weight / left
        chi_square += (drawn.pop((first.gateway, second.gateway), 0) - expected) ** 2 / expected
        freedom += 1
    assert not drawn
    # As near to the normal distribution as is needed here: 5 sigma.
    assert abs(chi_square - (freedom - 1)) <= 5 * sqrt(2 * freedom)


@settings(max_examples=10)
@given(weights=st.lists(st.integers(1, 1_000), min_size=3, max_size=6))
def test_passing_over_a_gateway_keeps_the_proportions_of_the_others(weights: list[int]) -> None:
    tried = orders("b1", group(*weights))
    first = Counter(next(name for name in names if name != "g0") for names in tried)
    for place, weight in enumerate(weights[1:], 1):
        assert_near(first[f"g{place}"], CALLS, weight / sum(weights[1:]))


@given(call_id=st.uuids(), weights=WEIGHTS, others=WEIGHTS)
def test_every_gateway_is_tried_once_and_groups_keep_their_places(
    call_id: UUID, weights: list[int], others: list[int]
) -> None:
    one, other = group(*weights), group(*others, name="h")
    tried = order(call_id, "before", one, "between", other, "after")
    ends = (1, 1 + len(one), 2 + len(one), 2 + len(one) + len(other))
    assert (tried[0], tried[ends[1]], tried[ends[3]]) == ("before", "between", "after")
    assert sorted(tried[ends[0] : ends[1]]) == [share.gateway for share in one]
    assert sorted(tried[ends[2] : ends[3]]) == [share.gateway for share in other]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, ("a", "b", "c")),
        (59, ("a", "b", "c")),  # point 59 of 100 is still of a; 0 of 40 is of b
        (60, ("b", "a", "c")),
        (89, ("b", "a", "c")),
        (90, ("c", "a", "b")),
        (30 * 100 + 7, ("a", "c", "b")),  # 7 of 100: a; then 30 of the 40 that are left: c
        (64 * 100 + 70, ("b", "c", "a")),  # 70 of 100: b; then 64 of 70: c
        ((60 * 90 + 5) * 100 + 99, ("c", "a", "b")),
    ],
)
def test_the_draw_can_be_done_by_hand_from_the_call_id(number: int, expected: tuple[str, ...]) -> None:
    share = (Share(gateway="a", weight=60), Share(gateway="b", weight=30), Share(gateway="c", weight=10))
    assert order(UUID(int=number), share) == expected
    when = 0xFFFF_FFFF_FFFF_8FFF_8 << 60  # what is not the hash: time, counter, version and variant
    assert order(UUID(int=when | number), share) == expected


def test_a_second_group_goes_on_with_what_the_first_has_left() -> None:
    one, other = group(1, 1), group(1, 1, name="h")
    assert order(UUID(int=0), one, other) == ("g0", "g1", "h0", "h1")
    assert order(UUID(int=2), one, other) == ("g0", "g1", "h1", "h0")


def test_the_same_call_is_always_routed_in_the_same_way() -> None:
    share, call_id = group(5, 3, 2, 1), call_id_of("_", "n1", "b1", 77, MS)
    assert len({order(call_id, share, "last") for _ in range(100)}) == 1


def test_a_weight_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="weight 0 of g0: at least 1"):
        group(0)


# --- the servers of a name ----------------------------------------------------------------------------------

GATEWAY = declared_gateway(name="gw", host="gw.test", lookup=Lookup(name="gw.test"))
SERVERS = tuple(
    Server(host=f"10.9.0.{n}", port=5060, transport=TransportName.UDP, weight=1, target=str(n))
    for n in (1, 2, 3)
)


def test_servers_that_are_down_are_tried_last_in_their_order() -> None:
    call_id = call_id_of("_", "n1", "b1", 7, MS)
    load = Load(servers={"gw": SERVERS})
    whole = servers_of(GATEWAY, call_id, load)
    assert sorted(whole, key=str) == list(SERVERS)
    load.servers_down |= {("gw", whole[0].at), ("another", whole[1].at)}
    assert servers_of(GATEWAY, call_id, load) == [whole[1], whole[2], whole[0]]
    tried = frozenset({whole[1].at, whole[2].at})
    assert next_server(GATEWAY, call_id, tried, load) == whole[0]
    assert next_server(GATEWAY, call_id, tried | {whole[0].at}, load) is None


def test_what_is_drawn_of_a_group_does_not_bias_what_is_drawn_of_a_name() -> None:
    share, load = group(1, 1, 1), Load(servers={"gw": SERVERS})
    drawn = Counter(
        (order(call_id, share)[0], servers_of(GATEWAY, call_id, load)[0].target)
        for call_id in (call_id_of("_", "n1", "b1", number, MS) for number in range(CALLS))
    )
    assert len(drawn) == 9
    for count in drawn.values():
        assert_near(count, CALLS, 1 / 9)
