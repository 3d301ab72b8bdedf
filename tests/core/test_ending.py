"""What ends a call, and what comes after its end: one row or ladder per promise of `ending`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.call import Phase, Stamp
from sidecar.core.commands import Append, EntryKind, Publish, Release, Settle
from sidecar.core.events import (
    AckReceived,
    AnswerDropped,
    AnswerHeld,
    ByeReceived,
    CallFoundOpen,
    CallLost,
    CancelReceived,
    CreditRefused,
    DeadlineReached,
    ProvisionalReceived,
    ReleaseRequested,
    RouteFailed,
    StepFailed,
    TransportFailed,
)
from sidecar.core.policy import Policy
from sidecar.core.records import utc
from sidecar.core.terms import (
    DeadlineKind,
    Detail,
    DialogState,
    Evidence,
    HangupOrigin,
    LegName,
    RevisionReason,
    RouteFailure,
)
from tests.core.streams import (
    ADMITTED,
    ALIVE_A,
    ALIVE_B,
    ANSWERED,
    CHALLENGED,
    CLOSE_A,
    CLOSE_B,
    HELD,
    RECORDED,
    RELAYED,
    RINGS,
    WAITED,
    Maker,
    Run,
    bridge,
    bye,
    deadline,
    failure,
    held,
    life,
    store,
)
from tests.scenarios import world
from tests.scenarios.world import account, gateways, policy_of

BOTH = policy_of(routes=("alpha", "beta"))
RETRY: Maker = lambda at_ms, call, _: world.invite(at_ms, bridge_id=call.bridge_id + 1)  # noqa: E731
TALKING = (ADMITTED, *ANSWERED)


def played(*makers: Maker, policy: Policy | None = None, pace_ms: int = 1_000) -> Run:
    """The events, one a second."""
    return Run(policy or policy_of()).play([((pace_ms, 1), make) for make in makers])


def at(ms: int) -> Stamp:
    return Stamp(world.mono_ns(ms), world.wall_ns(ms))


# --- deadlines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("makers", [(ADMITTED, RINGS, HELD), (ADMITTED, RINGS, HELD, RECORDED)])
def test_a_ring_deadline_that_crosses_the_answer_ends_nothing(makers: tuple[Maker, ...]) -> None:
    run = played(*makers)
    before = run.call
    run.happens(deadline(DeadlineKind.RING)(9_000, run.call, None))
    assert (run.call, run.steps[-1].commands) == (before, ())
    assert run.call.phase is Phase.ANSWERING


@pytest.mark.parametrize("makers", [(), TALKING], ids=["admitting", "talking"])
def test_a_ring_deadline_is_for_a_call_that_rings(makers: tuple[Maker, ...]) -> None:
    run = played(*makers, deadline(DeadlineKind.RING))
    assert run.call.hangup is None


@pytest.mark.parametrize(
    ("makers", "detail"),
    [
        ((), Detail.JOURNAL),
        ((ADMITTED,), Detail.INTERNAL_ERROR),
        ((ADMITTED, RINGS), Detail.INTERNAL_ERROR),
        ((ADMITTED, HELD), Detail.JOURNAL),
        (TALKING, Detail.INTERNAL_ERROR),
    ],
    ids=["admitting", "routing", "ringing", "answering", "talking"],
)
def test_a_decision_that_was_owed_too_long_is_the_journals_fault_or_ours(
    makers: tuple[Maker, ...], detail: Detail
) -> None:
    cause = played(*makers, deadline(DeadlineKind.HOLD)).call.hangup
    assert cause is not None
    assert (cause.detail, cause.evidence) == (detail, Evidence.TIMER)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (DeadlineKind.MAX_DURATION, Detail.MAX_DURATION),
        (DeadlineKind.GRANT, Detail.LEDGER_UNREACHABLE),  # nobody has said that it is the last
        (DeadlineKind.NO_ACK, Detail.NO_ACK),
        (DeadlineKind.DEAD_PEER, Detail.DEAD_PEER),
        (DeadlineKind.SESSION_TIMER, Detail.SESSION_TIMER),
    ],
)
def test_each_deadline_has_its_cause(kind: DeadlineKind, detail: Detail) -> None:
    cause = played(*TALKING, deadline(kind)).call.hangup
    assert cause is not None
    assert (cause.origin, cause.detail, cause.evidence) == (HangupOrigin.SERVER, detail, Evidence.TIMER)


@pytest.mark.parametrize(
    ("second", "told", "cause"),
    [
        ((), 0, 102),
        ((), 100, 18),
        ((bridge(ProvisionalReceived, attempt=2, sip_code=183),), 100, 18),
        ((bridge(ProvisionalReceived, attempt=2, sip_code=180),), 0, 19),
    ],
)
def test_a_ring_timeout_says_what_the_last_gateway_was_heard_to_say(
    second: tuple[Maker, ...], told: int, cause: int
) -> None:
    """Alpha rang before it failed: that is alpha's."""
    ring = bridge(DeadlineReached, kind=DeadlineKind.RING, heard_code=told)
    run = played(ADMITTED, RINGS, failure(503), *second, ring, policy=BOTH)
    assert run.call.hangup is not None
    assert (run.call.hangup.detail, run.call.hangup.q850_cause) == (Detail.RING_TIMEOUT, cause)
    assert run.call.attempts[-1].heard_code == {102: 0, 18: 100 if not second else 183, 19: 180}[cause]
    release = run.steps[-1].commands[0]
    assert isinstance(release, Release)
    assert (release.sip_code, release.q850_cause, release.text) == (408, cause, "ring_timeout")


