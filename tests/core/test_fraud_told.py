"""Fraud rules of several nodes: what they tell one another makes them count as one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core import fraud
from sidecar.core.fraud import FraudWindows, Watched
from sidecar.core.fraud_facts import Outcome, Price
from sidecar.core.fraud_rules import Facts, FraudRule, Measure, Mode, Scope
from sidecar.core.fraud_told import Counted, CountsHeard, FraudCounts, FraudHold, most_urgent

NOON = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
CALLS = FraudRule(
    name="calls",
    scope=Scope.ACCOUNT,
    measure=Measure.CALLS,
    threshold=Decimal(1),
    window_s=600,
    lift_after_s=600,
)
RULES = (
    CALLS,
    replace(CALLS, name="at-once", measure=Measure.CALLS_AT_ONCE, window_s=0),
    replace(CALLS, name="numbers", measure=Measure.DESTINATIONS, threshold=Decimal(4), window_s=60),
    replace(CALLS, name="minutes", measure=Measure.MINUTES, window_s=60),
    replace(CALLS, name="money", measure=Measure.MONEY, threshold=Decimal(0), currency="EUR"),
    replace(CALLS, name="short", measure=Measure.SHORT_CALLS, threshold=Decimal("0.5"), least_calls=2),
    replace(CALLS, name="unbilled", measure=Measure.UNBILLED_ENDS),
)
PRICE = Price(7_000_000, "EUR")


def facts(account: str = "acme", number: str = "53") -> Facts:
    return Facts(
        call_id=UUID(int=1),
        account=account,
        caller="1",
        number=number,
        prefix=None,
        emergency=False,
        invited_at=NOON,
    )


def began(windows: FraudWindows, count: int, at_ms: int, account: str = "acme") -> Sequence[fraud.Firing]:
    call = windows.watched(facts(account))
    return [fired for _ in range(count) for fired in windows.began(call, at_ms)]


def heard(windows: FraudWindows, at_ms: int, lifts_heard: int = 0) -> CountsHeard:
    """As it arrives."""
    packed = msgspec.msgpack.encode(windows.told(at_ms, lifts_heard))
    return CountsHeard(counts=msgspec.msgpack.decode(packed, type=FraudCounts), told_ms=at_ms)


def exchange(nodes: Sequence[FraudWindows], at_ms: int) -> list[Sequence[fraud.Firing]]:
    told = {str(number): heard(one, at_ms) for number, one in enumerate(nodes)}
    return [
        one.hear({name: what for name, what in told.items() if name != str(number)}, at_ms)
        for number, one in enumerate(nodes)
    ]


def values(windows: FraudWindows, at_ms: int) -> dict[tuple[str, str], Decimal]:
    """Of each rule and key that is counted here or elsewhere; nothing is as if it were not there."""
    found = {
        (one.rule.name, key): one.value(key, one.counts.get(key) or fraud._Count(1), at_ms)
        for one in windows._all
        for key in one.counts.keys() | one.elsewhere.keys()
    }
    return {place: Decimal(value) for place, value in found.items() if value}


# What a call does, one after the other; the time that passes before it, in s.
STEPS = st.lists(
    st.tuples(st.integers(0, 25), st.sampled_from(["acme", "beta"]), st.sampled_from(["53", "216", "1"])),
    min_size=1,
    max_size=40,
)


@given(STEPS, st.integers(2, 4), st.integers(0, 999))
def test_all_nodes_together_count_as_one_would(
    steps: list[tuple[int, str, str]], nodes: int, seed: int
) -> None:
    chance, at_ms, live = Random(seed), 0, list[tuple[list[tuple[FraudWindows, Watched]], int]]()
    whole, parts = FraudWindows(RULES), [FraudWindows(RULES) for _ in range(nodes)]
    for pause_s, account, number in steps:
        at_ms += pause_s * 1_000
        places = [(one, one.watched(facts(account, number))) for one in (whole, chance.choice(parts))]
        for windows, call in places:
            windows.began(call, at_ms)
            windows.answered(call, at_ms, PRICE)
        live.append((places, at_ms))
        if chance.random() < 0.5:
            places, since_ms = live.pop(chance.randrange(len(live)))
            talk_ms = at_ms - since_ms
            outcome = Outcome(
                answered=True,
                talk_ms=talk_ms,
                billable_ms=talk_ms,
                nano=PRICE.nano_per_min * talk_ms // 60_000,
                currency="EUR",
                unbilled_end=chance.random() < 0.2,
            )
            for windows, call in places:
                windows.left(call, since_ms, PRICE)
                windows.recorded(call, outcome, at_ms)
        exchange(parts, at_ms)
        expected = values(whole, at_ms)
        for one in parts:
            found = values(one, at_ms)
            for place in expected.keys() | found.keys():
                # Money of calls that are up is rounded down at each node.
                off = nodes if place[0] == "money" else 0
                difference = found.get(place, Decimal(0)) - expected.get(place, Decimal(0))
                assert abs(difference) <= off, place


@given(st.lists(st.integers(0, 90), min_size=2, max_size=5), st.integers(1, 300))
def test_what_is_not_told_is_less_than_a_hundredth_for_each_other_node(
    begun: list[int], threshold: int
) -> None:
    rule = replace(CALLS, threshold=Decimal(threshold))
    parts = [FraudWindows([rule]) for _ in begun]
    for one, count in zip(parts, begun, strict=True):
        began(one, count, 0)
    fired = exchange(parts, 0)
    for one in parts:
        seen = values(one, 0).get(("calls", "acme"), Decimal(0))
        assert 0 <= sum(begun) - seen <= (len(begun) - 1) * Decimal(threshold) / 100
    if sum(begun) > threshold * (1 + (len(begun) - 1) / 100):
        holding = [one for one, found in zip(parts, fired, strict=True) if found or one.held(0)]
        assert len(holding) == sum(count > 0 for count in begun), "all who have counted something"


def test_a_call_that_would_be_too_many_over_all_nodes_is_refused_by_one_that_has_counted_none() -> None:
    rule = replace(CALLS, threshold=Decimal(4), mode=Mode.REFUSE)
    parts = [FraudWindows([rule]) for _ in range(3)]
    for one in parts[:2]:
        began(one, 2, 0)
    exchange(parts, 0)
    call = parts[2].watched(facts())
    assert parts[2].refusal(call, 0) == "calls"
    assert parts[2].refusal(parts[2].watched(facts("beta")), 0) is None
    [fired] = parts[2].began(call, 0, "calls")
    assert fired.measured == 5
    # A rule that is another in anything counts for itself, and so does one of the node.
    for other in (replace(rule, threshold=Decimal(5)), replace(rule, scope=Scope.NODE)):
        one, two = FraudWindows([other]), FraudWindows([other if other.scope is Scope.NODE else rule])
        began(two, 9, 0)
        exchange([one, two], 0)
        assert one.refusal(one.watched(facts()), 0) is None


def test_numbers_that_are_called_over_several_nodes_count_once() -> None:
    rule = replace(CALLS, measure=Measure.DESTINATIONS, threshold=Decimal(9))
    one, two = FraudWindows([rule]), FraudWindows([rule])
    for windows, numbers in ((one, "12345"), (two, "4567")):
        for number in numbers:
            windows.began(windows.watched(facts(number=number)), 0)
    exchange([one, two], 0)
    assert values(one, 0) == values(two, 0) == {("calls", "acme"): 7}
    for number in "67":  # the other's, now ours too
        one.began(one.watched(facts(number=number)), 0)
    assert values(one, 0) == {("calls", "acme"): 7}


def test_what_a_silent_node_has_counted_counts_as_long_as_the_window_and_its_calls_are_not_up() -> None:
    rules = [CALLS, RULES[1]]
    one, dead = FraudWindows(rules), FraudWindows(rules)
    began(dead, 3, 0)
    told = heard(dead, 0)
    one.hear({"dead": told}, 0)
    assert values(one, 0) == {("calls", "acme"): 3, ("at-once", "acme"): 3}
    silent = replace(told, is_present=False)
    for at_ms, expected in (
        (1_000, {("calls", "acme"): 3}),
        (599_999, {("calls", "acme"): 3}),
        (600_000, {}),
    ):
        one.hear({"dead": silent}, at_ms)
        assert values(one, at_ms) == expected


def test_what_is_lifted_is_counted_anew_whoever_counted_it() -> None:
    rule = replace(CALLS, threshold=Decimal(4), mode=Mode.REFUSE)
    one, two = FraudWindows([rule]), FraudWindows([rule])
    began(one, 3, 0)
    began(two, 3, 0)
    [[fired], [_]] = exchange([one, two], 0)
    before = heard(two, 0)
    assert one.lift("calls", "acme", 0, 7) is not None
    one.hear({"two": before}, 0)
    assert values(one, 0) == {}, "what was told before it was lifted"
    began(one, 1, 0)
    assert one.lift("calls", "acme", 0, 7) is None, "it was heard before"
    assert two.lift("calls", "acme", 0, 7) is not None
    began(two, 2, 0)
    one.hear({"two": heard(two, 0, 7)}, 0)
    assert values(one, 0) == {("calls", "acme"): 3}
    assert one.held(0) == two.held(0) == []
    assert fired.measured == 6


def test_what_one_node_has_found_the_others_hold_and_once() -> None:
    rule = replace(CALLS, mode=Mode.END)
    one = FraudWindows([rule])
    found = FraudHold(
        rule="calls",
        identity=rule.identity,
        key="acme",
        node="two",
        measured=Decimal(5),
        since_ms=0,
        until_ms=600_000,
    )
    fired = one.hold(found, 1_000)
    assert fired is not None
    assert (fired.key, fired.until_ms) == ("acme", 600_000)
    assert one.hold(found, 1_000) is None
    assert one.refusal(one.watched(facts()), 599_999) == "calls"
    assert one.refusal(one.watched(facts()), 600_000) is None
    assert one.hold(found, 600_000) is None, "it is over"
    for other in (replace(found, rule="gone"), replace(found, identity="another")):
        assert FraudWindows([rule]).hold(other, 0) is None


@pytest.mark.parametrize(("keys_max", "numbers_max", "told"), [(9, 9, "abc"), (2, 9, "bc"), (9, 4, "ab")])
def test_of_too_much_those_are_told_that_are_next_to_their_thresholds(
    keys_max: int, numbers_max: int, told: str
) -> None:
    found = [
        (0.1, "r", "a", Counted(amount=1)),
        (0.9, "r", "b", Counted(numbers=(1, 2, 3))),
        (0.5, "s", "c", Counted(numbers=(4, 5))),
    ]
    counts = most_urgent(found, 3, keys_max, numbers_max)
    assert sorted(key for keys in counts.rules.values() for key in keys) == list(told)
    assert (counts.not_told, counts.lifts_heard) == (3 - len(told), 3)
