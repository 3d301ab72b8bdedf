"""Which record a call owes: one table, one test per cell. Then what stands in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.admit import begin_attempt, open_call
from sidecar.core.call import Call, DeadPeer, Phase, Pricing, Stamp
from sidecar.core.cdr import AttemptRecord, BranchRecord, MarginRecord, Party, message_id
from sidecar.core.events import Branch
from sidecar.core.hangup import CALLEE, CALLER, SERVER, TABLE, BillableUntil, Hangup, hangup
from sidecar.core.margin import ExchangeRate, ExchangeTable
from sidecar.core.numbers import StripPlan, billed_number
from sidecar.core.policy import Given, Load, Policy, RecordFlags
from sidecar.core.rating import RatingTerms
from sidecar.core.records import (
    aggregate,
    billable_ms,
    cdr_of,
    charge_line,
    is_charged,
    margin_of,
    sell_total,
    suppressed_by,
    utc,
)
from sidecar.core.steps import parse_steps
from sidecar.core.tariff import Deck, Rate
from sidecar.core.terms import (
    ChargeSide,
    DeadPeerBilling,
    Detail,
    Disposition,
    Evidence,
    LegName,
    RatingStatus,
    RevisionReason,
    Rounding,
    RouteFailure,
    ServerReason,
)
from tests.policies import declared_gateway
from tests.scenarios import world
from tests.scenarios.table import BY_NAME
from tests.scenarios.world import account, gateways, policy_of

TIMEOUT_ON = {"record_server_hang_up_by_reason": {ServerReason.TIMEOUT: True}}
TIMEOUT_OFF = {"record_server_hang_up_by_reason": {ServerReason.TIMEOUT: False}}
FAULT_ON = {"record_server_hang_up_by_reason": {ServerReason.FAULT: True}}
FLAG_OFF = {"record_server_hang_up": False}
NUMBER = frozenset({"4930*"})

SETTINGS: dict[str, tuple[dict[str, Any], bool | None]] = {  # flags, the gateway's own setting
    "defaults": ({}, None),
    "flag 0": (FLAG_OFF, None),
    "flag 0, timeout 1": (FLAG_OFF | TIMEOUT_ON, None),
    "timeout 0": (TIMEOUT_OFF, None),
    "gateway 0": ({}, False),
    "flag 0, gateway 1": (FLAG_OFF, True),
    "timeout 1, gateway 0": (TIMEOUT_ON, False),
    "timeout 0, gateway 1": (TIMEOUT_OFF, True),
    "fault 0": ({"record_fault": False}, None),
    "fault 0, fault 1 by reason": ({"record_fault": False} | FAULT_ON, None),
    "fault 0, gateway 1": ({"record_fault": False}, True),
    "zero 0": ({"record_zero_hold_time": False}, None),
    "zero 0, flag 0": ({"record_zero_hold_time": False} | FLAG_OFF, None),
    "zero 0, flag 0, gateway 1": ({"record_zero_hold_time": False} | FLAG_OFF, True),
    "illegal 0": ({"record_illegal_call": False}, None),
    "no cdr": ({"no_cdr_numbers": NUMBER}, None),
    "no cdr, flag 0": ({"no_cdr_numbers": NUMBER} | FLAG_OFF, None),
    "no cdr, fault 0": ({"no_cdr_numbers": NUMBER, "record_fault": False}, None),
    "free": ({"free_numbers": NUMBER}, None),
    "free, flag 0": ({"free_numbers": NUMBER} | FLAG_OFF, None),
    "free, no cdr": ({"free_numbers": NUMBER, "no_cdr_numbers": NUMBER}, None),
}

# R: recorded and charged. S: neither. C: charged, not recorded. r, s: recorded or not, and nothing to charge.
TALKED = """
                            caller callee timeout credit admin policy resource fault