# --- who says so --------------------------------------------------------------------------------------------

SAYS_SO = ("Q.850;cause=16;text=max call time",)


@pytest.mark.parametrize(
    ("makers", "leg_name", "origin"),
    [
        ((ADMITTED, *ANSWERED), LegName.B, HangupOrigin.SERVER),
        ((ADMITTED, *ANSWERED), LegName.A, HangupOrigin.CALLER),  # `carrier` says it in other words
        ((ADMITTED, failure(503), held(2), *ANSWERED[1:]), LegName.B, HangupOrigin.CALLEE),  # beta: no peer
    ],
    ids=["alpha", "caller", "beta"],
)
def test_a_proxy_speaks_for_its_own_side_and_its_own_gateway(
    makers: tuple[Maker, ...], leg_name: LegName, origin: HangupOrigin
) -> None:
    run = played(*makers, bridge(ByeReceived, leg_name=leg_name, reasons=SAYS_SO), policy=BOTH)
    assert run.call.hangup is not None
    assert run.call.hangup.origin is origin
    assert run.call.hangup.proxy == ("vendor" if origin is HangupOrigin.SERVER else None)


def test_a_gateway_that_the_profile_no_longer_knows_speaks_for_nobody() -> None:
    run = played(*TALKING)
    run.policy = policy_of(gateways={"beta": gateways()["beta"]})
    run.happens(bridge(ByeReceived, leg_name=LegName.B, reasons=SAYS_SO)(9_000, run.call, None))
    assert run.call.hangup is not None
    assert (run.call.hangup.origin, run.call.hangup.proxy) == (HangupOrigin.CALLEE, None)


@pytest.mark.parametrize(
    ("header", "value", "detail"),
    [
        ("reason", "SIP;text=dialog timeout", Detail.SESSION_TIMER),
        ("x-ended-by", "credit", Detail.NO_CREDIT),
        ("x-ended-by", "dialog timeout", Detail.BYE),
        ("x-other", "credit", Detail.BYE),
    ],
)
def test_a_proxys_words_count_in_their_own_header(header: str, value: str, detail: Detail) -> None:
    headers = {"reasons": (value,)} if header == "reason" else {"headers": ((header, value),)}
    run = played(*TALKING, bridge(ByeReceived, leg_name=LegName.A, **headers))
    assert run.call.hangup is not None
    assert run.call.hangup.detail is detail


def test_the_first_rule_of_a_proxy_that_fits_is_the_cause() -> None:
    headers = (("x-ended-by", "credit"),)
    reasons = ("SIP;text=dialog timeout",)
    run = played(*TALKING, bridge(ByeReceived, leg_name=LegName.A, headers=headers, reasons=reasons))
    assert run.call.hangup is not None
    assert run.call.hangup.detail is Detail.SESSION_TIMER


