"""From an INVITE to a call: whose it is, where it goes, what it will cost, or why it is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.account_rules import AccountRule
from sidecar.core.admit import (
    above_margin_floor,
    account_of,
    begin_attempt,
    may_be_sent,
    may_carry,
    open_call,
    refuse,
    refused_by_bridge,
    route_command,
    side_terms,
)
from sidecar.core.call import Call, Phase, Redirect, Stamp
from sidecar.core.commands import Append, EntryKind, NoteRefusal, Reject, Reserve, Route
from sidecar.core.deadlines import max_duration_ms, ring_deadline, talk_deadlines
from sidecar.core.decide import decide
from sidecar.core.events import Admitted, Contact, InviteRefused, ReleaseRequested, RouteFailed
from sidecar.core.explain_call import explain_call
from sidecar.core.hangup import TABLE, hangup
from sidecar.core.margin import ExchangeRate, ExchangeTable
from sidecar.core.policy import Account, Given, Load, Peer, Policy, ProxyHangup, RouteRule, Routes
from sidecar.core.rating import RatingTerms
from sidecar.core.records import cdr_of, utc
from sidecar.core.redirect import use_contacts
from sidecar.core.screening import Screening
from sidecar.core.servers import Lookup, Server
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import (
    CallerIdForm,
    DeadlineKind,
    Detail,
    DialogState,
    Evidence,
    Forks,
    HangupOrigin,
    LargeUdp,
    LivenessCheck,
    RateBy,
    Redirection,
    RouteFailure,
    TransportName,
    UserPhone,
)
from tests.policies import declared_gateway
from tests.scenarios import world
from tests.scenarios.world import PEERS, account, gateways, policy_of


def opened(policy: Policy, number: str = "4930123456", load: Load | None = None) -> Call:
    return open_call(world.call_id(), world.invite(0, number=number), Given(policy, load or Load()))[0]


def refusal(policy: Policy, number: str = "4930123456", load: Load | None = None) -> str | None:
    """The detail of the refusal, None where the call is on its way to the store."""
    call, commands = open_call(world.call_id(), world.invite(0, number=number), Given(policy, load or Load()))
    if call.hangup is None:
        assert isinstance(commands[-1], Append)
        return None
    assert call.phase is Phase.ENDED
    assert [type(command) for command in commands] == [Reject, NoteRefusal]
    return call.hangup.detail


# --- whose call it is ---------------------------------------------------------------------------------------

TRUSTED = {**world.PEERS, "carrier": replace(world.PEERS["carrier"], asserts_identity=True)}
HEADER = AccountRule(account="by-header", header="x-account", header_value="42")
RULES = (
    AccountRule(account="by-peer", peer="vendor"),
    HEADER,
    AccountRule(account="by-tls", tls_name="sbc.example"),
    AccountRule(account="by-prefix", called_prefix="9911"),
)
NAMED = {name: Account(name=name, currency="EUR") for name in ("by-peer", "by-header", "by-tls", "by-prefix")}


@pytest.mark.parametrize(
    ("changes", "account_name"),
    [
        ({}, None),
        ({"peer": "vendor"}, "by-peer"),
        ({"headers": (("x-account", "42"),)}, "by-header"),
        ({"headers": (("x-account", "43"),)}, None),
        ({"tls_name": "sbc.example"}, "by-tls"),
        ({"request_user": "99114930123"}, "by-prefix"),
        ({"request_user": "%39911-4930123"}, "by-prefix"),
        ({"from_user": "9911"}, None),
        ({"headers": (("p-asserted-identity", "9911"), ("diversion", "9911"))}, None),
        ({"peer": "vendor", "tls_name": "sbc.example"}, "by-peer"),
    ],
)
def test_the_first_rule_that_applies_names_the_account(
    changes: dict[str, Any], account_name: str | None
) -> None:
    invite = replace(world.invite(0), **changes)
    assert account_of(invite, policy_of(account_rules=RULES, peers=TRUSTED, accounts=NAMED)) == account_name


def test_a_header_names_no_account_where_its_peer_may_not_assert_one() -> None:
    invite = replace(world.invite(0), headers=(("x-account", "42"),))
    assert account_of(invite, policy_of(account_rules=(HEADER,), accounts=NAMED)) is None
    unknown = replace(invite, peer="nobody")
    assert account_of(unknown, policy_of(account_rules=(HEADER,), peers=TRUSTED, accounts=NAMED)) is None


def test_a_node_that_drains_takes_no_call_whatever_else_is_wrong_with_it() -> None:
    draining = Load(is_draining=True, calls=10_000)
    assert refusal(policy_of(account_rules=(), account_required=True), load=draining) == Detail.DRAIN


def test_a_call_that_nobody_claims_is_postpaid_without_limit() -> None:
    call = opened(policy_of(account_rules=()), load=Load(by_account={"_": 10_000}))
    assert (call.account.name, call.account.prepaid, call.account.calls_max) == ("_", False, None)
    assert refusal(policy_of(account_rules=(), account_required=True)) == Detail.RULE


def test_a_proxy_can_only_have_ended_a_call_for_a_cause_of_a_server() -> None:
    with pytest.raises(ValueError, match="no cause of a server"):
        ProxyHangup(header="reason", contains="x", detail=Detail.CANCEL)


# --- why it is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "load", "detail"),
    [
        ({}, {}, None),
        ({"account_rules": (), "account_required": True}, {}, Detail.RULE),
        ({"blocked_numbers": frozenset({"4930*"})}, {}, Detail.NUMBER_BLOCKED),
        ({"blocked_numbers": frozenset({"4930123456"})}, {}, Detail.NUMBER_BLOCKED),
        ({"blocked_numbers": frozenset({"49301234567"})}, {}, None),
        ({"calls_max": 5}, {"calls": 5}, Detail.NODE_FULL),
        ({"calls_max": 5}, {"calls": 4}, None),
        ({"accounts": account(calls_max=2)}, {"by_account": {"acme": 2}}, Detail.ACCOUNT_LIMIT),
        ({"accounts": account(calls_max=2)}, {"by_account": {"acme": 1, "other": 9}}, None),
        ({"routes": ()}, {}, Detail.NO_ROUTE),
        ({"gateways": gateways({"calls_max": 1})}, {"by_gateway": {"alpha": 1}}, Detail.GATEWAY_LIMIT),
        ({"decks": {}}, {}, None),
        ({"decks": {}, "accounts": account(carry_without_rate=False)}, {}, Detail.NO_RATE),
        ({"decks": {}, "accounts": account(prepaid=True)}, {}, Detail.NO_RATE),
        ({"decks": {}, "accounts": account(prepaid=True, carry_without_rate=True)}, {}, None),
        # Two reasons at once: the earlier question's.
        (
            {"account_rules": (), "account_required": True, "blocked_numbers": frozenset({"4930*"})},
            {},
            Detail.RULE,
        ),
        ({"blocked_numbers": frozenset({"4930*"}), "calls_max": 5}, {"calls": 5}, Detail.NUMBER_BLOCKED),
        (
            {"calls_max": 5, "accounts": account(calls_max=2)},
            {"calls": 5, "by_account": {"acme": 2}},
            Detail.NODE_FULL,
        ),
        ({"accounts": account(calls_max=2), "routes": ()}, {"by_account": {"acme": 2}}, Detail.ACCOUNT_LIMIT),
        ({"decks": {}, "accounts": account(prepaid=True), "routes": ()}, {}, Detail.NO_ROUTE),
        (
            {"decks": {}, "accounts": account(prepaid=True), "gateways": gateways({"calls_max": 1})},
            {"by_gateway": {"alpha": 1}},
            Detail.GATEWAY_LIMIT,
        ),
        # The first call of an account, however many others there are.
        ({"accounts": account(calls_max=1)}, {"calls": 3, "by_account": {"other": 3}}, None),
        ({"gateways": gateways({"calls_max": 1})}, {"calls": 3, "by_gateway": {"beta": 3}}, None),
        (
            {
                "decks": {},
                "accounts": account(prepaid=True),
                "flags": replace(policy_of().flags, free_numbers=frozenset({"49*"})),
            },
            {},
            None,
        ),
    ],
)
def test_the_first_no_is_the_reason(policy: dict[str, Any], load: dict[str, Any], detail: str | None) -> None:
    assert refusal(policy_of(**policy), load=Load(**load)) == detail


@pytest.mark.parametrize("dialled", ["+4990012", "4990012", "49-900-12", "%34990012", "4990012;npdi"])
def test_a_blocked_number_is_blocked_however_it_is_written(dialled: str) -> None:
    assert refusal(policy_of(blocked_numbers=frozenset({"49900*"})), dialled) == Detail.NUMBER_BLOCKED


@pytest.mark.parametrize("blocked", ["49900*", "0049900*"], ids=["as-billed", "as-dialled"])
def test_a_blocked_number_is_blocked_behind_its_prefix(blocked: str) -> None:
    policy = policy_of(blocked_numbers=frozenset({blocked}), strip_digits=2)
    assert refusal(policy, "004990012") == Detail.NUMBER_BLOCKED


def test_a_prepaid_account_whose_balance_is_in_suspense_carries_no_call_that_would_cost_it() -> None:
    load = Load(suspended_accounts={"acme"})
    number = "+493012345"
    assert refusal(policy_of(accounts=account(prepaid=True)), number, load) == Detail.LEDGER_UNREACHABLE
    assert refusal(policy_of(accounts=account(prepaid=False)), number, load) is None
    limited = {name: replace(one, credit_limit=Decimal(5)) for name, one in account(prepaid=False).items()}
    assert refusal(policy_of(accounts=limited), number, load) is None, "postpaid goes on, also with a limit"
    flags = replace(policy_of().flags, free_numbers=frozenset({"49301*"}))
    free = policy_of(accounts=account(prepaid=True), flags=flags)
    assert refusal(free, number, load) is None


@pytest.mark.parametrize("dialled", ["", "anna", "+", "anna.b", "49x30", "%00", "\\xff", "49" * 60])
def test_no_number_from_the_network_raises(dialled: str) -> None:
    assert refusal(policy_of(accounts=account(prepaid=True)), dialled) in (None, Detail.NO_RATE)


@pytest.mark.parametrize(
    ("detail", "name"), [(Detail.NODE_FULL, "acme"), (Detail.DRAIN, "acme"), (Detail.SOURCE_NOT_ALLOWED, "_")]
)
def test_what_the_bridge_refused_is_on_the_record(detail: Detail, name: str) -> None:
    event = InviteRefused(**world.stamps(5), detail=detail, sip_code=503, invite=world.invite(0))
    call, (note,) = refused_by_bridge(world.call_id(), event, Given(policy_of(), Load()))
    assert isinstance(note, NoteRefusal)
    assert (note.cdr.detail, note.cdr.sip_code, note.cdr.account) == (detail, 503, name)
    assert (call.state_a, call.state_b) == (DialogState.TERMINATED, DialogState.TERMINATED)
    assert (note.cdr.invited_at, note.cdr.ended_at) == (utc(world.wall_ns(0)), utc(world.wall_ns(5)))


@pytest.mark.parametrize(
    ("detail", "pauses"),
    [
        (Detail.NODE_FULL, True),
        (Detail.DRAIN, True),
        (Detail.JOURNAL, True),
        (Detail.ACCOUNT_LIMIT, False),
        (Detail.GATEWAY_LIMIT, False),
        (Detail.NO_CREDIT, False),
        (Detail.NO_ROUTE, False),
    ],
)
def test_only_a_node_that_can_serve_nobody_asks_for_a_pause(detail: Detail, pauses: bool) -> None:
    policy = policy_of()
    call, (reject, _) = refuse(opened(policy), detail, policy, world.invite(7))
    assert isinstance(reject, Reject)
    assert reject.retry_after_s == (policy.timers.retry_after_s if pauses else 0)
    assert (reject.sip_code == 503) >= pauses
    assert (call.attempts, call.state_b) == ((), DialogState.TERMINATED)
    assert call.ended == Stamp(world.mono_ns(7), world.wall_ns(7))


def test_an_empty_number_and_a_blocked_one_may_not_be_sent_in_the_place_of_the_one_dialled() -> None:
    policy = policy_of(blocked_numbers=frozenset({"4930999"}), accounts=account(strip_digits=2))
    call = opened(policy, "004930123456")
    assert [may_be_sent(user, call, policy) for user in ("", "4930999", "004930999", "4930123")] == [
        False,
        False,
        False,
        True,
    ]


# --- where it goes ------------------------------------------------------------------------------------------

ROUTES = (
    RouteRule(prefix="", gateways=("alpha", "beta")),
    RouteRule(prefix="49", gateways=("beta",)),
    RouteRule(prefix="4930", gateways=("beta", "alpha")),
    RouteRule(prefix="+", gateways=("alpha",)),
)


@pytest.mark.parametrize(
    ("dialled", "first", "rest"),
    [
        ("33123", "alpha", ("beta",)),
        ("4989123", "beta", ()),
        ("4930123", "beta", ("alpha",)),
        ("+4930123", "alpha", ()),
    ],
)
def test_the_longest_route_prefix_of_the_number_as_dialled_wins(
    dialled: str, first: str, rest: tuple[str, ...]
) -> None:
    call = opened(replace(policy_of(), routes=Routes(ROUTES)), dialled)
    assert (call.attempts[0].gateway, call.gateways) == (first, rest)


THREE = {**gateways(), "gamma": declared_gateway(name="gamma", host="10.0.3.1", port=5060)}


def test_a_gateway_at_its_limit_is_passed_over() -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways({"calls_max": 1}))
    assert opened(policy, load=Load(by_gateway={"alpha": 1})).attempts[0].gateway == "beta"


@pytest.mark.parametrize(
    ("down", "tried"),
    [
        (set(), ["alpha", "beta", "gamma"]),
        ({"alpha"}, ["beta", "gamma", "alpha"]),
        ({"alpha", "beta"}, ["gamma", "alpha", "beta"]),
        ({"alpha", "beta", "gamma"}, ["alpha", "beta", "gamma"]),
        ({"no longer a gateway"}, ["alpha", "beta", "gamma"]),
    ],
)
def test_gateways_that_are_down_are_tried_after_those_that_are_up(down: set[str], tried: list[str]) -> None:
    policy = policy_of(routes=("alpha", "beta", "gamma"), gateways=THREE)
    call = opened(policy, load=Load(gateways_down=down))
    assert [call.attempts[0].gateway, *call.gateways] == tried


def test_a_gateway_that_goes_down_while_another_is_tried_moves_to_the_end() -> None:
    policy, load = policy_of(routes=("alpha", "beta", "gamma"), gateways=THREE), Load()
    call, _ = open_call(world.call_id(), world.invite(0), Given(policy, load))
    call, _ = decide(call, Admitted(**world.stamps(1), call_id=call.call_id), Given(policy, load))
    load.gateways_down.add("beta")
    for expected in ("gamma", "beta"):
        failed = RouteFailed(
            **world.stamps(2),
            bridge_id=call.bridge_id,
            attempt=call.attempts[-1].number,
            cause=RouteFailure.NO_RESPONSE,
            sip_code=0,
        )
        call, _ = decide(call, failed, Given(policy, load))
        assert call.attempts[-1].gateway == expected


NAMES = ("alpha", "beta", "gamma")


@given(downs=st.lists(st.sets(st.sampled_from(NAMES)), min_size=3, max_size=3))
def test_every_gateway_is_tried_once_and_none_that_is_down_before_one_that_is_up(
    downs: list[set[str]],
) -> None:
    policy, load = policy_of(routes=NAMES, gateways=THREE), Load(gateways_down=downs[0])
    call, _ = open_call(world.call_id(), world.invite(0), Given(policy, load))
    call, _ = decide(call, Admitted(**world.stamps(1), call_id=call.call_id), Given(policy, load))
    left = set(NAMES)
    for down in (*downs[1:], set[str]()):
        tried = call.attempts[-1].gateway
        assert tried not in load.gateways_down or left <= load.gateways_down
        left.remove(tried)
        load.gateways_down = down
        failed = RouteFailed(
            **world.stamps(2),
            bridge_id=call.bridge_id,
            attempt=call.attempts[-1].number,
            cause=RouteFailure.UNREACHABLE,
            sip_code=0,
        )
        call, _ = decide(call, failed, Given(policy, load))
    assert left == set()
    assert call.hangup is not None
    assert (len(call.attempts), call.hangup.detail) == (3, Detail.GATEWAY_UNREACHABLE)


def test_the_last_gateway_has_as_long_as_the_call_to_ring() -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways(*[{"no_progress_failover_ms": 6_000}] * 2))
    call = opened(policy)
    assert route_command(call, policy).no_progress_ms == 6_000
    assert route_command(replace(call, gateways=()), policy).no_progress_ms == 0


@pytest.mark.parametrize(
    ("of_gateway", "of_peer", "expected"),
    [
        (None, LivenessCheck.OPTIONS, LivenessCheck.OPTIONS),
        (LivenessCheck.OFF, LivenessCheck.OPTIONS, LivenessCheck.OFF),
        (None, None, LivenessCheck.ANY),  # its address is in no group
    ],
)
def test_a_gateway_shows_that_it_is_there_as_its_peer_group_does(
    of_gateway: LivenessCheck | None, of_peer: LivenessCheck | None, expected: LivenessCheck
) -> None:
    peers = dict(world.PEERS)
    if of_peer is None:
        del peers["vendor"]
    else:
        peers["vendor"] = replace(peers["vendor"], liveness=of_peer)
    policy = policy_of(peers=peers, gateways=gateways({"liveness": of_gateway}))
    assert route_command(opened(policy), policy).liveness is expected


@pytest.mark.parametrize(
    ("transport", "large_udp", "expected"),
    [
        (TransportName.UDP, LargeUdp.TCP, False),
        (TransportName.UDP, LargeUdp.UDP, True),
        (TransportName.TCP, LargeUdp.UDP, False),
    ],
)
def test_a_large_invite_stays_with_udp_where_the_gateway_says_so(
    transport: TransportName, large_udp: LargeUdp, expected: bool
) -> None:
    policy = policy_of(gateways=gateways({"transport": transport, "large_udp": large_udp}))
    assert route_command(opened(policy), policy).large_by_udp is expected


def test_a_gateway_that_is_down_is_tried_where_the_others_are_at_their_limit() -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways({"calls_max": 1}))
    call = opened(policy, load=Load(by_gateway={"alpha": 1}, gateways_down={"beta"}))
    assert [one.gateway for one in call.attempts] == ["beta"]


def test_a_claim_on_a_dialog_goes_to_the_peer_that_knows_it_and_nobody_else() -> None:
    policy = policy_of(routes=("beta", "alpha"))
    for claimed, expected in ((None, "beta"), ("vendor", "alpha"), ("carrier", None)):
        invite = replace(world.invite(0), claimed_peer=claimed)
        call, _ = open_call(world.call_id(), invite, Given(policy, Load()))
        assert [one.gateway for one in call.attempts] == ([expected] if expected else [])
        assert (call.hangup is not None and call.hangup.detail is Detail.NO_ROUTE) == (expected is None)
        assert call.gateways == (("alpha",) if claimed is None else ())


def test_a_redirected_claim_stays_with_the_peer_that_knows_it() -> None:
    policy = policy_of(redirect=Redirection.FOLLOW)
    invite = replace(world.invite(0), claimed_peer="vendor")
    call, _ = open_call(world.call_id(), invite, Given(policy, Load()))
    contacts = tuple(Contact(user="4930999", host=host) for host in ("10.0.2.1", "10.0.1.1"))
    failed = RouteFailed(
        **world.stamps(9),
        bridge_id=call.bridge_id,
        attempt=1,
        cause=RouteFailure.FINAL_RESPONSE,
        sip_code=302,
        contacts=contacts,
    )
    assert [one.gateway for one in use_contacts(call, failed, Given(policy, Load())).redirects] == ["alpha"]


def test_leg_b_is_named_before_its_invite_leaves() -> None:
    leg = opened(policy_of()).attempts[0].leg
    assert (leg.sip_call_id, leg.local_tag) == ("0123456789abcdef-1", "fedcba9876543210-1")
    assert leg.branch == "z9hG4bKfedcba98765432101"


def test_an_ipv6_gateway_is_written_in_brackets() -> None:
    policy = policy_of(gateways=gateways({"host": "2001:db8::1", "transport": TransportName.TLS}))
    attempt = opened(policy).attempts[0]
    assert attempt.target == "sip:4930123456@[2001:db8::1]:5060;transport=tls"
    assert attempt.leg.remote_address == "[2001:db8::1]:5060"


def test_leg_b_is_being_called_from_the_first_attempt_on() -> None:
    assert opened(policy_of()).state_b is DialogState.TRYING


def test_a_gateway_over_tcp_is_called_over_tcp() -> None:
    policy = policy_of(gateways=gateways({"transport": TransportName.TCP}))
    call = opened(policy)
    assert call.attempts[0].target == "sip:4930123456@10.0.1.1:5060;transport=tcp"
    assert (call.attempts[0].leg.transport, route_command(call, policy).transport) == ("tcp", "tcp")


def test_leg_b_speaks_as_the_caller_from_our_own_address() -> None:
    leg = opened(policy_of()).attempts[0].leg
    assert (leg.local_uri, leg.local_address) == ("sip:49301112222@10.0.0.1", "10.0.0.9:5080")
    assert (leg.remote_uri, leg.remote_target) == ("sip:4930123456@10.0.1.1:5060",) * 2


def test_a_gateway_before_a_redirection_is_not_the_last() -> None:
    policy = policy_of(gateways=gateways({"no_progress_failover_ms": 6_000}))
    call = opened(policy)
    assert route_command(call, policy).no_progress_ms == 0
    more = replace(call, redirects=(Redirect(gateway="alpha", user="4930999"),))
    assert route_command(more, policy).no_progress_ms == 6_000


# --- what it will cost --------------------------------------------------------------------------------------


def reserve_of(policy: Policy) -> Reserve | None:
    _, commands = open_call(world.call_id(), world.invite(0), Given(policy, Load()))
    assert isinstance(commands[-1], Append)
    assert commands[-1].kind is EntryKind.ADMITTED
    return commands[0] if isinstance(commands[0], Reserve) else None


def test_only_a_prepaid_call_that_costs_something_is_reserved_for() -> None:
    prepaid = account(prepaid=True)
    free = replace(policy_of().flags, free_numbers=frozenset({"49*"}))
    assert reserve_of(policy_of()) is None
    assert reserve_of(policy_of(accounts=prepaid)) is not None
    assert reserve_of(policy_of(accounts=prepaid, flags=free)) is None


@pytest.mark.parametrize(
    ("max_duration_ms", "slice_s", "seconds"),
    [(5_000, 60, 5), (5_001, 60, 6), (500, 60, 1), (90_000, 60, 60), (90_000, 7, 7), (90_000, 900, 90)],
)
def test_the_reservation_is_a_slice_or_the_longest_call(
    max_duration_ms: int, slice_s: int, seconds: int
) -> None:
    timers = replace(policy_of().timers, max_duration_ms=max_duration_ms)
    reserve = reserve_of(policy_of(accounts=account(prepaid=True), timers=timers, slice_s=slice_s))
    assert reserve is not None
    assert reserve.total_s == seconds


@pytest.mark.parametrize(("own_s", "longest_ms"), [(60, 60_000), (14_400, 14_400_000), (20_000, 14_400_000)])
def test_the_rates_own_maximum_bounds_the_call(own_s: int, longest_ms: int) -> None:
    rate = next(iter(world.deck("sell", Decimal("0.06"))))
    policy = policy_of(decks={"sell": Deck("short", [replace(rate, max_duration_s=own_s)])})
    call = opened(policy)
    assert max_duration_ms(call, policy) == longest_ms
    assert [one.after_ms for one in talk_deadlines(call, Given(policy, Load()))] == [longest_ms]


def test_a_call_may_be_set_up_for_as_long_as_the_ring_time() -> None:
    policy = policy_of(timers=replace(policy_of().timers, ring_timeout_ms=20_000))
    deadline, row = ring_deadline(opened(policy), policy), TABLE[HangupOrigin.SERVER, Detail.RING_TIMEOUT]
    assert (deadline.kind, deadline.after_ms, deadline.text) == (DeadlineKind.RING, 20_000, "ring_timeout")
    assert (deadline.sip_code, deadline.q850_cause) == (row.sip_code, row.q850_cause)


EXTEND = (DeadlineKind.EXTEND, 99_800)


@pytest.mark.parametrize(
    ("granted_s", "is_final", "limit", "detail", "more"),
    [
        (None, False, (DeadlineKind.MAX_DURATION, 14_400_000), Detail.MAX_DURATION, []),
        (100, False, (DeadlineKind.GRANT, 100_000), Detail.LEDGER_UNREACHABLE, [EXTEND]),
        (100, True, (DeadlineKind.GRANT, 100_000), Detail.GRANT_USED_UP, []),
        (14_400, False, (DeadlineKind.MAX_DURATION, 14_400_000), Detail.MAX_DURATION, []),
        (14_401, True, (DeadlineKind.MAX_DURATION, 14_400_000), Detail.MAX_DURATION, []),
    ],
)
def test_the_shorter_of_grant_and_maximum_ends_the_call(
    granted_s: int | None,
    is_final: bool,
    limit: tuple[DeadlineKind, int],
    detail: Detail,
    more: list[tuple[DeadlineKind, int]],
) -> None:
    call = replace(opened(policy_of()), granted_s=granted_s, final=Stamp(0, 0) if is_final else None)
    deadline, *others = talk_deadlines(call, Given(policy_of(), Load()))
    row = TABLE[HangupOrigin.SERVER, detail]
    assert (deadline.kind, deadline.after_ms) == limit
    assert (deadline.text, deadline.sip_code, deadline.q850_cause) == (
        detail.value,
        row.sip_code,
        row.q850_cause,
    )
    assert [(one.kind, one.after_ms) for one in others] == more


@pytest.mark.parametrize(
    ("granted_s", "store_ms", "after_ms"),
    [(60, 0, 59_800), (60, 100, 59_800), (60, 400, 59_200), (60, 60_000, 55_000), (1, 4_000, 0)],
)
def test_a_grant_is_extended_the_earlier_the_slower_the_store_is(
    granted_s: int, store_ms: int, after_ms: int
) -> None:
    call = replace(opened(policy_of()), granted_s=granted_s)
    _, extend = talk_deadlines(call, Given(policy_of(), Load(store_ms=store_ms)))
    assert (extend.kind, extend.after_ms) == (DeadlineKind.EXTEND, after_ms)


def test_a_call_may_last_longer_while_the_store_is_away_and_never_longer_than_the_maximum() -> None:
    call = replace(opened(policy_of()), granted_s=14_390)
    for away_s, limit in (
        (9, (DeadlineKind.GRANT, 14_399_000, "ledger_unreachable")),
        (10, (DeadlineKind.MAX_DURATION, 14_400_000, "max_duration")),
    ):
        deadline, extend = talk_deadlines(call, Given(policy_of(store_away_s=away_s), Load()))
        assert (deadline.kind, deadline.after_ms, deadline.text) == limit
        assert extend.after_ms == 14_389_800


def test_tax_and_minimum_are_the_partys_own() -> None:
    base = RatingTerms(decimals=2, free_s=5)
    terms = side_terms(base, account(tax_rate=Decimal("0.19"))["acme"])
    assert (terms.decimals, terms.free_s, terms.tax_rate) == (2, 5, Decimal("0.19"))
    assert side_terms(base, account()["acme"]) is base


def test_buy_strips_by_the_gateway_and_sell_by_the_account() -> None:
    policy = policy_of(
        accounts=account(strip_digits=2),
        gateways=gateways({"strip_digits": 4}),
        decks={
            "sell": world.deck("s", Decimal(1), ("49",)),
            "buy": world.deck("b", Decimal(1), ("30",)),
        },
    )
    call = opened(policy, "004930123")
    buy = call.attempts[0].buy
    assert buy is not None
    assert (call.pricing.number.billed, call.pricing.number.rule) == ("4930123", "account")
    assert (buy.number.billed, buy.rate and buy.rate.prefix) == ("30123", "30")


def test_a_missing_buy_rate_refuses_nobody() -> None:
    policy = policy_of(decks={"sell": world.deck("s", Decimal(1))}, accounts=account(prepaid=True))
    assert refusal(policy) is None


def test_the_peers_strip_applies_where_the_account_has_none() -> None:
    peers = {"carrier": Peer(name="carrier", addresses=("10.0.0.1",), strip_digits=3)}
    assert opened(policy_of(peers=peers, strip_digits=1), "01149301").pricing.number.billed == "49301"


@pytest.mark.parametrize("single", ["carrier", "gateways", "others", ""])
def test_a_peer_of_either_side_may_have_no_forks(single: str) -> None:
    peers = {
        name: Peer(name=name, addresses=("10.0.0.1",), forks=Forks.SINGLE if name == single else Forks.PASS)
        for name in ("carrier", "gateways", "others")
    }
    policy = policy_of(peers=peers, gateways=gateways({"peer": "gateways"}))
    command = route_command(opened(policy), policy)
    assert command.single_branch is (single in ("carrier", "gateways"))


def test_a_reservation_is_made_by_the_accounts_own_terms() -> None:
    own = account(prepaid=True, tax_rate=Decimal("0.19"), minimum_charge=Decimal("0.02"))
    reserve = reserve_of(policy_of(accounts=own))
    assert reserve is not None
    assert (reserve.terms.tax_rate, reserve.terms.minimum_charge) == (Decimal("0.19"), Decimal("0.02"))
    assert reserve.account == "acme"


def test_either_of_tax_and_minimum_is_enough_to_be_a_partys_own() -> None:
    taxed = side_terms(RatingTerms(), account(tax_rate=Decimal("0.19"))["acme"])
    least = side_terms(RatingTerms(), account(minimum_charge=Decimal("0.02"))["acme"])
    assert (taxed.tax_rate, taxed.minimum_charge) == (Decimal("0.19"), Decimal(0))
    assert (least.tax_rate, least.minimum_charge) == (Decimal(0), Decimal("0.02"))


def test_each_side_of_a_call_has_its_own_terms_and_only_what_is_sold_is_free() -> None:
    policy = policy_of(
        accounts=account(tax_rate=Decimal("0.19")),
        gateways=gateways({"tax_rate": Decimal("0.07")}),
        flags=replace(policy_of().flags, free_numbers=frozenset({"49*"})),
    )
    call = opened(policy)
    buy = call.attempts[0].buy
    assert buy is not None
    assert (call.pricing.terms.tax_rate, buy.terms.tax_rate) == (Decimal("0.19"), Decimal("0.07"))
    assert (call.pricing.free, buy.free) == (True, False)


def test_an_accounts_deck_comes_before_the_nodes_and_its_longest_prefix_is_the_rate() -> None:
    own = world.deck("own-1", Decimal("0.05"), ("49", "4930", ""))
    policy = policy_of(accounts=account(deck="own"), decks={**policy_of().decks, "own": own})
    pricing = opened(policy).pricing
    assert pricing.rate is not None
    assert (pricing.deck_revision, pricing.rate.prefix) == (own.revision, "4930")
    assert pricing.candidates == ("4930", "49", "")


def changing(at_ms: int, before: str, after: str, name: str = "d") -> Deck:
    """A price that changes at that moment."""
    (rate,) = world.deck(name, Decimal(before))
    dearer = per_minute_steps(Decimal(after), 1, 1)
    moment = utc(world.wall_ns(at_ms))
    return Deck(
        name, [replace(rate, effective_to=moment), replace(rate, steps=dearer, effective_from=moment)]
    )


def test_an_attempt_is_bought_at_the_price_of_its_own_beginning() -> None:
    policy = policy_of(decks={**policy_of().decks, "buy": changing(10_000, "0.03", "0.04")})
    call = opened(policy)
    again = begin_attempt(call, ("alpha",), world.invite(10_000), policy).attempts
    first, second = (one.buy.rate for one in again if one.buy is not None)
    assert first is not None
    assert second is not None
    assert (first.steps, second.steps) == tuple(
        per_minute_steps(Decimal(price), 1, 1) for price in ("0.03", "0.04")
    )
    assert [one.started.wall_ns for one in again] == [world.wall_ns(0), world.wall_ns(10_000)]


# --- the margin floor ---------------------------------------------------------------------------------------

# Sold at 0.06 a minute; bought from alpha at 0.03, from beta at 0.05 or in another currency.
DEAR = {"sell": world.deck("sell", Decimal("0.06")), "buy": world.deck("buy", Decimal("0.03"))}
DECKS = {**DEAR, "dear": world.deck("dear", Decimal("0.05"))}
USD = Deck(
    "usd", [Rate(prefix="49", currency="USD", steps=per_minute_steps(Decimal("0.05"), 1, 1), destination="")]
)
BOTH: dict[str, Any] = {
    "routes": ("alpha", "beta"),
    "gateways": gateways(beta={"deck": "dear"}),
    "decks": DECKS,
}


def tried(floor: str | None = None, **changes: Any) -> list[str]:
    """The gateways of the call, in order; none where it is refused."""
    policy = policy_of(**{**BOTH, **changes}, margin_floor=None if floor is None else Decimal(floor))
    call = opened(policy)
    if call.hangup is not None:
        assert (call.hangup.detail, call.hangup.rule) == (Detail.RULE, "margin_floor")
        return []
    return [call.attempts[0].gateway, *call.gateways]


@pytest.mark.parametrize(
    ("floor", "names"),
    [
        (None, ["alpha", "beta"]),
        ("0", ["alpha", "beta"]),
        ("0.16", ["alpha", "beta"]),
        ("0.17", ["alpha"]),
        ("0.5", ["alpha"]),
        ("0.51", []),
    ],
)
def test_gateways_below_the_margin_floor_are_not_tried(floor: str | None, names: list[str]) -> None:
    assert tried(floor) == names


def test_a_first_gateway_below_the_floor_is_passed_over() -> None:
    assert tried("0.5", routes=("beta", "alpha")) == ["alpha"]


@pytest.mark.parametrize(
    ("floor", "changes", "names"),
    [
        ("0.75", {}, ["alpha"]),  # of 0.06 to connect and 60 s: 0.12 sold, 0.03 bought
        ("0.7501", {}, []),
        ("0.75", {"rating": RatingTerms(free_s=30)}, ["alpha"]),
        ("0.7501", {"rating": RatingTerms(free_s=30)}, []),  # of the minute after those 30 s
        ("0.7501", {"accounts": account(tax_rate=Decimal("0.19"))}, []),
        ("0.75", {"gateways": gateways({"tax_rate": Decimal("0.19")})}, ["alpha"]),
    ],
)
def test_a_floor_is_of_the_first_minute_that_is_charged_without_tax(
    floor: str, changes: dict[str, Any], names: list[str]
) -> None:
    sold = world.deck("sell", Decimal("0.06"), connect_fee=Decimal("0.06"))
    values = {"routes": ("alpha",), "gateways": gateways(), "decks": {**DECKS, "sell": sold}, **changes}
    assert tried(floor, **values) == names


def test_the_floor_is_asked_for_the_number_that_is_sent_at_the_time_it_is_sent() -> None:
    buy = Deck("buy", [*changing(10_000, "0.03", "0.07"), *world.deck("b", Decimal(9), ("33",))])
    policy = policy_of(**{**BOTH, "decks": {**DECKS, "buy": buy}}, margin_floor=Decimal(0))
    call = opened(policy)
    for user, at_ms, names in (("", 9_999, ("alpha",)), ("33123", 9_999, ()), ("", 10_000, ())):
        assert above_margin_floor(("alpha",), call, policy, world.invite(at_ms), user) == names


def test_an_account_has_a_floor_of_its_own() -> None:
    own = account(margin_floor=Decimal(0))
    assert tried("0.9", accounts=own) == ["alpha", "beta"]
    assert tried(None, accounts=account(margin_floor=Decimal("0.3"))) == ["alpha"]


def test_a_missing_buy_rate_never_refuses() -> None:
    assert tried("0.4", gateways=gateways()) == ["alpha", "beta"], "beta has no buy deck"
    other = {**DECKS, "dear": world.deck("dear", Decimal(9), prefixes=("33",))}
    assert tried("0.4", decks=other) == ["alpha", "beta"], "its deck has no rate for the number"


def test_what_is_sold_at_no_price_has_no_floor() -> None:
    free = replace(policy_of().flags, free_numbers=frozenset({"49*"}))
    assert tried("0.9", flags=free) == ["alpha", "beta"]
    assert tried("0.9", decks={"buy": DECKS["buy"], "dear": DECKS["dear"]}) == ["alpha", "beta"]


def test_another_currency_needs_an_exchange_rate() -> None:
    decks = {**DECKS, "dear": USD}
    assert tried("0", decks=decks) == ["alpha"]
    rate = ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=utc(0))
    assert tried("0", decks=decks, exchange=ExchangeTable([rate])) == ["alpha", "beta"]
    assert tried("0.3", decks=decks, exchange=ExchangeTable([rate])) == ["alpha"]


EXCHANGE = ExchangeTable(
    [
        ExchangeRate(base=base, quote=quote, rate=Decimal(rate), valid_from=utc(world.wall_ns(at_ms)))
        for base, quote, rate, at_ms in (
            ("USD", "EUR", "0.9", 0),
            ("USD", "EUR", "0.8", 10_000),
            ("EUR", "USD", "1.1", 0),
            ("USD", "CHF", "0.95", 0),
        )
    ]
)


@pytest.mark.parametrize(
    ("sell", "buy", "own", "quote"),
    [
        ({"sell": DECKS["sell"]}, USD, "EUR", "EUR"),
        ({"sell": DECKS["sell"]}, USD, "CHF", "EUR"),  # as it is sold, not as the account is kept
        ({}, USD, "CHF", "CHF"),  # unrated: as the account is kept
        ({"sell": USD}, DECKS["buy"], "EUR", "USD"),
        ({"sell": USD}, USD, "EUR", None),
        ({"sell": DECKS["sell"]}, DECKS["buy"], "EUR", None),
    ],
)
def test_an_attempt_keeps_the_exchange_rate_into_what_the_call_is_sold_in(
    sell: dict[str, Deck], buy: Deck, own: str, quote: str | None
) -> None:
    policy = policy_of(decks={**sell, "buy": buy}, accounts=account(currency=own), exchange=EXCHANGE)
    kept = opened(policy).attempts[0].exchange
    assert (None if kept is None else kept.quote) == quote


def test_a_later_attempt_is_exchanged_at_the_rate_of_the_invite() -> None:
    policy = policy_of(decks={**DECKS, "buy": USD}, exchange=EXCHANGE)
    call = begin_attempt(opened(policy), ("alpha",), world.invite(20_000), policy)
    call = begin_attempt(call, ("alpha",), world.invite(30_000), policy)
    assert [one.exchange and one.exchange.rate for one in call.attempts] == [Decimal("0.9")] * 3


def test_fail_over_asks_the_floor_by_the_decks_in_force_then() -> None:
    policy = policy_of(**BOTH, margin_floor=Decimal(0))
    call, _ = open_call(world.call_id(), world.invite(), Given(policy, Load()))
    call, _ = decide(call, Admitted(**world.stamps(1), call_id=call.call_id), Given(policy, Load()))
    failed = RouteFailed(
        **world.stamps(20), bridge_id=1, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=503
    )
    dearer = replace(policy, decks={**DECKS, "dear": world.deck("dearer", Decimal("0.07"))})
    assert [one.gateway for one in decide(call, failed, Given(policy, Load()))[0].attempts] == [
        "alpha",
        "beta",
    ]
    assert [one.gateway for one in decide(call, failed, Given(dearer, Load()))[0].attempts] == ["alpha"]


cents = st.integers(0, 200).map(lambda number: Decimal(number) / 1000)


@given(cents, cents, cents, st.integers(0, 100).map(lambda percent: Decimal(percent) / 100))
def test_no_gateway_is_tried_at_which_a_minute_leaves_less(
    sold: Decimal, first: Decimal, second: Decimal, floor: Decimal
) -> None:
    decks = {
        name: world.deck(name, price) for name, price in (("sell", sold), ("buy", first), ("dear", second))
    }
    prices = {"alpha": first, "beta": second}
    kept = [name for name, bought in prices.items() if sold - bought >= floor * sold]
    assert tried(str(floor), decks=decks) == kept


def test_a_call_keeps_the_floor_and_the_exchange_rate_that_it_began_under() -> None:
    rates = [
        ExchangeRate(base="USD", quote="EUR", rate=Decimal(text), valid_from=utc(0)) for text in ("0.9", "9")
    ]
    policy = policy_of(**{**BOTH, "routes": ("beta",)}, margin_floor=Decimal("0.1"))
    policy = replace(policy, exchange=ExchangeTable(rates[:1]), decks={**DECKS, "dear": USD})
    call = opened(policy)
    assert (call.account.margin_floor, call.attempts[0].exchange) == (Decimal("0.1"), rates[0])
    later = replace(policy, margin_floor=None, exchange=ExchangeTable(rates[1:]))
    assert opened(later).account.margin_floor is None
    assert opened(later).attempts[0].exchange == rates[1]
    ended = hangup(HangupOrigin.CALLER, Detail.BYE, Evidence.MESSAGE)
    one = replace(call, hangup=ended, ended=call.attempts[0].started)
    assert cdr_of(one, later) == cdr_of(one, policy)
    margin = cdr_of(replace(one, answered=one.ended, b_answered=one.ended), later).margin
    assert margin is not None
    assert margin.exchange == rates[0]


PORTED = "+442079460123;npdi;rn=+442000000;cic=+16789"


@pytest.mark.parametrize(
    ("rate_by", "number", "billed", "rule"),
    [
        (RateBy.DIALLED, PORTED, "442079460123", "e164"),
        (RateBy.ROUTING_NUMBER, PORTED, "442000000", "routing_number"),
        (RateBy.ROUTING_NUMBER, "+442079460123;npdi", "442079460123", "e164"),
        (RateBy.DIALLED, "2079460123;phone-context=+44", "442079460123", "e164"),
        (RateBy.DIALLED, "2079460123;phone-context=a.example", None, "phone_context"),
    ],
)
def test_both_sides_look_up_the_number_that_the_parameters_name_and_the_record_explains_it(
    rate_by: RateBy, number: str, billed: str | None, rule: str
) -> None:
    policy = policy_of(
        rate_by=rate_by, strip_digits=3, accounts=account(), gateways=gateways({"strip_digits": 4})
    )
    call = opened(policy, number)
    buy = call.attempts[0].buy
    assert buy is not None
    for found in (call.pricing.number, buy.number):
        assert (found.billed, found.rule) == (billed, rule)
    note = refuse(call, Detail.OPERATOR, policy, call.invite)[1][1]
    assert isinstance(note, NoteRefusal)
    record = note.cdr
    assert (record.callee.billed, record.charges[0].strip_rule) == (billed, rule)
    assert (record.routing_number, record.cic) == (
        ("+442000000", "+16789") if "rn" in number else (None, None)
    )
    assert record.npdi == ("npdi" in number)
    assert explain_call(record).all_differences == ()


def test_a_completed_number_is_routed_as_what_it_is() -> None:
    routes = [RouteRule(prefix="20", gateways=("alpha",)), RouteRule(prefix="+44", gateways=("beta",))]
    policy = replace(policy_of(), routes=Routes(routes))
    assert opened(policy, "2079460123;phone-context=+44").attempts[0].gateway == "beta"
    assert opened(policy, "2079460123;phone-context=a.example").attempts[0].gateway == "alpha"


def with_uris(number: str, request: str, to: str, caller: str) -> Call:
    invite = world.invite(0, number=number)
    leg = replace(invite.leg, local_uri=to, remote_uri=caller)
    invite = replace(invite, request_uri=request, leg=leg)
    policy = policy_of(gateways=gateways({"user_phone": UserPhone.ADD}, {"caller_id": CallerIdForm.FROM}))
    return open_call(world.call_id(), invite, Given(policy, Load()))[0]


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ("alpha", (";user=phone;tgrp=t", ";user=phone;context=c", ";user=phone;cpc=1")),
        ("beta", (";tgrp=t", ";context=c", ";cpc=1")),
    ],
)
def test_each_uri_keeps_its_parameters_and_gets_what_the_gateway_wants(
    gateway: str, expected: tuple[str, str, str]
) -> None:
    call = with_uris("4930", "sip:4930@h;transport=udp;tgrp=t", "<sip:4930@h;context=c>", "<sip:1@h;cpc=1>")
    policy = policy_of(gateways=gateways({"user_phone": UserPhone.ADD}, {"caller_id": CallerIdForm.FROM}))
    call = begin_attempt(call, (gateway,), call.invite, policy)
    route = route_command(call, policy)
    assert (route.uri_parameters, route.to_parameters, route.from_parameters) == expected
    assert call.attempts[-1].target.endswith(f":5060{expected[0]}")
    # The number that a redirection names has no parameters of the one that was dialled.
    call = begin_attempt(call, (gateway,), call.invite, policy, "4931")
    assert "tgrp" not in route_command(call, policy).uri_parameters + call.attempts[-1].target


def test_an_anonymous_from_has_no_parameters() -> None:
    call = with_uris("4930", "sip:4930@h", "<sip:4930@h>", '"A" <sip:anonymous@anonymous.invalid;cpc=1>')
    policy = policy_of(gateways=gateways({}, {"caller_id": CallerIdForm.FROM}))
    route = route_command(begin_attempt(call, ("beta",), call.invite, policy), policy)
    assert (route.anonymous, route.from_parameters) == (True, "")


# --- a gateway whose host is a name -------------------------------------------------------------------------

SERVER = Server(host="fd00::9", port=5071, transport=TransportName.TCP, peer="vendor")


def by_name(port: int | None = None, **changes: Any) -> Policy:
    lookup = Lookup(name="alpha.test", port=port)
    return policy_of(gateways=gateways({"host": "alpha.test", "lookup": lookup, "peer": "", **changes}))


@pytest.mark.parametrize(("port", "authority"), [(None, "alpha.test"), (5071, "alpha.test:5071")])
def test_a_call_to_a_name_says_the_name_and_goes_to_its_server(port: int | None, authority: str) -> None:
    policy, load = by_name(port), Load(servers={"alpha": (SERVER,)})
    call = opened(policy, load=load)
    attempt = call.attempts[0]
    assert attempt.target == f"sip:4930123456@{authority};transport=tcp"
    assert (attempt.server, attempt.leg.remote_address, attempt.leg.transport) == (
        SERVER,
        "[fd00::9]:5071",
        TransportName.TCP,
    )
    route = route_command(call, policy)
    assert (route.host, route.port, route.transport) == SERVER.at
    assert route.authority == authority
    assert route_command(opened(policy_of()), policy_of()).authority == ""


@pytest.mark.parametrize(
    ("load", "detail"),
    [
        (Load(), Detail.GATEWAY_UNREACHABLE),
        (Load(servers={"alpha": ()}), Detail.GATEWAY_UNREACHABLE),
        (Load(by_gateway={"alpha": 5}), Detail.GATEWAY_LIMIT),
        (Load(by_gateway={"alpha": 5}, servers={"alpha": (SERVER,)}), Detail.GATEWAY_LIMIT),
        (Load(servers={"alpha": (SERVER,)}), None),
    ],
)
def test_a_call_whose_only_gateway_is_nowhere_is_refused_as_unreachable(
    load: Load, detail: Detail | None
) -> None:
    assert refusal(by_name(calls_max=5), load=load) == detail


def test_what_the_group_of_a_server_says_holds_for_calls_that_go_to_it() -> None:
    policy = replace(by_name(), peers={"vendor": replace(PEERS["vendor"], forks=Forks.SINGLE)})
    for server, single in ((SERVER, True), (replace(SERVER, peer=""), False)):
        call = opened(policy, load=Load(servers={"alpha": (server,)}))
        assert route_command(call, policy).single_branch is single


def test_a_name_carries_a_transfer_where_all_of_its_servers_know_the_dialog() -> None:
    invite = replace(world.invite(0), claimed_peer="vendor")
    gateway = by_name().gateways["alpha"]
    for servers, carries in (
        ((SERVER,), True),
        ((SERVER, replace(SERVER, host="fd00::8", peer="")), False),
        ((), False),
    ):
        assert may_carry(gateway, invite, Given(by_name(), Load(servers={"alpha": servers}))) is carries


# --- emergency calls ----------------------------------------------------------------------------------------

SOS_ROUTES = Routes(
    [RouteRule(prefix="", gateways=("alpha",)), RouteRule(prefix="urn:service:sos", gateways=("beta",))]
)


def to_urn(urn: str, policy: Policy, load: Load | None = None) -> tuple[Call, tuple[Any, ...]]:
    invite = replace(world.invite(0), request_uri=urn, request_user=urn)
    return open_call(world.call_id(), invite, Given(policy, load or Load()))


@pytest.mark.parametrize("urn", ["urn:service:sos", "URN:service:SOS.fire"])
def test_an_emergency_call_is_refused_for_nothing_and_costs_nothing(urn: str) -> None:
    policy = replace(
        policy_of(accounts=account(prepaid=True, calls_max=1)),
        routes=SOS_ROUTES,
        gateways=gateways(beta={"calls_max": 1}),
        blocked_numbers=frozenset({"*"}),
        account_required=True,
        calls_max=1,
    )
    full = Load(calls=9, by_account={"acme": 9}, by_gateway={"beta": 9})
    call, commands = to_urn(urn, policy, full)
    assert call.hangup is None
    assert [type(command) for command in commands] == [Append]  # and no Reserve
    assert call.is_emergency
    assert [attempt.gateway for attempt in call.attempts] == ["beta"]
    number = call.pricing.number
    assert (number.received, number.billed, number.rule) == (urn, None, "urn")
    routed, sent = decide(call, Admitted(**world.stamps(1), call_id=call.call_id), Given(policy, full))
    [route] = sent  # no time ends it
    assert isinstance(route, Route)
    assert (route.urn, route.user) == (urn, urn)
    assert routed.attempts[0].target == urn


def test_an_emergency_call_says_so_in_its_record_and_is_free() -> None:
    call, _ = to_urn("urn:service:sos", replace(policy_of(), routes=SOS_ROUTES), Load(is_draining=True))
    assert call.hangup is not None
    assert call.hangup.detail is Detail.DRAIN
    record = cdr_of(call, policy_of())
    assert (record.emergency, record.callee.received, record.callee.billed) == (True, "urn:service:sos", None)
    [sell] = record.charges
    assert (sell.rating_status.value, sell.total) == ("free", Decimal(0))


@pytest.mark.parametrize(
    ("dialled", "is_one"),
    [
        ("112", True),
        ("112;phone-context=+49", True),
        ("1123", False),
        ("11", False),
        ("+112", False),
        ("0112", False),
        ("", False),
    ],
)
def test_an_emergency_number_is_one_exactly_as_it_is_dialled(dialled: str, is_one: bool) -> None:
    policy = policy_of(
        accounts=account(prepaid=True),
        emergency_numbers=frozenset({"112"}),
        blocked_numbers=frozenset({"*"}),
        blocks=frozenset({"112"}),
        screenings={"acme": Screening(caller_numbers=frozenset({"1"}))},
        decks={},
        account_required=True,
        account_rules=(),
    )
    call, commands = open_call(world.call_id(), world.invite(0, number=dialled), Given(policy, Load()))
    assert call.is_emergency is is_one
    assert (call.hangup is None) is is_one
    if is_one:
        assert [type(command) for command in commands] == [Append]
        assert call.pricing.free


def test_an_emergency_call_goes_where_a_redirection_sends_it_whatever_is_blocked() -> None:
    policy = policy_of(emergency_numbers=frozenset({"112"}), blocked_numbers=frozenset({"49*"}))
    for dialled, allowed in (("112", True), ("44123", False)):
        call, _ = open_call(world.call_id(), world.invite(0, number=dialled), Given(policy, Load()))
        assert may_be_sent("4930110", call, policy) is allowed
        assert not may_be_sent("", call, policy)


def test_an_unlisted_source_makes_no_emergency_call() -> None:
    policy = policy_of(emergency_numbers=frozenset({"112"}))
    for detail, marked in ((Detail.SOURCE_NOT_ALLOWED, False), (Detail.JOURNAL, True)):
        invite = world.invite(0, number="112")
        event = InviteRefused(**world.stamps(5), detail=detail, sip_code=403, invite=invite)
        call, _ = refused_by_bridge(world.call_id(), event, Given(policy, Load()))
        assert cdr_of(call, policy).emergency is marked


@pytest.mark.parametrize(
    ("detail", "ends"), [(Detail.RULE, False), (Detail.NUMBER_BLOCKED, False), (Detail.OPERATOR, True)]
)
def test_no_rule_ends_an_emergency_call_but_a_person_may(detail: Detail, ends: bool) -> None:
    policy = replace(policy_of(), routes=SOS_ROUTES)
    call, _ = to_urn("urn:service:sos", policy)
    asked = ReleaseRequested(**world.stamps(1), call_id=call.call_id, detail=detail)
    after, commands = decide(call, asked, Given(policy, Load()))
    assert (after.hangup is not None, commands != ()) == (ends, ends)


@pytest.mark.parametrize("urn", ["urn:service:counseling", "urn:service:sosx"])
def test_a_urn_is_routed_by_the_routes_that_name_it_alone(urn: str) -> None:
    call, _ = to_urn(urn, replace(policy_of(), routes=SOS_ROUTES))
    assert call.hangup is not None
    assert call.hangup.detail is Detail.NO_ROUTE
    assert not call.is_emergency


def test_the_longest_service_wins() -> None:
    rules = [
        RouteRule(prefix=urn, gateways=(name,))
        for urn, name in (("urn:service:sos", "a"), ("urn:service:sos.fire", "b"))
    ]
    routes = Routes(rules)
    assert routes.match_urn("urn:service:sos.fire.x") == rules[1]
    assert routes.match_urn("urn:service:sos.firex") == rules[0]
    assert routes.match_urn("urn:service") is None
    assert routes.match("urn:service:sos") is None
    assert [rule.prefix for rule in routes] == ["urn:service:sos", "urn:service:sos.fire"]
    assert len(routes) == 2


def test_a_number_in_the_place_of_a_urn_is_sent_as_one() -> None:
    policy = replace(policy_of(routes=("alpha",)), routes=SOS_ROUTES)
    call, _ = to_urn("urn:service:sos", policy)
    again = begin_attempt(call, ("alpha",), world.invite(0), policy, "112")
    assert again.attempts[-1].target.startswith("sip:112@")
    assert route_command(again, policy).urn == ""


def with_blocked(prefix: str) -> Deck:
    rate = Rate(prefix="49", currency="EUR", steps=per_minute_steps(Decimal("0.06"), 1, 1))
    return Deck("partly blocked", [rate, Rate(prefix=prefix, currency="EUR", blocked=True)])


@pytest.mark.parametrize("carry", [True, False])
def test_a_blocked_row_of_the_sell_deck_refuses_the_call(carry: bool) -> None:
    policy = policy_of(
        decks={**policy_of().decks, "sell": with_blocked("4930")}, accounts=account(carry_without_rate=carry)
    )
    call, commands = open_call(world.call_id(), world.invite(), Given(policy=policy, load=Load()))
    reject, note = commands
    assert isinstance(reject, Reject)
    assert (reject.sip_code, reject.q850_cause, reject.text) == (403, 21, "destination_blocked")
    assert isinstance(note, NoteRefusal)
    assert [one.total for one in note.cdr.charges if one.total] == []
    assert call.hangup is not None
    assert (call.hangup.origin, call.hangup.detail) == (HangupOrigin.SERVER, Detail.DESTINATION_BLOCKED)
    assert refusal(policy, "4940123456") is None


def test_a_gateway_whose_deck_blocks_the_number_is_passed_over() -> None:
    assert tried(decks={**DECKS, "buy": with_blocked("4930")}) == ["beta"]
    assert tried(decks={**DECKS, "dear": with_blocked("4930")}) == ["alpha"]
    assert tried(decks={**DECKS, "buy": with_blocked("4940")}) == ["alpha", "beta"]
    nobody = policy_of(
        **{**BOTH, "decks": {**DECKS, "buy": with_blocked("4930"), "dear": with_blocked("49301")}}
    )
    assert refusal(nobody) == Detail.NO_ROUTE


def test_no_redirection_leads_to_a_gateway_whose_deck_blocks_the_number() -> None:
    decks = {**DECKS, "buy": with_blocked("4940")}
    policy = policy_of(**{**BOTH, "decks": decks}, redirect=Redirection.FOLLOW)
    call, _ = open_call(world.call_id(), world.invite(), Given(policy, Load()))
    contacts = tuple(Contact(user=user, host="10.0.1.1") for user in ("4940999", "4950999"))
    failed = RouteFailed(
        **world.stamps(9),
        bridge_id=call.bridge_id,
        attempt=1,
        cause=RouteFailure.FINAL_RESPONSE,
        sip_code=302,
        contacts=contacts,
    )
    assert [one.user for one in use_contacts(call, failed, Given(policy, Load())).redirects] == ["4950999"]
