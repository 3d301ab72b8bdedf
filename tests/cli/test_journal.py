"""`sidecar journal verify`, `check` and `new-key`, on a journal that the store has written."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from tests.adapters.sqlite_stores import opened
from tests.adapters.store_calls import whole_call
from tests.cli.test_commands import sidecar


@pytest.fixture
async def config(tmp_path: Path) -> tuple[str, str]:
    async with opened(tmp_path / "data") as watched:
        for number in range(1, 31):
            watched.submit(*whole_call(number, "acme"))
        await watched.written()
    settings = tmp_path / "sidecar.toml"
    settings.write_text(f"[node]\ndata_dir = '{tmp_path / 'data'}'\n")
    return "--config", str(settings)


def database(folder: Path) -> Path:
    [found] = folder.rglob("journal.db")
    return found


def changed(folder: Path, sql: str) -> None:
    connection = apsw.Connection(str(database(folder)))
    for (name,) in list(connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")):
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(sql)
    connection.close()


async def test_a_journal_is_verified_and_adds_up(tmp_path: Path, config: tuple[str, str]) -> None:
    done = await sidecar("journal", "verify", "--json", *config)
    assert done.exit_code == 0, done.err
    found = json.loads(done.out)
    assert found["wrong"] == []
    assert found["entries"] == 60
    head = f"{found['commit']}:{found['hash']}"
    assert (await sidecar("journal", "verify", "--head", head, *config)).exit_code == 0
    assert (await sidecar("journal", "check", *config)).out == "everything adds up\n"


async def test_what_was_changed_is_named_with_exit_code_1(tmp_path: Path, config: tuple[str, str]) -> None:
    changed(tmp_path, "UPDATE cdrs SET account = 'other' WHERE seq = 7")
    done = await sidecar("journal", "verify", *config)
    assert done.exit_code == 1
    assert "record 7" in done.out
    changed(tmp_path, "UPDATE store SET head_seq = 0, epoch_base_seq = 0")
    done = await sidecar("journal", "check", "--json", *config)
    assert done.exit_code == 1
    wrong = json.loads(done.out)["wrong"]
    assert any("revision 0: is found by what it does not say" in text for text in wrong)
    assert any("the last number given was 0" in text for text in wrong)


async def test_a_head_that_was_told_elsewhere_must_be_there(tmp_path: Path, config: tuple[str, str]) -> None:
    out = tmp_path / "out"
    assert (await sidecar("cdr", "export", "--out", str(out), *config)).exit_code == 0
    told = json.loads((out / "manifest.json").read_text())["journal"]
    good = f"{told['commit']}:{told['commit_hash']}"
    assert (await sidecar("journal", "verify", "--head", good, *config)).exit_code == 0
    for head, said in (
        (f"{told['commit'] + 1}:{told['commit_hash']}", f"and {told['commit'] + 1} was there"),
        (f"{told['commit']}:{'0' * 32}", "another journal"),
    ):
        done = await sidecar("journal", "verify", "--head", head, *config)
        assert (done.exit_code, said in done.out) == (1, True), done.out
    done = await sidecar("journal", "verify", "--head", "7", *config)
    assert (done.exit_code, "not NUMBER:HASH" in done.err) == (2, True)


async def test_a_new_key_goes_behind_those_that_are_there(tmp_path: Path, config: tuple[str, str]) -> None:
    done = await sidecar("journal", "new-key", "--json", *config)
    assert done.exit_code == 0, done.err
    file = database(tmp_path).with_name("journal.key")
    assert json.loads(done.out)["file"] == str(file)
    assert len(file.read_text().splitlines()) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await sidecar("journal", "verify", *config)).exit_code == 0


async def test_without_a_journal_or_its_keys_nothing_is_verified(
    tmp_path: Path, config: tuple[str, str]
) -> None:
    database(tmp_path).with_name("journal.key").unlink()
    done = await sidecar("journal", "verify", *config)
    assert (done.exit_code, "cannot be read" in done.err) == (3, True)
