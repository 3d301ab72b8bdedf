"""The keys of a gateway's probes and of its registration."""

from __future__ import annotations

import pytest

from sidecar.config.report import check
from sidecar.core.gateway_health import ProbeTerms
from sidecar.core.registration import RegisterTerms
from tests.config.support import PROFILE, Start

GATEWAY = "[gateways.trunk]\nhost = '{host}'\nport = 5091\n"
CREDENTIALS = "username = '{user}'\npassword_file = 'secret'\n"


@pytest.fixture(autouse=True)
def _secret(start: Start) -> None:
    (start.folder / "secret").write_text("s3cret\n")


def text(*lines: str, host: str = "192.0.2.7", user: str = "") -> str:
    credentials = CREDENTIALS.format(user=user) if user else ""
    return PROFILE + GATEWAY.format(host=host) + credentials + "".join(f"{line}\n" for line in lines)


def test_without_its_keys_a_gateway_is_neither_probed_nor_registered_at(start: Start) -> None:
    gateway = start.load(profile=text("probe_interval_s = 0", "register = false")).policy.gateways["trunk"]
    assert (gateway.probe, gateway.register) == (None, None)


def test_probes_and_their_defaults(start: Start) -> None:
    loaded = start.load(profile=text("probe_interval_s = 30"))
    assert loaded.policy.gateways["trunk"].probe == ProbeTerms(
        interval_ms=30_000, timeout_ms=4_000, down_after=2, up_after=1
    )
    assert loaded.warnings == ()
    every_key = text(
        "probe_interval_s = 3600",
        "probe_timeout_s = 1",
        "probe_down_after = 3",
        "probe_up_after = 4",
        "probe_alive = ['2xx', '404']",
    )
    assert start.load(profile=every_key).policy.gateways["trunk"].probe == ProbeTerms(
        interval_ms=3_600_000, timeout_ms=1_000, down_after=3, up_after=4, alive=("2xx", "404")
    )


def registered(identity: str, target: str) -> RegisterTerms:
    return RegisterTerms(identity=identity, target=target, contact_user="us", expires_s=3_600)


@pytest.mark.parametrize(
    ("lines", "host", "expected"),
    [
        (
            (),
            "192.0.2.7",
            RegisterTerms(
                identity="sip:us@192.0.2.7", target="sip:192.0.2.7:5091", contact_user="us", expires_s=3_600
            ),
        ),
        (
            (),
            "2001:db8::7",
            RegisterTerms(
                identity="sip:us@[2001:db8::7]",
                target="sip:[2001:db8::7]:5091",
                contact_user="us",
                expires_s=3_600,
            ),
        ),
        (
            ("register_domain = 'carrier.example'", "register_user = '+4930'", "register_expires_s = 60"),
            "192.0.2.7",
            RegisterTerms(
                identity="sip:+4930@carrier.example",
                target="sip:carrier.example",
                contact_user="+4930",
                expires_s=60,
            ),
        ),
    ],
)
def test_a_registration_and_its_defaults(
    start: Start, lines: tuple[str, ...], host: str, expected: RegisterTerms
) -> None:
    listen = (
        f"[sip]\nlisten_udp = ['127.0.0.1:5080', '{'[::1]:5080' if ':' in host else '127.0.0.2:5080'}']\n"
    )
    loaded = start.load(listen, profile=text("register = true", *lines, host=host, user="us"))
    assert loaded.policy.gateways["trunk"].register == expected


def test_a_registrar_that_knows_us_by_our_address_needs_no_password(start: Start) -> None:
    register = (
        start.load(profile=text("register = true", "register_user = 'us'")).policy.gateways["trunk"].register
    )
    assert register is not None
    assert register.contact_user == "us"


@pytest.mark.parametrize(
    ("lines", "user", "expected"),
    [
        (("probe_interval_s = -1",), "", "probe_interval_s: -1 is not within 0-3600"),
        (("probe_interval_s = 9", "probe_timeout_s = 0"), "", "probe_timeout_s: 0 is not within 1-32"),
        (("probe_interval_s = 9", "probe_alive = ['200', '99']"), "", "probe_alive: expected"),
        (("probe_interval_s = 9", "probe_alive = [200]"), "", "probe_alive: expected a string"),
        (("probe_interval_s = 9", "probe_alive = ['2xx', '2xx']"), "", "probe_alive: '2xx' is given twice"),
        (("probe_timeout_s = 2",), "", "probe_timeout_s: needs a probe_interval_s above 0"),
        (("probe_interval_s = 0", "probe_down_after = 2"), "", "probe_down_after: needs a probe_interval_s"),
        (("register = true",), "", "register: needs register_user, or username and password_file"),
        (("register = true",), "us@carrier.example", "register: the username 'us@carrier.example' cannot"),
        (("register_expires_s = 600",), "us", "register_expires_s: needs register = true"),
        (
            ("register = true", "register_expires_s = 59"),
            "us",
            "register_expires_s: 59 is not within 60-86400",
        ),
        (("register = true", "register_user = 'a@b'"), "us", "register_user: expected the user of a SIP URI"),
        (("register = true", "register_user = 'a b'"), "us", "register_user: expected the user of a SIP URI"),
        (("register = true", "register_domain = 'a>;x'"), "us", "register_domain: expected a host name"),
        (("register = 1",), "us", "register: expected true or false"),
    ],
)
def test_what_cannot_be_meant_is_an_error(
    start: Start, lines: tuple[str, ...], user: str, expected: str
) -> None:
    problems = [str(problem) for problem in start.problems(profile=text(*lines, user=user))]
    assert [one for one in problems if f"gateways.trunk.{expected}" in one], problems
    assert len(problems) == 1


def test_the_report_says_so_in_words(start: Start) -> None:
    profile = text("probe_interval_s = 30", "register = true", user="us")
    report = check(start.inputs("[metrics]\nlisten = '127.0.0.1:0'\n", profile))
    assert report.summary is not None
    assert report.summary.gateways["trunk"] == (
        "udp 192.0.2.7 port 5091, probed every 30 s, registered as sip:us@192.0.2.7"
    )


@pytest.mark.parametrize(
    ("lines", "target"),
    [("host = 'gw.test'", "sip:gw.test"), ("host = 'gw.test'\nport = 5070", "sip:gw.test:5070")],
)
def test_a_registration_at_a_name_is_at_its_domain(start: Start, lines: str, target: str) -> None:
    profile = PROFILE + f"[gateways.trunk]\n{lines}\nregister = true\nregister_user = 'us'\n"
    register = start.load(profile=profile).policy.gateways["trunk"].register
    assert register is not None
    assert (register.identity, register.target) == ("sip:us@gw.test", target)