defaults                    R      R      R       R      R     R      R        R
flag 0                      R      R      S       S      S     S      S        R
flag 0, timeout 1           R      R      R       S      S     S      S        R
timeout 0                   R      R      S       R      R     R      R        R
gateway 0                   R      R      S       S      S     S      S        R
flag 0, gateway 1           R      R      R       R      R     R      R        R
timeout 1, gateway 0        R      R      S       S      S     S      S        R
timeout 0, gateway 1        R      R      R       R      R     R      R        R
fault 0                     R      R      R       R      R     R      R        S
fault 0, fault 1 by reason  R      R      R       R      R     R      R        S
fault 0, gateway 1          R      R      R       R      R     R      R        S
zero 0                      R      R      R       R      R     R      R        R
zero 0, flag 0              R      R      S       S      S     S      S        R
zero 0, flag 0, gateway 1   R      R      R       R      R     R      R        R
illegal 0                   R      R      R       R      R     R      R        R
no cdr                      C      C      C       C      C     C      C        C
no cdr, flag 0              C      C      S       S      S     S      S        C
no cdr, fault 0             C      C      C       C      C     C      C        S
free                        r      r      r       r      r     r      r        r
free, flag 0                r      r      s       s      s     s      s        r
free, no cdr                s      s      s       s      s     s      s        s
"""
NOT_TALKED = """
                            caller callee timeout credit admin policy resource fault illegal
