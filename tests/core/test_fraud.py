"""Fraud that is public knowledge, made as calls: found within the number of calls that the rule says. And an
ordinary day, in which nothing is found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.fraud import PARTS, FraudWindows
from sidecar.core.fraud_facts import Outcome, Price
from sidecar.core.fraud_rules import (
    NANO,
    NODE_KEY,
    Facts,
    FraudRule,
    FraudRuleError,
    Measure,
    Mode,
    Scope,
)
from tests.core.fraud_samples import sample_rules, working_day
from tests.core.fraud_streams import Made, every, run

NOON = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
NIGHT = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
CUBA = [f"53{number}" for number in range(5_000_000, 5_000_003)]
NOON_MS = int(NOON.timestamp()) * 1_000


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, FraudRule]:
    return sample_rules(tmp_path_factory.mktemp("rules"))


# --- what is public knowledge -------------------------------------------------------------------------------


def test_revenue_share_fraud_is_ended_at_the_amount_while_its_calls_are_up(
    rules: Mapping[str, FraudRule],
) -> None:
    """Long calls in parallel to expensive ranges: nobody has hung up when the amount is reached."""
    calls = every(20, 200, NOON, Made(at=NOON, number="", talk_s=7_200, cents_per_min=150), CUBA)
    seen = run(FraudWindows([rules["irsf-money"]]), calls)
    assert seen.fired() == ["irsf-money"]
    [fired] = seen.firings
    assert fired.key == "acme"
    assert Decimal(50) < fired.measured <= Decimal(55)
    began = fired.at_ms // 20_000 - NOON_MS // 20_000 + 1
    assert set(seen.ended) == set(range(began))
    assert set(seen.refused) == set(range(began, 200))
    assert seen.sold_nano <= 55 * NANO
    assert fired.until_ms == fired.at_ms + 14_400_000


def test_a_hacked_pbx_at_night_is_refused_at_the_call_that_is_one_too_many(
    rules: Mapping[str, FraudRule],
) -> None:
    few = ["35621000001", "35621000002", "2167000001"]
    calls = every(30, 100, NIGHT, Made(at=NIGHT, number="", talk_s=25), few)
    seen = run(FraudWindows([rules["night-abroad"], rules["night-abroad-at-once"]]), calls)
    assert seen.fired() == ["night-abroad"]
    assert list(seen.refused) == list(range(15, 100))  # the rule lets 15 calls through
    assert not run(FraudWindows(rules.values()), [replace(call, number="4930777") for call in calls]).refused
    by_day = [replace(call, at=call.at + timedelta(hours=10)) for call in calls]
    assert "night-abroad" not in run(FraudWindows(rules.values()), by_day).fired()


def test_a_hacked_pbx_with_many_calls_at_once_has_all_of_them_ended(rules: Mapping[str, FraudRule]) -> None:
    calls = every(1, 12, NIGHT, Made(at=NIGHT, number="", talk_s=3_600), CUBA)
    seen = run(FraudWindows([rules["night-abroad-at-once"]]), calls)
    assert seen.ended == dict.fromkeys(range(5), "night-abroad-at-once")
    assert list(seen.refused) == list(range(5, 12))


def test_wangiri_is_found_at_its_caller(rules: Mapping[str, FraudRule]) -> None:
    """One number rings once at one number after the other, and leaves others of the account alone."""
    victims = [f"49151{number}" for number in range(2_000_000, 2_000_400)]
    rings = every(2, 400, NOON, Made(at=NOON, number="", caller="88213000", talk_s=None, ring_s=1.5), victims)
    others = every(40, 20, NOON, Made(at=NOON, number="", caller="4930200"), victims)
    calls = sorted([*rings, *others], key=lambda call: call.at)
    seen = run(FraudWindows([rules["one-ring"]]), calls)
    assert [(one.rule.name, one.key) for one in seen.firings] == [("one-ring", "88213000")]
    refused = [index for index in seen.refused if calls[index].caller == "88213000"]
    assert len(refused) == len(seen.refused) == 400 - 150


def test_wangiri_call_backs_of_many_callers_are_found_at_their_destination(
    rules: Mapping[str, FraudRule],
) -> None:
    calls = [
        Made(
            at=NOON + timedelta(seconds=12 * number),
            account=f"customer{number}",
            caller=f"4930{number}",
            number=f"2165{number:05}",
            talk_s=70,
        )
        for number in range(150)
    ]
    seen = run(FraudWindows([rules["call-back"]]), calls)
    [fired] = seen.firings
    assert (fired.key, fired.measured) == ("216", Decimal(101))
    assert not seen.refused  # it watches


def test_traffic_pumping_is_found_at_its_area_code(rules: Mapping[str, FraudRule]) -> None:
    calls = every(
        30, 100, NOON, Made(at=NOON, number="17125551000", talk_s=1_800, account="carrier", cents_per_min=2)
    )
    seen = run(FraudWindows([rules["pumping"]]), calls)
    assert [one.key for one in seen.firings] == ["1712"]
    assert Decimal(600) < seen.firings[0].measured < Decimal(610)


def test_a_flood_of_short_calls_is_refused_once_there_are_enough_of_them(
    rules: Mapping[str, FraudRule],
) -> None:
    calls = every(2, 300, NOON, Made(at=NOON, number="", talk_s=2, ring_s=0), ["4930100", "4930200"])
    seen = run(FraudWindows([rules["short-calls"]]), calls)
    assert seen.fired() == ["short-calls"]
    assert min(seen.refused) == 100  # a hundred have ended
    longer = [replace(call, talk_s=60) for call in calls]
    assert not run(FraudWindows([rules["short-calls"]]), longer).firings


def test_answers_that_are_none_are_found_at_their_destination(rules: Mapping[str, FraudRule]) -> None:
    """False answer supervision: a route answers by itself, and callers hang up when nobody speaks."""
    calls = [
        Made(
            at=NOON + timedelta(seconds=5 * number),
            account=f"customer{number % 40}",
            number=f"9230{number:07}",
            prefix="9230",
            talk_s=4,
            ring_s=1,
        )
        for number in range(80)
    ]
    seen = run(FraudWindows([rules["false-answers"]]), calls)
    assert [(one.key, one.measured) for one in seen.firings] == [("9230", Decimal(1))]


def test_calls_that_end_so_that_they_are_never_billed_are_refused(rules: Mapping[str, FraudRule]) -> None:
    calls = every(60, 40, NOON, Made(at=NOON, number="4369911", talk_s=57, ring_s=0, unbilled_end=True))
    seen = run(FraudWindows([rules["unbilled"]]), calls)
    assert seen.fired() == ["unbilled"]
    assert list(seen.refused) == list(range(11, 40))


def test_an_ordinary_day_raises_no_alarm(rules: Mapping[str, FraudRule]) -> None:
    """100,000 calls of 400 businesses, with voice mails, night shifts and calls to expensive countries."""
    seen = run(FraudWindows(rules.values()), working_day(100_000, seed=20261124))
    assert (seen.fired(), seen.refused, seen.ended) == ([], {}, {})


# --- how rules hold -----------------------------------------------------------------------------------------

PER_MINUTE = FraudRule(
    name="per-minute",
    scope=Scope.ACCOUNT,
    measure=Measure.CALLS,
    threshold=Decimal(10),
    window_s=60,
    mode=Mode.REFUSE,
    lift_after_s=600,
)
OTHERS = FraudRule(
    name="others",
    scope=Scope.ACCOUNT,
    measure=Measure.DESTINATIONS,
    threshold=Decimal(1_000),
    window_s=60,
)
CALL = Made(at=NOON, number="4930100")


def facts(account: str = "acme", number: str = "4930100") -> Facts:
    return Facts(
        call_id=UUID(int=1),
        account=account,
        caller="4930200",
        number=number,
        prefix=None,
        emergency=False,
        invited_at=NOON,
    )


def test_a_rule_fires_once_lifts_in_time_and_fires_again() -> None:
    seen = run(FraudWindows([PER_MINUTE]), every(1, 1_300, NOON, CALL))
    assert seen.fired() == ["per-minute"] * 3
    # ten calls are let through, then none for ten minutes; what was refused is not counted
    assert [one.at_ms - NOON_MS for one in seen.firings] == [10_000, 620_000, 1_230_000]
    assert len(seen.refused) == 1_300 - 3 * 10


def test_exceptions_and_other_keys_are_not_looked_at() -> None:
    calls = every(1, 30, NOON, CALL)
    excepted = replace(PER_MINUTE, except_accounts=("acme",))
    assert not run(FraudWindows([excepted]), calls).firings
    assert not run(FraudWindows([replace(PER_MINUTE, except_prefixes=("49",))]), calls).firings
    assert not run(FraudWindows([replace(PER_MINUTE, prefixes=("48", "4931"))]), calls).firings
    assert run(FraudWindows([replace(PER_MINUTE, prefixes=("48", "493"))]), calls).refused
    spread = [replace(call, account=f"a{index}") for index, call in enumerate(calls)]
    assert not run(FraudWindows([PER_MINUTE]), spread).firings
    [fired] = run(FraudWindows([replace(PER_MINUTE, scope=Scope.NODE)]), spread).firings
    assert fired.key == NODE_KEY


def test_a_call_without_a_caller_is_no_caller_and_an_emergency_call_is_nothing() -> None:
    rule = replace(PER_MINUTE, scope=Scope.CALLER)
    assert not run(FraudWindows([rule]), every(1, 30, NOON, replace(CALL, caller="anonymous"))).firings
    assert PER_MINUTE.key_of(replace(facts(), emergency=True)) is None
    assert PER_MINUTE.key_of(facts()) == "acme"


def test_a_rule_that_watches_refuses_nothing_and_tells_once() -> None:
    seen = run(FraudWindows([replace(PER_MINUTE, mode=Mode.WATCH)]), every(1, 300, NOON, CALL))
    assert (seen.fired(), seen.refused) == (["per-minute"], {})


def test_what_is_lifted_by_hand_is_counted_anew() -> None:
    windows = FraudWindows([replace(PER_MINUTE, lift_after_s=0)])
    run(windows, every(1, 20, NOON, CALL))
    later_ms = NOON_MS + 30_000
    [held] = windows.held(later_ms + 10**9)  # it does not lift by itself
    assert (held.key, held.until_ms) == ("acme", None)
    assert windows.lift("per-minute", "nobody", later_ms) is None
    assert windows.lift("per-minute", "acme", later_ms) == held
    seen = run(windows, every(1, 11, NOON + timedelta(seconds=31), CALL))
    assert list(seen.refused) == [10]


def test_memory_is_bounded_and_calls_that_are_up_are_not_forgotten() -> None:
    rule = replace(PER_MINUTE, scope=Scope.CALLER, measure=Measure.CALLS_AT_ONCE, window_s=0)
    windows = FraudWindows([rule, replace(PER_MINUTE, name="other", scope=Scope.CALLER)], keys_max=50)
    calls = [
        Made(at=NOON + timedelta(seconds=index), caller=f"49{index}", number="4930100", talk_s=30)
        for index in range(500)
    ]
    busy = every(1, 9, NOON, replace(CALL, caller="busy", talk_s=9_000))
    run_on = every(1, 4, NOON + timedelta(seconds=600), replace(CALL, caller="busy", talk_s=9_000))
    seen = run(windows, [*busy, *calls, *run_on])
    assert [(one.rule.name, one.key) for one in seen.firings] == [("per-minute", "busy")]
    assert windows.forgotten > 800
    assert all(len(one.counts) <= 50 for one in windows._all)


def test_the_numbers_that_are_kept_apart_are_bounded() -> None:
    rule = FraudRule(
        name="many",
        scope=Scope.ACCOUNT,
        measure=Measure.DESTINATIONS,
        threshold=Decimal(20),
        window_s=3_600,
    )
    windows = FraudWindows([rule])
    run(windows, every(1, 500, NOON, CALL, [f"4930{number}" for number in range(500)]))
    [count] = windows._all[0].counts.values()
    assert len(count.last_called) == 21


def test_all_numbers_of_a_rule_are_bounded_too() -> None:
    windows = FraudWindows([OTHERS], numbers_max=50)
    calls = [
        Made(
            at=NOON + timedelta(seconds=index), account=f"a{index // 10}", number=f"4930{index}", talk_s=None
        )
        for index in range(200)
    ]
    run(windows, calls)
    kept = {key: len(count.last_called) for key, count in windows._all[0].counts.items()}
    assert kept == {f"a{number}": 10 for number in range(15, 20)}


def test_numbers_leave_the_window_in_the_order_of_their_last_calls() -> None:
    def fires(*called: tuple[int, str]) -> bool:
        calls = [Made(at=NOON + timedelta(seconds=at), number=number) for at, number in called]
        return bool(run(FraudWindows([replace(OTHERS, threshold=Decimal(2))]), calls).firings)

    assert fires((0, "1"), (10, "2"), (59, "3"))
    assert not fires((0, "1"), (10, "2"), (60, "3"))  # that of a minute ago is not in it any more
    assert not fires(
        (0, "1"), (10, "2"), (50, "1"), (75, "3")
    )  # the second is out, the first was called again
    assert fires((0, "1"), (10, "2"), (50, "1"), (69, "3"))


def test_numbers_that_were_lifted_are_counted_anew() -> None:
    windows = FraudWindows([replace(OTHERS, threshold=Decimal(2), lift_after_s=0)])
    numbers = [f"4930{number}" for number in range(9)]
    assert run(windows, every(1, 3, NOON, CALL, numbers)).fired() == ["others"]
    assert windows.lift("others", "acme", NOON_MS + 5_000) is not None
    assert run(windows, every(1, 2, NOON + timedelta(seconds=6), CALL, numbers[3:])).firings == []


def test_of_what_is_held_the_oldest_is_let_go_where_there_is_no_room() -> None:
    windows = FraudWindows([replace(PER_MINUTE, threshold=Decimal(0), lift_after_s=10)], keys_max=2)
    for at_s, account in ((0, "a"), (5, "b"), (11, "a"), (12, "c")):
        call = windows.watched(facts(account=account))
        windows.began(call, NOON_MS + at_s * 1_000, windows.refusal(call, NOON_MS + at_s * 1_000))
    assert [held.key for held in windows.held(NOON_MS + 12_000)] == ["a", "c"]
    windows.tick(NOON_MS + 30_000)
    assert windows._all[0].held == {}


def test_the_longest_prefix_of_a_rule_is_what_a_call_counts_for() -> None:
    rule = replace(PER_MINUTE, scope=Scope.PREFIX, prefixes=("49", "4915", "4"))
    assert rule.key_of(facts(number="4915100")) == "4915"
    assert rule.key_of(facts(number="4930100")) == "49"
    assert replace(rule, prefixes=()).key_of(facts(number="4930100")) is None  # it is sold at no rate


def test_money_of_another_currency_is_not_counted() -> None:
    rule = replace(PER_MINUTE, measure=Measure.MONEY, currency="EUR", threshold=Decimal(1))
    windows = FraudWindows([rule])
    call = windows.watched(facts())
    sold = Outcome(answered=True, talk_ms=1, billable_ms=1, nano=2 * NANO, currency="USD", unbilled_end=False)
    assert windows.recorded(call, sold, NOON_MS) == []
    [fired] = windows.recorded(call, replace(sold, currency="EUR"), NOON_MS)
    assert fired.measured == 2


@pytest.mark.parametrize(("talk_s", "is_short"), [(6, True), (6.001, False), (0, True)])
def test_a_call_of_just_so_many_seconds_is_short(talk_s: float, is_short: bool) -> None:
    rule = replace(PER_MINUTE, measure=Measure.SHORT_CALLS, threshold=Decimal("0.5"), least_calls=5)
    calls = every(1, 5, NOON, replace(CALL, talk_s=talk_s, ring_s=0))
    assert bool(run(FraudWindows([rule]), calls).firings) == is_short


def test_the_end_of_a_call_that_found_no_room_takes_nothing_from_another() -> None:
    rule = replace(PER_MINUTE, measure=Measure.MINUTES, mode=Mode.WATCH)
    windows = FraudWindows([rule], keys_max=1)
    first, second = windows.watched(facts(account="a")), windows.watched(facts(account="b"))
    windows.answered(first, 0, Price())
    windows.answered(second, 100, Price())  # no room
    windows.left(first, 0, Price())
    windows.answered(second, 200, Price())
    windows.left(second, 100, Price())
    windows.answered(second, 300, Price())
    one = windows._all[0]
    assert one.value("b", one.counts["b"], 400) == 100


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"window_s": 0}, "window_s: calls needs a window"),
        ({"measure": Measure.CALLS_AT_ONCE}, "window_s: calls at once have no window"),
        ({"measure": Measure.MONEY}, "currency: is of the measure money"),
        ({"currency": "EUR"}, "currency: is of the measure money"),
        ({"threshold": Decimal("2.5")}, "threshold: calls are counted in whole numbers"),
        ({"measure": Measure.SHORT_CALLS, "threshold": Decimal(1)}, "threshold: can never fire"),
        ({"prefixes": ("4912", "4913"), "except_prefixes": ("49",)}, "prefixes: can never fire"),
        ({"measure": Measure.DESTINATIONS, "threshold": Decimal(10**6)}, "threshold: at most 10000"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(FraudRuleError, match=text):
        replace(PER_MINUTE, **changes)


# --- properties ---------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 500)), min_size=1, max_size=60),
    window_s=st.integers(1, 120),
)
def test_a_window_misses_nothing_in_it_and_holds_little_beside(
    steps: list[tuple[int, int]], window_s: int
) -> None:
    rule = FraudRule(
        name="r",
        scope=Scope.NODE,
        measure=Measure.MINUTES,
        threshold=Decimal(10**6),
        window_s=window_s,
    )
    windows, now_ms, added = FraudWindows([rule]), 0, []
    call = windows.watched(facts())
    for pause_ms, amount in steps:
        now_ms += pause_ms
        added.append((now_ms, amount))
        outcome = Outcome(
            answered=True, talk_ms=amount, billable_ms=amount, nano=0, currency="", unbilled_end=False
        )
        windows.recorded(call, outcome, now_ms)
        one = windows._all[0]
        counted = one.value(NODE_KEY, one.counts[NODE_KEY], now_ms)
        width_ms = window_s * 1_000
        part_ms = -(-width_ms // PARTS)
        assert sum(a for at, a in added if at > now_ms - width_ms) <= counted
        assert counted <= sum(a for at, a in added if at > now_ms - (PARTS + 1) * part_ms)
        assert len(one.counts[NODE_KEY].parts) <= PARTS + 1


@settings(max_examples=200)
@given(
    talks=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**10)),
        min_size=1,
        max_size=30,
    ),
    data=st.data(),
)
def test_what_calls_that_are_up_have_come_to_is_the_sum_of_each(
    talks: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    rule = FraudRule(
        name="r",
        scope=Scope.NODE,
        measure=Measure.MONEY,
        threshold=Decimal(10**6),
        window_s=60,
        currency="EUR",
    )
    windows = FraudWindows([rule])
    call = windows.watched(facts())
    for answered_ms, _, nano in talks:
        windows.answered(call, answered_ms, Price(nano, "EUR"))
        windows.answered(call, answered_ms, Price(nano, "USD"))  # not of this rule
    gone = data.draw(st.sets(st.integers(0, len(talks) - 1)))
    for index in gone:
        windows.left(call, talks[index][0], Price(talks[index][2], "EUR"))
    now_ms = 2 * 10**6
    left = [talk for index, talk in enumerate(talks) if index not in gone]
    one = windows._all[0]
    expected = sum(nano * (now_ms - answered_ms) for answered_ms, _, nano in left) // 60_000
    assert one.value(NODE_KEY, one.counts[NODE_KEY], now_ms) == expected


@settings(max_examples=50, deadline=None)
@given(
    calls=st.lists(
        st.builds(
            Made,
            at=st.integers(0, 600).map(lambda s: NOON + timedelta(seconds=s)),
            account=st.sampled_from(["a", "b"]),
            caller=st.sampled_from(["1", "2", "anonymous"]),
            number=st.sampled_from(["4930", "537", "216"]),
            talk_s=st.none() | st.integers(0, 300),
        ),
        max_size=60,
    ),
    threshold=st.integers(0, 12),
    scope=st.sampled_from([Scope.ACCOUNT, Scope.CALLER, Scope.NODE]),
)
def test_no_key_ever_has_more_calls_at_once_than_a_rule_that_refuses_allows(
    calls: list[Made], threshold: int, scope: Scope
) -> None:
    rule = FraudRule(
        name="r",
        scope=scope,
        measure=Measure.CALLS_AT_ONCE,
        threshold=Decimal(threshold),
        mode=Mode.REFUSE,
        lift_after_s=60,
    )
    windows = FraudWindows([rule])
    seen = run(windows, calls)
    assert all(count.live == 0 for count in windows._all[0].counts.values())
    at_ms = max((one.at_ms for one in seen.firings), default=0)
    assert all(one.measured == threshold + 1 for one in seen.firings), at_ms