@pytest.mark.parametrize(
    ("reasons", "codes", "cause"),
    [((), {}, 17), (("Q.850;cause=21",), {}, 21), ((), {486: 31}, 31), (("Q.850;cause=21",), {486: 31}, 21)],
)
def test_a_received_cause_beats_the_setting_and_the_setting_beats_the_table(
    reasons: tuple[str, ...], codes: dict[int, int], cause: int
) -> None:
    busy = bridge(RouteFailed, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=486, reasons=reasons)
    run = played(ADMITTED, busy, policy=policy_of(q850_of_sip=codes))
    assert run.call.hangup is not None
    assert (run.call.hangup.sip_code, run.call.hangup.q850_cause) == (486, cause)


def test_an_operators_name_and_text_are_in_the_cause() -> None:
    makers = [
        store(ReleaseRequested, detail=Detail.OPERATOR, operator="jane", text=text) for text in ("fraud", "")
    ]
    found = [played(*TALKING, make).call.hangup for make in makers]
    assert [(one.operator, one.operator_text) for one in found if one is not None] == [
        ("jane", "fraud"),
        ("jane", None),
    ]


def test_the_rule_that_ended_a_call_is_named_in_the_cause() -> None:
    run = played(
        *TALKING, store(ReleaseRequested, detail=Detail.NUMBER_BLOCKED, rule="blocked_numbers 49900*")
    )
    cause = run.call.hangup
    assert cause is not None
    assert (cause.detail, cause.rule, cause.operator) == (
        Detail.NUMBER_BLOCKED,
        "blocked_numbers 49900*",
        None,
    )


# --- before and while it is answered ------------------------------------------------------------------------


def test_a_call_that_ends_while_it_is_admitted_was_tried_nowhere() -> None:
    run = played(bridge(CancelReceived))
    assert (run.call.attempts, run.call.phase) == ((), Phase.ENDING)
    assert run.call.state_b is DialogState.TERMINATED, "no INVITE has left"
    assert [type(command) for command in run.steps[-1].commands] == [Append]
    run.happens(ADMITTED(2_000, run.call, None))
    assert run.steps[-1].commands == ()


def test_what_was_granted_to_a_call_that_had_ended_is_kept_with_it() -> None:
    run = played(bridge(CancelReceived), ADMITTED, policy=policy_of(accounts=account(prepaid=True)))
    assert run.granted is not None
    assert (run.call.granted_s, run.call.reserved) == (run.granted.granted_s, run.granted.reserved)


@pytest.mark.parametrize(
    ("makers", "sip_code"), [((ADMITTED, HELD), 480), (TALKING, 200)], ids=["held", "talking"]
)
def test_the_callee_that_hangs_up_while_its_answer_is_held_is_shown_as_480(
    makers: tuple[Maker, ...], sip_code: int
) -> None:
    cause = played(*makers, bye(LegName.B)).call.hangup
    assert cause is not None
    assert (cause.origin, cause.detail, cause.sip_code) == (HangupOrigin.CALLEE, Detail.BYE, sip_code)


@pytest.mark.parametrize(
    ("makers", "glare"), [((ADMITTED, RINGS), False), ((ADMITTED, HELD), True)], ids=["ringing", "held"]
)
def test_a_cancel_crosses_the_answer_that_is_held(makers: tuple[Maker, ...], glare: bool) -> None:
    cause = played(*makers, bridge(CancelReceived)).call.hangup
    assert cause is not None
    assert (cause.detail, cause.glare) == (Detail.CANCEL, glare)


def test_an_answer_that_cannot_be_recorded_is_the_journals_fault() -> None:
    run = played(ADMITTED, HELD, store(StepFailed))
    assert run.call.hangup is not None
    assert run.call.hangup.detail is Detail.JOURNAL
    assert [type(command) for command in run.steps[-1].commands] == [Release, Append]


