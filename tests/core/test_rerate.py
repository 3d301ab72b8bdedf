from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
    [
        ("EUR", "49", None),
        ("USD", "49", "another currency than the account's"),
        ("EUR", "33", "no rate in this deck"),
    ],
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
        again = revised(cdr, found.after, ExchangeTable(), "ann", "why", AT)
        assert explain_call(again).all_differences == ()
        assert (again.revision, again.supersedes) == (cdr.revision + 1, cdr.revision)
        assert (again.revision_reason, again.revised_by, again.revised_text) == ("rerate", "ann", "why")
        assert again.message_id == message_id(cdr.call_id, again.revision)
        anew = {
            *("revision", "supersedes", "revision_reason", "revised_by", "revised_text", "message_id"),
            *("revised_at", "charges", "margin", "callee", "hold_s", "billed_s"),
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
    again = revised(cdr, found.after, now, "ann", "why", AT).margin
    assert again is not None
    assert (again.amount, again.exchange) == (Decimal("1.1") - Decimal("0.0055") * Decimal("0.9"), then)
    unknown = revised(replace(cdr, margin=None), found.after, now, "ann", "why", AT).margin
    assert unknown is not None
    assert unknown.exchange == replace(then, rate=Decimal("0.5"))


def test_a_revision_has_no_number_until_it_is_written() -> None:
    numbered = replace(CALL, store_epoch="e1", seq=7, account_prev_seq=5)
    found = rerate(numbered, DEAR, None)
    assert found is not None
    again = revised(numbered, found.after, ExchangeTable(), "ann", "why", AT)
    assert (again.store_epoch, again.seq, again.account_prev_seq) == ("", None, None)


def test_what_the_call_says_of_its_number_and_times_is_the_sold_lines() -> None:
    changed = {"billed_number": "49", "hold_s": 99, "billed_s": 98}
    sell, buy = (replace(line, **changed) for line in CALL.charges)
    sold, bought = (revised(CALL, line, ExchangeTable(), "ann", "why", AT) for line in (sell, buy))
    assert (sold.callee.billed, sold.hold_s, sold.billed_s) == ("49", 99, 98)
    assert (bought.callee, bought.hold_s, bought.billed_s) == (CALL.callee, CALL.hold_s, CALL.billed_s)
    assert (sold.charges, bought.charges) == ((sell, CALL.charges[1]), (CALL.charges[0], buy))
    older = revised(CALL, replace(sell, hold_s=None), ExchangeTable(), "ann", "why", AT)
    assert older.hold_s == CALL.hold_s


@pytest.mark.parametrize(
    ("side", "hindrance"), [(ChargeSide.SELL, "another currency than the account's"), (ChargeSide.BUY, None)]
)
def test_a_gateway_may_be_paid_in_another_currency_and_an_account_may_not(
    side: ChargeSide, hindrance: str | None
) -> None:
    dollars = Deck("d", [Rate(prefix="49", currency="USD", steps=parse_steps("0:6/60/1"))])
    found = rerate(CALL, dollars, None, side=side)
    assert found is not None
    assert (found.currency, found.hindrance) == ("USD", hindrance)


@pytest.mark.parametrize(
    ("side", "since_s", "total"),
    [
        (ChargeSide.SELL, 0, "1.1"),  # the INVITE
        (ChargeSide.SELL, 1, None),
        (ChargeSide.BUY, 10, "1.1"),  # the attempt
        (ChargeSide.BUY, 11, None),
    ],
)
def test_the_row_is_that_of_the_invite_and_for_a_gateway_that_of_its_attempt(
    side: ChargeSide, since_s: int, total: str | None
) -> None:
    start = CALL.invited_at + timedelta(seconds=since_s)
    steps = parse_steps("0:6/60/1")
    new = Deck("d", [Rate(prefix="49", currency="EUR", steps=steps, effective_from=start)])
    (attempt,) = CALL.attempts
    late = replace(attempt, started_at=CALL.invited_at + timedelta(seconds=10))
    cdr = replace(CALL, attempts=(replace(attempt, started_at=CALL.invited_at), late))
    found = rerate(cdr, new, None, side=side)
    assert found is not None
    assert found.total == (None if total is None else Decimal(total))
    assert found.after.candidates == (("49",) if total else ())
    assert (found.after.deck_revision, found.currency) == ("d", "EUR"), "a line without a rate has one, too"


@pytest.mark.parametrize(("billable_ms", "expected"), [(0, 61_000), (59_400, 59_400)])
def test_a_line_of_an_earlier_writer_is_rated_by_the_times_of_the_call(
    billable_ms: int, expected: int
) -> None:
    cdr = call("44123", "44123", "0.10", billable_ms=billable_ms)
    found = rerate(cdr, deck(p44="0.2"), None)
    assert found is not None
    assert (found.after.billable_ms, found.after.rounding, found.after.decimals) == (
        expected,
        Rounding.HALF_UP,
        2,
    )


def test_how_long_a_gateway_was_used_is_not_guessed() -> None:
    sell, buy = CALL.charges
    older = replace(CALL, charges=(sell, replace(buy, billable_ms=None)))
    assert rerate(older, DEAR, None, side=ChargeSide.BUY) is None


@pytest.mark.parametrize(
    ("received", "plan", "said"),
    [
        ("+4930123456", StripPlan(global_strip=2), ("e164", 1, "", "4930123456")),
        ("004930123456", StripPlan(global_strip=2), ("account", 2, "", "4930123456")),
        ("004930123456", None, ("account", 3, "9", "4930123456")),  # as it was billed
    ],
)
def test_a_number_names_what_was_taken_off_it(
    received: str, plan: StripPlan | None, said: tuple[str, int, str, str]
) -> None:
    sell, buy = CALL.charges
    line = replace(sell, strip_rule="account", stripped=3, added="9", billed_number="4930123456")
    cdr = replace(CALL, callee=replace(CALL.callee, received=received), charges=(line, buy))
    found = rerate(cdr, DEAR, plan)
    assert found is not None
    after = found.after
    assert (after.strip_rule, after.stripped, after.added, after.billed_number) == said


def test_the_same_amount_in_another_currency_differs() -> None:
    dollars = Deck("d", [Rate(prefix="44", currency="USD", steps=parse_steps("0:0.05/60/60"))])
    found = rerate(call("44123", "44123", "0.10"), dollars, None, TERMS)
    assert found is not None
    assert (found.total, found.differs) == (Decimal("0.10"), True)
    assert [(one.currency, one.calls, one.before, one.after) for one in changes([found])] == [
        ("EUR", 1, Decimal("0.10"), Decimal(0)),
        ("USD", 1, Decimal(0), Decimal("0.10")),
    ]


def test_changes_count_what_is_rated_and_sum_both_sides_of_it() -> None:
    new = deck(p44="0.2")
    calls = (call("44123", "44123", "0.10"), call("44124", "44124", None))
    (one,) = changes(found for cdr in calls if (found := rerate(cdr, new, None, TERMS)))
    assert (one.destination, one.gateway) == ("to 44", "g")
    assert (one.calls, one.rated_before, one.rated_after) == (2, 1, 2)
    assert (one.before, one.after, one.difference) == (Decimal("0.10"), Decimal("0.80"), Decimal("0.70"))


def test_equal_changes_are_by_account_and_then_by_destination() -> None:
    new = deck(p44="0.2", p33="0.2", p1="0.05")
    calls = (
        call("33123", "33123", None, account="b"),
        call("44123", "44123", None, account="a"),
        call("33123", "33123", None, account="a"),
        call("1123", "1123", "0.60", account="c"),
    )
    found = changes(one for cdr in calls if (one := rerate(cdr, new, None, TERMS)))
    assert [(one.account, one.destination, str(one.difference)) for one in found] == [
        ("c", "to 1", "-0.50"),
        ("a", "to 33", "0.40"),
        ("a", "to 44", "0.40"),
        ("b", "to 33", "0.40"),
    ]


def test_a_margin_in_a_currency_that_the_record_knows_no_rate_of_goes_by_todays_table_at_the_invite() -> None:
    sell, buy = CALL.charges
    kept = ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=CALL.invited_at)
    pounds = replace(kept, base="GBP", rate=Decimal("1.2"))
    charges = (sell, replace(buy, currency="USD"))
    cdr = replace(CALL, charges=charges, margin=margin_of(charges, CALL.invited_at, ExchangeTable([kept])))
    after = replace(buy, currency="GBP")
    again = revised(cdr, after, ExchangeTable([pounds]), "ann", "why", AT).margin
    assert again is not None
    assert again.exchange == pounds
    assert CALL.ended_at > CALL.invited_at
    late = ExchangeTable([replace(pounds, valid_from=CALL.ended_at)])
    assert revised(cdr, after, late, "ann", "why", AT).margin is None


