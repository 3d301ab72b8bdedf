"""`sidecar check` in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.config import load, places
from sidecar.config.problems import Problem, Where
from sidecar.config.report import check, summary
from sidecar.config.settings import BrokerKind
from tests.config.support import PROFILE, Start

QUIET = "[metrics]\nlisten = '127.0.0.1:0'\n"


def test_the_report_has_the_settings_in_words(start: Start, tmp_path: Path) -> None:
    report = check(start.inputs(QUIET + "[accounts.card]\nprepaid = true\n"), probe_machine=True)
    assert (report.errors, report.warnings) == ((), ())
    assert report.summary is not None
    assert report.summary.accounts == {"card": "prepaid, EUR, deck demo"}
    assert report.summary.gateways == {"carrier": "udp 127.0.0.1 port 5090"}
    assert report.summary.listen == ("udp 127.0.0.1 port 0",)
    lines = report.lines()
    assert f"profile          {tmp_path}/profile.toml" in lines
    assert any(line.startswith("deck demo        1 rates, revision ") for line in lines)
    assert "broker           embedded, 127.0.0.1 port any free one" in lines


def test_the_report_has_routes_as_they_are_written(start: Start) -> None:
    gateway = "[gateways.{0}]\nhost = '127.0.0.2'\nport = {1}\n"
    route = "[[routes]]\nprefix = '49'\ngateways = [['carrier=2', 'a'], 'b']\n"
    report = check(start.inputs(QUIET, PROFILE + gateway.format("a", 1) + gateway.format("b", 2) + route))
    assert report.summary is not None
    assert report.summary.routes == {"49": ("[carrier=2, a=1]", "b")}


def test_a_report_of_errors_has_no_summary(start: Start) -> None:
    report = check(start.inputs("[biling]\n"))
    assert report.summary is None
    assert [line.partition(": ")[0] for line in report.lines()] == ["error"]


def test_a_problem_of_the_machine_is_an_error_of_the_report(start: Start) -> None:
    inputs = start.inputs(QUIET, command_line={"node.data_dir": "/proc/sidecar"})
    assert check(inputs).errors == ()
    assert len(check(inputs, probe_machine=True).errors) == 1


def test_a_report_of_a_thousand_errors_is_a_hundred_lines(start: Start) -> None:
    report = check(start.inputs("".join(f"[x{number}]\n" for number in range(1_000))))
    lines = report.lines()
    assert len(report.errors) == 1_000
    assert len(lines) == 101
    assert lines[-1] == "error: ... and 900 more"


def test_the_report_says_that_names_need_the_resolver_and_which(start: Start, tmp_path: Path) -> None:
    named = "[gateways.x]\nhost = 'GW.Carrier.test.'\n[gateways.y]\nhost = 'a.test'\nport = 5070\n"
    summary = check(
        start.inputs(QUIET + "[dns]\nservers = ['127.0.0.1:53', '[::1]:54']\n", PROFILE + named)
    ).summary
    assert summary is not None
    assert summary.gateways["x"] == "gw.carrier.test, by DNS"
    assert summary.gateways["y"] == "a.test port 5070, by DNS"
    assert summary.resolver == "127.0.0.1 port 53, ::1 port 54"
    literal = check(start.inputs(QUIET)).summary
    assert literal is not None
    assert (literal.resolver, any("resolver" in line for line in literal.lines())) == ("", False)


@pytest.mark.parametrize(
    ("text", "warned"),
    [(None, True), ("", True), ("# nameserver 127.0.0.1\n", True), ("nameserver 127.0.0.1\n", False)],
)
def test_names_without_any_resolver_are_warned_of(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, warned: bool
) -> None:
    conf = tmp_path / "resolv.conf"
    if text is not None:
        conf.write_text(text)
    monkeypatch.setattr(places, "RESOLV_CONF", conf)
    report = check(start.inputs(QUIET, PROFILE + "[gateways.x]\nhost = 'gw.test'\n"))
    assert any("needs a resolver" in warning.text for warning in report.warnings) is warned
    assert report.summary is not None
    assert report.summary.resolver == f"those of {conf}"


RICH = """
[sip]
listen_udp = ["127.0.0.1:5080"]
listen_tcp = ["127.0.0.1:5080"]
[peers.local]
addresses = ["127.0.0.0/8", "192.0.2.1"]
[gateways.plain]
host = "192.0.2.1"
port = 5090
[gateways.named]
host = "gw.test"
port = 5070
transport = "tcp"
probe_interval_s = 30
[gateways.login]
host = "192.0.2.2"
port = 5060
username = "user"
password_file = "password"
register = true
[[routes]]
prefix = ""
gateways = ["plain", "named"]
[decks]
demo = "demo"
"""
TERMS = """
[node]
name = "one"
tenant = "acme"
[metrics]
listen = "127.0.0.1:9"
[accounts.card]
prepaid = true
[accounts.bill]
currency = "EUR"
"""


def test_all_that_a_report_says(start: Start) -> None:
    (start.folder / "password").write_text("secret")
    (start.folder / "password").chmod(0o600)
    words: dict[str, object] = {"node.data_dir": "/var/lib/x"}
    inputs = start.inputs(TERMS, RICH, command_line=words)
    report = check(inputs)
    assert report.errors == ()
    assert report.summary is not None
    [deck] = report.summary.decks.values()
    assert report.summary.lines() == [
        f"profile        {start.profile_file}",
        "node           acme/one, data in /var/lib/x",
        "listens on     udp 127.0.0.1 port 5080, tcp 127.0.0.1 port 5080",
        "peer local     127.0.0.0/8, 192.0.2.1/32",
        "gateway plain  udp 192.0.2.1 port 5090",
        "gateway named  tcp gw.test port 5070, by DNS, probed every 30 s",
        "gateway login  udp 192.0.2.2 port 5060, registered as sip:user@192.0.2.2",
        f"resolver       those of {places.RESOLV_CONF}",
        "route all      plain, named",
        "account bill   postpaid, EUR, deck demo",
        "account card   prepaid, EUR, deck demo",
        f"deck demo      {deck}",
        "broker         embedded, 127.0.0.1 port any free one",
        "metrics        http://127.0.0.1:9/metrics",
    ]
    loaded = load(inputs)
    elsewhere = replace(
        loaded.settings.mqtt, broker=BrokerKind.EXTERNAL, host="broker.test", port=8883, tls=True
    )
    bare = replace(
        loaded,
        policy=replace(loaded.policy, default_deck=""),
        settings=replace(loaded.settings, mqtt=elsewhere),
    )
    said = summary(bare)
    assert said.broker == "broker.test port 8883, TLS"
    assert said.accounts["card"] == "prepaid, EUR, deck none"


def test_what_stands_against_settings_is_told_behind_them(start: Start) -> None:
    error, warning = (Problem(where=Where("journal"), key="", text=text) for text in ("no", "well"))
    report = check(start.inputs(QUIET), beside=lambda _: ((error,), (warning,)))
    assert (report.errors, report.warnings, report.summary) == ((error,), (warning,), None)
    assert report.lines() == ["error: journal: no", "warning: journal: well"]
    report = check(start.inputs(QUIET), beside=lambda _: ((), (warning,)))
    assert report.summary is not None
    assert report.lines()[0] == "warning: journal: well"
