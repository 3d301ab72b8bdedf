"""`sidecar check` in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config import places
from sidecar.config.report import check
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
    summary = check(start.inputs(QUIET + "[dns]\nservers = ['127.0.0.1:53']\n", PROFILE + named)).summary
    assert summary is not None
    assert summary.gateways["x"] == "gw.carrier.test, by DNS"
    assert summary.gateways["y"] == "a.test port 5070, by DNS"
    assert summary.resolver == "127.0.0.1 port 53"
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
