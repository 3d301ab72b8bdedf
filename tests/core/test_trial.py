"""A call that nobody makes is decided like one that somebody makes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sidecar.core.account_rules import AccountRule
from sidecar.core.admit import open_call
from sidecar.core.policy import Given, Load, RouteRule, Share
from sidecar.core.records import charge_line, utc
from sidecar.core.servers import Lookup
from sidecar.core.terms import ChargeSide, Detail, RatingStatus
from sidecar.core.trial import Trial, Wanted, price, try_call
from tests.scenarios import world
from tests.scenarios.world import account, gateways, policy_of

NUMBER = "4930123456"
BLOCKED = (Detail.NUMBER_BLOCKED, "blocked_numbers 4930*", 403)
AT_LIMIT = (Detail.ACCOUNT_LIMIT, "calls_max", 480)


def tried(given: Given, number: str = NUMBER, **asked: Any) -> Trial:
    wanted = Wanted(number=number, peer="carrier", **asked)
    return try_call(wanted, world.call_id(), given, **world.stamps(0))


def test_a_trial_says_what_the_call_itself_would_have() -> None:
    given = Given(policy_of(routes=("beta", "alpha")), Load())
    trial = tried(given, talk_ms=90_000)
    call, _ = open_call(world.call_id(), world.invite(0, number=NUMBER), given)
    at = utc(world.wall_ns(0))
    priced = charge_line(ChargeSide.SELL, "acme", call.pricing, 90_000, at, call.account.currency)
    assert trial.sell == priced
    assert trial.account == call.account.name == "acme"
    assert trial.claimed_by == AccountRule(account="acme", peer="carrier")
    assert trial.route == RouteRule(prefix="", gateways=("beta", "alpha"))
    assert [one.gateway for one in trial.gateways] == [call.attempts[0].gateway, *call.gateways]
    assert [one.buy is not None for one in trial.gateways] == [False, True], "beta has no deck"
    assert (trial.detail, trial.is_reserved) == (None, False)
    assert (given.load.calls, given.load.senders, given.load.by_account) == (0, set(), {}), (
        "nothing is counted"
    )


def test_gateways_that_are_down_come_last_and_full_ones_are_passed_over() -> None:
    policy = policy_of(routes=("alpha", "beta"), gateways=gateways(beta={"calls_max": 1}))
    trial = tried(Given(policy, Load(gateways_down={"alpha"}, by_gateway={"beta": 1})))
    assert [(one.gateway, one.is_down, one.is_passed_over) for one in trial.gateways] == [
        ("alpha", True, False),
        ("beta", False, True),
    ]


def test_a_group_is_drawn_from_as_the_call_would() -> None:
    policy = policy_of(routes=((Share(gateway="alpha"), Share(gateway="beta")),))
    firsts = set()
    for number in range(20):
        wanted, call_id = Wanted(number=NUMBER, peer="carrier"), world.call_id(number)
        trial = try_call(wanted, call_id, Given(policy, Load()), **world.stamps(0))
        call, _ = open_call(call_id, world.invite(0, number=NUMBER), Given(policy, Load()))
        assert trial.gateways[0].gateway == call.attempts[0].gateway
        firsts.add(trial.gateways[0].gateway)
    assert firsts == {"alpha", "beta"}


@pytest.mark.parametrize(
    ("changes", "load", "said"),
    [
        ({"blocked_numbers": frozenset({"4930*"})}, {}, BLOCKED),
        ({"routes": ()}, {}, (Detail.NO_ROUTE, None, 500)),
        ({"account_rules": (), "account_required": True}, {}, (Detail.RULE, "account_required", 403)),
        ({"accounts": account(calls_max=1)}, {"by_account": {"acme": 1}}, AT_LIMIT),
        ({}, {"is_draining": True}, (Detail.DRAIN, None, 503)),
        ({"decks": {}, "accounts": account(prepaid=True)}, {}, (Detail.NO_RATE, "on_no_rate", 403)),
    ],
)  # fmt: skip
def test_a_call_that_would_be_refused_says_why(
    changes: dict[str, Any], load: dict[str, Any], said: tuple[Detail, str | None, int]
) -> None:
    trial = tried(Given(policy_of(**changes), Load(**load)))
    assert (trial.detail, trial.rule, trial.sip_code) == said
    assert not any(one.is_passed_over for one in trial.gateways), "none was looked at"


def test_of_prepaid_accounts_a_first_part_is_reserved() -> None:
    assert tried(Given(policy_of(accounts=account(prepaid=True)), Load())).is_reserved


def test_rules_ask_the_header_the_address_and_the_certificate_that_are_given() -> None:
    rules = (
        AccountRule(account="acme", tls_name="pbx.example"),
        AccountRule(account="acme", header="x-account", header_value="a"),
    )
    given = Given(policy_of(account_rules=rules), Load())
    assert tried(given).claimed_by is None
    assert tried(given, tls_name="PBX.example").claimed_by == rules[0]
    assert tried(given, headers=(("x-account", "a"),)).claimed_by is None, "carrier asserts nothing"


def test_a_gateway_by_name_that_dns_has_not_said_is_nowhere() -> None:
    named = gateways(alpha={"host": "gw.example", "lookup": Lookup(name="gw.example")})
    trial = tried(Given(policy_of(gateways=named), Load()))
    assert (trial.detail, trial.rule) == (Detail.GATEWAY_UNREACHABLE, None)


def test_a_price_is_that_of_the_account_and_its_peer() -> None:
    policy = policy_of(accounts=account(tax_rate=Decimal("0.2")))
    acme = policy.account_terms("acme")
    line = price(Wanted(number=NUMBER, peer="carrier"), acme, policy, wall_ns=world.wall_ns(0))
    assert line == tried(Given(policy, Load())).sell
    assert line.total == line.net * Decimal("1.2") if line.net else None
    free = price(Wanted(number="urn:service:sos", peer=""), acme, policy, wall_ns=world.wall_ns(0))
    assert free.rating_status is RatingStatus.FREE


def test_there_has_to_be_such_a_peer() -> None:
    with pytest.raises(KeyError, match="nobody"):
        try_call(
            Wanted(number=NUMBER, peer="nobody"),
            world.call_id(),
            Given(policy_of(), Load()),
            **world.stamps(0),
        )
