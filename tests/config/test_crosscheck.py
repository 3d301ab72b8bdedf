"""Warnings: what works and is probably not meant; and the settings that look alike and deserve none."""

from __future__ import annotations

import grp
import ipaddress
import os
import re
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config.crosscheck import SECRETS
from sidecar.config.settings import DECLARED
from sidecar.wiring.bridge import bridge_settings, tls_settings
from tests.config.support import PROFILE, Start
from tests.core.fraud_samples import sample_text

LAST = PROFILE.count("\n")
PREPAID = "[accounts.card]\nprepaid = true\n"
GATEWAY = "[gateways.other]\nhost = '127.0.0.2'\nport = 5090\n"

FRAUD_RULE = (
    "[[fraud_rules]]\nname = 'fast'\nscope = '{scope}'\nmeasure = 'calls'\nthreshold = 5\nwindow_s = 60\n"
)

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
        "an extension that is asked for as the slice begins",
        "[billing]\nslice_s = 2\nextend_guard_ms = 2_000\n",
        "",
        "sidecar.toml:3: billing.extend_guard_ms: is no shorter than a slice (2 s): calls hold one more",
    ),
    (
        "a gateway that no route reaches",
        "",
        GATEWAY + "[[routes]]\nprefix = ''\ngateways = ['carrier']\n",
        f"profile.toml:{LAST + 1}: gateways.other: no route leads to it",
    ),
    (
        "fail-over although the callee has answered",
        "[sip]\nfailover_codes = ['5xx', 486]\n",
        "",
        "sidecar.toml:2: sip.failover_codes: 486: so the callee answers (480, 486, 6xx), not the gateway",
    ),
    (
        "fail-over although the callee has answered, at one gateway",
        "",
        GATEWAY + "failover_codes = ['603']\n",
        f"profile.toml:{LAST + 4}: gateways.other.failover_codes: 603: so the callee answers",
    ),
    (
        "fail-over although the callee has answered, by class",
        "",
        GATEWAY + "failover_codes = ['4xx']\n",
        f"profile.toml:{LAST + 4}: gateways.other.failover_codes: 4xx: so the callee answers",
    ),
    (
        "a gateway that has longer to ring than the call",
        "[timers]\nring_timeout_s = 20\n",
        GATEWAY + "no_progress_failover_s = 20\n",
        f"profile.toml:{LAST + 4}: gateways.other.no_progress_failover_s: 20 s are never reached",
    ),
    (
        "the whole internet",
        "",
        "[peers.all]\naddresses = ['::/0']\n",
        f"profile.toml:{LAST + 2}: peers.all.addresses: ::/0: the whole internet may call",
    ),
    (
        "parties sent past the bill",
        "[sip]\nrefer = 'pass'\n",
        "",
        "sidecar.toml:2: sip.refer: parties are sent where a REFER says: those calls may go past the bill",
    ),
    (
        "callers sent past the bill",
        "[sip]\nredirect = 'pass'\n",
        "",
        "sidecar.toml:2: sip.redirect: callers are sent where a 3xx says: those calls may go past the bill",
    ),
    (
        "callers of one gateway sent past the bill",
        "",
        GATEWAY + "redirect = 'pass'\n",
        f"profile.toml:{LAST + 4}: gateways.other.redirect: callers are sent where a 3xx says",
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
    (
        "a fraud rule that may refuse every call of the node",
        FRAUD_RULE.format(scope="node") + "mode = 'refuse'\n",
        "",
        "sidecar.toml:7: fraud_rules[0].mode: once it has fired, every call of whatever account is refused",
    ),
    (
        "a fraud rule that excepts an account that is not there",
        "[accounts.acme]\n" + FRAUD_RULE.format(scope="account") + "except_accounts = ['acmy']\n",
        "",
        (
            "sidecar.toml:8: fraud_rules[0].except_accounts: there is no account 'acmy' in the settings; one "
            "may be made by command; did you mean 'acme'?"
        ),
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


EXTERNAL = "[mqtt]\nbroker = 'external'\nhost = 'b.example'\n"
OWN = "sidecar.toml"  # a file that can be read


@pytest.mark.parametrize(
    "line",
    [
        "host = 'b'",
        "tls = true",
        f"ca_file = '{OWN}'",
        f"certificate_file = '{OWN}'",
        f"key_file = '{OWN}'",
        "username = 'u'",
        f"password_file = '{OWN}'",
    ],
)
def test_the_embedded_broker_takes_nothing_of_an_external_one(start: Start, line: str) -> None:
    [shown] = start.shown(start.problems(f"[mqtt]\n{line}\n"))
    assert shown.startswith(f"sidecar.toml:2: mqtt.{line.split(maxsplit=1)[0]}: is of an external broker")


@pytest.mark.parametrize("line", ["tls = false", "host = ''", "username = ''"])
def test_what_is_given_as_nothing_suits_the_embedded_broker(start: Start, line: str) -> None:
    assert start.problems(f"[mqtt]\n{line}\n") == ()


@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "key_file"])
def test_the_files_of_tls_need_it(start: Start, key: str) -> None:
    shown = start.shown(start.problems(f"{EXTERNAL}{key} = '{OWN}'\n"))
    assert f"sidecar.toml:4: mqtt.{key}: is of TLS: set mqtt.tls = true" in shown


