"""A carrier's records against ours: which calls are the same, and what differs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.reconcile import OurCall, Reconciliation, TheirLine, Tolerance, our_call, reconcile
from tests.scenarios.table import BY_NAME

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def theirs(at_s: float, called: str = "4420", **more: Any) -> TheirLine:
    said = {"row": 2, "seconds": 60, "amount": Decimal("0.01"), "currency": "EUR", **more}
    return TheirLine(started_at=AT + timedelta(seconds=at_s), called=called, **said)


def ours(at_s: float, called: str = "4420", **more: Any) -> OurCall:
    said = {
        "call_id": f"{called}@{at_s}",
        "ids": (f"{called}@{at_s}",),
        "prefix": called[:2],
        "destination": "UK",
        "seconds": 60,
        "amount": Decimal("0.010000"),
        "currency": "EUR",
        **more,
    }
    return OurCall(started_at=AT + timedelta(seconds=at_s), called=called, **said)


def found(result: Reconciliation) -> list[str]:
    return [one.kind.value for one in result.findings]


def compared(lines: list[TheirLine], calls: list[OurCall], **tolerance: Any) -> Reconciliation:
    return reconcile(lines, calls, Tolerance(**tolerance))


def test_calls_are_the_same_by_number_and_time() -> None:
    result = compared([theirs(5), theirs(100, "4421")], [ours(0), ours(99, "4421")])
    assert (found(result), result.matched, result.money_differs) == ([], 2, False)


def test_two_calls_to_one_number_do_not_take_each_others_record() -> None:
    lines = [theirs(30, amount=Decimal("0.03")), theirs(1, amount=Decimal("0.01"))]
    calls = [ours(0, amount=Decimal("0.01")), ours(29, amount=Decimal("0.03"))]
    assert found(compared(lines, calls)) == []


@pytest.mark.parametrize(("apart_s", "words"), [(60, []), (61, ["missing here", "missing there"])])
def test_a_call_may_be_dated_within_the_tolerance(apart_s: int, words: list[str]) -> None:
    result = compared([theirs(apart_s)], [ours(0)])
    assert (found(result), result.money_differs) == (words, bool(words))


def test_an_id_that_both_know_comes_before_number_and_time() -> None:
    result = compared([theirs(7200, "9", call_id="b-leg")], [ours(0, ids=("x", "b-leg"))])
    assert (found(result), result.matched) == ([], 1)
    other = compared([theirs(1, call_id="of their own")], [ours(0)])
    assert (found(other), other.matched) == ([], 1)


@pytest.mark.parametrize(
    ("line", "call", "tolerance", "words", "money"),
    [
        ({"seconds": 61}, {}, {}, [], False),
        ({"seconds": 62}, {}, {}, ["seconds"], False),
        ({"seconds": 66}, {}, {"seconds": 6}, [], False),
        ({"amount": Decimal("0.02")}, {}, {}, ["price"], True),
        ({"amount": Decimal("0.02")}, {}, {"amount": Decimal("0.01")}, [], False),
        ({"amount": Decimal("0.01")}, {"amount": Decimal("0.014999")}, {}, [], False),
        ({"amount": Decimal("0.0100")}, {"amount": Decimal("0.014999")}, {}, ["price"], True),
        ({"amount": Decimal(0)}, {"amount": Decimal("0.001")}, {}, ["price"], True),
        ({}, {"amount": None}, {}, ["price"], True),
        ({"currency": "USD"}, {}, {}, ["currency"], True),
    ],
)
def test_what_differs_is_named(
    line: dict[str, Any], call: dict[str, Any], tolerance: dict[str, Any], words: list[str], money: bool
) -> None:
    result = compared([theirs(0, **line)], [ours(0, **call)], **tolerance)
    assert (found(result), result.money_differs) == (words, money)


def test_a_call_for_nothing_that_one_side_lacks_is_no_money() -> None:
    result = compared([theirs(0, amount=Decimal(0))], [ours(900, amount=Decimal(0))])
    assert (found(result), result.money_differs) == (["missing here", "missing there"], False)


def test_totals_are_by_currency() -> None:
    result = compared([theirs(0), theirs(9, "33", currency="USD", seconds=30)], [ours(0), ours(99, "1")])
    assert [
        (one.currency, one.their_calls, one.our_calls, one.their_seconds, one.our_seconds, one.difference)
        for one in result.totals
    ] == [("EUR", 1, 2, 60, 120, Decimal("-0.01")), ("USD", 1, 0, 30, 0, Decimal("0.01"))]


def line(amount: str, **more: Any) -> TheirLine:
    return TheirLine(row=2, amount=Decimal(amount), currency="EUR", seconds=120, calls=2, **more)


def test_invoice_lines_are_sums_by_prefix_destination_or_all() -> None:
    calls = [ours(0), ours(100), ours(200, "3312", destination="France", seconds=30)]
    for lines in (
        [line("0.02", prefix="44"), replace(line("0.01", prefix="33"), calls=1, seconds=30)],
        [line("0.02", destination="uk"), replace(line("0.01", destination="France"), calls=1, seconds=30)],
        [replace(line("0.03"), calls=3, seconds=150)],
        [replace(line("0.01"), calls=1, seconds=75)] * 2 + [replace(line("0.01"), calls=1, seconds=0)],
    ):
        assert found(compared(lines, calls)) == []
    result = compared([line("0.03", prefix="44"), line("1", prefix="49")], calls)
    assert (found(result), result.money_differs) == (["missing here", "missing there", "price"], True)


def test_our_side_is_what_was_bought() -> None:
    call = our_call(BY_NAME["caller-bye-in-call"].play().record)
    assert call is not None
    assert (call.called, call.prefix, call.currency, call.amount) == (
        "4930123456",
        "49",
        "EUR",
        Decimal("0.0055"),
    )
    assert our_call(BY_NAME["server-no-rate"].play().record) is None


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["44", "33"])), max_size=12))
def test_our_own_calls_said_back_differ_in_nothing(calls: list[tuple[int, str]]) -> None:
    mine = [ours(at_s, called, ids=(str(place),)) for place, (at_s, called) in enumerate(calls)]
    said = [theirs(at_s, called, row=place) for place, (at_s, called) in enumerate(calls)]
    result = compared(said, mine)
    assert (found(result), result.matched) == ([], len(calls))
