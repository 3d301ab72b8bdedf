"""Rules see the same of a call that is up and of its record; and what they would have done to records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.fraud import Firing, FraudWindows
from sidecar.core.fraud_facts import facts_of_call, facts_of_record, outcome_of, price_of_call
from sidecar.core.fraud_replay import Hit, Lift, Replay, ms_of
from sidecar.core.fraud_rules import NANO, FraudRule, Measure, Mode, Scope
from sidecar.core.numbers import mask
from sidecar.core.terms import Detail, Disposition, HangupOrigin, ServerReason
from tests.scenarios.scenario import Scenario
from tests.scenarios.table import SCENARIOS

START = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
RULE = FraudRule(
    name="often",
    scope=Scope.CALLER,
    measure=Measure.CALLS,
    threshold=Decimal(3),
    window_s=3_600,
    mode=Mode.REFUSE,
    lift_after_s=600,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_call_and_its_record_are_the_same_to_a_rule(scenario: Scenario) -> None:
    ladder = scenario.play()
    found = [*ladder.refusals, *ladder.records]
    assert ladder.call is not None
    assert facts_of_record(found[0]) == facts_of_call(ladder.call)


# --- calls of the past --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered() -> Cdr:
    """A call that was talked for a while, and sold."""
    [scenario] = [one for one in SCENARIOS if one.name == "caller-bye-in-call"]
    [record] = scenario.play().records
    assert outcome_of(record).nano > 0
    return record


def calls(of: Cdr, count: int, every_s: float = 10, talk_s: int = 60) -> Iterator[Cdr]:
    """The same call again and again, longer or shorter."""
    for index in range(count):
        at = START + timedelta(seconds=every_s * index)
        yield replace(
            of,
            call_id=UUID(int=index + 1),
            invited_at=at,
            answered_at=at + timedelta(seconds=5),
            ended_at=at + timedelta(seconds=5 + talk_s),
            talk_ms=talk_s * 1_000,
            billable_ms=talk_s * 1_000,
        )


def tried(rule: FraudRule, records: Iterator[Cdr]) -> tuple[list[Firing], list[Hit]]:
    found = list(Replay(FraudWindows([rule]), enforced=True).see(records))
    return [one for one in found if isinstance(one, Firing)], [one for one in found if isinstance(one, Hit)]


def test_what_a_rule_would_have_refused_is_listed_with_what_it_was_sold_for(answered: Cdr) -> None:
    firings, hits = tried(RULE, calls(answered, 100))
    # three are let through; when it lifts, after ten minutes, they are in the window of an hour still
    assert [ms_of(START) + 30_000, ms_of(START) + 630_000] == [one.at_ms for one in firings]
    assert [hit.cdr.call_id.int - 1 for hit in hits] == list(range(3, 100))
    assert {(hit.ended, hit.rule, hit.nano) for hit in hits} == {(False, "often", outcome_of(answered).nano)}


def test_what_a_rule_would_have_ended_is_sold_for_the_part_that_was_talked(answered: Cdr) -> None:
    rule = replace(RULE, measure=Measure.CALLS_AT_ONCE, window_s=0, mode=Mode.END, threshold=Decimal(2))
    firings, hits = tried(rule, calls(answered, 3, every_s=15, talk_s=100))
    [fired] = firings
    assert fired.at_ms == ms_of(START) + 30_000
    ended = [hit for hit in hits if hit.ended]
    whole = outcome_of(answered).nano
    # 25 s and 10 s of their 100 s had been talked
    assert [hit.nano for hit in ended] == [whole - whole * 25 // 100, whole - whole * 10 // 100]
    assert [(hit.ended, hit.nano) for hit in hits if not hit.ended] == [(False, whole)]


def test_minutes_grow_while_nobody_hangs_up(answered: Cdr) -> None:
    rule = replace(RULE, measure=Measure.MINUTES, threshold=Decimal(10), mode=Mode.END)
    firings, hits = tried(rule, calls(answered, 1, talk_s=7_200))
    [fired] = firings
    assert fired.at_ms - ms_of(START) in range(605_000, 611_000)
    assert [hit.ended for hit in hits] == [True]


def test_a_rule_that_watches_does_nothing_to_calls(answered: Cdr) -> None:
    firings, hits = tried(replace(RULE, mode=Mode.WATCH, lift_after_s=0), calls(answered, 50))
    assert (len(firings), hits) == (1, [])


def test_what_was_refused_then_is_no_call_unless_this_rule_or_the_books_refused_it(answered: Cdr) -> None:
    refused = {
        "disposition": Disposition.REFUSED,
        "hangup_origin": HangupOrigin.SERVER,
        "server_reason": ServerReason.POLICY,
        "answered_at": None,
        "charges": (),
    }

    def with_cause(detail: Detail, rule: str | None = None) -> int:
        records = [replace(one, **refused, detail=detail, rule=rule) for one in calls(answered, 10)]
        return len(tried(RULE, iter(records))[1])

    assert with_cause(Detail.NUMBER_BLOCKED) == 0
    assert with_cause(Detail.RULE, "another") == 0
    assert with_cause(Detail.RULE, "often") == 7
    assert with_cause(Detail.NO_CREDIT) == 7
    assert with_cause(Detail.RULE, "spending_limit") == 7


def test_a_start_knows_what_was_held_and_what_was_lifted(answered: Cdr) -> None:
    def known(lifts: list[Lift], now_s: int) -> list[str]:
        windows = FraudWindows([replace(RULE, lift_after_s=0)])
        assert [
            one
            for one in Replay(windows, enforced=False, lifts=lifts).see(calls(answered, 10))
            if isinstance(one, Hit)
        ] == []
        return [held.key for held in windows.held(ms_of(START) + now_s * 1_000)]

    caller = answered.caller.received
    lift = Lift(at_ms=ms_of(START) + 95_000, rule="often", key=caller)
    assert known([], 10_000) == [caller]
    assert known([lift], 10_000) == []
    assert known([replace(lift, key=mask(caller))], 10_000) == []  # as the audit table has it
    assert known([replace(lift, key="49301")], 10_000) == [caller]
    # lifted before the eighth call: from there on it is counted anew
    assert known([replace(lift, at_ms=ms_of(START) + 65_000)], 10_000) == []
    assert known([replace(lift, at_ms=ms_of(START) + 45_000)], 10_000) == [caller]


def test_a_start_counts_no_call_that_a_rule_had_refused(answered: Cdr) -> None:
    windows = FraudWindows([RULE])
    records = [
        one if index < 3 else replace(one, disposition=Disposition.REFUSED, rule="often", answered_at=None)
        for index, one in enumerate(calls(answered, 9))
    ]
    assert len(list(Replay(windows, enforced=False).see(iter(records)))) == 1  # it fired then
    [count] = windows._all[0].counts.values()
    assert count.amount == 3


def test_an_end_is_unbilled_where_an_answered_call_ended_so_that_nobody_pays(answered: Cdr) -> None:
    by_server = {"hangup_origin": HangupOrigin.SERVER, "server_reason": ServerReason.TIMEOUT}

    def is_unbilled(**changes: object) -> bool:
        return outcome_of(replace(answered, **by_server, **changes)).unbilled_end

    assert is_unbilled(detail=Detail.NO_ACK, hold_s=0)
    assert is_unbilled(detail=Detail.DEAD_PEER, hold_s=0)
    assert not is_unbilled(detail=Detail.DEAD_PEER, hold_s=1)
    assert not is_unbilled(detail=Detail.MAX_DURATION, hold_s=0)
    assert not is_unbilled(detail=Detail.NO_ACK, hold_s=0, answered_at=None)


def test_a_call_is_taken_for_what_its_first_minute_costs_while_it_is_up() -> None:
    [scenario] = [one for one in SCENARIOS if one.name == "caller-bye-in-call"]
    ladder = scenario.play()
    assert ladder.call is not None
    price = price_of_call(ladder.call.pricing, START)
    assert ladder.call.pricing.rate is not None
    assert price.currency == ladder.call.pricing.rate.currency
    assert 0 < price.nano_per_min < 100 * NANO
    assert price_of_call(replace(ladder.call.pricing, free=True), START).nano_per_min == 0