@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "key_file", "password_file"])
def test_every_file_of_a_broker_is_looked_for(start: Start, key: str) -> None:
    files = dict.fromkeys(("ca_file", "certificate_file", "key_file", "password_file"), OWN)
    lines = "".join(f"{name} = '{path}'\n" for name, path in {**files, key: "none.pem"}.items())
    [shown] = start.shown(start.problems(f"{EXTERNAL}tls = true\nusername = 'u'\n{lines}"))
    assert f"mqtt.{key}: there is no file none.pem" in shown
    assert start.problems(f"{EXTERNAL}tls = true\nusername = 'u'\n{lines.replace('none.pem', OWN)}") == ()


@pytest.mark.parametrize("key", ["certificate_file", "key_file"])
def test_a_certificate_and_its_key_go_together(start: Start, key: str) -> None:
    [shown] = start.shown(start.problems(f"{EXTERNAL}tls = true\nusername = 'u'\n{key} = '{OWN}'\n"))
    assert shown.startswith("sidecar.toml:6: mqtt.certificate_file: a certificate and its private key")


@pytest.mark.parametrize(
    ("host", "is_clear"),
    [("localhost", False), ("::1", False), ("127.0.0.9", False), ("127x.example", True), ("10.0.0.1", True)],
)
def test_a_password_is_in_the_clear_but_to_this_machine(start: Start, host: str, is_clear: bool) -> None:
    settings = f"{EXTERNAL.replace('b.example', host)}username = 'u'\npassword_file = '{OWN}'\n"
    assert len(start.load(settings).warnings) == is_clear


@pytest.mark.parametrize("key", ["tls_certificate_file", "tls_key_file", "tls_ca_file"])
def test_every_file_of_sip_over_tls_is_looked_for(start: Start, key: str) -> None:
    [shown] = start.shown(start.problems(f"[sip]\n{key} = 'none.pem'\n"))
    assert f"sip.{key}: there is no file none.pem" in shown


@pytest.mark.parametrize("key", ["tls_certificate_file", "tls_key_file"])
def test_to_listen_over_tls_takes_both_files(start: Start, key: str) -> None:
    profile = PROFILE.replace("[sip]", "[sip]\nlisten_tls = ['127.0.0.1:5061']")
    [shown] = start.shown(start.problems(f"[sip]\n{key} = '{OWN}'\n", profile))
    assert "sip.listen_tls: needs sip.tls_certificate_file and sip.tls_key_file" in shown


def test_two_ports_that_the_system_chooses_are_two(start: Start) -> None:
    files = f"[sip]\ntls_certificate_file = '{OWN}'\ntls_key_file = '{OWN}'\n"
    listening = "[sip]\nlisten_tcp = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']"
    assert start.problems(files, PROFILE.replace("[sip]", listening)) == ()


def test_names_of_certificates_that_nobody_shows_are_one_error(start: Start) -> None:
    profile = f"{PROFILE}[peers.x]\naddresses = ['10.0.0.1']\ntls_names = ['a']\n"
    [shown] = start.shown(start.problems(profile=profile))
    assert shown.endswith("peers.x.tls_names: can never match: there is no sip.listen_tls")


def test_certificates_of_peers_need_an_authority_to_be_verified_against(start: Start) -> None:
    """Without one any certificate with the right name in it would do."""
    files = f"[sip]\ntls_certificate_file = '{OWN}'\ntls_key_file = '{OWN}'\n"
    listening = PROFILE.replace("[sip]\n", "[sip]\nlisten_tls = ['127.0.0.1:0']\n")
    profile = f"{listening}[peers.x]\naddresses = ['10.0.0.1']\ntls_names = ['a']\n"
    [shown] = start.shown(start.problems(files, profile))
    said = "certificates of peers are verified against sip.tls_ca_file: it is missing"
    assert shown.endswith(f"peers.x.tls_names: {said}")
    assert start.problems(f"{files}tls_ca_file = '{OWN}'\n", profile) == ()
    assert start.problems(files, listening) == ()


def test_a_certificate_of_a_gateway_is_verified_only_by_an_authority_that_is_named(start: Start) -> None:
    files = f"[sip]\ntls_certificate_file = '{OWN}'\ntls_key_file = '{OWN}'\n"
    gateway = "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntransport = 'tls'\ntls_names = ['a']\n"
    profile = PROFILE.replace("[sip]\n", "[sip]\nlisten_tls = ['127.0.0.1:0']\n") + gateway
    [shown] = start.shown(start.problems(files, profile))
    assert shown.endswith("gateways.x.tls_names: its certificate is verified only with sip.tls_ca_file")
    assert start.problems(f"{files}tls_ca_file = '{OWN}'\n", profile) == ()


