from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from sidecar.core.cdr import Cdr, ChargeRecord, LegRecord, Party
from sidecar.core.numbers import StripPlan
from sidecar.core.rating import RatingTerms
from sidecar.core.rerate import changes, rerate
from sidecar.core.tariff import Deck, Rate, parse_steps
from sidecar.core.terms import (
    ChargeSide,
    Confidence,
    Detail,
    Disposition,
    Evidence,
    HangupOrigin,
    RatingStatus,
    Rounding,
    TransportName,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
LEG = LegRecord(
    sip_call_id="a",
    local_tag="b",
    remote_tag="c",
    local_address="127.0.0.1:5080",
    remote_address="127.0.0.1:5070",
    transport=TransportName.UDP,
)
TERMS = RatingTerms(decimals=2)


def deck(**prices: str) -> Deck:
    return Deck(
        "new",
        [
            Rate(
                prefix=prefix[1:],
                destination=f"to {prefix[1:]}",
                currency="EUR",
                steps=parse_steps(f"0:{price}/60/60"),
            )
            for prefix, price in prices.items()
        ],
    )


def call(received: str, billed: str | None, total: str | None, **changed: Any) -> Cdr:
    line = ChargeRecord(
        side=ChargeSide.SELL,
        party="acme",
        rating_status=changed.pop("status", RatingStatus.RATED if total else RatingStatus.NO_RATE),
        currency=changed.pop("currency", "EUR"),
        billed_number=billed,
        prefix="44" if total else None,
        destination="UK" if total else None,
        total=Decimal(total) if total else None,
        rounding=Rounding.HALF_UP,
        decimals=2,
    )
    fields: dict[str, Any] = {
        "tenant": "_",
        "node": "n",
        "boot_id": "b",
        "call_id": UUID(int=1),
        "message_id": UUID(int=2),
        "account": "acme",
        "peer": "p",
        "gateway": "g",
        "leg_a": LEG,
        "caller": Party(received="1"),
        "callee": Party(received=received, billed=billed),
        "invited_at": AT,
        "answered_at": AT,
        "ended_at": AT,
        "hold_s": 61,
        "hangup_origin": HangupOrigin.CALLER,
        "detail": Detail.BYE,
        "sip_code": 200,
        "q850_cause": 16,
        "disposition": Disposition.ANSWERED,
        "evidence": Evidence.MESSAGE,
        "confidence": Confidence.OBSERVED,
        "charges": (line,),
    }
    return Cdr(**(fields | changed))


def test_the_deck_alone_makes_the_difference_where_no_strip_is_given() -> None:
    found = rerate(call("0044123", "44123", "0.10"), deck(p44="0.2"), None, TERMS)
    assert found is not None
    assert (found.prefix, found.billed_s, found.total, found.differs) == ("44", 120, Decimal("0.40"), True)


def test_another_strip_length_rates_the_number_as_received() -> None:
    found = rerate(call("0044123", "0044123", None), deck(p44="0.05"), StripPlan(global_strip=2), TERMS)
    assert found is not None
    assert (found.billed, found.total) == ("44123", Decimal("0.10"))


def test_the_same_money_by_another_prefix_is_no_difference() -> None:
    found = rerate(call("44123", "44123", "0.10"), deck(p441="0.05"), None, TERMS)
    assert found is not None
    assert (found.prefix, found.differs) == ("441", False)
    assert changes([found]) == []


@pytest.mark.parametrize(
    "changed", [{"status": RatingStatus.FREE}, {"status": RatingStatus.NOT_BILLABLE}, {"void": True}]
)
def test_what_was_not_sold_for_money_stays_so(changed: dict[str, Any]) -> None:
    assert rerate(call("44123", "44123", "0.10", **changed), deck(p44="1"), None, TERMS) is None


def test_changes_are_summed_by_account_destination_gateway_and_currency() -> None:
    new = deck(p44="0.2", p33="1")
    calls = [
        call("44123", "44123", "0.10"),
        call("44124", "44124", "0.10"),
        call("44125", "44125", "0.40"),  # the same as before
        call("33123", "33123", None, account="other"),
        call("41123", "41123", "0.70"),  # loses its rate
        call("44126", "44126", "0.10", currency="USD"),  # another currency than before
    ]
    found = changes(one for cdr in calls if (one := rerate(cdr, new, None, TERMS)))
    assert [
        (one.account, one.destination, one.currency, one.calls, one.rated_after, str(one.difference))
        for one in found
    ] == [
        ("other", "to 33", "EUR", 1, 1, "2.00"),
        ("acme", "to 44", "EUR", 3, 3, "1.00"),
        ("acme", "UK", "EUR", 1, 0, "-0.70"),
        ("acme", "to 44", "USD", 1, 0, "-0.10"),
    ]
