"""`sidecar store migrate`, as it is given."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from sidecar.cli import app
from tests.adapters.sqlite_stores import opened
from tests.adapters.store_calls import whole_call
from tests.adapters.test_store import with_balance
from tests.rig.postgres import Postgres

MIGRATE = ("store", "migrate", "--from", "sqlite", "--to", "postgresql")


async def test_the_totals_of_both_ends_are_shown_and_it_is_done_once(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = tmp_path / "dsn"
    dsn.write_text(postgresql.new_database("migrate") + "\n")
    dsn.chmod(0o600)
    settings = tmp_path / "sidecar.toml"
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await with_balance(journal, "20")
        journal.submit(*whole_call(1, prepaid=True), *whole_call(2, prepaid=True))
        await journal.written()
        epoch = journal.store.epoch
    settings.write_text(
        f"[node]\nname = 'n1'\ndata_dir = '{folder}'\n[store]\nengine = 'postgresql'\ndsn_file = '{dsn}'\n"
    )
    words = [*MIGRATE, "--config", str(settings)]
    done = CliRunner().invoke(app, [*words, "--text", "two nodes"])
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "published records 2 2" in lines
    assert f"last number of epoch {epoch} 2 2" in lines
    (balance,) = [line for line in lines if line.startswith("balance of acme EUR")]
    assert len(set(balance.split()[-2:])) == 1
    assert lines[-1] == f"moved: node n1 goes on in epoch {epoch}"
    again = CliRunner().invoke(app, words)
    assert (again.exit_code, "Nothing was changed" in again.stdout) == (0, True), again.output
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (told["done_before"], told["epoch"]) == (True, epoch)