def test_names_of_certificates_reach_the_bridge(start: Start) -> None:
    files = "".join(f"tls_{kind}_file = '{OWN}'\n" for kind in ("certificate", "key", "ca"))
    loaded = start.load(
        f"[sip]\n{files}",
        PROFILE.replace("[sip]\n", "[sip]\nlisten_tls = ['127.0.0.1:0']\n")
        + "[peers.x]\naddresses = ['10.0.0.1']\ntls_names = ['a', 'b']\n"
        + "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntransport = 'tls'\ntls_names = ['c']\n",
    )
    bridge = bridge_settings(loaded.settings, loaded.policy)
    assert {peer.name: peer.tls_names for peer in bridge.peers}["x"] == ("a", "b")
    assert bridge.gateway_tls_names == (("10.0.0.1", ("c",)),)


TLS_FILES = "".join(f"tls_{kind}_file = '{OWN}'\n" for kind in ("certificate", "key"))
OVER_TLS = PROFILE.replace("[sip]\n", "[sip]\nlisten_tls = ['127.0.0.1:0']\n")
PEER_X = "[peers.x]\naddresses = ['10.0.0.0/24']\n"
GATEWAY_X = "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntransport = 'tls'\n"
OWN_CA = "tls_ca_file = 'profile.toml'\n"  # relative to the profile


def test_an_authority_of_ones_own_reaches_the_bridge(start: Start) -> None:
    profile = f"{OVER_TLS}{PEER_X}{OWN_CA}{GATEWAY_X}{OWN_CA}"
    loaded = start.load(f"[sip]\n{TLS_FILES}", profile)
    bridge = bridge_settings(loaded.settings, loaded.policy)
    file = str(start.folder / "profile.toml")
    assert {peer.name: peer.tls_ca for peer in bridge.peers}["x"] == file
    assert bridge.gateway_tls_cas == (("10.0.0.1", file),)
    names = tls_settings(loaded.settings)
    own = str(start.folder / OWN)
    assert names == {file: "gateways.x.tls_ca_file", own: "sip.tls_certificate_file"}


@pytest.mark.parametrize(
    "profile",
    [
        f"{OVER_TLS}{PEER_X}tls_names = ['a']\n{OWN_CA}",
        f"{OVER_TLS}{GATEWAY_X}tls_names = ['a']\n{OWN_CA}",
        f"{OVER_TLS}{PEER_X}{OWN_CA}{GATEWAY_X}tls_names = ['a']\n",  # that of its group
    ],
)
def test_names_are_verified_by_an_authority_of_ones_own(start: Start, profile: str) -> None:
    assert start.problems(f"[sip]\n{TLS_FILES}", profile) == ()


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (f"{OVER_TLS}{PEER_X}tls_ca_file = 'none'\n", "peers.x.tls_ca_file: there is no file "),
        (f"{OVER_TLS}{GATEWAY_X}tls_ca_file = 'none'\n", "gateways.x.tls_ca_file: there is no file "),
        (f"{PROFILE}{PEER_X}{OWN_CA}", "peers.x.tls_ca_file: can never match: there is no sip.listen_tls"),
        (
            f"{OVER_TLS}{GATEWAY_X}{OWN_CA}".replace("transport = 'tls'\n", ""),
            'gateways.x.tls_ca_file: needs transport = "tls"',
        ),
        (
            f"{OVER_TLS}{GATEWAY_X}{OWN_CA}{GATEWAY_X}".replace("[gateways.x]", "[gateways.y]", 1)
            + f"tls_ca_file = '{OWN}'\n",
            "gateways.x.tls_ca_file: another gateway at 10.0.0.1 has another: one host has one",
        ),
    ],
)
def test_an_authority_of_ones_own_that_will_not_do_is_one_error(
    start: Start, profile: str, said: str
) -> None:
    [shown] = start.shown(start.problems(f"[sip]\n{TLS_FILES}", profile))
    assert said in shown


def test_urns_that_routes_name_reach_the_bridge(start: Start) -> None:
    rules = ("urn:service:sos", "urn:service:sos.fire", "")
    routes = "".join(f"[[routes]]\nprefix = '{prefix}'\ngateways = ['carrier']\n" for prefix in rules)
    loaded = start.load("", PROFILE + routes)
    bridge = bridge_settings(loaded.settings, loaded.policy)
    assert bridge.carried_urns == ("urn:service:sos", "urn:service:sos.fire")
    assert start.load("", PROFILE).policy.routes.urns == ()


@pytest.mark.parametrize("prefix", ["urn:", "URN:service:sos", "urn:service:", "urn:service:sos*", "sip:sos"])
def test_a_prefix_is_a_number_or_a_urn(start: Start, prefix: str) -> None:
    route = f"[[routes]]\nprefix = '{prefix}'\ngateways = ['carrier']\n"
    [shown] = start.shown(start.problems("", PROFILE + route))
    assert "or a URN in lower case" in shown


def test_prepaid_accounts_that_may_call_for_nothing_are_named_up_to_five(start: Start) -> None:
    flag = "[billing]\nrecord_server_hang_up.timeout = false\n"
    for count, named in ((2, "prepaid accounts p0, p1"), (6, "prepaid accounts p0, p1, p2, p3, p4")):
        accounts = "".join(f"[accounts.p{number}]\nprepaid = true\n" for number in range(count))
        [shown] = start.shown(start.load(accounts + flag).warnings)
        assert shown.endswith(f"there are {named}")


