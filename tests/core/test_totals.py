"""Sums over records, made again with fractions."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.records import is_charged
from sidecar.core.terms import ChargeSide, Disposition, HangupOrigin, RatingStatus, ServerReason
from sidecar.core.totals import Amounts, ControlTotals, GroupBy, Totals, revenue
from tests.core.doctor_traffic import calls, deck, e164, policy
from tests.scenarios.table import BY_NAME
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


RECORD = BY_NAME["caller-bye-in-call"].play().record
SELL, BUY = RECORD.charges


def amounts(net: str, tax: str, total: str) -> dict[str, Decimal]:
    return {"net": Decimal(net), "tax": Decimal(tax), "total": Decimal(total)}


# No two figures are alike, so that none can stand for another.
ANSWERED = replace(
    RECORD,
    talk_ms=10_901,
    billable_ms=10_402,
    hold_s=13,
    billed_s=17,
    charges=(replace(SELL, **amounts("1", "0.19", "1.19")), replace(BUY, **amounts("0.5", "0.05", "0.55"))),
)
UNRATED = replace(
    RECORD,
    disposition=Disposition.NO_ANSWER,
    talk_ms=3,
    billable_ms=5,
    hold_s=7,
    billed_s=11,
    charges=(
        replace(SELL, rating_status=RatingStatus.NO_RATE, currency="USD", net=None, tax=None, total=None),
        replace(BUY, **amounts("2", "0.3", "2.3")),
    ),
)
MANY = replace(RECORD, disposition=Disposition.REFUSED_AGGREGATE, refused_count=40, charges=())
BOUGHT_AT_NO_RATE = replace(
    ANSWERED,
    charges=(
        replace(SELL, **amounts("4", "0.4", "4.4")),
        replace(UNRATED.charges[0], side=ChargeSide.BUY),
    ),
)
SUMS = Totals(
    records=4,
    calls=43,
    answered=2,
    unrated=1,
    talk_ms=2 * 10_901 + 3 + RECORD.talk_ms,
    billable_ms=2 * 10_402 + 5 + RECORD.billable_ms,
    hold_s=2 * 13 + 7 + RECORD.hold_s,
    billed_s=2 * 17 + 11 + RECORD.billed_s,
    sell={"EUR": Amounts(**amounts("5", "0.59", "5.59"))},
    buy={"EUR": Amounts(**amounts("2.5", "0.35", "2.85"))},
)


def totals_of(*records: Cdr) -> Totals:
    totals = Totals()
    for cdr in records:
        totals.add(cdr)
    return totals


def test_each_figure_of_the_totals_is_the_sum_of_its_own() -> None:
    assert totals_of(ANSWERED, UNRATED, MANY, BOUGHT_AT_NO_RATE) == SUMS


def test_totals_of_two_parts_are_the_totals_of_the_whole() -> None:
    merged = totals_of(ANSWERED)
    merged.merge(totals_of(MANY, UNRATED, BOUGHT_AT_NO_RATE))
    assert merged == SUMS
    merged.merge(Totals(sell={"USD": Amounts(net=Decimal(3))}, buy={"GBP": Amounts(tax=Decimal(4))}))
    assert merged.sell["USD"] == Amounts(net=Decimal(3))
    assert merged.buy["GBP"] == Amounts(tax=Decimal(4))
    assert set(merged.sell) == {"EUR", "USD"}


NAMED = (replace(SELL, destination="Berlin", prefix="4930"), replace(BUY, destination="Germany", prefix="49"))


@pytest.mark.parametrize(
    ("by", "changes", "group"),
    [
        (None, {}, ""),
        (GroupBy.ACCOUNT, {"account": "bell"}, "bell"),
        (GroupBy.GATEWAY, {"gateway": "beta"}, "beta"),
        (GroupBy.GATEWAY, {"gateway": None}, ""),
        (GroupBy.DESTINATION, {"charges": NAMED}, "Berlin"),
        (GroupBy.DESTINATION, {"charges": NAMED[::-1]}, "Berlin"),
        (GroupBy.DESTINATION, {"charges": (replace(NAMED[0], destination=None), NAMED[1])}, "4930"),
        (
            GroupBy.DESTINATION,
            {"charges": (replace(NAMED[0], destination=None, prefix=None), NAMED[1])},
            "",
        ),
        (GroupBy.DESTINATION, {"charges": NAMED[1:]}, ""),
        (GroupBy.DESTINATION, {"charges": ()}, ""),
    ],
)
def test_a_record_is_in_the_group_of_its_account_gateway_or_what_was_sold(
    by: GroupBy | None, changes: dict[str, Any], group: str
) -> None:
    assert [row.group for row in revenue([replace(RECORD, **changes)], by)] == [group]


def test_the_rows_of_a_revenue_are_by_group_then_origin_then_reason() -> None:
    ours: dict[str, Any] = {"account": "bell", "hangup_origin": HangupOrigin.SERVER}
    records = [
        replace(RECORD, **ours, server_reason=ServerReason.TIMEOUT),
        replace(RECORD, **ours, server_reason=ServerReason.CREDIT),
        replace(RECORD, account="bell"),
        replace(RECORD, **ours, server_reason=ServerReason.TIMEOUT),
        replace(RECORD, account="acme"),
    ]
    rows = revenue(records, GroupBy.ACCOUNT)
    assert [(row.group, row.origin, row.reason, row.charged.records) for row in rows] == [
        ("acme", "caller", None, 1),
        ("bell", "caller", None, 1),
        ("bell", "server", "credit", 1),
        ("bell", "server", "timeout", 2),
    ]
