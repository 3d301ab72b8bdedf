"""Sums that are kept of calls."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.cdr import MarginRecord
from sidecar.core.policy import RecordFlags
from sidecar.core.records import cdr_of
from sidecar.core.sums import By, Part, Sums, groups_of, part_of, periods_in, periods_of, sums_of
from sidecar.core.terms import Detail, HangupOrigin
from tests.adapters.store_calls import NO_SERVER_RECORDS, POLICY, admitted, answered, ended

_DAYS = st.dates(date(2023, 1, 1), date(2028, 12, 31))


@given(first=_DAYS, length=st.integers(0, 900))
def test_a_period_is_made_of_months_and_the_days_that_are_left(first: date, length: int) -> None:
    last = first + timedelta(days=length)
    periods = list(periods_in(first, last))
    days: list[date] = []
    for period in periods:
        of_month = (date.fromisoformat(f"{period[:7]}-01") + timedelta(days=number) for number in range(31))
        days += [day for day in of_month if period in periods_of(day)]
    assert days == [first + timedelta(days=number) for number in range(length + 1)]
    assert len(periods) <= 36 + length // 28


def test_what_is_taken_out_again_leaves_nothing() -> None:
    one = sums_of(cdr_of(ended(answered(admitted(1))), POLICY))
    assert (one.calls, one.answered, one.sold, one.owed) == (
        1,
        1,
        {"EUR": Decimal("0.061")},
        {"EUR": Decimal("0.07259")},
    )
    both = Sums()
    both.add(one)
    both.add(one, -1)
    assert both == Sums()


def test_a_record_that_a_flag_kept_free_is_no_revenue() -> None:
    ours = ended(answered(admitted(1)), detail=Detail.MAX_DURATION, origin=HangupOrigin.SERVER)
    free = cdr_of(ours, NO_SERVER_RECORDS)
    assert part_of(free) is Part.KEPT_FREE
    assert (By.END, "server timeout") in groups_of(free)
    assert sums_of(free).owed == {"EUR": Decimal("0.07259")}
    unpublished = replace(POLICY, flags=RecordFlags(no_cdr_numbers=frozenset({"49*"})))
    assert part_of(cdr_of(ended(answered(admitted(2))), unpublished)) is Part.KEPT_BACK


def test_margin_unrated_and_overrun_are_of_their_own() -> None:
    plain = cdr_of(ended(answered(admitted(1))), POLICY)
    margin = MarginRecord(currency="EUR", amount=Decimal("-0.01"))
    found = sums_of(replace(plain, margin=margin, overrun_ms=1_500))
    assert (found.margin, found.overruns, found.overrun_ms) == ({"EUR": Decimal("-0.01")}, 1, 1_500)
    assert found.unrated == sums_of(plain).overruns == 0
    call = admitted(1)
    unrated = replace(call, pricing=replace(call.pricing, rate=None))
    found = sums_of(cdr_of(ended(answered(unrated)), POLICY))
    assert (found.unrated, found.sold, found.owed) == (1, {}, {})