@pytest.mark.parametrize(
    ("code", "is_the_callees"), [("480", True), ("486", True), ("600", True), ("699", True)]
)
def test_codes_of_the_callee(start: Start, code: str, is_the_callees: bool) -> None:
    assert len(start.load(f"[sip]\nfailover_codes = ['{code}']\n").warnings) == is_the_callees


def test_a_gateway_that_waits_as_long_as_the_call_rings_is_warned_of_by_its_own_time(start: Start) -> None:
    timers = "[timers]\nring_timeout_s = 20\n"
    for own, warnings in ((19, 0), (20, 1), (21, 1)):
        shown = start.shown(
            start.load(timers, f"{PROFILE}{GATEWAY}no_response_failover_s = {own}\n").warnings
        )
        assert len(shown) == warnings
        assert all(f"gateways.other: waits {own} s for a first response" in line for line in shown)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("username = 'u'\n", "gateways.other.username: needs password_file beside it"),
        ("password_file = 'profile.toml'\n", "gateways.other.password_file: needs username beside it"),
        ("realm = 'r'\n", "gateways.other.realm: needs username beside it"),
        ("username = 'u'\npassword_file = 'none'\n", "gateways.other.password_file: there is no file"),
    ],
)
def test_the_credentials_of_a_gateway_are_whole(start: Start, lines: str, expected: str) -> None:
    [shown] = start.shown(start.problems(profile=PROFILE + GATEWAY + lines))
    assert shown.startswith(f"profile.toml:{LAST + (5 if 'none' in lines else 4)}: {expected}")


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
        ("[accounts.post]\n[vos3000]\nSERVER_BILLING_RECORD_SERVER_HANG_UP = 0\n", ""),
        ("[accounts.post]\n", GATEWAY + "record_server_hang_up = false\n"),
        (PREPAID + "[billing]\nrecord_server_hang_up.admin = false\n", ""),
        (PREPAID + "[billing]\nrecord_fault = false\n", ""),
        (
            PREPAID + "[billing.record_server_hang_up]\nall = false\ntimeout = true\ncredit = true\n",
            "",
        ),
        ("", "[[strip_rules]]\nname = 'trunk'\nprefix = '0'\nstrip = 1\nadd = '49'\n"),
        ("", "[[strip_rules]]\nname = 'international'\nprefix = '00'\nstrip = 2\n"),
        ("", "[[strip_rules]]\nname = 'outside'\nprefix = '9'\nstrip = 1\n"),
        ("[billing]\nstrip_digits = 2\n", ""),
        ("[timers]\nring_timeout_s = 3\n", ""),  # one gateway: there is no next one
        (
            "[mqtt]\nbroker = 'external'\nhost = 'localhost'\nusername = 'u'\npassword_file = 'sidecar.toml'",
            "",
        ),
        ("[accounts.a]\n", ""),
        ("[accounts.a]\non_no_rate = 'carry'\n", ""),  # postpaid: that is what happens anyway
        ("[mqtt]\nbroker = 'external'\nhost = '10.0.0.1'\nusername = 'u'\n", ""),  # no password
    ],
)
def test_what_only_looks_like_it_is_no_warning(start: Start, settings: str, added: str) -> None:
    assert start.shown(start.load(settings, PROFILE + added).warnings) == []


def test_a_group_for_the_control_socket_exists_on_this_machine(start: Start) -> None:
    problems = start.problems("[control]\ngroup = 'no_such_group'\n")
    [text] = start.shown(problems)
    assert text.startswith("sidecar.toml:2: control.group: there is no group ")
    own = grp.getgrgid(os.getgid()).gr_name
    assert start.load(f"[control]\ngroup = '{own}'\n").settings.control.group == own
    assert start.load("[control]\ngroup = ''\n").settings.control.group == ""


def test_an_account_without_a_deck_is_warned_of(start: Start) -> None:
    shown = start.shown(start.load("[accounts.a]\n", PROFILE.replace('demo = "demo"', "")).warnings)
    assert any("sidecar.toml:1: accounts.a: has no deck: its calls are unrated" in line for line in shown)


def test_groups_that_a_port_tells_apart_may_share_addresses(start: Start) -> None:
    added = "[peers.x]\naddresses = ['10.0.0.1']\nport = 1\n[peers.y]\naddresses = ['10.0.0.0/8']\nport = 2\n"
    assert start.problems(profile=PROFILE + added) == ()


def test_a_group_may_hold_a_block_twice_over(start: Start) -> None:
    added = "[peers.x]\naddresses = ['10.0.0.0/8', '10.1.0.0/16', '10.1.1.1', '11.0.0.0/8']\n"
    assert start.problems(profile=PROFILE + added) == ()


def test_ten_thousand_addresses_in_ten_groups_are_checked_in_a_moment(start: Start) -> None:
    groups = [
        f"[peers.x{group}]\naddresses = {[f'10.{group}.{n // 256}.{n % 256}' for n in range(1_000)]}\n"
        for group in range(10)
    ]
    problems = start.problems(profile=PROFILE + "".join(groups) + "[peers.y]\naddresses = ['10.9.3.231']\n")
    assert len(problems) == 1
    assert "peers.y.addresses: 10.9.3.231/32 overlaps 10.9.3.231/32 of peers.x9" in str(problems[0])


