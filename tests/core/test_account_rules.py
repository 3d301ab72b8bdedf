"""Look-ups instead of a walk: they must find what the walk finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.account_rules import AccountFrom, AccountRule, AccountRules
from sidecar.core.addresses import AddressTable
from sidecar.core.events import InviteReceived
from sidecar.core.numbers import normalise
from sidecar.core.policy import RouteRule, Routes
from tests.scenarios import world

ACCOUNTS = st.sampled_from(["a", "b", "c", "gone", "lost"])
EXISTING = frozenset("abc")
WORDS = st.sampled_from(["p", "q", "a", "b", "gone"])
PREFIXES = st.text("12", max_size=3)
BLOCKS = AddressTable([("192.0.2.0/24", "a"), ("192.0.2.7", "gone"), ("10.0.0.0/8", "b")])

RULES = st.lists(
    st.one_of(
        st.builds(lambda account, peer: AccountRule(account=account, peer=peer), ACCOUNTS, WORDS),
        st.builds(
            lambda account, name, value: AccountRule(account=account, header=f"x-{name}", header_value=value),
            ACCOUNTS,
            WORDS,
            WORDS,
        ),
        st.builds(lambda account, name: AccountRule(account=account, tls_name=name), ACCOUNTS, WORDS),
        st.builds(
            lambda account, prefix: AccountRule(account=account, called_prefix=prefix), ACCOUNTS, PREFIXES
        ),
        st.builds(lambda name: AccountRule(account_from=AccountFrom.HEADER, header=f"x-{name}"), WORDS),
        st.just(AccountRule(account_from=AccountFrom.ADDRESS)),
    ),
    max_size=10,
)


def invites(draw: Any) -> InviteReceived:
    invite = world.invite(0, number=draw(st.text("12", max_size=5)), peer=draw(WORDS))
    address = draw(st.sampled_from(["192.0.2.1:5060", "192.0.2.7:5060", "10.1.1.1:5060", "[::1]:5060"]))
    headers = draw(st.lists(st.tuples(WORDS.map("x-{}".format), WORDS), max_size=4))
    return replace(
        invite,
        leg=replace(invite.leg, remote_address=address),
        headers=tuple(headers),
        tls_name=draw(WORDS | st.just("")),
    )


def walk(rules: list[AccountRule], invite: InviteReceived, asserts_identity: bool) -> str | None:
    """The first rule that applies, asked one after the other."""
    for rule in rules:
        if (account := applies(rule, invite, asserts_identity)) is not None:
            return account
    return None


def applies(rule: AccountRule, invite: InviteReceived, asserts_identity: bool) -> str | None:
    if rule.account_from is AccountFrom.ADDRESS:
        named = [BLOCKS.account_of(invite.leg.remote_address)]
    elif rule.account_from is AccountFrom.HEADER:
        named = [value for name, value in invite.headers if name == rule.header and asserts_identity]
    elif rule.header is not None:
        said = asserts_identity and (rule.header, rule.header_value) in invite.headers
        named = [rule.account] if said else []
    elif rule.peer is not None:
        named = [rule.account] if rule.peer == invite.peer else []
    elif rule.tls_name is not None:
        named = [rule.account] if rule.tls_name == invite.tls_name else []
    else:
        number = normalise(invite.request_user)
        named = [rule.account] if number.startswith(str(rule.called_prefix)) else []
    return next((account for account in named if account in EXISTING), None)


@given(RULES, st.data(), st.booleans())
def test_the_first_rule_that_applies_wins_as_if_all_were_asked(
    rules: list[AccountRule], data: Any, asserts_identity: bool
) -> None:
    invite = invites(data.draw)
    found = AccountRules(rules).claim(
        invite,
        asserts_identity=asserts_identity,
        accounts=EXISTING,
        account_at=lambda: BLOCKS.account_of(invite.leg.remote_address),
    )
    assert (None if found is None else found[0]) == walk(rules, invite, asserts_identity)
    assert found is None or applies(found[1], invite, asserts_identity) == found[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "one of account, account_from"),
        ({"account": "x", "account_from": AccountFrom.ADDRESS}, "one of account, account_from"),
        ({"account": "x"}, "exactly one"),
        ({"account": "x", "peer": "a", "tls_name": "b"}, "exactly one"),
        ({"account": "x", "header": "x"}, "go together"),
        ({"account": "x", "peer": "a", "header_value": "x"}, "go together"),
        ({"account_from": AccountFrom.HEADER}, "has a header"),
        ({"account_from": AccountFrom.HEADER, "peer": "a"}, "has a header"),
        ({"account_from": AccountFrom.HEADER, "header": "x", "header_value": "y"}, "go together"),
        ({"account_from": AccountFrom.HEADER, "header": "x", "peer": "y"}, "no match at all"),
        ({"account_from": AccountFrom.ADDRESS, "peer": "a"}, "no match at all"),
        ({"account_from": AccountFrom.ADDRESS, "header": "a"}, "no match at all"),
    ],
)
def test_a_rule_that_says_two_things_or_none_cannot_be_built(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AccountRule(**fields)


def test_what_is_asked_does_not_grow_with_the_rules() -> None:
    """The structure, not the time: an INVITE looks as much up with 10,000 rules as with 10, and what it finds
    is one rule each time."""
    invite = replace(world.invite(0), headers=(("x-account", "7"),), peer="p7", request_user="00007")

    def claims(count: int) -> list[object]:
        rules = [AccountRule(account="a", peer=f"p{number}") for number in range(count)]
        rules += [AccountRule(account="a", header="x-account", header_value=str(n)) for n in range(count)]
        rules += [AccountRule(account="a", called_prefix=f"{number:05}") for number in range(count)]
        found = AccountRules(rules)._claims_on(invite, asserts_identity=True, account_at=str)
        return [claim.later if claim is not None else "" for claim, _ in found]

    assert claims(10) == claims(10_000) == [None, None, None]


# --- routes -------------------------------------------------------------------------------------------------


@given(st.lists(PREFIXES, max_size=8), st.text("123", max_size=6))
def test_the_route_of_the_longest_prefix_is_found_as_if_all_were_asked(
    prefixes: list[str], number: str
) -> None:
    rules = [RouteRule(prefix=prefix, gateways=(f"g{place}",)) for place, prefix in enumerate(prefixes)]
    routes = Routes(rules)
    matching = [rule for rule in rules if number.startswith(rule.prefix)]
    longest = max(matching, key=lambda rule: len(rule.prefix)) if matching else None  # of two the first
    assert routes.match(number) == longest
    assert len(routes) == len(set(prefixes))
    assert [rule.prefix for rule in routes] == sorted(set(prefixes))


def test_routes_are_compared_by_what_they_hold() -> None:
    rule = RouteRule(prefix="49", gateways=("a",))
    assert list(Routes([rule])) == [rule]
    assert Routes([rule]) == Routes([rule, RouteRule(prefix="49", gateways=("b",))])
    assert Routes([rule]) != Routes([RouteRule(prefix="49", gateways=("b",))])
    assert Routes([rule]) != Routes()
    assert Routes() != ()
    assert AccountRules() == AccountRules([])
    assert AccountRules() != AccountRules([AccountRule(account="a", peer="p")])