def test_the_cause_is_journaled_while_the_legs_close() -> None:
    run = played(*TALKING, bye(LegName.A))
    (command,) = run.steps[-1].commands
    assert isinstance(command, Append)
    assert (command.kind, command.call) == (EntryKind.ENDING, run.call)


# --- a challenge --------------------------------------------------------------------------------------------


def test_a_caller_that_does_not_come_back_was_refused_by_the_last_challenge() -> None:
    run = played(ADMITTED, CHALLENGED, RETRY, failure(401, 2), WAITED)
    record = run.records[0].cdr
    assert (record.detail, record.sip_code) == (Detail.REJECTED, 401)
    assert record.ended_at == record.attempts[-1].ended_at
    assert (record.ended_at - record.invited_at).total_seconds() == 4


def test_a_challenged_call_found_open_ended_with_its_challenge() -> None:
    run = played(ADMITTED, CHALLENGED)
    run.happens(CallFoundOpen(**world.stamps(60_000), call_id=run.call.call_id))
    record = run.records[0].cdr
    assert (record.detail, record.sip_code) == (Detail.REJECTED, 407)
    assert (record.ended_at - record.invited_at).total_seconds() == 2


# --- found open ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("makers", "last_ms"),
    [
        ((), 0),
        ((ADMITTED, failure(503)), 2_000),  # the second attempt has begun
        ((ADMITTED, RINGS), 2_000),
        ((ADMITTED, HELD), 2_000),
        ((ADMITTED, HELD, RECORDED, RELAYED), 4_000),
        ((*TALKING,), 5_000),
        ((*TALKING, life(LegName.A)), 6_000),
        ((*TALKING, life(LegName.B)), 6_000),
    ],
    ids=["invite", "attempt", "ringing", "b answered", "answered", "ack", "a lived", "b lived"],
)
@pytest.mark.parametrize("heartbeat_ms", [-1, 1], ids=["heartbeat before", "heartbeat after"])
def test_a_call_found_open_lasted_until_the_last_that_is_known(
    makers: tuple[Maker, ...], last_ms: int, heartbeat_ms: int
) -> None:
    run = played(*makers, policy=BOTH)
    heartbeat = max(0, last_ms + heartbeat_ms)
    run.happens(CallFoundOpen(**world.stamps(heartbeat), call_id=run.call.call_id))
    assert run.call.ended == at(max(last_ms, heartbeat))
    assert run.call.hangup is not None
    assert (run.call.hangup.detail, run.call.hangup.evidence) == (Detail.CRASH_RECOVERED, Evidence.HEARTBEAT)


def test_a_cause_that_was_journaled_stays_the_cause_of_a_call_found_open() -> None:
    run = played(*TALKING, bye(LegName.A))
    run.happens(CallFoundOpen(**world.stamps(60_000), call_id=run.call.call_id))
    assert run.call.hangup is not None
    assert run.call.hangup.detail is Detail.BYE
    assert run.call.ended == at(6_000)


# --- evidence after the cause -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "glare"),
    [(LegName.A, LegName.B, True), (LegName.B, LegName.A, True), (LegName.A, LegName.A, False)],
)
def test_a_bye_of_the_other_side_crossed_and_a_repeated_one_did_not(
    first: LegName, second: LegName, glare: bool
) -> None:
    for closing in ((), (CLOSE_A, CLOSE_B)):  # before the record, and after it
        run = played(*TALKING, bye(first), *closing, bye(second))
        assert run.call.hangup is not None
        assert run.call.hangup.glare is glare
        assert len(run.records) == (1 + glare if closing else 0)


def test_a_bye_that_crosses_our_own_end_is_noted() -> None:
    run = played(*TALKING, store(ReleaseRequested, detail=Detail.OPERATOR, operator="j"), bye(LegName.A))
    assert run.call.hangup is not None
    assert (run.call.hangup.detail, run.call.hangup.glare) == (Detail.OPERATOR, True)


def dropped(attempt: int) -> Maker:
    return lambda at_ms, call, _: AnswerDropped(
        **world.stamps(at_ms),
        bridge_id=call.bridge_id,
        attempt=attempt,
        sip_code=200,
        leg=call.attempts[-1].leg,
    )