NETWORKS = st.tuples(st.integers(0, 2**8 - 1), st.integers(24, 32)).map(
    lambda pair: str(ipaddress.ip_network((0x0A000000 + pair[0], pair[1]), strict=False))
)


@given(st.lists(st.lists(NETWORKS, min_size=1, max_size=4, unique=True), min_size=2, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_overlaps_are_those_that_comparing_every_pair_finds(start: Start, groups: list[list[str]]) -> None:
    added = "".join(f"[peers.x{place}]\naddresses = {networks}\n" for place, networks in enumerate(groups))
    found = {
        (problem.key.split(".")[1], re.findall(r"of peers\.(x\d+)", problem.text)[0])
        for problem in start.problems(profile=PROFILE + added)
    }
    expected = {
        (f"x{second}", f"x{first}")
        for first, second in combinations(range(len(groups)), 2)
        if any(
            ipaddress.ip_network(one).overlaps(ipaddress.ip_network(other))
            for one in groups[first]
            for other in groups[second]
        )
    }
    assert found == expected


def test_an_account_may_stand_in_the_settings_file_or_in_the_profile_but_not_in_both(start: Start) -> None:
    assert start.shown(start.problems("[accounts.a]\n", PROFILE + "[accounts.a]\n")) == [
        f"profile.toml:{LAST + 1}: accounts.a: is an account of sidecar.toml:1 too"
    ]


# --- the margin floor ---------------------------------------------------------------------------------------

FLOOR = "[billing]\nmargin_floor = '0.1'\nexchange_rates = 'rates.csv'\n"
BUYING = PROFILE.replace("port = 5090", "port = 5090\ndeck = 'usd'") + "usd = 'usd.csv'\n"
USD_DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n"
    "49,Germany,USD,0,0.01,1,1\n"
)


def with_rates(start: Start, base: str) -> Start:
    (start.folder / "usd.csv").write_text(USD_DECK)
    (start.folder / "rates.csv").write_text(
        f"base,quote,rate,valid_from\n{base},EUR,0.9,2026-01-01T00:00:00Z\n"
    )
    return start


def test_exchange_rates_and_floors_reach_the_policy(start: Start) -> None:
    accounts = "[accounts.acme]\nmargin_floor = '0'\ndeck = 'demo'\n[accounts.plain]\ndeck = 'demo'\n"
    more = FLOOR.replace("[billing]\n", "[billing]\ndeck = 'demo'\n")
    loaded = with_rates(start, "USD").load(more + accounts, BUYING)
    assert loaded.warnings == ()
    policy = loaded.policy
    assert policy.margin_floor == Decimal("0.1")
    assert [policy.accounts[name].margin_floor for name in ("acme", "plain")] == [Decimal(0), None]
    assert policy.exchange.pairs() == {("USD", "EUR")}


def test_a_floor_without_an_exchange_rate_is_warned_of(start: Start) -> None:
    settings = FLOOR.replace("[billing]\n", "[billing]\ndeck = 'demo'\n")
    [shown] = start.shown(with_rates(start, "GBP").load(settings, BUYING).warnings)
    assert (
        "gateways.carrier.deck: is in USD: calls sold in EUR that have a margin floor never come here"
        in shown
    )


@pytest.mark.parametrize("vouched", ["asserts_identity", "caller_trusted", ""])
def test_a_deck_that_asks_who_calls_wants_a_peer_that_may_say_it(start: Start, vouched: str) -> None:
    (start.folder / "by-caller.csv").write_text(
        "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,caller_prefix\n"
        "44,UK,EUR,0,0.1,1,1,33\n"
    )
    profile = PROFILE.replace('demo = "demo"', 'demo = "by-caller.csv"')
    profile = profile.replace("asserts_identity = true", f"{vouched} = true" if vouched else "")
    shown = [text for text in start.shown(start.load("", profile).warnings) if "caller_prefix" in text]
    assert len(shown) == (not vouched), shown


def test_a_floor_without_a_buy_deck_is_warned_of(start: Start) -> None:
    [shown] = start.shown(start.load("[billing]\nmargin_floor = '0'\n").warnings)
    assert "gateways.carrier: has no deck: what is bought here is not held against" in shown


@pytest.mark.parametrize(
    ("settings", "sold"),
    [
        ("[billing]\ndeck = 'demo'\nmargin_floor = '0.1'\n", ["EUR"]),  # calls that nobody claims
        ("[billing]\ndeck = 'demo'\n[accounts.a]\n[accounts.b]\nmargin_floor = '0.1'\n", ["EUR"]),
        ("[billing]\ndeck = 'demo'\n[accounts.a]\n", []),
        (
            (
                "[billing]\nmargin_floor = '0.1'\n[sip]\naccount_required = true\n"
                "[accounts.a]\ncurrency = 'USD'\ndeck = 'usd'\n"
            ),
            [],
        ),
        (
            "[billing]\nmargin_floor = '0.1'\n[sip]\naccount_required = true\n[accounts.a]\ndeck = 'demo'\n",
            ["EUR"],
        ),
    ],
)
def test_only_what_is_sold_against_a_floor_needs_an_exchange_rate(
    start: Start, settings: str, sold: list[str]
) -> None:
    rule = "[[account_rules]]\naccount_from = 'header'\nheader = 'x-account'\n"
    shown = start.shown(with_rates(start, "GBP").load(settings, BUYING + rule).warnings)
    assert [re.findall(r"is in USD: calls sold in (\w+)", line) for line in shown] == [[one] for one in sold]


def test_a_carrier_bought_from_in_the_currency_sold_in_needs_no_exchange_rate(start: Start) -> None:
    profile = PROFILE.replace("port = 5090", "port = 5090\ndeck = 'demo'")
    assert start.load("[billing]\ndeck = 'demo'\nmargin_floor = '0.1'\n", profile).warnings == ()


@pytest.mark.parametrize(
    ("deck", "said"),
    [("'none'", "gateways.carrier.deck: there is no deck 'none'"), ("'usd'", "decks.usd: usd.csv")],
    ids=["unknown", "unreadable"],
)
def test_a_carrier_whose_deck_is_not_there_is_not_held_against_a_floor(
    start: Start, deck: str, said: str
) -> None:
    profile = BUYING.replace("'usd'\n", f"{deck}\n", 1)
    with_rates(start, "USD")
    if "usd" in said:
        (start.folder / "usd.csv").write_text("prefix\n")
    shown = start.shown(start.problems(FLOOR, profile))
    assert any(said in line for line in shown), shown


def test_currencies_are_named_in_their_order(start: Start) -> None:
    """Not in that of a set, which differs from one process to the next."""
    others = ["AUD", "CHF", "GBP", "JPY", "NOK", "PLN", "SEK", "USD"]
    rows = [f"{number},Somewhere,{currency},0,0.01,1,1" for number, currency in enumerate(others, 41)]
    (start.folder / "usd.csv").write_text(USD_DECK.splitlines()[0] + "\n" + "\n".join(rows) + "\n")
    settings = "[billing]\ndeck = 'demo'\nmargin_floor = '0.1'\n"
    warned = start.shown(start.load(settings, BUYING).warnings)
    assert [re.findall(r"is in (\w+): calls sold in EUR", line) for line in warned] == [
        [one] for one in others
    ]
    [said] = start.shown(start.problems(settings + "[accounts.a]\ndeck = 'usd'\n", BUYING))
    assert (
        f"sidecar.toml:5: accounts.a: is in EUR, but its deck usd.csv has rates in {', '.join(others)}"
        in said
    )


def test_bad_exchange_rates_are_named_with_their_row(start: Start) -> None:
    with_rates(start, "EUR")
    [shown] = start.shown(start.problems(FLOOR, BUYING))
    assert "sidecar.toml:3: billing.exchange_rates: rates.csv" in shown
    assert "EUR against itself" in shown


@pytest.mark.parametrize("floor", ["0.1", "'-0.1'", "'1.1'", "'NaN'"])
def test_a_floor_is_a_share(start: Start, floor: str) -> None:
    [shown] = start.shown(start.problems(f"[accounts.acme]\nmargin_floor = {floor}\n"))
    assert "accounts.acme.margin_floor" in shown


# --- groups of accounts -------------------------------------------------------------------------------------

GROUPED = """
[billing]
deck = 'demo'
[groups.wholesale]
deck = 'usd'
margin_floor = '0.2'
[accounts.member]
currency = 'USD'
group = 'wholesale'
[accounts.own]
group = 'wholesale'
deck = 'demo'
margin_floor = '0'
[accounts.single]
"""


def test_an_account_has_what_its_group_says_and_it_does_not(start: Start) -> None:
    loaded = with_rates(start, "USD").load(GROUPED, BUYING)
    accounts = loaded.policy.accounts
    assert {name: (one.deck, one.margin_floor) for name, one in accounts.items()} == {
        "member": ("usd", Decimal("0.2")),
        "own": ("demo", Decimal(0)),
        "single": (None, None),
    }


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (GROUPED.replace("group = 'wholesale'", "group = 'wholesail'", 1), "there is no group 'wholesail'"),
        (GROUPED.replace("deck = 'usd'", "deck = 'usb'"), "groups.wholesale.deck: there is no deck 'usb'"),
        (GROUPED.replace("currency = 'USD'\n", ""), "accounts.member: is in EUR, but its deck usd.csv"),
    ],
)
def test_what_is_wrong_with_a_group_is_said_where_it_stands(start: Start, settings: str, shown: str) -> None:
    found = start.shown(with_rates(start, "USD").problems(settings, BUYING))
    assert any(shown in line for line in found), found
    if "usb" in shown:
        assert len(found) == 1


