"""Commands that read or write an SQLite journal themselves say so where the books are in PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidecar.cli import app
from tests.cli.test_commands import sidecar
from tests.rig.addresses import own_network
from tests.rig.postgres import Postgres

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


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        ("run", 3),  # another start may find it
        ("check", 2),
        ("cdr show 0", 3),
        ("cdr tail", 3),
        ("route 4915112345678 --from local", 2),
    ],
)
def test_a_database_that_cannot_be_reached_is_named(
    words: str, exit_code: int, config: tuple[str, str]
) -> None:
    done = CliRunner().invoke(app, [*words.split(), *config])
    said = "PostgreSQL host=127.0.0.1 port=1 dbname=books: cannot be read"
    assert (done.exit_code, said in done.output) == (exit_code, True), done.output


def test_who_prepares_a_database_needs_to_reach_it(config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["store", "prepare", *config])
    assert (done.exit_code, "PostgreSQL host=127.0.0.1 port=1 dbname=books: " in done.stderr) == (1, True)


async def test_a_node_with_a_journal_of_its_own_does_not_begin_in_a_database(
    config: tuple[str, str], tmp_path: Path, postgresql: Postgres
) -> None:
    """Balances and open calls would be in no books. Nor does a database know what `--new` is to pass over."""
    (tmp_path / "dsn").write_text(postgresql.new_database("cli"))
    listen = "--set", f"metrics.listen={own_network()}.1:0", "--set", f"sip.listen_udp={own_network()}.1:0"
    new = await sidecar("run", "--new", *listen, *config)
    assert (new.exit_code, "--new is for an SQLite journal only" in new.err) == (2, True), new
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.db").touch()
    done = await sidecar("run", *listen, *config)
    assert (done.exit_code, "journal.db: this node kept its books here" in done.err) == (2, True), done
