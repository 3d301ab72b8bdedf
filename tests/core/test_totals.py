"""Sums over records, made again with fractions."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.records import is_charged
from sidecar.core.terms import ChargeSide, Disposition, HangupOrigin, ServerReason
from sidecar.core.totals import ControlTotals, GroupBy, Totals, revenue
from tests.core.doctor_traffic import calls, deck, e164, policy
from tests.wire.cdrs import cdrs


@settings(max_examples=50, deadline=None)
@given(st.lists(cdrs(), max_size=5))
def test_control_totals_are_the_sums_of_the_records(records: list[Cdr]) -> None:
    totals = ControlTotals()
    for cdr in records:
        totals.add(cdr)
    sums: dict[tuple[ChargeSide, str], Fraction] = defaultdict(Fraction)
    for cdr in records:
        for line in cdr.charges:
            if line.currency is not None and line.total is not None:
                sums[line.side, line.currency] += Fraction(line.total)
    told = {
        (side, currency): Fraction(one.total)
        for side, amounts in ((ChargeSide.SELL, totals.all.sell), (ChargeSide.BUY, totals.all.buy))
        for currency, one in amounts.items()
    }
    assert told == sums
    assert totals.all.records == len(records) == sum(part.records for part in totals.by_origin.values())
    assert totals.all.talk_ms == sum(cdr.talk_ms for cdr in records)
    for currency, one in totals.all.sell.items():
        parts = (part.sell.get(currency) for part in totals.by_origin.values())
        assert one.total == sum((part.total for part in parts if part), Decimal(0))


@settings(max_examples=50, deadline=None)
@given(st.lists(cdrs(), max_size=5), st.sampled_from([None, *GroupBy]))
def test_every_record_is_in_one_row_and_on_one_side_of_it(records: list[Cdr], by: GroupBy | None) -> None:
    rows = revenue(records, by)
    assert sum(row.charged.records + row.waived.records for row in rows) == len(records)
    assert sum(row.charged.records for row in rows) == sum(is_charged(cdr.suppressed_by) for cdr in records)
    assert sum(sum(row.waived_by.values()) for row in rows) == sum(row.waived.records for row in rows)


def test_currencies_are_never_summed_and_the_gap_of_a_flag_is_shown() -> None:
    euros, dollars = policy(), policy(sell=deck("usd", "USD"), accounts={"bell": None})
    sold = calls(e164(30), euros) + calls(e164(30, 1), dollars, account="bell")
    waived = [
        replace(
            cdr,
            hangup_origin=HangupOrigin.SERVER,
            server_reason=ServerReason.TIMEOUT,
            recorded=False,
            suppressed_by="SERVER_BILLING_RECORD_SERVER_HANG_UP",
        )
        for cdr in calls(e164(10, 2), euros, seed=2)
    ]
    caller, server = revenue([*sold, *waived])
    assert (caller.origin, server.origin, server.reason) == ("caller", "server", "timeout")
    assert set(caller.charged.sell) == {"EUR", "USD"}
    assert (server.charged.records, server.charged.sell) == (0, {})
    assert server.waived.sell["EUR"].total == sum(cdr.charges[0].total or 0 for cdr in waived)
    assert server.waived_by == {"SERVER_BILLING_RECORD_SERVER_HANG_UP": 10}
    by_account = {row.group: row for row in revenue(sold, GroupBy.ACCOUNT)}
    assert {name: set(row.charged.sell) for name, row in by_account.items()} == {
        "acme": {"EUR"},
        "bell": {"USD"},
    }


def test_a_record_of_many_refusals_counts_each() -> None:
    [cdr] = calls(e164(1), policy())
    totals = Totals()
    totals.add(replace(cdr, disposition=Disposition.REFUSED_AGGREGATE, refused_count=17))
    assert (totals.records, totals.calls) == (1, 17)


def test_a_charged_record_that_is_not_published_is_revenue() -> None:
    [cdr] = calls(e164(1), policy())
    [row] = revenue([replace(cdr, recorded=False, suppressed_by="SERVER_BILLING_NO_CDR_E164S")])
    assert (row.charged.records, row.unpublished, row.waived.records) == (1, 1, 0)
