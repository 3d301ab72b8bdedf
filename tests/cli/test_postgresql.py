"""Commands that read or write an SQLite journal themselves say so where the books are in PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidecar.cli import app

ONLY = "is for an SQLite journal only: the books of this node are in PostgreSQL (store.engine)"


@pytest.fixture
def config(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "dsn").write_text("host=127.0.0.1 port=1 dbname=books\n")
    (tmp_path / "dsn").chmod(0o600)
    settings = tmp_path / "sidecar.toml"
    folder = f"[node]\ndata_dir = '{tmp_path / 'data'}'\n"
    settings.write_text(f"{folder}[store]\nengine = 'postgresql'\ndsn_file = '{tmp_path / 'dsn'}'\n")
    return "--config", str(settings)


@pytest.mark.parametrize(
    "words",
    [
        "journal verify",
        "journal check",
        "journal open",
        "journal new-key",
        "doctor",
        "cdr export --out out",
        "cdr summary",
        "account statement acme --month 2026-11",
        "cdr reconcile file.csv",
        "backup out",
        "restore out",
        "retention archive --months 2 --out out",
        "retention erase 4915112345678",
        "rerate --deck deck.csv",
    ],
)
def test_a_command_that_needs_an_sqlite_journal_says_so(words: str, config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, [*words.split(), *config])
    assert (done.exit_code, ONLY in done.stderr) == (2, True), done.output


def test_it_says_so_in_json_too(config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["journal", "check", "--json", *config])
    assert json.loads(done.stderr)["error"] == {"exit": 2, "message": f"this command {ONLY}"}


def test_the_page_is_not_served(config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["web", *config])
    assert (done.exit_code, f"the page {ONLY}" in done.stderr) == (2, True), done.output


@pytest.mark.parametrize("words", ["cdr show 0", "cdr tail", "route 4915112345678 --from local"])
def test_without_a_daemon_there_is_no_journal_to_ask_instead(words: str, config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, [*words.split(), *config])
    assert (done.exit_code, "in PostgreSQL (store.engine)" in done.stderr) == (3, True), done.output
