from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.cdr import Cdr, ChargeRecord, LegRecord, Party, message_id
from sidecar.core.explain_call import explain_call, terms_of
from sidecar.core.margin import ExchangeRate, ExchangeTable
from sidecar.core.numbers import StripPlan
from sidecar.core.rating import RatingTerms
from sidecar.core.records import NO_CDR, margin_of
from sidecar.core.rerate import changes, rerate, revised
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
from tests.scenarios.table import BY_NAME, SCENARIOS

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


# --- by what the record holds -------------------------------------------------------------------------------

CALL = BY_NAME["caller-bye-in-call"].play().record  # sold for 11 s at 0.06 a minute, bought at 0.03
DEAR = Deck("dear", [Rate(prefix="49", currency="EUR", steps=parse_steps("0:6/60/1"))])


def test_the_terms_and_the_times_are_those_of_the_record() -> None:
    terms = RatingTerms(decimals=3, free_s=1, tax_rate=Decimal("0.5"), minimum_charge=Decimal("0.2"))
    sell, buy = CALL.charges
    fields: dict[str, Any] = {
        "decimals": 3,
        "free_s": 1,
        "tax_rate": terms.tax_rate,
        "minimum_charge": terms.minimum_charge,
    }
    cdr = replace(CALL, charges=(replace(sell, **fields), buy))
    found = rerate(cdr, DEAR, None)
    assert found is not None
    assert terms_of(found.after) == terms
    assert (found.after.net, found.total) == (Decimal("1.000"), Decimal("1.5000"))
    assert rerate(cdr, DEAR, None, TERMS).total == Decimal("1.10")  # type: ignore[union-attr]


def test_a_gateway_is_paid_from_its_own_answer_on() -> None:
    found = rerate(CALL, DEAR, None, side=ChargeSide.BUY)
    assert found is not None
    assert (found.before, found.after.party, found.after.billable_ms) == (CALL.charges[1], "alpha", 10_051)
    assert found.total == Decimal("1.1")
    assert rerate(replace(CALL, charges=CALL.charges[:1]), DEAR, None, side=ChargeSide.BUY) is None


def test_prices_by_the_time_of_day_go_by_the_answer() -> None:
    windowed = "0:6/60/1@Su 12:00-13:00 UTC|60/60/1"
    deck = Deck("windows", [Rate(prefix="", currency="EUR", steps=parse_steps(windowed))])
    for hour, total in ((12, "1.1"), (13, "11")):
        at = CALL.invited_at.replace(hour=hour)
        found = rerate(replace(CALL, answered_at=at), deck, None)
        assert found is not None
        assert found.total == Decimal(total)


def test_a_named_rule_has_precedence_over_any_strip_length() -> None:
    sell, buy = CALL.charges
    ruled = replace(sell, strip_rule="rule:trunk", stripped=1, added="49", billed_number="4930123456")
    received = replace(CALL.callee, received="030123456")
    cdr = replace(CALL, callee=received, charges=(ruled, buy))
    found = rerate(cdr, DEAR, StripPlan(global_strip=2))
    assert found is not None
    assert (found.billed, found.after.strip_rule, found.after.added) == ("4930123456", "rule:trunk", "49")


def test_what_a_flag_kept_free_is_not_rated_anew() -> None:
    for setting, rated in (("SERVER_BILLING_RECORD_SERVER_HANG_UP", False), (NO_CDR, True)):
        cdr = replace(CALL, recorded=False, suppressed_by=setting)
        assert (rerate(cdr, DEAR, None) is not None) is rated


@pytest.mark.parametrize(
    ("currency", "prefix", "hindrance"),
    [("EUR", "49", None), ("USD", "49", "another currency"), ("EUR", "33", "no rate in this deck")],
)
def test_what_cannot_be_booked_is_said(currency: str, prefix: str, hindrance: str | None) -> None:
    other = Deck("d", [Rate(prefix=prefix, currency=currency, steps=parse_steps("0:6/60/1"))])
    found = rerate(CALL, other, None)
    assert found is not None
    assert found.differs
    assert found.hindrance == hindrance


@pytest.mark.parametrize("name", [one.name for one in SCENARIOS])
@pytest.mark.parametrize("side", list(ChargeSide))
def test_a_revision_restates_the_record_and_leaves_the_end_alone(name: str, side: ChargeSide) -> None:
    ladder = BY_NAME[name].play()
    for cdr in (*ladder.refusals, *ladder.records):
        found = rerate(cdr, DEAR, StripPlan(), side=side)
        if found is None:
            continue
        again = revised(cdr, found.after, ExchangeTable(), "ann", "why")
        assert explain_call(again).all_differences == ()
        assert (again.revision, again.supersedes) == (cdr.revision + 1, cdr.revision)
        assert (again.revision_reason, again.revised_by, again.revised_text) == ("rerate", "ann", "why")
        assert again.message_id == message_id(cdr.call_id, again.revision)
        anew = {
            *("revision", "supersedes", "revision_reason", "revised_by", "revised_text", "message_id"),
            *("charges", "margin", "callee", "hold_s", "billed_s"),
        }
        kept = [name for name in cdr.__struct_fields__ if name not in anew]
        assert [getattr(again, name) for name in kept] == [getattr(cdr, name) for name in kept]
        assert rerate(again, DEAR, StripPlan(), side=side) is not None
        assert not rerate(again, DEAR, StripPlan(), side=side).differs  # type: ignore[union-attr]


def test_a_margin_keeps_the_exchange_rate_of_the_day() -> None:
    sell, buy = CALL.charges
    then = ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=CALL.invited_at)
    now = ExchangeTable([replace(then, rate=Decimal("0.5"))])
    charges = (sell, replace(buy, currency="USD"))
    cdr = replace(CALL, charges=charges, margin=margin_of(charges, CALL.invited_at, ExchangeTable([then])))
    found = rerate(cdr, DEAR, None)
    assert found is not None
    again = revised(cdr, found.after, now, "ann", "why").margin
    assert again is not None
    assert (again.amount, again.exchange) == (Decimal("1.1") - Decimal("0.0055") * Decimal("0.9"), then)
    unknown = revised(replace(cdr, margin=None), found.after, now, "ann", "why").margin
    assert unknown is not None
    assert unknown.exchange == replace(then, rate=Decimal("0.5"))
