"""A journal that is not as it was written: said at the start, and while calls run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.core.terms import Money
from tests.adapters.sqlite_stores import WAIT_S, Watched, asked, opened
from tests.adapters.store_calls import admission, admitted, terms_of, whole_call

CALLS = 30
HARMS = {
    "a balance": ("UPDATE balances SET amount = '1000' WHERE account = 'acme'", "what changes"),
    "an amount": ("UPDATE ledger SET amount = '-9' WHERE entry = 3", "ledger entry 3"),
    "what an open call holds": ("UPDATE open_calls SET reserved = '0.1'", "what changes"),
    "the account of a record": ("UPDATE cdrs SET account = 'other' WHERE seq = 2", "record 2"),
    "the mark of the outbox": ("UPDATE store SET acknowledged_seq = 7", "the seal"),
}


async def filled(data_dir: Path) -> None:
    async with opened(data_dir) as watched:
        await watched.store.accounts.create(terms_of("acme"))
        await watched.store.accounts.top_up("acme", Money(Decimal(1000), "EUR"), "first")
        for number in range(1, CALLS + 1):
            watched.submit(*whole_call(number, "acme", prepaid=True))
            await watched.written()
        watched.submit(admission(admitted(99, "acme", prepaid=True)))
        await watched.written()


def changed(data_dir: Path, statement: str) -> None:
    connection = apsw.Connection(str(data_dir / FILE_NAME))
    connection.set_busy_timeout(5_000)
    triggers = list(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    for _, sql in triggers:  # without them the start takes it for a damaged schema
        connection.execute(sql)
    connection.close()


async def found_while_running(watched: Watched) -> Sequence[str]:
    told = asyncio.Event()
    said: list[str] = []

    def on_wrong(found: Sequence[str]) -> None:
        said.extend(found)
        told.set()

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        checking = tasks.create_task(watched.store.keep_checking(on_wrong, pause_s=0.001), name="checking")
        await told.wait()
        checking.cancel()
    return said


@pytest.mark.parametrize("name", HARMS)
async def test_a_start_sets_the_file_aside_and_goes_on_with_what_is_proved(tmp_path: Path, name: str) -> None:
    await filled(tmp_path)
    async with opened(tmp_path, boot_id="b2") as watched:
        records = await watched.store.records.tail(0, 1_000)
        balance, epoch = await watched.store.accounts.balance("acme"), watched.store.epoch
        held = asked(tmp_path, "SELECT reserved FROM open_calls")
        ledger = await watched.store.accounts.ledger("acme", 1_000)
    statement, said = HARMS[name]
    changed(tmp_path, statement)
    async with opened(tmp_path, boot_id="next") as watched:
        salvage = watched.store.salvage
        assert salvage is not None
        assert any(said in text for text in salvage.not_as_written), salvage.not_as_written
        assert salvage.report.exists()
        assert watched.store.epoch != epoch
        assert await watched.store.records.tail(0, 1_000) == records
        assert await watched.store.accounts.balance("acme") == balance
        assert asked(tmp_path, "SELECT reserved FROM open_calls") == held
        assert asked(tmp_path, "SELECT count(*) FROM cdrs WHERE account = 'acme'") == [(CALLS,)]
        waiting = [row.seq for row in await watched.store.outbox.pending(0, 1_000)]
        assert waiting == [cdr.seq for cdr in records]
        if name != "an amount":  # that one is named by the ledger check, for a person to decide
            assert await watched.store.accounts.ledger("acme", 1_000) == ledger
            await watched.proved()
        else:
            assert any("ledger entry 3" in text for text in salvage.wrong)
    async with opened(tmp_path, boot_id="again") as watched:
        assert watched.store.salvage is None


@pytest.mark.parametrize("name", HARMS)
async def test_what_is_changed_while_calls_run_is_found(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.checking.ENTRIES_PER_LOOK_MAX", 16)
    await filled(tmp_path)
    async with opened(tmp_path, boot_id="next") as watched:
        assert watched.store.wrong == []
        statement, said = HARMS[name]
        changed(tmp_path, statement)
        found = await found_while_running(watched)
        assert any(said in text for text in found), found


async def test_a_start_looks_at_the_last_commits_and_the_running_check_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.checking.COMMITS_AT_START_MAX", 5)
    await filled(tmp_path)
    changed(tmp_path, "UPDATE ledger SET amount = '-9' WHERE entry = 3")
    async with opened(tmp_path, boot_id="next") as watched:
        assert watched.store.wrong == []
        assert any("ledger entry 3" in text for text in await found_while_running(watched))


async def test_a_sound_journal_is_gone_over_again_and_again_without_a_word(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path, boot_id="next") as watched:
        said: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            checking = tasks.create_task(
                watched.store.keep_checking(said.extend, pause_s=0.0), name="checking"
            )
            for number in range(201, 221):
                watched.submit(*whole_call(number, "acme", prepaid=True))
                await watched.written()
            checking.cancel()
        assert said == []