def test_each_user_agent_that_answered_too_late_is_noted_and_restates_the_record() -> None:
    run = played(ADMITTED, failure(), failure(503, 2), CLOSE_A, CLOSE_B, policy=BOTH)
    leg = run.call.attempts[0].leg
    for at_ms, tag in ((9_000, "one"), (9_100, "two"), (9_200, "one")):
        late = replace(leg, remote_tag=tag)
        run.happens(AnswerDropped(**world.stamps(at_ms), bridge_id=1, attempt=1, sip_code=200, leg=late))
    first = run.call.attempts[0]
    assert (first.dropped_tags, first.late_answer) == (("one", "two"), at(9_000))
    assert [one.cdr.revision for one in run.records] == [0, 1, 2]


def test_a_late_answer_is_noted_with_its_own_attempt_and_once() -> None:
    run = played(ADMITTED, failure(), failure(486, 2), dropped(1), dropped(1), policy=BOTH)
    first, second = run.call.attempts
    assert (first.late_answer, second.late_answer) == (at(4_000), None)
    assert run.call.hangup is not None
    assert not run.call.hangup.glare


@pytest.mark.parametrize(("attempt", "glare"), [(1, False), (2, True)])
def test_a_late_answer_crosses_a_cancel_where_it_is_the_last_attempts(attempt: int, glare: bool) -> None:
    run = played(ADMITTED, failure(), bridge(CancelReceived), dropped(attempt), policy=BOTH)
    assert run.call.hangup is not None
    assert run.call.hangup.glare is glare
    assert run.call.attempts[attempt - 1].late_answer == at(4_000)


def test_a_late_answer_does_not_cross_what_is_no_cancel() -> None:
    run = played(ADMITTED, RINGS, bye(LegName.A), dropped(1))
    assert run.call.hangup is not None
    assert not run.call.hangup.glare


def test_a_failure_that_crossed_the_end_is_noted_with_the_last_attempt_alone() -> None:
    run = played(ADMITTED, failure(503), bridge(CancelReceived), failure(500, 1), policy=BOTH)
    assert run.call.attempts[1].ended is None, "it is the first attempt's, which had ended"
    assert run.call.attempts[0].sip_code == 503
    run.happens(failure(487, 2)(5_000, run.call, None))
    run.happens(failure(500, 2)(6_000, run.call, None))
    last = run.call.attempts[1]
    assert (last.ended, last.sip_code, last.failure) == (at(5_000), 487, RouteFailure.FINAL_RESPONSE)


def test_what_ended_an_attempt_is_kept_with_what_it_was_heard_to_say() -> None:
    for told, expected in ((100, 180), (0, 180)):
        failed = bridge(
            RouteFailed,
            attempt=1,
            cause=RouteFailure.FINAL_RESPONSE,
            sip_code=486,
            heard_code=told,
            reasons=("Q.850;cause=17",),
        )
        (attempt,) = played(ADMITTED, RINGS, failed).call.attempts
        assert (attempt.heard_code, attempt.sip_code, attempt.reasons) == (expected, 486, ("Q.850;cause=17",))
        assert attempt.ended == at(3_000)
    silent = bridge(RouteFailed, attempt=1, cause=RouteFailure.NO_RESPONSE, sip_code=0, heard_code=100)
    assert played(ADMITTED, silent).call.attempts[0].heard_code == 100


# --- evidence after the record ------------------------------------------------------------------------------

UNPROVED = (ADMITTED, HELD, RECORDED, RELAYED)


def test_a_proof_of_life_after_the_record_restates_it() -> None:
    """The ACK was lost, and A answers our BYE only after the record: it had our 2xx after all."""
    run = played(*UNPROVED, bye(LegName.B), CLOSE_B, CLOSE_A)
    (first,) = (one.cdr for one in run.records)
    assert (first.billable_ms, first.charges[0].total, run.settles) == (0, Decimal(0), [])
    run.happens(ALIVE_A(8_000, run.call, None))
    settle, publish = run.steps[-1].commands
    assert isinstance(settle, Settle)
    assert isinstance(publish, Publish)
    second = publish.cdr
    assert (second.revision, second.supersedes) == (1, 0)
    assert second.revision_reason is RevisionReason.LATE_EVIDENCE
    assert (second.talk_ms, second.billable_ms) == (first.talk_ms, 1_000)
    assert second.charges[0].total == Decimal("0.001")
    assert settle.total is not None
    assert settle.total.amount == Decimal("0.001")
    run.happens(ALIVE_A(9_000, run.call, None))
    assert run.steps[-1].commands == (), "said already"