def test_a_gateway_that_wants_an_assertion_needs_a_peer_who_may_make_one(start: Start) -> None:
    profile = PROFILE + GATEWAY + "caller_id = 'pai'\n"
    assert start.load(profile=profile).warnings == ()
    shown = start.shown(start.load(profile=profile.replace("asserts_identity = true", "")).warnings)
    assert [line for line in shown if "gateways.other.caller_id: nothing is asserted of anyone" in line]


# --- whose call ---------------------------------------------------------------------------------------------


def test_an_account_that_may_be_made_by_command_is_a_warning(start: Start) -> None:
    rules = """
[accounts.acme]
[[account_rules]]
account = "acne"
peer = "local"
[[account_rules]]
account_from = "header"
header = "X-Account"
[[account_rules]]
account_from = "address"
[account_addresses]
"2001:DB8::/32" = "acme"
"192.0.2.7" = "made"
"""
    loaded = start.load(profile=PROFILE + rules)
    first, second = start.shown(loaded.warnings)
    assert "account_rules[0].account: there is no account 'acne' in the settings" in first
    assert "did you mean 'acme'?" in first
    assert "account_addresses.'192.0.2.7': there is no account 'made' in the settings" in second
    assert list(loaded.policy.account_addresses) == [("192.0.2.7/32", "made"), ("2001:db8::/32", "acme")]
    assert [rule.account_from for rule in loaded.policy.account_rules] == [None, "header", "address"]
    assert "x-account" in loaded.settings.headers


