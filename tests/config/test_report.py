"""`sidecar check` in words."""

from __future__ import annotations

from pathlib import Path

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