def test_a_routing_number_and_a_number_without_a_rate_stay_what_they_are() -> None:
    cdr = BY_NAME["caller-bye-in-call"].play().record
    (sell, *buy), callee = cdr.charges, cdr.callee
    ported = replace(
        cdr,
        callee=replace(callee, received="+4930123;npdi;rn=+44200"),
        charges=(replace(sell, strip_rule="routing_number", billed_number="44200", stripped=0), *buy),
    )
    again = rerate(ported, deck(p44="1", p49="2"), StripPlan(global_strip=2))
    assert again is not None
    assert (again.after.billed_number, again.after.strip_rule) == ("44200", "routing_number")
    local = replace(cdr, callee=replace(callee, received="30123;phone-context=a.example"))
    again = rerate(local, deck(p44="1", p49="2"), StripPlan())
    assert again is not None
    assert (again.after.billed_number, again.after.strip_rule) == (None, "phone_context")


def test_a_call_within_a_grace_has_its_price_by_a_deck_without_and_the_account_keeps_its_terms() -> None:
    row: dict[str, Any] = {"prefix": "44", "currency": "EUR", "steps": parse_steps("0:1/60/60")}
    terms = RatingTerms(free_s=2, minimum_charge=Decimal("0.3"))
    lenient = Deck("a", [Rate(**row, grace_s=60, included_s=0, minimum_charge=Decimal(9))])
    first = rerate(call("44123", "44123", "0.10"), lenient, None, terms)
    assert first is not None
    assert (first.after.rating_status, first.total) == (RatingStatus.RATED, Decimal(9))
    cdr = call("44123", "44123", "0.10", hold_s=50)
    within = rerate(cdr, lenient, None, terms)
    assert within is not None
    assert (within.after.rating_status, within.total) == (RatingStatus.NOT_BILLABLE, Decimal(0))
    again = rerate(replace(cdr, charges=(within.after,)), Deck("b", [Rate(**row)]), None)
    assert again is not None
    assert (again.total, terms_of(again.after)) == (Decimal(1), terms)


def test_a_row_that_is_blocked_says_no_price() -> None:
    blocked = Deck("b", [Rate(prefix="44", currency="EUR", blocked=True)])
    found = rerate(call("44123", "44123", "0.10"), blocked, None, TERMS)
    assert found is not None
    assert (found.total, found.hindrance) == (None, "no rate in this deck")