defaults                    r      r      r       r      r     r      r        r     r
flag 0                      r      r      s       s      s     s      s        r     s
flag 0, timeout 1           r      r      r       s      s     s      s        r     s
timeout 0                   r      r      s       r      r     r      r        r     r
gateway 0                   r      r      s       s      s     s      s        r     s
flag 0, gateway 1           r      r      r       r      r     r      r        r     r
timeout 1, gateway 0        r      r      s       s      s     s      s        r     s
timeout 0, gateway 1        r      r      r       r      r     r      r        r     r
fault 0                     r      r      r       r      r     r      r        s     r
fault 0, fault 1 by reason  r      r      r       r      r     r      r        s     r
fault 0, gateway 1          r      r      r       r      r     r      r        s     r
zero 0                      s      s      s       s      s     s      s        s     s
zero 0, flag 0              s      s      s       s      s     s      s        s     s
zero 0, flag 0, gateway 1   s      s      s       s      s     s      s        s     s
illegal 0                   r      r      r       r      r     r      r        r     s
no cdr                      s      s      s       s      s     s      s        s     s
no cdr, flag 0              s      s      s       s      s     s      s        s     s
no cdr, fault 0             s      s      s       s      s     s      s        s     s
free                        r      r      r       r      r     r      r        r     r
free, flag 0                r      r      s       s      s     s      s        r     s
free, no cdr                s      s      s       s      s     s      s        s     s
"""
CAUSES = {
    "caller": hangup(CALLER, Detail.BYE, Evidence.MESSAGE),
    "callee": hangup(CALLEE, Detail.BYE, Evidence.MESSAGE),
    "timeout": hangup(SERVER, Detail.MAX_DURATION, Evidence.TIMER),
    "credit": hangup(SERVER, Detail.GRANT_USED_UP, Evidence.TIMER),
    "admin": hangup(SERVER, Detail.OPERATOR, Evidence.MESSAGE),
    "policy": hangup(SERVER, Detail.RULE, Evidence.MESSAGE),
    "resource": hangup(SERVER, Detail.GATEWAY_UNREACHABLE, Evidence.TIMER),
    "fault": hangup(SERVER, Detail.INTERNAL_ERROR, Evidence.MESSAGE),
    "illegal": hangup(SERVER, Detail.SOURCE_NOT_ALLOWED, Evidence.MESSAGE),
}


def cells(table: str) -> list[tuple[str, str, str]]:
    head, *lines = table.strip("\n").splitlines()
    columns = head.split()
    return [
        (line[:28].strip(), column, cell)
        for line in lines
        for column, cell in zip(columns, line[28:].split(), strict=True)
    ]


def call_that_ended(cause: Hangup, talk_ms: int, policy: Policy, **changes: Any) -> Call:
    """A call that rang for two seconds and, where `talk_ms` is not 0, was answered and talked."""
    opened, _ = open_call(world.call_id(), world.invite(0), Given(policy, Load()))
    assert opened.phase is Phase.ADMITTING
    answered = at(2_001) if talk_ms else None
    ended = at(2_001 + talk_ms)
    called = replace(
        opened,
        hangup=cause,
        b_answered=at(2_000) if talk_ms else None,
        answered=answered,
        a_life=ended if talk_ms else None,
        b_life=ended if talk_ms else None,
        ended=ended,
    )
    return replace(called, **changes)


def at(ms: int) -> Stamp:
    return Stamp(world.mono_ns(ms), world.wall_ns(ms))


@pytest.mark.parametrize(
    ("talk_ms", "settings", "who", "expected"),
    [
        pytest.param(talk_ms, *cell, id=f"{'talked' if talk_ms else '0-s'}-{cell[0]}-{cell[1]}")
        for talk_ms, table in ((3_000, TALKED), (0, NOT_TALKED))
        for cell in cells(table)
    ],
)
def test_the_record_decision(talk_ms: int, settings: str, who: str, expected: str) -> None:
    flags, gateway = SETTINGS[settings]
    policy = policy_of(flags=RecordFlags(**flags), gateways=gateways({"record_server_hang_up": gateway}))
    cdr = cdr_of(call_that_ended(CAUSES[who], talk_ms, policy), policy)
    assert cdr.recorded == (expected in "Rr")
    assert cdr.recorded == (cdr.suppressed_by is None)
    assert (sell_total(cdr) is not None) == (expected in "RC")
    if expected == "S":  # what it would have cost
        assert cdr.charges[0].total == Decimal("0.003")


def test_each_setting_is_in_both_tables() -> None:
    assert {cell[0] for cell in cells(TALKED)} == {cell[0] for cell in cells(NOT_TALKED)} == set(SETTINGS)


@pytest.mark.parametrize(
    ("who", "flags", "gateway", "hold_s", "name"),
    [
        ("timeout", FLAG_OFF, None, 3, "SERVER_BILLING_RECORD_SERVER_HANG_UP"),
        ("timeout", TIMEOUT_OFF, None, 3, "SERVER_BILLING_RECORD_SERVER_HANG_UP (timeout)"),
        ("timeout", {}, False, 3, "SERVER_BILLING_RECORD_SERVER_HANG_UP (gateway alpha)"),
        ("fault", {"record_fault": False}, None, 3, "record_fault"),
        ("caller", {"record_zero_hold_time": False}, None, 0, "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"),
        ("illegal", {"record_illegal_call": False}, None, 0, "SERVER_BILLING_RECORD_ILLEGAL_CALL"),
        ("caller", {"no_cdr_numbers": NUMBER}, None, 3, "SERVER_BILLING_NO_CDR_E164S"),
    ],
)
def test_a_suppressed_record_names_the_setting(
    who: str, flags: dict[str, Any], gateway: bool | None, hold_s: int, name: str
) -> None:
    alpha = declared_gateway(name="alpha", host="10.0.1.1", port=5060, record_server_hang_up=gateway)
    assert suppressed_by(CAUSES[who], hold_s, "4930123456", alpha, RecordFlags(**flags)) == name


def test_only_the_flags_for_server_hangups_and_faults_waive_the_charge() -> None:
    waived = (
        "SERVER_BILLING_RECORD_SERVER_HANG_UP",
        "SERVER_BILLING_RECORD_SERVER_HANG_UP (credit)",
        "record_fault",
    )
    charged = (None, "SERVER_BILLING_NO_CDR_E164S")
    assert not any(map(is_charged, waived))
    assert all(map(is_charged, charged))


# --- until when it is billed --------------------------------------------------------------------------------


@pytest.mark.parametrize(("origin", "detail"), list(TABLE), ids=str)
@pytest.mark.parametrize("proved", [True, False], ids=["proved", "unproved"])
def test_an_answered_call_is_billed_until_its_row_says(origin: Any, detail: Detail, proved: bool) -> None:
    cause = hangup(origin, detail, Evidence.TIMER, sip_code=486)
    call = call_that_ended(
        cause,
        30_000,
        policy_of(),
        a_life=at(2_001 + 20_000) if proved else None,
        b_life=at(2_001 + 10_000),
        refreshed=at(2_001 + 5_000),
    )
    expected = {
        BillableUntil.A_LIFE: 20_000,
        BillableUntil.LAST_LIFE: 10_000,
        BillableUntil.LAST_REFRESH: 5_000,
    }.get(cause.row.until, 30_000)
    assert billable_ms(call, cause) == (expected if proved else 0)


@pytest.mark.parametrize(
    ("gone", "billing", "expected"),
    [
        (LegName.A, DeadPeerBilling.LAST_LIFE, 10_000),
        (LegName.B, DeadPeerBilling.LAST_LIFE, 10_000),
        (LegName.A, DeadPeerBilling.OTHER_SIDE, 10_000),
        (LegName.B, DeadPeerBilling.OTHER_SIDE, 20_000),
    ],
)
def test_a_dead_peer_is_billed_until_both_lived_or_the_other_side_did(
    gone: LegName, billing: DeadPeerBilling, expected: int
) -> None:
    cause = hangup(SERVER, Detail.DEAD_PEER, Evidence.TIMER)
    call = call_that_ended(
        cause,
        30_000,
        policy_of(),
        a_life=at(2_001 + 20_000),
        b_life=at(2_001 + 10_000),
        dead_peer=DeadPeer(leg_name=gone, asked=("OPTIONS", "INFO"), heard="ACK", billing=billing),
    )
    assert billable_ms(call, cause) == expected


def test_a_caller_who_never_had_our_answer_pays_nothing_for_what_the_other_side_lived() -> None:
    cause = hangup(SERVER, Detail.DEAD_PEER, Evidence.TIMER)
    gone = DeadPeer(leg_name=LegName.A, asked=("OPTIONS",), heard="", billing=DeadPeerBilling.OTHER_SIDE)
    call = call_that_ended(cause, 30_000, policy_of(), a_life=None, b_life=at(20_000), dead_peer=gone)
    assert billable_ms(call, cause) == 0


def test_life_after_the_end_is_not_billed() -> None:
    cause = CAUSES["fault"]
    call = call_that_ended(cause, 5_000, policy_of(), a_life=at(60_000), b_life=at(60_000))
    assert billable_ms(call, cause) == 5_000


def test_b_that_was_never_heard_again_lived_until_its_answer() -> None:
    cause = CAUSES["fault"]
    assert billable_ms(call_that_ended(cause, 5_000, policy_of(), b_life=None), cause) == 0


def test_a_session_that_was_never_refreshed_lasts_until_a_was_last_heard() -> None:
    cause = hangup(SERVER, Detail.SESSION_TIMER, Evidence.TIMER)
    call = call_that_ended(cause, 5_000, policy_of(), a_life=at(2_001 + 4_000))
    assert billable_ms(call, cause) == 4_000


@pytest.mark.parametrize("who", ["caller", "callee", "timeout", "credit", "admin", "fault"])
def test_no_origin_is_billed_beyond_the_grant(who: str) -> None:
    policy = policy_of(accounts=account(prepaid=True))
    cdr = cdr_of(call_that_ended(CAUSES[who], 9_700, policy, granted_s=9), policy)
    assert (cdr.talk_ms, cdr.billable_ms, cdr.overrun_ms, cdr.hold_s) == (9_700, 9_000, 700, 9)


def test_buy_runs_from_bs_answer_to_the_bye_on_b() -> None:
    policy = policy_of()
    call = call_that_ended(CAUSES["caller"], 9_999, policy, granted_s=2)
    sell, buy = cdr_of(call, policy).charges
    assert (sell.side, sell.billed_s) == (ChargeSide.SELL, 2)
    assert (buy.side, buy.billed_s, buy.party) == (ChargeSide.BUY, 10, "alpha")


def test_each_side_is_priced_by_the_clock_at_its_own_answer() -> None:
    """B answers a second before the dear hours begin, and A gets the answer a second later."""
    steps = parse_steps("0:0.6/60/1@12:00-13:00 UTC|0.06/60/1")
    deck = Deck("r", [Rate(prefix="49", currency="EUR", steps=steps)])
    policy = policy_of(decks={"sell": deck, "buy": deck})
    early = Stamp(world.mono_ns(-1_000), world.wall_ns(-1_000))  # 11:59:59
    call = call_that_ended(CAUSES["caller"], 3_000, policy, b_answered=early, answered=at(0), ended=at(1_000))
    sell, buy = cdr_of(call, policy).charges
    assert [(step.price, step.billed_s) for step in sell.steps] == [(Decimal("0.6"), 1)]
    assert [(step.price, step.billed_s) for step in buy.steps] == [
        (Decimal("0.06"), 1),
        (Decimal("0.6"), 1),
    ]
    assert (sell.total, buy.total) == (Decimal("0.01"), Decimal("0.011"))


def test_only_the_last_gateway_is_paid() -> None:
    policy = policy_of(routes=("alpha", "beta"))
    call = call_that_ended(CAUSES["caller"], 3_000, policy)
    call = begin_attempt(call, ("beta",), world.invite(0), policy)
    assert [line.side for line in cdr_of(call, policy).charges] == [ChargeSide.SELL]  # beta has no deck


# --- what stands in it --------------------------------------------------------------------------------------


def test_a_zero_duration_call_costs_nothing_not_even_the_connect_fee() -> None:
    policy = policy_of(decks={"sell": world.deck("s", Decimal(1), connect_fee=Decimal(5))})
    cdr = cdr_of(call_that_ended(CAUSES["caller"], 49, policy), policy)
    assert cdr.disposition is Disposition.ANSWERED
    assert (cdr.charges[0].rating_status, cdr.charges[0].total) == (RatingStatus.NOT_BILLABLE, Decimal(0))
    assert sell_total(cdr) is None
    dear = cdr_of(call_that_ended(CAUSES["caller"], 50, policy), policy)
    assert dear.charges[0].connect_fee == 5


def test_an_unrated_call_has_null_amounts() -> None:
    policy = policy_of(decks={})
    line = cdr_of(call_that_ended(CAUSES["caller"], 3_000, policy), policy).charges[0]
    assert (line.rating_status, line.net, line.tax, line.total) == (RatingStatus.NO_RATE, None, None, None)
    assert line.currency == "EUR"


def test_tax_is_a_line_of_its_own_and_the_ledger_hears_of_the_total() -> None:
    policy = policy_of(accounts=account(tax_rate=Decimal("0.19")))
    cdr = cdr_of(call_that_ended(CAUSES["caller"], 3_000, policy), policy)
    line, total = cdr.charges[0], sell_total(cdr)
    assert (line.net, line.tax, line.total) == (Decimal("0.003"), Decimal("0.00057"), Decimal("0.00357"))
    assert total is not None
    assert total.amount == Decimal("0.00357")


def test_a_call_that_goes_on_has_no_record() -> None:
    policy = policy_of()
    call = call_that_ended(CAUSES["caller"], 0, policy, hangup=None)
    with pytest.raises(ValueError, match="has not ended"):
        cdr_of(call, policy)


def test_stamps_are_utc_to_the_microsecond() -> None:
    assert utc(1_772_366_400_123_456_789) == datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def test_durations_come_from_the_monotonic_clock() -> None:
    """The wall clock stepped back an hour in the middle of the call."""
    policy = policy_of()
    call = call_that_ended(CAUSES["caller"], 3_000, policy)
    assert call.ended is not None
    stepped = replace(call, ended=Stamp(call.ended.mono_ns, call.ended.wall_ns - 3_600_000_000_000))
    cdr = cdr_of(stepped, policy)
    assert (cdr.talk_ms, cdr.billable_ms) == (3_000, 3_000)


def test_the_headers_that_a_record_carries() -> None:
    policy = policy_of()
    headers = (("session-id", "ab30317f"), ("p-charging-vector", "icid-value=1"), ("x-other", "no"))
    call = call_that_ended(CAUSES["caller"], 0, policy, invite=replace(world.invite(0), headers=headers))
    cdr = cdr_of(call, policy)
    assert (cdr.session_id, cdr.p_charging_vector) == ("ab30317f", "icid-value=1")


def test_a_minute_of_refusals_in_one_record() -> None:
    policy = policy_of()
    one = cdr_of(call_that_ended(CAUSES["illegal"], 0, policy), policy)
    last = one.ended_at + timedelta(seconds=59)
    many = aggregate(one, 1_000, one.ended_at, last)
    assert many.disposition is Disposition.REFUSED_AGGREGATE
    assert (many.refused_count, many.first_refused_at, many.last_refused_at) == (1_000, one.ended_at, last)
    assert (many.detail, many.talk_ms, many.ended_at) == (one.detail, 0, last)


# --- what is left -------------------------------------------------------------------------------------------


def test_the_margin_stands_beside_the_charges() -> None:
    record = BY_NAME["caller-bye-in-call"].play().record
    assert record.margin == MarginRecord(currency="EUR", amount=Decimal("0.0055"))


def test_a_margin_between_currencies_copies_the_rate_of_the_invite() -> None:
    record = BY_NAME["caller-bye-in-call"].play().record
    sell, buy = record.charges
    charges = (sell, replace(buy, currency="USD"))
    before, after = (
        ExchangeRate(base="USD", quote="EUR", rate=Decimal(text), valid_from=at)
        for text, at in (("0.9", record.invited_at), ("0.8", record.ended_at))
    )
    table = ExchangeTable([before, after])
    found = margin_of(charges, record.invited_at, table)
    assert found == MarginRecord(currency="EUR", amount=Decimal("0.00605"), exchange=before)
    assert margin_of(charges, record.invited_at, ExchangeTable([after])) is None


def test_a_side_without_an_amount_leaves_no_margin() -> None:
    sell, buy = BY_NAME["caller-bye-in-call"].play().record.charges
    at = datetime(2026, 3, 1, tzinfo=UTC)
    for charges in ((sell,), (sell, replace(buy, net=None)), (replace(sell, currency=None), buy)):
        assert margin_of(charges, at, ExchangeTable()) is None


def test_a_margin_of_two_currencies_goes_by_the_rate_that_the_call_took_with_it() -> None:
    """The wall clock steps back an hour in the call, to before the rate."""
    steps = parse_steps("0:0.03/60/1")
    rate = ExchangeRate(
        base="USD", quote="EUR", rate=Decimal("0.5"), valid_from=utc(world.wall_ns(0)) - timedelta(minutes=1)
    )
    decks = {
        "sell": world.deck("s", Decimal("0.06")),
        "buy": Deck("b", [Rate(prefix="49", currency="USD", steps=steps)]),
    }
    policy = policy_of(decks=decks, exchange=ExchangeTable([rate]))
    call = call_that_ended(CAUSES["caller"], 3_000, policy)
    assert call.ended is not None
    stepped = replace(call, ended=Stamp(call.ended.mono_ns, call.ended.wall_ns - 3_600_000_000_000))
    margin = cdr_of(stepped, policy_of(decks=decks)).margin
    assert margin is not None
    assert (margin.currency, margin.exchange) == ("EUR", rate)
    sell, buy = cdr_of(stepped, policy).charges
    assert sell.net is not None
    assert buy.net is not None
    assert margin.amount == sell.net - buy.net / 2


# --- the rest of the record ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "flags", "hold_s", "name"),
    [
        ("illegal", {"record_illegal_call": False, "record_zero_hold_time": False}, 0, "ILLEGAL_CALL"),
        ("caller", {"record_zero_hold_time": False, "no_cdr_numbers": NUMBER}, 0, "ZERO_HOLD_TIME"),
        (
            "timeout",
            FLAG_OFF | {"record_zero_hold_time": False, "no_cdr_numbers": NUMBER},
            0,
            "SERVER_HANG_UP",
        ),
    ],
)
def test_of_several_settings_the_first_that_is_asked_is_named(
    who: str, flags: dict[str, Any], hold_s: int, name: str
) -> None:
    found = suppressed_by(CAUSES[who], hold_s, "4930123456", None, RecordFlags(**flags))
    assert found == f"SERVER_BILLING_RECORD_{name}"


@pytest.mark.parametrize(
    ("talk_ms", "times", "pdd_ms", "ring_ms"),
    [
        (3_000, {"first_heard": at(500), "ringing": at(1_200)}, 500, 801),
        (3_000, {"first_heard": at(2_000)}, 2_000, None),
        (0, {"first_heard": at(500), "ringing": at(1_200)}, 500, 801),  # until the end
        (0, {}, None, None),
    ],
)
def test_it_is_silent_from_the_invite_and_rings_until_the_answer_or_the_end(
    talk_ms: int, times: dict[str, Stamp], pdd_ms: int | None, ring_ms: int | None
) -> None:
    policy = policy_of()
    cdr = cdr_of(call_that_ended(CAUSES["caller"], talk_ms, policy, **times), policy)
    assert (cdr.pdd_ms, cdr.ring_ms) == (pdd_ms, ring_ms)
    assert cdr.ringing_at == (utc(world.wall_ns(1_200)) if ring_ms else None)


def test_a_free_number_is_free_and_an_unrated_one_not_billable_though_nobody_talked() -> None:
    free = policy_of(flags=RecordFlags(free_numbers=NUMBER))
    for policy, status in ((free, RatingStatus.FREE), (policy_of(decks={}), RatingStatus.NOT_BILLABLE)):
        line = cdr_of(call_that_ended(CAUSES["caller"], 0, policy), policy).charges[0]
        assert (line.rating_status, line.net, line.tax, line.total) == (status, *[Decimal(0)] * 3)


def test_what_a_gateway_is_owed_is_no_debt_of_the_account() -> None:
    policy = policy_of(decks={"buy": world.deck("b", Decimal("0.03"))})
    cdr = cdr_of(call_that_ended(CAUSES["caller"], 3_000, policy), policy)
    assert [(line.side, line.rating_status) for line in cdr.charges] == [
        (ChargeSide.SELL, RatingStatus.NO_RATE),
        (ChargeSide.BUY, RatingStatus.RATED),
    ]
    assert sell_total(cdr) is None


@pytest.mark.parametrize(("sent_caller", "sent"), [("", "+49301112222"), ("0049", "0049")])
def test_the_caller_stands_as_received_as_sent_and_as_billed(sent_caller: str, sent: str) -> None:
    policy = policy_of()
    invite = replace(world.invite(0), from_user="+49301112222")
    call = call_that_ended(CAUSES["caller"], 0, policy, invite=invite)
    call = replace(call, attempts=(replace(call.attempts[0], sent_caller=sent_caller),))
    expected = Party(received="+49301112222", sent=sent, billed="49301112222")
    assert cdr_of(call, policy).caller == expected


def test_each_attempt_stands_as_it_went() -> None:
    policy = policy_of()
    call = call_that_ended(CAUSES["caller"], 0, policy)
    (first,) = call.attempts
    told: dict[str, Any] = {
        "sip_code": 486,
        "failure": RouteFailure.FINAL_RESPONSE,
        "reasons": ("SIP;cause=486", "Q.850;cause=17"),
        "heard_code": 183,
    }
    ended = replace(first, started=at(1), ended=at(2), late_answer=at(3), **told)
    times: dict[str, Any] = {
        name: utc(world.wall_ns(ms))
        for name, ms in (("started_at", 1), ("ended_at", 2), ("late_answer_at", 3))
    }
    expected = AttemptRecord(gateway="alpha", target=first.target, q850_cause=17, **times, **told)
    assert cdr_of(replace(call, attempts=(ended,)), policy).attempts == (expected,)


def branches_of(told: tuple[str, ...], dropped: tuple[str, ...], answered: str) -> list[BranchRecord]:
    policy = policy_of()
    call = call_that_ended(CAUSES["caller"], 0, policy)
    (attempt,) = call.attempts
    attempt = replace(
        attempt,
        leg=replace(attempt.leg, remote_tag=answered),
        branches=tuple(
            Branch(
                leg=replace(attempt.leg, remote_tag=tag),
                caller=replace(call.invite.leg, local_tag=f"for-{tag}"),
                sip_code=183,
            )
            for tag in told
        ),
        dropped_tags=dropped,
        sip_code=200,
    )
    (shown,) = cdr_of(replace(call, attempts=(attempt,)), policy).attempts
    return list(shown.branches)


def test_the_branches_of_a_forked_attempt_stand_in_it() -> None:
    one = BranchRecord(remote_tag="one", caller_tag="for-one", sip_code=183)
    two = BranchRecord(remote_tag="two", caller_tag="for-two", sip_code=183)
    assert branches_of(("one", "two"), (), "two") == [one, two]
    assert branches_of(("one", "two"), (), "") == [one, two]
    assert branches_of(("one", "two"), ("one",), "two") == [replace(one, dropped=True), two]
    late = BranchRecord(remote_tag="late", dropped=True)
    winner = BranchRecord(remote_tag="two", caller_tag=world.invite(0).leg.local_tag, sip_code=200)
    assert branches_of((), ("late",), "two") == [winner, late]


@pytest.mark.parametrize(("dropped", "answered"), [((), "one"), (("one",), ""), (("one",), "one")])
def test_one_user_agent_alone_is_no_fork(dropped: tuple[str, ...], answered: str) -> None:
    assert branches_of((), dropped, answered) == []


def test_who_else_had_a_hand_in_the_end_stands_in_the_record() -> None:
    said: dict[str, Any] = {
        "proxy": "vendor",
        "operator": "jane",
        "operator_text": "fraud",
        "rule": "account_required",
    }
    cause = replace(hangup(SERVER, Detail.RULE, Evidence.MESSAGE, **said), glare=True)
    policy = policy_of()
    cdr = cdr_of(call_that_ended(cause, 0, policy), policy)
    assert {name: getattr(cdr, name) for name in said} == said
    assert (cdr.glare, cdr.sip_code, cdr.q850_cause) == (True, 403, 21)


def test_a_charge_holds_all_that_it_is_computed_from() -> None:
    terms = RatingTerms(
        rounding=Rounding.UP,
        decimals=3,
        fee_unit=Decimal("0.005"),
        hold_time_precision_ms=400,
        free_s=2,
        minimum_charge=Decimal("0.01"),
        tax_rate=Decimal("0.19"),
    )
    rate = Rate(
        prefix="4930",
        currency="EUR",
        destination="Berlin",
        steps=parse_steps("0:0.6/60/5"),
        connect_fee=Decimal(1),
    )
    number = billed_number("004930123", StripPlan(global_strip=2))
    pricing = Pricing(number=number, terms=terms, rate=rate, deck_revision="d1", candidates=("4930", "49"))
    line = charge_line(ChargeSide.SELL, "acme", pricing, 9_400, None, "GBP")
    said = {
        "party": "acme", "currency": "EUR", "deck_revision": "d1", "strip_rule": "global", "stripped": 2,
        "added": "", "billed_number": "4930123", "prefix": "4930", "destination": "Berlin",
        "candidates": ("4930", "49"), "rate": "0:0.6/60/5", "connect_fee": Decimal(1), "billable_ms": 9_400,
        "hold_s": 10, "billed_s": 10, "rounding": Rounding.UP, "decimals": 3, "fee_unit": Decimal("0.005"),
        "hold_time_precision_ms": 400, "free_s": 2, "minimum_charge": Decimal("0.01"),
        "tax_rate": Decimal("0.19"), "net": Decimal("1.1"), "tax": Decimal("0.209"),
        "total": Decimal("1.309"),
    }  # fmt: skip
    assert {name: getattr(line, name) for name in said} == said
    (step,) = line.steps
    assert (step.start_s, step.billed_s, step.increment_s, step.per_s) == (0, 10, 5, 60)
    assert (step.price, step.amount) == (Decimal("0.6"), "0.1")


def test_of_two_signs_of_life_the_earlier_is_so_by_the_monotonic_clock() -> None:
    late = Stamp(at(2_001 + 4_000).mono_ns, at(9_000).wall_ns)
    cause = CAUSES["fault"]
    call = call_that_ended(cause, 6_000, policy_of(), a_life=late, b_life=at(2_001 + 5_000))
    assert billable_ms(call, cause) == 4_000


def test_each_time_of_a_record_is_that_of_its_own_event() -> None:
    policy = policy_of()
    cdr = cdr_of(call_that_ended(CAUSES["caller"], 3_000, policy, ringing=at(1_200)), policy)
    times = (cdr.invited_at, cdr.ringing_at, cdr.b_answered_at, cdr.answered_at, cdr.ended_at)
    assert times == tuple(utc(world.wall_ns(ms)) for ms in (0, 1_200, 2_000, 2_001, 5_001))
    assert (cdr.talk_ms, cdr.disposition) == (3_000, Disposition.ANSWERED)
    silent = cdr_of(call_that_ended(CAUSES["caller"], 0, policy), policy)
    assert (silent.ringing_at, silent.b_answered_at, silent.answered_at) == (None, None, None)
    held = call_that_ended(CAUSES["caller"], 0, policy, b_answered=at(2_000))
    assert cdr_of(held, policy).disposition is Disposition.CANCELLED, "A was never answered"


@pytest.mark.parametrize(
    ("revision", "supersedes", "reason"),
    [(0, None, None), (1, 0, RevisionReason.LATE_EVIDENCE), (3, 2, RevisionReason.LATE_EVIDENCE)],
)
def test_a_revision_names_the_one_before_it(
    revision: int, supersedes: int | None, reason: RevisionReason | None
) -> None:
    policy = policy_of()
    cdr = cdr_of(call_that_ended(CAUSES["caller"], 0, policy, revision=revision), policy)
    assert (cdr.revision, cdr.supersedes, cdr.revision_reason) == (revision, supersedes, reason)
    assert cdr.message_id == message_id(cdr.call_id, revision)


def test_a_call_that_was_tried_nowhere_has_no_second_leg() -> None:
    policy = policy_of()
    cdr = cdr_of(call_that_ended(CAUSES["illegal"], 0, policy, attempts=()), policy)
    assert (cdr.gateway, cdr.leg_b, cdr.callee.sent, cdr.attempts, cdr.margin) == (None, None, None, (), None)
    assert [line.side for line in cdr.charges] == [ChargeSide.SELL]


def test_a_margin_is_before_tax() -> None:
    policy = policy_of(accounts=account(tax_rate=Decimal("0.19")))
    cdr = cdr_of(call_that_ended(CAUSES["caller"], 3_000, policy), policy)
    sell, buy = cdr.charges
    assert sell.net is not None
    assert buy.net is not None
    assert sell.net != sell.total
    assert cdr.margin is not None
    assert cdr.margin.amount == sell.net - buy.net
