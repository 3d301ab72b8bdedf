"""Who may call what, when, at which price: the static rules."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.admit import open_call
from sidecar.core.call import Call
from sidecar.core.numbers import BilledNumber, StripPlan, billed_number, matches_list
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.screening import NumberLists, Screening, dearest_per_min, longest_pattern, number_rule
from sidecar.core.steps import parse_steps
from sidecar.core.tariff import Deck, Rate
from sidecar.core.terms import Detail
from sidecar.core.windows import parse_window
from tests.scenarios import world
from tests.scenarios.world import policy_of

NODE, PEER, ACCOUNT = "", "peers.carrier.", "accounts.acme."


def lists(*blocked: str, allowed: tuple[str, ...] = ()) -> NumberLists:
    return NumberLists(blocked=frozenset(blocked), allowed=frozenset(allowed))


def rule_for(dialled: str, *of_levels: NumberLists, blocks: tuple[str, ...] = ()) -> str | None:
    number = billed_number(dialled, StripPlan())
    return number_rule(number, frozenset(blocks), zip((NODE, PEER, ACCOUNT), of_levels, strict=False))


@pytest.mark.parametrize(
    ("levels", "rule"),
    [
        ((), None),
        ((lists("0900*"),), None),
        ((lists("4990*"),), "blocked_numbers 4990*"),
        ((lists("49*", "4990*"),), "blocked_numbers 4990*"),
        ((lists("49*", allowed=("4990*",)),), None),
        ((lists("4990*", allowed=("49*",)),), "blocked_numbers 4990*"),
        ((lists("4990*", allowed=("49900",)),), None),
        ((lists("49900", allowed=("49900*",)),), "blocked_numbers 49900"),
        ((lists(allowed=("44*",)),), "allowed_numbers"),
        ((lists("4990*"), lists(), lists(allowed=("4990*",))), None),
        ((lists("49900*"), lists(), lists(allowed=("49*",))), "blocked_numbers 49900*"),
        ((lists("4990*"), lists(allowed=("4990*",)), lists("4990*")), f"{ACCOUNT}blocked_numbers 4990*"),
        ((lists(allowed=("4990*",)), lists("4990*")), f"{PEER}blocked_numbers 4990*"),
        ((lists(allowed=("49*",)), lists(), lists(allowed=("44*",))), f"{ACCOUNT}allowed_numbers"),
    ],
)
def test_the_longest_pattern_decides_whoever_has_it(
    levels: tuple[NumberLists, ...], rule: str | None
) -> None:
    assert rule_for("+49900", *levels) == rule_for("49900", *levels) == rule


def test_what_is_blocked_by_command_goes_before_all_lists() -> None:
    allowed = lists(allowed=("49900",))
    assert rule_for("49900", allowed, allowed, allowed, blocks=("49*",)) == "block 49*"
    assert rule_for("44900", blocks=("49*",)) is None


_NUMBERS = st.text("09", min_size=1, max_size=5)
_PATTERNS = st.frozensets(st.tuples(st.text("09", max_size=5), st.sampled_from(("", "*"))).map("".join))


@given(_NUMBERS, _PATTERNS)
def test_a_pattern_is_found_where_a_list_holds_the_number(number: str, patterns: frozenset[str]) -> None:
    found = longest_pattern((number,), patterns)
    assert (found is not None) is matches_list(number, patterns)
    matching = {one for one in patterns if matches_list(number, {one})}
    assert found is None or len(found.rstrip("*")) == max(len(one.rstrip("*")) for one in matching)


def refused(policy: Policy, **changes: Any) -> tuple[Detail, str | None] | None:
    call, _ = open_call(world.call_id(), replace(world.invite(0), **changes), Given(policy, Load()))
    return None if call.hangup is None else (call.hangup.detail, call.hangup.rule)


def screened(**rules: Any) -> Policy:
    return policy_of(screenings={"acme": Screening(**rules)})


@pytest.mark.parametrize(
    ("caller", "passes"),
    [("49301112222", True), ("+49-30-1112222", True), ("4930111", False), ("anonymous", False), ("", False)],
)
def test_a_caller_that_is_not_the_accounts_is_refused(caller: str, passes: bool) -> None:
    policy = screened(caller_numbers=frozenset({"493011122*"}))
    rule = (Detail.RULE, "accounts.acme.caller_numbers")
    assert refused(policy, from_user=caller) == (None if passes else rule)


def test_of_a_trusted_peer_the_asserted_number_counts() -> None:
    policy = screened(caller_numbers=frozenset({"4930111*"}))
    peer = replace(policy.peers["carrier"], asserts_identity=True)
    trusted = replace(policy, peers={**policy.peers, "carrier": peer})
    said = {"headers": (("p-asserted-identity", "<sip:+49301119@x>"),), "from_user": "4940"}
    assert refused(trusted, **said) is None
    assert refused(policy, **said) == (Detail.RULE, "accounts.acme.caller_numbers")


def test_outside_its_hours_an_account_calls_nobody() -> None:
    at = datetime.fromisoformat("2026-03-30T07:59:59+02:00")  # a Monday, the first in summer time
    policy = screened(hours=(parse_window("Mo-Fr 08:00-18:00 Europe/Berlin"),))
    for later_s, passes in ((0, False), (1, True), (36_000, True), (36_001, False)):
        wall_ns = (int(at.timestamp()) + later_s) * 1_000_000_000
        rule = (Detail.RULE, "accounts.acme.hours")
        assert refused(policy, wall_ns=wall_ns) == (None if passes else rule), later_s


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        ({"max_price_per_min": Decimal("0.06")}, None),
        ({"max_price_per_min": Decimal("0.0599")}, "accounts.acme.max_price_per_min"),
        ({"max_connect_fee": Decimal("0.05")}, None),
        ({"max_connect_fee": Decimal("0.049")}, "accounts.acme.max_connect_fee"),
        ({"max_price_per_min": Decimal(0), "max_connect_fee": Decimal(0)}, "accounts.acme.max_price_per_min"),
    ],
)
def test_a_call_above_the_price_ceiling_is_refused(rules: dict[str, Decimal], rule: str | None) -> None:
    sold = world.deck("sell", Decimal("0.06"), connect_fee=Decimal("0.05"))
    policy = replace(screened(**rules), decks={"sell": sold})
    assert refused(policy) == (None if rule is None else (Detail.RULE, rule))
    free = replace(policy, flags=replace(policy.flags, free_numbers=frozenset({"49*"})))
    assert refused(free) is None


def test_the_dearest_price_of_all_steps_and_hours_is_held_against_the_ceiling() -> None:
    steps = parse_steps("0:0.01/60/60|0.3/30/30@Sa-Su Europe/Berlin;60:0.1/6/6")
    assert dearest_per_min(Rate(prefix="49", currency="EUR", steps=steps)) == 1


def test_without_a_rate_the_refusal_names_the_setting() -> None:
    policy = policy_of(decks={"sell": Deck("none", [])}, accounts=world.account(prepaid=True))
    assert refused(policy) == (Detail.NO_RATE, "on_no_rate")


def test_a_live_call_is_asked_about_by_the_same_rule() -> None:
    call, _ = open_call(world.call_id(), world.invite(0), Given(policy_of(), Load()))
    blocked = policy_of(blocked_numbers=frozenset({"4930*"}))
    assert rule_of(call, blocked) == "blocked_numbers 4930*"
    assert rule_of(call, replace(policy_of(), blocks=frozenset({"4930123456"}))) == "block 4930123456"
    assert rule_of(call, policy_of()) is None


def rule_of(call: Call, policy: Policy) -> str | None:
    return policy.number_rule(call.pricing.number, call.account.name, call.invite.peer)


def test_a_service_is_no_number() -> None:
    number = BilledNumber(received="urn:service:x", normalised="urn:service:x", billed=None, rule="urn")
    assert number_rule(number, frozenset(), [("", lists("*"))]) == "blocked_numbers *"
    assert number_rule(number, frozenset(), [("", lists("4*"))]) is None
