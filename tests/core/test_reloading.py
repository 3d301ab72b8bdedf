"""What a reload changes: the lines that people read, and the policy of calls to come."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.account_rules import AccountRule, AccountRules
from sidecar.core.account_terms import AccountKind
from sidecar.core.fraud_rules import FraudRule, Measure, Scope
from sidecar.core.policy import Account, Peer, Policy, RouteRule, Routes
from sidecar.core.reloading import (
    currencies_that_cannot_change,
    policies_differ,
    sharing,
    taken_over,
    terms_that_change,
    texts_differ,
    with_changes,
)
from sidecar.core.screening import NumberLists, Screening
from sidecar.core.tariff import Deck
from sidecar.core.windows import Window
from tests.policies import declared_gateway, declared_policy

ACME, BELL = Account(name="acme", currency="EUR"), Account(name="bell", currency="EUR")
MADE = Account(name="made", currency="EUR", kind=AccountKind.PREPAID)
WEST = declared_gateway(name="west", host="192.0.2.1", port=5060)
READ = declared_policy(
    accounts={"acme": ACME, "bell": BELL},
    account_addresses=[("192.0.2.0/24", "acme")],
    peers={"one": Peer(name="one", addresses=("192.0.2.1",)), "two": Peer(name="two", addresses=("::/0",))},
    gateways={"west": WEST},
    routes=[RouteRule(prefix="49", gateways=("west",))],
    decks={"sell": Deck("first", ())},
)
NOW = replace(READ.with_stored([MADE], [("198.51.100.0/24", "made")]), settings_revision=7)


def after(**fields: Any) -> Policy:
    return taken_over(NOW, READ, replace(READ, **fields))


def told(policy: Policy) -> list[str]:
    return list(map(str, policies_differ(NOW, policy)))


def test_the_same_settings_differ_in_nothing_and_keep_what_commands_made() -> None:
    same = after()
    assert told(same) == []
    assert same.accounts is NOW.accounts
    assert same.account_addresses is NOW.account_addresses
    assert terms_that_change(NOW, same) == []
    assert same.settings_revision == 7


def test_each_table_says_what_has_come_and_gone_and_changed() -> None:
    east = replace(WEST, name="east")
    changed = after(
        peers={"two": READ.peers["two"], "one": replace(READ.peers["one"], calls_max=5)},
        gateways={"west": replace(WEST, host="192.0.2.2"), "east": east},
        routes=Routes([RouteRule(prefix="", gateways=("east", "west"))]),
        account_rules=AccountRules([AccountRule(account="acme", called_prefix="49")]),
        screenings={"acme": Screening(numbers=NumberLists(blocked=frozenset({"9", "1"})))},
        q850_of_sip={486: 17},
        decks={"sell": Deck("second", ()), "buy": Deck("third", ())},
    )
    assert told(changed) == [
        "~ peers.one.calls_max: none -> 5",
        "~ peers: [one, two] -> [two, one]",
        "+ gateways.east",
        "~ gateways.west.host: 192.0.2.1 -> 192.0.2.2",
        "+ routes.* = [east, west]",
        "- routes.49 = [west]",
        "~ accounts.acme.numbers: {} -> {blocked [1, 9]}",
        "+ account_rules[1] = {account acme, called_prefix 49}",
        "+ decks.buy = revision third",
        "~ decks.sell: revision first -> revision second",
        "+ q850.486 = 17",
    ]


def test_what_was_read_again_is_made_of_what_was_read_before() -> None:
    other = declared_policy(
        accounts={"acme": replace(ACME), "new": Account(name="new", currency="EUR")},
        account_addresses=[("192.0.2.0/24", "acme")],
    )
    shared = sharing(READ, other)
    assert dict(shared.accounts) == dict(other.accounts)
    assert shared.accounts["acme"] is READ.accounts["acme"]
    assert shared.account_addresses is READ.account_addresses
    assert replace(shared, accounts=other.accounts, account_addresses=other.account_addresses) == other
    assert dict(sharing(other, READ).accounts) == dict(READ.accounts)


def test_an_account_that_the_settings_have_no_more_stays_in_the_books() -> None:
    dear = replace(READ, accounts=READ.accounts.plus("bell", replace(BELL, tax_rate=Decimal("0.2"))))
    now = replace(NOW, accounts=NOW.accounts.plus("bell", dear.accounts["bell"]))
    gone = taken_over(now, dear, replace(READ, accounts=READ.accounts.minus("bell")))
    assert gone.accounts["bell"] == BELL, "what the settings alone said of it goes with them"
    assert gone.accounts["made"] is MADE
    assert list(map(str, policies_differ(now, gone))) == [
        "- accounts.bell",
        "~ accounts.bell.tax_rate: 0.2 -> 0",
    ]


def test_an_account_keeps_that_a_command_has_disabled_it() -> None:
    disabled = replace(ACME, disabled_by_command=True)
    now = replace(NOW, accounts=NOW.accounts.plus("acme", disabled))
    read = replace(READ, accounts=READ.accounts.plus("acme", replace(ACME, kind=AccountKind.PREPAID)))
    changed = taken_over(now, READ, read)
    assert changed.accounts["acme"] == replace(disabled, kind=AccountKind.PREPAID)
    assert terms_that_change(now, changed) == [changed.accounts["acme"].terms]
    dollars = replace(READ, accounts=READ.accounts.plus("acme", replace(ACME, currency="USD")))
    assert list(currencies_that_cannot_change(now, taken_over(now, READ, dollars))) == [
        "accounts.acme: is kept in EUR, and cannot change to USD"
    ]


def test_blocks_of_the_settings_come_before_those_of_commands() -> None:
    read = declared_policy(
        accounts={"acme": ACME, "bell": BELL}, account_addresses=[("198.51.100.0/24", "bell")]
    )
    changed = taken_over(NOW, READ, read)
    assert dict(changed.account_addresses) == {"198.51.100.0/24": "bell"}
    back = taken_over(changed, read, READ)
    assert dict(back.account_addresses) == {"192.0.2.0/24": "acme"}


def test_a_deck_that_a_command_put_in_force_stays() -> None:
    now = NOW.with_deck("sell", Deck("by command", ()))
    read = replace(READ, decks={"sell": Deck("second", ())})
    assert taken_over(now, READ, read).decks["sell"].revision == "by command"
    assert taken_over(NOW, READ, read).decks["sell"].revision == "second"


def test_what_commands_changed_meanwhile_is_in_it_and_the_terms_of_the_settings_hold() -> None:
    read = replace(READ, accounts=READ.accounts.plus("acme", replace(ACME, kind=AccountKind.PREPAID)))
    made = taken_over(NOW, READ, read)
    terms = terms_that_change(NOW, made)
    changes = [
        lambda policy: policy.with_account(Account(name="late", currency="EUR")),
        lambda policy: policy.with_terms(replace(ACME.terms, disabled_by_command=True)),
        lambda policy: policy.without_address("203.0.113.0/24"),  # it was there before alone
    ]
    found = with_changes(made, changes, terms)
    assert "late" in found.accounts
    assert found.accounts["acme"].kind is AccountKind.PREPAID
    assert found.accounts["acme"].disabled_by_command
    assert with_changes(made, [], terms) is made


def test_a_long_value_is_cut() -> None:
    [line] = texts_differ({"a": "1"}, {"a": "1", "b": ""})
    assert str(line) == "+ b"
    many = Routes([RouteRule(prefix="1", gateways=tuple(f"gateway{number}" for number in range(100)))])
    assert max(map(len, told(after(routes=many)))) < 330


RULE = FraudRule(
    name="night", scope=Scope.ACCOUNT, measure=Measure.SHORT_CALLS, threshold=Decimal("0.5"), window_s=60
)


@pytest.mark.parametrize(
    "change",
    [
        {"prefixes": ("882",)},
        {"except_accounts": ("acme",)},
        {"except_prefixes": ("4930",)},
        {"least_calls": 50},
        {"short_s": 3},
        {"hours": (Window(days=32, start_minute=0, end_minute=60, zone="UTC"),)},
        {"threshold": Decimal("0.6")},
    ],
    ids=str,
)
def test_a_change_of_any_field_of_a_fraud_rule_is_a_difference(change: dict[str, Any]) -> None:
    before = replace(READ, fraud_rules=(RULE,))
    (one,) = policies_differ(before, replace(before, fraud_rules=(replace(RULE, **change),)))
    assert str(one).startswith(f"~ fraud_rules.night.{next(iter(change))}: ")


def test_what_differs_only_behind_what_is_shown_is_a_difference() -> None:
    many = tuple(f"gateway{number}" for number in range(100))
    before = replace(READ, routes=Routes([RouteRule(prefix="", gateways=(*many, "west"))]))
    (one,) = policies_differ(
        before, replace(READ, routes=Routes([RouteRule(prefix="", gateways=(*many, "east"))]))
    )
    assert one.key == "routes.*"
    rules = [AccountRules([AccountRule(account="acme", called_prefix="1" * 400 + last)]) for last in "23"]
    (one,) = policies_differ(*(replace(READ, account_rules=one) for one in rules))
    assert one.key == "account_rules[1]"