def test_a_peer_that_lived_for_longer_than_was_billed_restates_the_record() -> None:
    dead = played(*TALKING, life(LegName.B), deadline(DeadlineKind.DEAD_PEER), CLOSE_A, CLOSE_B)
    assert dead.records[0].cdr.billable_ms == 1_000, "until A's ACK"
    dead.happens(ALIVE_A(9_000, dead.call, None))
    assert [one.cdr.billable_ms for one in dead.records] == [1_000, 2_000], "until B was last heard"
    dead.happens(ALIVE_B(9_500, dead.call, None))
    assert [one.cdr.billable_ms for one in dead.records] == [1_000, 2_000, 3_000], "until the end"
    assert [one.cdr.revision for one in dead.records] == [0, 1, 2]


def test_a_late_answer_after_the_record_restates_it_once() -> None:
    run = played(ADMITTED, bridge(CancelReceived), CLOSE_A, CLOSE_B, dropped(1), dropped(1))
    assert [one.cdr.revision for one in run.records] == [0, 1]
    assert run.records[1].cdr.attempts[0].late_answer_at is not None


def test_a_leg_that_closes_again_says_nothing_new() -> None:
    run = played(*TALKING, bye(LegName.A), CLOSE_A, CLOSE_B, CLOSE_A, CLOSE_B)
    assert len(run.records) == 1


# --- the books ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "makers", "settled"),
    [
        ({}, TALKING, 1),
        ({}, (ADMITTED, RINGS), 0),  # nothing is due
        ({"prepaid": True}, TALKING, 1),
        ({"prepaid": True}, (ADMITTED, RINGS), 1),  # the reservation goes back
        ({"prepaid": True}, (), 1),  # so does one that was not yet reported
    ],
)
def test_the_books_hear_of_a_charge_or_a_reservation(
    terms: dict[str, Any], makers: tuple[Maker, ...], settled: int
) -> None:
    run = played(*makers, bye(LegName.A), CLOSE_A, CLOSE_B, policy=policy_of(accounts=account(**terms)))
    assert len(run.settles) == settled
    for one in run.settles:
        assert (one.call_id, one.account) == (run.call.call_id, "acme")


def test_a_waived_call_of_a_prepaid_account_gets_its_reservation_back() -> None:
    policy = policy_of(accounts=account(prepaid=True), gateways=gateways({"record_server_hang_up": False}))
    run = played(*TALKING, deadline(DeadlineKind.GRANT), CLOSE_A, CLOSE_B, policy=policy)
    assert [one.total for one in run.settles] == [None]
    assert not run.records[0].cdr.recorded


def test_a_proxy_that_ended_a_call_whose_answer_it_crossed_leaves_the_crossing_noted() -> None:
    for makers, glare in (((ADMITTED, RINGS), False), ((ADMITTED, HELD), True)):
        cause = played(*makers, bridge(CancelReceived, reasons=("SIP;text=dialog timeout",))).call.hangup
        assert cause is not None
        assert (cause.origin, cause.proxy, cause.glare) == (HangupOrigin.SERVER, "carrier", glare)


def test_a_proxys_rejection_keeps_the_code_and_cause_that_came_with_it() -> None:
    told = bridge(RouteFailed, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=486, reasons=SAYS_SO)
    cause = played(ADMITTED, told).call.hangup
    assert cause is not None
    assert (cause.origin, cause.sip_code, cause.q850_cause) == (HangupOrigin.SERVER, 486, 16)