def test_rules_that_differ_in_one_word_each_apply(start: Start) -> None:
    rules = [
        "account = 'a'\nheader = 'x'\nheader_value = '1'",
        "account = 'a'\nheader = 'x'\nheader_value = '2'",
        "account = 'a'\nheader = 'y'\nheader_value = '1'",
        "account = 'a'\ncalled_prefix = '49'",
        "account = 'a'\ncalled_prefix = '4'",
        "account = 'a'\npeer = 'local'",
        "account_from = 'header'\nheader = 'x'",
        "account_from = 'header'\nheader = 'y'",
        "account_from = 'address'",
    ]
    text = "".join(f"[[account_rules]]\n{rule}\n" for rule in rules)
    loaded = start.load("[accounts.a]\n", PROFILE + text)
    assert loaded.warnings == ()
    assert len(list(loaded.policy.account_rules)) == len(rules)


@pytest.mark.parametrize(
    "twice", ["['carrier=1', 'carrier=2']", "'carrier', 'carrier'", "'carrier', ['carrier']"]
)
def test_a_gateway_given_twice_is_said_once(start: Start, twice: str) -> None:
    profile = f"{PROFILE}[[routes]]\nprefix = ''\ngateways = [{twice}]\n"
    line = profile.count("\n")
    shown = start.shown(start.problems(profile=profile))
    assert shown == [f"profile.toml:{line}: routes[0].gateways: 'carrier' is given twice"]


def test_a_profile_without_gateways_says_so_once_whatever_its_routes(start: Start) -> None:
    profile = PROFILE.replace('[gateways.carrier]\nhost = "127.0.0.1"\nport = 5090\n', "")
    shown = start.shown(start.problems(profile=profile + "[[routes]]\nprefix = ''\ngateways = ['x']\n"))
    assert any("calls can go nowhere" in line for line in shown)
    assert not any("no gateway is reached by any route" in line for line in shown)


def test_each_gateway_needs_an_address_of_its_own_transport(start: Start) -> None:
    files = f"[sip]\ntls_certificate_file = '{OWN}'\ntls_key_file = '{OWN}'\n"
    listening = "[sip]\nlisten_tcp = ['127.0.0.1:5060']\nlisten_tls = ['127.0.0.1:5061']"
    for transport, own in (("tcp", 5060), ("tls", 5061)):
        for port in (5060, 5061):
            gateway = f"[gateways.x]\nhost = '127.0.0.1'\nport = {port}\ntransport = '{transport}'\n"
            found = start.problems(files, PROFILE.replace("[sip]", listening) + gateway)
            assert len(found) == (port == own), (transport, port, found)


def test_a_gateway_beside_our_own_address_is_no_loop(start: Start) -> None:
    for address, problems in (("127.0.0.1:5090", 1), ("127.0.0.1:5091", 0), ("127.0.0.3:5090", 0)):
        found = start.shown(start.problems(profile=PROFILE.replace("127.0.0.1:0", address)))
        assert len(found) == problems, found


def test_one_address_of_the_gateways_kind_is_enough(start: Start) -> None:
    profile = PROFILE.replace('"127.0.0.1:0"', '"127.0.0.1:0", "[::1]:0"')
    assert start.problems(profile=profile) == ()


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        ("", "", True),
        ("port = 1", "", True),
        ("", "port = 1", True),
        ("port = 1", "port = 1", True),
        ("port = 1", "port = 2", False),
    ],
)
def test_only_two_ports_tell_two_groups_apart(start: Start, one: str, other: str, overlaps: bool) -> None:
    added = "".join(
        f"[peers.{name}]\naddresses = ['10.0.0.1']\n{port}\n" for name, port in (("x", one), ("y", other))
    )
    assert len(start.problems(profile=PROFILE + added)) == overlaps


