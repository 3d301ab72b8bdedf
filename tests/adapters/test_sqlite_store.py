"""What is of the file alone in what test_store asks of each engine."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.core.commands import Suppress
from sidecar.core.records import cdr_of
from sidecar.core.terms import Detail, HangupOrigin
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    admission,
    admitted,
    ended,
    whole_call,
)
from tests.adapters.test_store import with_balance


async def test_every_row_names_its_node_and_epoch(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await with_balance(watched, "5")
        watched.submit(*whole_call(1, prepaid=True), admission(admitted(2)))
        drained = ended(admitted(3), origin=HangupOrigin.SERVER, detail=Detail.DRAIN)
        watched.submit((Suppress(cdr=cdr_of(drained, NO_SERVER_RECORDS)),))
        epoch = watched.store.epoch
    for table in ("open_calls", "cdrs", "suppressed", "accounts", "balances", "ledger"):
        rows = asked(tmp_path, f"SELECT DISTINCT node, epoch FROM {table} JOIN boots USING (boot)")
        assert rows == [("n1", epoch)], table


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE store SET head_seq = 4", "store: the last number given was 4, that of the records is 3"),
        ("UPDATE store SET head_seq = 2", "store: the last number given was 2, that of the records is 3"),
        ("DELETE FROM cdrs WHERE seq = 2", "outbox: 1 records from 2 to 3"),
        ("UPDATE store SET acknowledged_seq = 0", "outbox: 1 rows that are not behind 0, or have no record"),
        (
            "INSERT INTO outbox_behind VALUES (0, 0)",
            "outbox: 1 rows that are not behind 1, or have no record",
        ),
    ],
)
async def test_the_check_finds_numbers_that_are_not_there(tmp_path: Path, damage: str, said: str) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1), *whole_call(2), *whole_call(3))
        await watched.written()
        await watched.store.outbox.acknowledge([1], [])
        await watched.proved()
        asked(tmp_path, "INSERT INTO outbox_behind VALUES (1, 0)")
        await watched.proved()
        asked(tmp_path, f"PRAGMA foreign_keys = OFF; {damage}")
        assert said in await watched.store.ledger_check()


async def test_what_another_process_has_booked_is_seen_before_anything_is_reserved(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await with_balance(watched, "5")
        other = apsw.Connection(str(tmp_path / FILE_NAME))
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE balances SET amount = '0.0001'")
        watched.submit(admission(admitted(1, prepaid=True)))
        for _ in range(20):  # the writer has begun by now
            assert await watched.store.outbox.pending(0, 1) == ()
        other.execute("COMMIT")
        other.close()
        assert await watched.kinds() == ["CreditRefused"]
