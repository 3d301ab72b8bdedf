"""How a call is set up: admitted, tried at one gateway after another, answered or challenged."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.call import Phase, Stamp
from sidecar.core.commands import (
    Append,
    ArmDeadline,
    EntryKind,
    NoteRefusal,
    Reject,
    RelayAnswer,
    RelayFailure,
    Release,
    Route,
)
from sidecar.core.events import (
    AnswerHeld,
    Contact,
    CreditRefused,
    InviteReceived,
    ProvisionalReceived,
    RouteFailed,
    StepFailed,
)
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.servers import Lookup, Server
from sidecar.core.setting_up import ATTEMPTS_MAX, is_retry, retried
from sidecar.core.tariff import Deck
from sidecar.core.terms import (
    DeadlineKind,
    Detail,
    DialogState,
    Redirection,
    RouteFailure,
    TransportName,
)
from tests.core.streams import (
    ADMITTED,
    BETA,
    CHALLENGED,
    CLOSE_A,
    CLOSE_B,
    HELD,
    RECORDED,
    RELAYED,
    Maker,
    Run,
    bridge,
    failure,
    forked,
    held,
    store,
)
from tests.scenarios import world
from tests.scenarios.world import account, gateways, policy_of

BOTH = policy_of(routes=("alpha", "beta"))
FOLLOW = policy_of(routes=("alpha", "beta"), redirect=Redirection.FOLLOW)


def played(*makers: Maker, policy: Policy = BOTH) -> Run:
    """The events, one a second."""
    return Run(policy).play([((1_000, 1), make) for make in makers])


def at(ms: int) -> Stamp:
    return Stamp(world.mono_ns(ms), world.wall_ns(ms))


def rings(sip_code: int, attempt: int = 1) -> Maker:
    return bridge(ProvisionalReceived, attempt=attempt, sip_code=sip_code)


def failed_in_media(sip_code: int, *contacts: Contact) -> Maker:
    cause = RouteFailure.FINAL_RESPONSE if sip_code else RouteFailure.NO_RESPONSE
    return bridge(
        RouteFailed,
        attempt=1,
        cause=cause,
        sip_code=sip_code,
        contacts=contacts,
        early_media_relayed=True,
    )


def tried(run: Run) -> list[str]:
    return [attempt.gateway for attempt in run.call.attempts]


def routes(run: Run) -> list[tuple[int, str, str]]:
    return [(one.attempt, one.gateway, one.user) for one in run.commands() if isinstance(one, Route)]


# --- admitted or not ----------------------------------------------------------------------------------------


def test_an_admitted_call_may_ring_so_long_and_goes_to_its_first_gateway() -> None:
    run = played(ADMITTED, policy=policy_of(accounts=account(prepaid=True)))
    assert run.granted is not None
    assert (run.call.granted_s, run.call.reserved) == (run.granted.granted_s, run.granted.reserved)
    deadline, route = run.steps[-1].commands
    assert isinstance(deadline, ArmDeadline)
    assert isinstance(route, Route)
    timers = run.policy.timers
    assert (deadline.kind, deadline.after_ms) == (DeadlineKind.RING, timers.ring_timeout_ms)
    assert (deadline.sip_code, deadline.q850_cause, deadline.text) == (408, 19, "ring_timeout")
    assert (route.attempt, route.gateway) == (1, "alpha")


@pytest.mark.parametrize(
    ("event", "detail", "sip_code", "pause"),
    [(CreditRefused, Detail.NO_CREDIT, 402, False), (StepFailed, Detail.JOURNAL, 503, True)],
)
def test_what_is_not_admitted_is_refused_before_it_is_noted(
    event: Any, detail: Detail, sip_code: int, pause: bool
) -> None:
    run = played(store(event))
    reject, note = run.steps[-1].commands
    assert isinstance(reject, Reject)
    assert isinstance(note, NoteRefusal)
    assert (reject.sip_code, reject.text) == (sip_code, detail)
    assert reject.retry_after_s == (run.policy.timers.retry_after_s if pause else 0)
    assert note.cdr.detail is detail
    assert run.call.phase is Phase.ENDED
    assert (run.call.attempts, run.call.state_b) == ((), DialogState.TERMINATED)


# --- what B says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "heard"),
    [((180,), 180), ((180, 183), 180), ((183, 180), 180), ((181, 183), 183), ((183, 181), 183)],
)
def test_of_what_was_heard_180_counts_most_and_then_the_highest(codes: tuple[int, ...], heard: int) -> None:
    assert played(ADMITTED, *map(rings, codes)).call.attempts[0].heard_code == heard


def test_the_first_sound_ends_the_post_dial_delay_and_only_180_is_ringing() -> None:
    run = played(ADMITTED, rings(183), rings(180), rings(180))
    assert (run.call.first_heard, run.call.ringing) == (at(2_000), at(3_000))
    assert (run.call.state_a, run.call.state_b) == (DialogState.EARLY, DialogState.EARLY)
    assert played(ADMITTED, rings(183)).call.ringing is None
    assert played(ADMITTED, HELD).call.first_heard == at(2_000)
    assert played(ADMITTED, rings(183), HELD).call.first_heard == at(2_000)


def test_what_an_attempt_that_was_given_up_still_says_is_not_heard() -> None:
    run = played(ADMITTED, failure(), rings(180, 1))
    assert (run.call.ringing, run.call.first_heard) == (None, None)
    assert [attempt.heard_code for attempt in run.call.attempts] == [0, 0]


# --- the answer ---------------------------------------------------------------------------------------------


def test_an_answer_is_journaled_then_relayed_and_its_talk_is_bounded() -> None:
    run = played(ADMITTED, HELD)
    assert (run.call.phase, run.call.b_answered) == (Phase.ANSWERING, at(2_000))
    assert run.call.state_b is DialogState.CONFIRMED
    (append,) = run.steps[-1].commands
    assert isinstance(append, Append)
    assert (append.kind, append.call) == (EntryKind.ANSWERED, run.call)
    assert (run.call.attempts[0].ended, run.call.attempts[0].sip_code) == (at(2_000), 200)
    run.happens(RECORDED(3_000, run.call, None))
    deadline, relay = run.steps[-1].commands
    assert isinstance(deadline, ArmDeadline)
    assert isinstance(relay, RelayAnswer)
    assert deadline.kind is DeadlineKind.MAX_DURATION
    run.happens(RELAYED(3_500, run.call, None))
    assert (run.call.phase, run.call.answered, run.call.state_a) == (
        Phase.TALKING,
        at(3_500),
        DialogState.CONFIRMED,
    )


def test_an_answer_of_an_attempt_that_was_given_up_is_late_and_answers_nothing() -> None:
    run = played(ADMITTED, failure(), held(1))
    assert (run.call.phase, run.call.b_answered) == (Phase.ROUTING, None)
    assert run.call.attempts[0].late_answer == at(3_000)
    assert run.steps[-1].commands == ()


def test_leg_b_is_as_the_answer_says_it_is() -> None:
    run = played(ADMITTED)
    leg = replace(run.call.attempts[0].leg, remote_tag="theirs-b")
    event = AnswerHeld(**world.stamps(2_000), bridge_id=1, attempt=1, sip_code=200, leg=leg)
    run.happens(event)
    assert run.call.attempts[0].leg == leg


# --- a fork -------------------------------------------------------------------------------------------------


def test_each_dialog_of_a_fork_is_journaled() -> None:
    run = played(ADMITTED, forked(1, "one", "two"))
    (append,) = run.steps[-1].commands
    assert isinstance(append, Append)
    assert (append.kind, append.call) == (EntryKind.ATTEMPT, run.call)
    found = run.call.attempts[0].branches
    assert [(one.leg.remote_tag, one.caller.local_tag) for one in found] == [
        ("one", "for-one"),
        ("two", "for-two"),
    ]


def test_a_fork_of_an_attempt_that_was_given_up_is_not_heard() -> None:
    before = played(ADMITTED, failure())
    run = played(ADMITTED, failure(), forked(1, "one", "two"))
    assert (run.call.attempts, run.steps[-1].commands) == (before.call.attempts, ())


@pytest.mark.parametrize("of_another", [True, False])
def test_the_callers_dialog_is_that_which_was_answered(of_another: bool) -> None:
    run = played(ADMITTED, forked(1, "one", "two"))
    first, second = (one.caller for one in run.call.attempts[0].branches)
    leg = run.call.attempts[0].branches[1].leg
    run.happens(
        AnswerHeld(
            **world.stamps(4_000),
            bridge_id=1,
            attempt=1,
            sip_code=200,
            leg=leg,
            caller=second if of_another else None,
        )
    )
    append = run.steps[-1].commands[0]
    assert isinstance(append, Append)
    assert (append.kind, append.call) == (EntryKind.ANSWERED, run.call)
    assert run.call.attempts[0].leg == leg
    assert run.call.invite.leg == (second if of_another else world.invite(0).leg)
    assert first.local_tag != second.local_tag


# --- an attempt that failed ---------------------------------------------------------------------------------


def test_a_failure_of_an_attempt_that_has_ended_fails_no_other() -> None:
    """503 came twice, or the second one after the timer: attempt 2 rings on."""
    run = played(ADMITTED, failure(503), rings(180, 2))
    before = run.call
    for late in (failure(503, 1), failure(486, 1), failure(0, 1)):
        run.happens(late(5_000, run.call, None))
        assert (run.call, run.steps[-1].commands) == (before, ())


def test_the_next_gateway_is_tried_and_the_attempt_journaled() -> None:
    run = played(ADMITTED, failure(503))
    assert tried(run) == ["alpha", "beta"]
    assert (run.call.attempts[0].ended, run.call.attempts[1].started) == (at(2_000), at(2_000))
    assert run.call.state_b is DialogState.TRYING
    route, append = run.steps[-1].commands
    assert isinstance(route, Route)
    assert isinstance(append, Append)
    assert (route.attempt, route.gateway) == (2, "beta")
    assert (append.kind, append.call) == (EntryKind.ATTEMPT, run.call)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (failure(), 2),
        (bridge(RouteFailed, attempt=1, cause=RouteFailure.UNREACHABLE, sip_code=0), 2),
        (failure(500), 2),
        (failure(599), 2),
        (failure(499), 1),
        (failure(486), 1),
        (failure(600), 1),
        (failure(603), 1),
        (failed_in_media(503), 1),
        (failed_in_media(0), 1),
    ],
)
def test_another_gateway_is_tried_where_this_one_failed_not_where_the_callee_answered(
    make: Maker, count: int
) -> None:
    assert len(played(ADMITTED, make).call.attempts) == count


def test_the_codes_that_fail_over_are_the_last_gateways() -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways({"failover_codes": frozenset({404})}))
    assert tried(played(ADMITTED, failure(404), policy=policy)) == ["alpha", "beta"]
    assert tried(played(ADMITTED, failure(503), policy=policy)) == ["alpha"]
    third = replace(gateways()["beta"], name="third", host="10.0.3.1")
    policy = replace(
        policy_of(routes=("alpha", "beta", "third")), gateways={**policy.gateways, "third": third}
    )
    assert tried(played(ADMITTED, failure(404), failure(404, 2), policy=policy)) == ["alpha", "beta"]
    run = played(ADMITTED, failure(404), failure(503, 2), policy=policy)
    assert tried(run) == ["alpha", "beta", "third"]


def test_a_call_whose_last_gateway_says_nothing_is_released_as_unreachable() -> None:
    run = played(ADMITTED, failure(503), failure(0, 2))
    release = run.steps[-1].commands[0]
    assert isinstance(release, Release)
    assert (release.sip_code, release.q850_cause) == (500, 38)
    assert run.call.hangup is not None
    assert run.call.hangup.detail is Detail.GATEWAY_UNREACHABLE


@pytest.mark.parametrize(
    ("sip_code", "policy", "shown", "keeps_retry_after"),
    [
        (486, BOTH, 0, True),
        (503, policy_of(), 500, False),
        (503, policy_of(pass_503=True), 0, True),
        (500, policy_of(), 0, True),
        (603, BOTH, 0, True),
        (302, policy_of(), 480, False),
        (399, policy_of(), 480, False),
        (302, policy_of(redirect=Redirection.PASS), 0, True),
        (400, policy_of(redirect=Redirection.PASS), 0, True),
    ],
)
def test_what_the_caller_is_shown_of_a_failure(
    sip_code: int, policy: Policy, shown: int, keeps_retry_after: bool
) -> None:
    run = played(ADMITTED, failure(sip_code), policy=policy)
    relay = run.steps[-1].commands[0]
    assert isinstance(relay, RelayFailure)
    assert (relay.sip_code, relay.keep_retry_after) == (shown, keeps_retry_after)
    assert relay.keep_contacts is (sip_code == 302 and shown == 0)
    assert run.call.hangup is not None
    assert (run.call.hangup.detail, run.call.hangup.sip_code) == (Detail.REJECTED, sip_code)


# --- our own credentials ------------------------------------------------------------------------------------

LOGIN = {"username": "us"}


@pytest.mark.parametrize("sip_code", [401, 407])
def test_a_gateway_that_rejects_our_credentials_is_like_one_that_is_down(sip_code: int) -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways(LOGIN))
    run = played(ADMITTED, failure(sip_code), policy=policy)
    assert tried(run) == ["alpha", "beta"]
    last = played(ADMITTED, failure(sip_code), policy=policy_of(gateways=gateways(LOGIN)))
    relay = last.steps[-1].commands[0]
    assert relay == RelayFailure(bridge_id=1, sip_code=500)
    assert last.call.hangup is not None
    assert (last.call.hangup.detail, last.call.hangup.sip_code) == (Detail.REJECTED, sip_code)


def test_the_credentials_are_those_of_the_gateway_that_asked() -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways(LOGIN))
    run = played(ADMITTED, failure(503), failure(407, 2), policy=policy)
    assert run.call.phase is Phase.AWAITING_RETRY, "beta has no credentials of ours: it asks the caller"


def test_422_asks_the_caller_whatever_credentials_there_are() -> None:
    run = played(ADMITTED, failure(422), policy=policy_of(gateways=gateways(LOGIN)))
    assert run.call.phase is Phase.AWAITING_RETRY


# --- a Contact ----------------------------------------------------------------------------------------------

TO_BETA = (2, "beta", "4930777")


def test_a_contact_is_tried_before_the_rest_of_the_route() -> None:
    run = played(ADMITTED, failure(302, 1, BETA), policy=FOLLOW)
    assert routes(run)[-1] == TO_BETA
    run.happens(failure(503, 2)(3_000, run.call, None))
    assert routes(run)[-1] == (3, "beta", "4930123456"), "then the route's own, with the number dialled"


@pytest.mark.parametrize(
    ("make", "goes_on"),
    [
        (failure(486, 2), True),
        (failure(404, 2), True),
        (failure(599, 2), True),
        (failure(0, 2), True),
        (failure(600, 2), False),
        (failure(603, 2), False),
        (failure(401, 2), False),  # a question to the caller
    ],
)
def test_the_next_contact_is_tried_after_any_failure_but_a_global_one(make: Maker, goes_on: bool) -> None:
    policy = policy_of(redirect=Redirection.FOLLOW)
    two = failure(302, 1, BETA, replace(BETA, user="4930888"))
    run = played(ADMITTED, two, make, policy=policy)
    expected = [(1, "alpha", "4930123456"), TO_BETA, (3, "beta", "4930888")]
    assert routes(run) == (expected if goes_on else expected[:2])


def test_no_contact_is_tried_after_early_media() -> None:
    run = played(ADMITTED, failed_in_media(302, BETA), policy=FOLLOW)
    assert tried(run) == ["alpha"]


def test_a_contact_at_a_full_gateway_is_passed_over() -> None:
    policy = replace(FOLLOW, gateways=gateways(beta={"calls_max": 1}))
    run = Run(policy).play([((1_000, 1), ADMITTED)])
    run.load.by_gateway["beta"] = 1
    alpha = Contact(user="4930888", host="10.0.1.1", q_thousandths=1)
    run.happens(failure(302, 1, BETA, alpha)(2_000, run.call, None))
    assert routes(run)[-1] == (2, "alpha", "4930888")
    assert run.call.redirects == (), "what was passed over is not come back to"


# --- a challenge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sip_code", [401, 407, 422])
def test_a_challenge_is_shown_and_the_call_waits(sip_code: int) -> None:
    run = played(ADMITTED, failure(sip_code))
    relay, append = run.steps[-1].commands
    assert isinstance(relay, RelayFailure)
    assert isinstance(append, Append)
    assert (relay.sip_code, append.kind, append.call) == (0, EntryKind.ATTEMPT, run.call)
    assert (run.call.phase, run.call.hangup) == (Phase.AWAITING_RETRY, None)
    assert run.call.state_b is DialogState.TERMINATED


def changed(invite: InviteReceived, **of_leg: Any) -> InviteReceived:
    return replace(invite, leg=replace(invite.leg, **of_leg))


RETRY = world.invite(3_000, bridge_id=2)


@pytest.mark.parametrize(
    "other",
    [
        replace(RETRY, peer="vendor"),
        replace(RETRY, request_user="4990012345"),
        replace(RETRY, claimed_peer="vendor"),
        changed(RETRY, sip_call_id="another"),
        changed(RETRY, remote_tag="another"),
        changed(RETRY, remote_cseq=1),
        changed(RETRY, remote_cseq=0),
    ],
    ids=["peer", "number", "claim", "call-id", "tag", "same cseq", "lower cseq"],
)
def test_only_the_same_caller_with_the_next_cseq_is_a_retry(other: InviteReceived) -> None:
    run = played(ADMITTED, CHALLENGED)
    assert is_retry(run.call, RETRY)
    assert is_retry(run.call, changed(RETRY, remote_cseq=2))
    assert not is_retry(run.call, other)
    before = run.call
    run.happens(other)
    assert (run.call, run.steps[-1].commands) == (before, ())
    assert not is_retry(played(ADMITTED).call, RETRY), "it was not challenged"


def test_a_retry_goes_to_the_gateway_that_challenged_with_the_number_it_got() -> None:
    run = played(ADMITTED, failure(302, 1, BETA), failure(407, 2), policy=FOLLOW)
    before = run.call
    run.happens(world.invite(4_000, bridge_id=2))
    call = run.call
    assert routes(run)[-1] == (3, "beta", "4930777")
    assert (call.gateways, call.pricing, call.state_a) == (
        before.gateways,
        before.pricing,
        DialogState.PROCEEDING,
    )
    assert (call.invite.mono_ns, call.invite.wall_ns) == (world.mono_ns(0), world.wall_ns(0))
    assert call.attempts[-1].started == at(4_000)
    deadline, route, append = run.steps[-1].commands
    assert isinstance(deadline, ArmDeadline)
    assert isinstance(route, Route)
    assert isinstance(append, Append)
    assert (deadline.kind, deadline.bridge_id, route.bridge_id) == (DeadlineKind.RING, 2, 2)
    assert (append.kind, append.call) == (EntryKind.ATTEMPT, call)


def test_the_legs_of_a_challenged_call_close_and_it_waits_on() -> None:
    run = played(ADMITTED, CHALLENGED, CLOSE_A, CLOSE_B)
    assert run.call.phase is Phase.AWAITING_RETRY
    assert (run.call.state_a, run.call.state_b) == (DialogState.TERMINATED, DialogState.TERMINATED)
    assert all(step.commands == () for step in run.steps[-2:])


def test_a_challenged_caller_whose_leg_had_closed_comes_back_on_a_new_one() -> None:
    run = played(ADMITTED, CHALLENGED, CLOSE_A)
    assert run.call.state_a is DialogState.TERMINATED
    run.happens(world.invite(4_000, bridge_id=2))
    assert (run.call.phase, run.call.state_a, run.call.state_b) == (
        Phase.ROUTING,
        DialogState.PROCEEDING,
        DialogState.TRYING,
    )
    assert run.call.gateways == ("beta",), "what was still to be tried still is"


@pytest.mark.parametrize(("sip_code", "count"), [(500, 2), (503, 2), (599, 2), (404, 1), (486, 1)])
def test_a_gateway_that_the_profile_no_longer_knows_failed_by_its_server_failures(
    sip_code: int, count: int
) -> None:
    run = played(ADMITTED)
    run.policy = replace(BOTH, gateways={"beta": gateways()["beta"]})
    run.happens(failure(sip_code)(2_000, run.call, None))
    assert len(run.call.attempts) == count


@pytest.mark.parametrize(("user", "count"), [("4930777", 1), ("4930888", 2), ("4930777 then 4930888", 2)])
def test_a_contact_is_followed_where_the_number_sent_there_leaves_the_margin(user: str, count: int) -> None:
    per_minute = {"49": "0.03", "4930777": "0.07"}
    rates = [
        rate
        for prefix, price in per_minute.items()
        for rate in world.deck("buy", Decimal(price), prefixes=(prefix,))
    ]
    policy = policy_of(
        redirect=Redirection.FOLLOW,
        accounts=account(margin_floor=Decimal(0)),
        gateways=gateways(beta={"deck": "buy"}),
        decks={"sell": world.deck("sell", Decimal("0.06")), "buy": Deck("buy", rates)},
    )
    contacts = [replace(BETA, user=one) for one in user.split(" then ")]
    run = played(ADMITTED, failure(302, 1, *contacts), policy=policy)
    assert len(run.call.attempts) == count
    assert run.call.attempts[-1].sent_user == ("4930888" if count == 2 else "4930123456")


def test_the_rest_of_the_route_is_left_where_it_no_longer_leaves_the_margin() -> None:
    policy = policy_of(
        routes=("alpha", "beta"),
        accounts=account(margin_floor=Decimal(0)),
        gateways=gateways(beta={"deck": "buy"}),
    )
    assert tried(played(ADMITTED, failure(503), policy=policy)) == ["alpha", "beta"]
    run = played(ADMITTED, policy=policy)
    run.policy = replace(policy, decks={**policy.decks, "buy": world.deck("dear", Decimal(1))})
    run.happens(failure(503)(2_000, run.call, None))
    assert tried(run) == ["alpha"]


# --- a gateway whose host is a name -------------------------------------------------------------------------

NAME = Lookup(name="alpha.test")
NAMED = policy_of(
    routes=("alpha", "beta"),
    gateways=gateways({"host": "alpha.test", "lookup": NAME, "failover_codes": frozenset(range(500, 600))}),
)
SERVERS = tuple(
    Server(host=f"10.9.0.{n}", port=5060 + n, transport=TransportName.UDP, priority=n) for n in (1, 2, 3)
)


def played_by_name(*makers: Maker, servers: tuple[Server, ...] = SERVERS, policy: Policy = NAMED) -> Run:
    run = Run(policy, load=Load(servers={"alpha": servers}))
    return run.play([((1_000, 1), make) for make in makers])


def called(run: Run) -> list[str]:
    return [f"{one.gateway} {one.host}:{one.port}" for one in run.commands() if isinstance(one, Route)]


@pytest.mark.parametrize("code", [0, 503])
def test_the_servers_of_a_name_are_tried_in_their_order_and_then_the_next_gateway(code: int) -> None:
    """RFC 3263 §4.3: where one cannot be reached, or says 503."""
    run = played_by_name(ADMITTED, *(failure(code, number) for number in (1, 2, 3, 4)))
    assert called(run) == [
        *("alpha 10.9.0.1:5061", "alpha 10.9.0.2:5062", "alpha 10.9.0.3:5063"),
        "beta 10.0.2.1:5060",
    ]
    assert [one.server for one in run.call.attempts] == [*SERVERS, None]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (failure(500), ["alpha", "beta"]),  # of the gateway as a whole
        (failure(486), ["alpha"]),
        (failed_in_media(503), ["alpha"]),
        (failed_in_media(0), ["alpha"]),
    ],
)
def test_another_server_is_not_tried_where_this_one_spoke_for_the_gateway(
    make: Maker, expected: list[str]
) -> None:
    assert tried(played_by_name(ADMITTED, make)) == expected


def test_a_503_that_does_not_fail_over_does_not_go_to_another_server_either() -> None:
    policy = replace(
        NAMED,
        gateways={**NAMED.gateways, "alpha": replace(NAMED.gateways["alpha"], failover_codes=frozenset())},
    )
    assert tried(played_by_name(ADMITTED, failure(503), policy=policy)) == ["alpha"]


def test_a_server_that_dns_names_while_others_are_tried_is_tried_too_and_none_twice() -> None:
    run = Run(NAMED, load=Load(servers={"alpha": SERVERS[:1]}))
    run.play([((1_000, 1), ADMITTED)])
    run.load.servers["alpha"] = SERVERS[:2]
    run.play([((1_000, 1), failure(0)), ((1_000, 1), failure(0, 2))])
    assert called(run) == ["alpha 10.9.0.1:5061", "alpha 10.9.0.2:5062", "beta 10.0.2.1:5060"]


def test_servers_without_end_do_not_keep_a_call_for_ever() -> None:
    many = tuple(replace(SERVERS[0], port=n) for n in range(1, 33))
    run = played_by_name(ADMITTED, *(failure(0, n) for n in range(1, 20)), servers=many)
    assert tried(run) == ["alpha"] * ATTEMPTS_MAX + ["beta"]


def test_a_name_that_no_server_is_known_of_is_passed_over_also_after_a_failure() -> None:
    policy = replace(
        policy_of(routes=("beta", "alpha")), gateways={**NAMED.gateways, "beta": gateways()["beta"]}
    )
    run = played_by_name(ADMITTED, failure(503), servers=(), policy=policy)
    assert tried(run) == ["beta"]


def test_a_challenged_caller_comes_back_to_the_server_that_challenged() -> None:
    run = played_by_name(ADMITTED, failure(0), failure(401, 2))
    assert run.call.phase is Phase.AWAITING_RETRY
    run.load.servers["alpha"] = ()
    again = replace(
        run.call.invite,
        bridge_id=2,
        leg=replace(run.call.invite.leg, remote_cseq=run.call.invite.leg.remote_cseq + 1),
    )
    call, commands = retried(run.call, again, Given(NAMED, run.load))
    assert call.attempts[-1].server == SERVERS[1]
    assert [one.host for one in commands if isinstance(one, Route)] == ["10.9.0.2"]


def test_a_redirection_to_the_name_of_a_gateway_or_to_one_of_its_servers_is_followed() -> None:
    policy = replace(
        policy_of(routes=("beta",), redirect=Redirection.FOLLOW),
        gateways={**NAMED.gateways, "beta": gateways()["beta"]},
    )
    for host, port in (("ALPHA.test.", 0), ("10.9.0.2", 5062)):
        contact = Contact(user="49301", host=host, port=port)
        run = played_by_name(ADMITTED, failure(302, 1, contact), policy=policy)
        assert called(run) == ["beta 10.0.2.1:5060", "alpha 10.9.0.1:5061"]
    for host, port in (("other.test", 0), ("alpha.test", 5099), ("10.9.0.2", 5061)):
        contact = Contact(user="49301", host=host, port=port)
        assert called(played_by_name(ADMITTED, failure(302, 1, contact), policy=policy)) == [
            "beta 10.0.2.1:5060"
        ]
