"""The policy as a value: a change gives another, and nothing of the one before is touched."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from sidecar.core.account_terms import AccountKind
from sidecar.core.policy import SERVER_FAILURES, Account, Peer, RouteRule, Routes, Share
from sidecar.core.tariff import Deck
from tests.policies import declared_policy

ACME = Account(name="acme", currency="EUR", margin_floor=Decimal("0.2"))
BELL = Account(name="bell", currency="USD", kind=AccountKind.PREPAID)
POLICY = declared_policy(
    accounts={"acme": ACME, "bell": BELL},
    account_addresses=[("192.0.2.0/24", "acme")],
    routes=[RouteRule(prefix="49", gateways=("next_hop",))],
)


@pytest.mark.parametrize(
    ("addresses", "set_to", "shares"),
    [
        (("192.0.2.1/32", "192.0.2.2/32"), None, True),
        (("192.0.2.1", "2001:db8::1"), None, True),
        (("2001:db8::1/128",), None, True),
        (("192.0.2.0/31",), None, False),
        (("2001:db8::/32",), None, False),
        (("192.0.2.1/32", "2001:db8::/127"), None, False),
        (("192.0.2.1/32",), False, False),
        (("192.0.2.0/24",), True, True),
    ],
)
def test_a_group_of_single_addresses_shares_its_dialogs_unless_it_is_said(
    addresses: tuple[str, ...], set_to: bool | None, shares: bool
) -> None:
    assert Peer(name="p", addresses=addresses, shared_dialogs=set_to).shares_dialogs is shares


def test_an_account_that_is_there_stays_as_it_is() -> None:
    other = replace(ACME, kind=AccountKind.PREPAID)
    assert POLICY.with_account(other) is POLICY
    made = POLICY.with_account(Account(name="made", currency="EUR"))
    assert made.account_terms("made").currency == "EUR"
    assert "made" not in POLICY.accounts
    assert len(made.accounts) == 3


def test_of_what_the_store_has_the_settings_hold() -> None:
    stored = [replace(ACME, kind=AccountKind.PREPAID), Account(name="made", currency="EUR")]
    blocks = [("192.0.2.0/24", "made"), ("192.0.2.7/32", "made")]
    started = POLICY.with_stored(stored, blocks)
    assert {name: account.prepaid for name, account in started.accounts.items()} == {
        "acme": False,
        "bell": True,
        "made": False,
    }
    assert dict(started.account_addresses) == {"192.0.2.0/24": "acme", "192.0.2.7/32": "made"}
    assert started.without_address("192.0.2.0/24") is started
    assert dict(started.without_address("192.0.2.7").account_addresses) == {"192.0.2.0/24": "acme"}


def test_an_address_block_comes_and_goes() -> None:
    more = POLICY.with_address("192.0.2.7", "bell")
    assert more.account_addresses.account_of("192.0.2.7:5060") == "bell"
    assert more.without_address("192.0.2.7").account_addresses.account_of("192.0.2.7:5060") == "acme"
    assert POLICY.account_addresses.at("192.0.2.7") is None


def test_a_call_that_nobody_claims_has_terms_too() -> None:
    terms = replace(POLICY, default_currency="CHF", margin_floor=Decimal("0.1")).account_terms("_")
    assert (terms.name, terms.currency, terms.prepaid, terms.margin_floor) == (
        "_",
        "CHF",
        False,
        Decimal("0.1"),
    )


def test_a_margin_floor_is_the_accounts_own_or_the_nodes() -> None:
    assert POLICY.account_terms("acme") is ACME
    assert POLICY.account_terms("bell") is BELL
    strict = replace(POLICY, margin_floor=Decimal("0.1"))
    assert [strict.account_terms(name).margin_floor for name in ("acme", "bell")] == [
        Decimal("0.2"),
        Decimal("0.1"),
    ]


def test_the_longest_prefix_is_matched() -> None:
    routes = Routes(
        RouteRule(prefix=prefix, gateways=(name,))
        for prefix, name in (("493012", "b"), ("49", "a"), ("49", "c"), ("1", "d"))
    )
    matched = [routes.match(number) for number in ("4930129", "49301", "49", "4", "1", "")]
    assert [rule and rule.gateways for rule in matched] == [("b",), ("a",), ("a",), None, ("d",), None]
    assert [rule.prefix for rule in routes] == ["1", "49", "493012"]


def test_a_deck_takes_the_place_of_the_one_of_its_name() -> None:
    one, other, newer = (Deck(name, ()) for name in ("one", "other", "newer"))
    policy = replace(POLICY, decks={}).with_deck("sell", one).with_deck("buy", other)
    assert policy.with_deck("sell", newer).decks == {"sell": newer, "buy": other}
    assert policy.decks == {"sell": one, "buy": other}


def test_what_people_are_shown_is_in_order() -> None:
    names = [str(number) for number in range(70, 40, -1)]
    routes = Routes(RouteRule(prefix=name, gateways=("a",)) for name in names)
    assert [rule.prefix for rule in routes] == sorted(names)


def test_a_share_is_one_part_unless_it_says_more() -> None:
    assert (Share(gateway="a").weight, Share(gateway="a", weight=3).weight) == (1, 3)


def test_failures_of_a_server_are_all_of_the_5xx() -> None:
    assert [code for code in (499, 500, 599, 600) if code in SERVER_FAILURES] == [500, 599]