@pytest.mark.parametrize("leg_name", list(LegName))
def test_a_bye_is_a_sign_of_life_of_its_leg_whenever_it_comes(leg_name: LegName) -> None:
    other = LegName.B if leg_name is LegName.A else LegName.A
    ours = deadline(DeadlineKind.DEAD_PEER)
    for makers in ((), (ours,), (bye(other),), (ours, CLOSE_A, CLOSE_B)):
        run = played(*TALKING, *makers, bye(leg_name))
        lived = run.call.a_life if leg_name is LegName.A else run.call.b_life
        assert lived == at(1_000 * (6 + len(makers)))


def test_a_revision_is_settled_again_though_nothing_is_due() -> None:
    """The late 2xx of a call that was cancelled: there is no charge, before or after."""
    run = played(ADMITTED, bridge(CancelReceived), CLOSE_A, CLOSE_B, dropped(1))
    assert [one.total for one in run.settles] == [None]


def test_a_call_found_open_is_recorded_once_its_legs_are_gone() -> None:
    run = played(*TALKING)
    run.happens(CallFoundOpen(**world.stamps(60_000), call_id=run.call.call_id))
    assert (run.call.phase, run.records) == (Phase.ENDING, [])
    run.happens(CLOSE_A(61_000, run.call, None))
    run.happens(CLOSE_B(61_000, run.call, None))
    assert (run.call.state_a, run.call.state_b) == (DialogState.TERMINATED, DialogState.TERMINATED)
    assert (run.call.phase, len(run.records)) == (Phase.ENDED, 1)


@pytest.mark.parametrize(
    ("makers", "detail", "evidence"),
    [
        ((ADMITTED, failure(0)), Detail.GATEWAY_UNREACHABLE, Evidence.TIMER),
        ((ADMITTED, failure(486)), Detail.REJECTED, Evidence.MESSAGE),
        ((ADMITTED, bridge(CancelReceived)), Detail.CANCEL, Evidence.MESSAGE),
        ((ADMITTED, HELD, store(StepFailed)), Detail.JOURNAL, Evidence.MESSAGE),
        ((*TALKING, bye(LegName.A)), Detail.BYE, Evidence.MESSAGE),
        ((*TALKING, bye(LegName.B)), Detail.BYE, Evidence.MESSAGE),
        (
            (*TALKING, bridge(TransportFailed, leg_name=LegName.A)),
            Detail.TRANSPORT_LOST,
            Evidence.MESSAGE,
        ),
        ((*TALKING, store(CallLost)), Detail.INTERNAL_ERROR, Evidence.MESSAGE),
        ((*TALKING, CLOSE_A, CLOSE_B), Detail.INTERNAL_ERROR, Evidence.MESSAGE),
        (
            (*TALKING, store(ReleaseRequested, detail=Detail.DRAIN, operator="j")),
            Detail.DRAIN,
            Evidence.MESSAGE,
        ),
    ],
)
def test_a_cause_says_what_it_is_known_from(
    makers: tuple[Maker, ...], detail: Detail, evidence: Evidence
) -> None:
    cause = played(*makers).call.hangup
    assert cause is not None
    assert (cause.detail, cause.evidence) == (detail, evidence)


def test_a_cause_that_a_proxy_gives_with_its_words_beats_that_of_their_rule() -> None:
    told = ("Q.850;cause=17;text=max call time",)
    cause = played(*TALKING, bridge(ByeReceived, leg_name=LegName.B, reasons=told)).call.hangup
    assert cause is not None
    assert (cause.detail, cause.sip_code, cause.q850_cause) == (Detail.MAX_DURATION, 408, 17)


def test_what_crosses_a_refusal_does_not_restate_it() -> None:
    run = played(store(CreditRefused))
    before = run.call
    run.happens(bye(LegName.A)(9_000, run.call, None))
    assert run.call.hangup == before.hangup
    assert (run.call.revision, run.steps[-1].commands) == (0, ())


@pytest.mark.parametrize("leg_name", list(LegName))
def test_a_sign_of_life_while_the_legs_close_is_of_its_own_leg(leg_name: LegName) -> None:
    run = played(*TALKING, deadline(DeadlineKind.DEAD_PEER))
    lived = {LegName.A: run.call.a_life, LegName.B: run.call.b_life}
    run.happens(life(leg_name)(9_000, run.call, None))
    assert {LegName.A: run.call.a_life, LegName.B: run.call.b_life} == lived | {leg_name: at(9_000)}


