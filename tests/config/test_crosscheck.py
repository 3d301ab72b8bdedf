"""Warnings: what works and is probably not meant; and the settings that look alike and deserve none."""

from __future__ import annotations

import pytest

from tests.config.support import PROFILE, Start

LAST = PROFILE.count("\n")
PREPAID = "[accounts.card]\nprepaid = true\n"
GATEWAY = "[gateways.other]\nhost = '127.0.0.2'\nport = 5090\n"

# id, settings, what is added to the profile, the only warning
WARNINGS = [
    (
        "trunk prefix without a country code, by rule",
        "",
        "[[strip_rules]]\nname = 'trunk'\nprefix = '0'\nstrip = 1\n",
        f"profile.toml:{LAST + 1}: strip_rules[0]: strips the trunk prefix 0 and adds no country code",
    ),
    (
        "trunk prefix without a country code, everywhere",
        "[vos3000]\nSERVER_BILLING_GATEWAY_ROUTE_PREFIX = 1\n",
        "",
        "sidecar.toml:2: SERVER_BILLING_GATEWAY_ROUTE_PREFIX: strips 1: if that digit is a trunk prefix 0",
    ),
    (
        "the same, by account",
        "[accounts.a]\nstrip_digits = 1\n",
        "",
        "sidecar.toml:2: accounts.a.strip_digits: strips 1",
    ),
    (
        "the same, by gateway",
        "",
        GATEWAY + "strip_digits = 1\n",
        f"profile.toml:{LAST + 4}: gateways.other.strip_digits: strips 1",
    ),
    (
        "the same, by peer",
        "",
        "[peers.x]\naddresses = ['10.0.0.1']\nstrip_digits = 1\n",
        f"profile.toml:{LAST + 3}: peers.x.strip_digits: strips 1",
    ),
    (
        "timeouts unrecorded, with prepaid accounts",
        PREPAID + "[billing]\nrecord_server_hang_up.timeout = false\n",
        "",
        (
            "billing.record_server_hang_up.timeout: free calls: those that end by timeout are "
            "neither recorded nor charged, and there are prepaid account card"
        ),
    ),
    (
        "credit unrecorded, with prepaid accounts",
        PREPAID + "[billing.record_server_hang_up]\ncredit = false\n",
        "",
        "billing.record_server_hang_up.credit: free calls: those that end by credit",
    ),
    (
        "a gateway without records, with prepaid accounts",
        PREPAID,
        GATEWAY + "record_server_hang_up = false\n",
        f"profile.toml:{LAST + 4}: gateways.other.record_server_hang_up: free calls",
    ),
    (
        "prepaid calls carried without a rate",
        PREPAID + "on_no_rate = 'carry'\n",
        "",
        "sidecar.toml:3: accounts.card.on_no_rate: free calls: a prepaid call without a rate costs nothing",
    ),
    (
        "reserved minutes",
        "[billing]\nprevent_overdraft_advance_min = 2\n",
        "",
        "sidecar.toml:2: billing.prevent_overdraft_advance_min: is accepted, but not yet in force",
    ),
    (
        "a gateway that no route reaches",
        "",
        GATEWAY + "[[routes]]\nprefix = ''\ngateways = ['carrier']\n",
        f"profile.toml:{LAST + 1}: gateways.other: no route leads to it",
    ),
    (
        "the whole internet",
        "",
        "[peers.all]\naddresses = ['::/0']\n",
        f"profile.toml:{LAST + 2}: peers.all.addresses: ::/0: the whole internet may call",
    ),
    (
        "metrics for everybody",
        "[metrics]\nlisten = '10.0.0.1:9494'\n",
        "",
        "metrics have no password, and 10.0.0.1 is not",
    ),
    (
        "a password in the clear",
        "[mqtt]\nbroker = 'external'\nhost = 'b.example'\nusername = 'u'\npassword_file = 'sidecar.toml'\n",
        "",
        "sidecar.toml:5: mqtt.password_file: the password and the CDRs go to the broker in the clear",
    ),
    (
        "no default deck",
        "[decks]\nsecond = 'demo'\n",
        "",
        "profile.toml: billing.deck: there is no default sell deck: calls of account _ are unrated",
    ),
]