@pytest.mark.parametrize(("form", "warns"), [("pass", 0), ("from", 0), ("pai", 1), ("rpid", 1)])
def test_only_a_form_that_asserts_needs_somebody_who_may(start: Start, form: str, warns: int) -> None:
    profile = PROFILE.replace("asserts_identity = true", "") + GATEWAY + f"caller_id = '{form}'\n"
    shown = start.shown(start.load(profile=profile).warnings)
    assert len([line for line in shown if "nothing is asserted of anyone" in line]) == warns


def test_addresses_may_stand_in_the_settings_file_too(start: Start) -> None:
    settings = '[accounts.a]\n[account_addresses]\n"192.0.2.7" = "a"\n'
    loaded = start.load(settings, PROFILE + '[[account_rules]]\naccount_from = "address"\n')
    assert list(loaded.policy.account_addresses) == [("192.0.2.7/32", "a")]
    assert loaded.warnings == ()


def test_the_examples_of_the_reference_are_settings_without_a_fault(start: Start) -> None:
    loaded = start.load(sample_text())
    assert len(loaded.policy.fraud_rules) == 10
    assert loaded.warnings == ()


SECRET_FILES = {
    "node.journal_key_file": "",
    "sip.tls_key_file": "tls_certificate_file = 'mine'\n",
    "mqtt.key_file": "broker = 'external'\nhost = 'localhost'\ntls = true\ncertificate_file = 'mine'\n",
    "mqtt.password_file": "broker = 'external'\nhost = 'localhost'\nusername = 'u'\n",
    "web.key_file": "certificate_file = 'mine'\n",
    "web.dsn_file": "",
    "hep.password_file": "collector = '127.0.0.1:9060'\n",
    "store.dsn_file": "engine = 'postgresql'\n",
}


BESIDE = {"web.dsn_file": "[store]\nengine = 'postgresql'\ndsn_file = 'own'\n"}


def test_every_setting_of_a_file_with_a_secret_is_known() -> None:
    words = ("password", "key", "dsn")
    named = {one.dotted for one in DECLARED.values() if any(word in one.path[-1] for word in words)}
    assert {name for name in named if name.endswith("_file")} == set(SECRET_FILES)
    assert set(SECRET_FILES) == {name for name in named if name.endswith(SECRETS)}


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, False), (0o604, True), (0o602, True)])
@pytest.mark.parametrize("key", [*SECRET_FILES, "gateways.other.password_file"])
def test_a_secret_that_everybody_may_read_or_change_is_warned_of(
    start: Start, key: str, mode: int, is_open: bool
) -> None:
    for name, bits in (("mine", 0o644), ("own", 0o600), ("secret", mode)):
        (start.folder / name).write_text("dbname=x\n")
        (start.folder / name).chmod(bits)
    section, _, field = key.rpartition(".")
    own = f"[{section}]\n{SECRET_FILES.get(key, '')}{field} = 'secret'\n"
    settings, profile = BESIDE.get(key, "") + own, PROFILE
    if section == "gateways.other":
        text = "[gateways.other]\nhost = '127.0.0.1'\nport = 1\nusername = 'u'\npassword_file = 'secret'\n"
        settings, profile = "", PROFILE + text
    problems = [*start.load(settings, profile).warnings]
    found = [line for line in start.shown(problems) if "holds a secret" in line]
    file = "profile.toml" if profile != PROFILE else "sidecar.toml"
    last = len((profile if profile != PROFILE else settings).splitlines())
    text = f"secret holds a secret, and everybody on this machine may have it ({mode:04o})"
    assert found == ([f"{file}:{last}: {key}: {text}: chmod o= it"] if is_open else [])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("[log]\nfile = 'x.log'\nto = 'stderr'\n", "3: log.to: stderr: the log goes to log.file"),
        ("[log]\nfile = 'x.log'\n", None),
        ("[log]\nto = 'stderr'\n", None),
        ("[hep]\npassword_file = 'mine'\n", "2: hep.password_file: there is no hep.collector"),
        ("[hep]\naccounts = ['demo']\n", "2: hep.accounts: there is no hep.collector"),
        ("[hep]\ncollector = '127.0.0.1:9060'\naccounts = ['demo']\npassword_file = 'mine'\n", None),
        (
            "[hep]\ncollector = '127.0.0.1:9060'\npassword_file = 'none'\n",
            "3: hep.password_file: there is no file none",
        ),
        ("[web]\nlisten = '192.0.2.1:8080'\n", "2: web.listen: passwords would go in the clear: "),
        ("[web]\ncertificate_file = 'mine'\nkey_file = 'none'\n", "3: web.key_file: there is no file none"),
        (
            "[web]\ncertificate_file = 'none'\nkey_file = 'mine'\n",
            "2: web.certificate_file: there is no file none",
        ),
        ("[store]\nengine = 'postgresql'\ndsn_file = 'mine'\nlease_s = 4\n[timers]\nheartbeat_s = 2\n", None),
    ],
)
def test_what_does_not_go_together_is_said_where_it_stands(
    start: Start, settings: str, expected: str | None
) -> None:
    (start.folder / "mine").write_text("dbname=x\n")
    (start.folder / "mine").chmod(0o600)
    shown = start.shown(start.problems(settings))
    assert [line.startswith(f"sidecar.toml:{expected}") for line in shown] == [True] * (expected is not None)