def test_a_late_answer_of_an_earlier_attempt_restates_the_record_too() -> None:
    run = played(ADMITTED, failure(503), bridge(CancelReceived), CLOSE_A, CLOSE_B, dropped(1), policy=BOTH)
    assert [one.cdr.revision for one in run.records] == [0, 1]


def test_the_last_that_is_known_of_a_call_is_so_by_the_monotonic_clock() -> None:
    run = played(*TALKING)
    stepped = Stamp(at(60_000).mono_ns, at(1_000).wall_ns)
    run.happens(CallFoundOpen(mono_ns=stepped.mono_ns, wall_ns=stepped.wall_ns, call_id=run.call.call_id))
    assert run.call.ended == stepped


# --- whenever it comes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "makers",
    [(), (ADMITTED,), (ADMITTED, HELD), TALKING],
    ids=["admitting", "routing", "answering", "talking"],
)
@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (bridge(TransportFailed, leg_name=LegName.A), Detail.TRANSPORT_LOST),
        (store(CallLost), Detail.INTERNAL_ERROR),
        (store(ReleaseRequested, detail=Detail.OPERATOR, operator="jane"), Detail.OPERATOR),
    ],
    ids=["transport", "lost", "release"],
)
def test_what_ends_a_call_of_any_phase(makers: tuple[Maker, ...], event: Maker, detail: Detail) -> None:
    run = played(*makers, event)
    assert run.call.hangup is not None
    assert (run.call.hangup.origin, run.call.hangup.detail) == (HangupOrigin.SERVER, detail)
    assert run.call.ended == at(1_000 * (len(makers) + 1))


def test_a_challenged_call_may_be_released() -> None:
    run = played(ADMITTED, CHALLENGED, store(ReleaseRequested, detail=Detail.OPERATOR, operator="jane"))
    assert run.call.hangup is not None
    assert run.call.hangup.detail is Detail.OPERATOR


@pytest.mark.parametrize(
    ("event", "lives"),
    [
        (bridge(AckReceived), (at(6_000), None)),
        (life(LegName.A), (at(6_000), None)),
        (life(LegName.B), (None, at(6_000))),
    ],
)
def test_a_sign_of_life_that_crosses_the_end_still_counts(
    event: Maker, lives: tuple[Stamp | None, Stamp | None]
) -> None:
    operator = store(ReleaseRequested, detail=Detail.OPERATOR, operator="jane")
    run = played(*TALKING[:-1], operator, event)
    assert run.call.phase is Phase.ENDING
    assert (run.call.a_life, run.call.b_life) == lives


@pytest.mark.parametrize("kind", [AnswerHeld, AnswerDropped])
def test_a_2xx_after_the_record_restates_it(kind: type[AnswerHeld] | type[AnswerDropped]) -> None:
    run = played(ADMITTED, failure(), failure(503, 2), CLOSE_A, CLOSE_B, policy=BOTH)
    assert (run.call.phase, len(run.records)) == (Phase.ENDED, 1)
    leg = run.call.attempts[0].leg
    run.happens(kind(**world.stamps(9_000), bridge_id=1, attempt=1, sip_code=200, leg=leg))
    assert [one.cdr.revision for one in run.records] == [0, 1]
    assert run.call.attempts[0].late_answer == at(9_000)


def test_a_call_found_open_after_its_cause_is_recorded_with_that_cause() -> None:
    run = played(*TALKING, bye(LegName.A))
    assert (run.call.phase, run.records) == (Phase.ENDING, [])
    run.happens(CallFoundOpen(**world.stamps(60_000), call_id=run.call.call_id))
    assert run.call.state_a is DialogState.TERMINATED  # it had hung up
    run.happens(CLOSE_B(61_000, run.call, None))
    assert [(one.cdr.detail, one.cdr.ended_at) for one in run.records] == [
        (Detail.BYE, utc(world.wall_ns(6_000)))
    ]