@pytest.mark.parametrize(
    ("settings", "added", "expected"),
    [row[1:] for row in WARNINGS],
    ids=[row[0] for row in WARNINGS],
)
def test_what_is_probably_not_meant_is_one_warning(
    start: Start, settings: str, added: str, expected: str
) -> None:
    shown = start.shown(start.load(settings, PROFILE + added).warnings)
    assert len(shown) == 1, shown
    assert expected in shown[0]


def test_flag_0_with_prepaid_accounts_warns_of_both_timeout_and_credit(start: Start) -> None:
    shown = start.shown(
        start.load(PREPAID + "[vos3000]\nSERVER_BILLING_RECORD_SERVER_HANG_UP = 0\n").warnings
    )
    assert len(shown) == 2
    assert all("SERVER_BILLING_RECORD_SERVER_HANG_UP: free calls" in line for line in shown)


def test_a_gateway_slower_than_the_ring_time_is_never_failed_over_from(start: Start) -> None:
    shown = start.shown(start.load("[timers]\nring_timeout_s = 3\n", PROFILE + GATEWAY).warnings)
    assert len(shown) == 2
    assert all("the next gateway is never tried" in line for line in shown)


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        ("[vos3000]\nSERVER_BILLING_RECORD_SERVER_HANG_UP = 0\n", ""),  # nobody is prepaid
        (PREPAID + "[billing]\nrecord_server_hang_up.admin = false\n", ""),
        (PREPAID + "[billing]\nrecord_fault = false\n", ""),
        (
            PREPAID + "[billing.record_server_hang_up]\nall = false\ntimeout = true\ncredit = true\n",
            "",
        ),
        ("", "[[strip_rules]]\nname = 'trunk'\nprefix = '0'\nstrip = 1\nadd = '49'\n"),
        ("", "[[strip_rules]]\nname = 'international'\nprefix = '00'\nstrip = 2\n"),
        ("[billing]\nstrip_digits = 2\n", ""),
        ("[timers]\nring_timeout_s = 3\n", ""),  # one gateway: there is no next one
        (
            "[mqtt]\nbroker = 'external'\nhost = 'localhost'\nusername = 'u'\npassword_file = 'sidecar.toml'",
            "",
        ),
        ("[accounts.a]\n", ""),
    ],
)
def test_what_only_looks_like_it_is_no_warning(start: Start, settings: str, added: str) -> None:
    assert start.shown(start.load(settings, PROFILE + added).warnings) == []


def test_an_account_without_a_deck_is_warned_of(start: Start) -> None:
    shown = start.shown(start.load("[accounts.a]\n", PROFILE.replace('demo = "demo"', "")).warnings)
    assert any("sidecar.toml:1: accounts.a: has no deck: its calls are unrated" in line for line in shown)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("port = 5060", "port = 5061"),
        ("tls_names = ['a']", "tls_names = ['b']"),
    ],
)
def test_groups_that_a_port_or_a_certificate_tells_apart_may_share_addresses(
    start: Start, first: str, second: str
) -> None:
    tls = 'listen_tls = ["127.0.0.1:0"]\ntls_certificate_file = "x"\ntls_key_file = "x"\ntls_ca_file = "x"\n'
    (start.folder / "x").write_text("")
    profile = PROFILE.replace("[peers.local]", f"{tls}[peers.local]")
    profile += (
        f"[peers.x]\naddresses = ['10.0.0.1']\n{first}\n[peers.y]\naddresses = ['10.0.0.0/8']\n{second}\n"
    )
    assert start.problems(profile=profile) == ()


def test_an_account_may_stand_in_the_settings_file_or_in_the_profile_but_not_in_both(start: Start) -> None:
    assert start.shown(start.problems("[accounts.a]\n", PROFILE + "[accounts.a]\n")) == [
        f"profile.toml:{LAST + 1}: accounts.a: is an account of sidecar.toml:1 too"
    ]
