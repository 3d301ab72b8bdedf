"""Sums beside the journal: always those of the records that hold, however they came to be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import apsw
import psycopg
import pytest
from msgspec.structs import replace

from sidecar.adapters.sqlite import newest_records
from sidecar.adapters.sqlite.books import SqliteBooks
from sidecar.adapters.sqlite.kept_sums import FILE_NAME, KeptSums
from sidecar.adapters.store import search
from sidecar.adapters.store.books import Books
from sidecar.core.commands import StoreCommand
from sidecar.core.sums import By, Minute, Part, Sums, groups_of, part_of, sums_of
from sidecar.core.terms import Detail, HangupOrigin
from sidecar.ports import RecordFilter
from tests.adapters.sqlite_stores import opened as plainly
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    whole_call,
)
from tests.adapters.stores import PostgresqlStores, Stores
from tests.adapters.test_sqlite_retention import HandClock, acknowledge_all, fill, opened, removed
from tests.adapters.test_store_revisions import NO_CDR, again, newest
from tests.rig.node import until

Found = dict[tuple[By, str, Part], Sums]


def read_on(sums: KeptSums, rows: int = 7) -> None:
    while sums.advance(rows):
        pass


def of_file(sums: KeptSums, number: int) -> Found:
    """Of all periods whose name is so long."""
    found: Found = {}
    with apsw.Connection(str(sums._file)) as connection:
        periods = [row for (row,) in connection.execute("SELECT DISTINCT period FROM sums")]
    for by in By:
        for (_, name), parts in sums.sums(by, [one for one in periods if len(one) == number]).items():
            for part, one in parts.items():
                found.setdefault((by, name, part), Sums()).add(one)
    return found


@asynccontextmanager
async def looked_at(stores: Stores) -> AsyncIterator[Books]:
    with stores.books() as books:
        yield books


def of_books(books: Books) -> Found:
    found: Found = {}
    for suppressed in (False, True):
        with books.look() as look:
            page = look.search(RecordFilter(holds=True, suppressed=suppressed), 1_000)
        for cdr in page.records:
            for by, name in groups_of(cdr):
                found.setdefault((by, name, part_of(cdr)), Sums()).add(sums_of(cdr))
    return found


def of_journal(data_dir: Path) -> Found:
    found: Found = {}
    for cdr in newest_records(data_dir):
        for by, name in groups_of(cdr):
            found.setdefault((by, name, part_of(cdr)), Sums()).add(sums_of(cdr))
    return found


@pytest.mark.parametrize("rows", [1, 7, 500])
async def test_sums_are_those_of_the_records_that_hold_after_retention_too(tmp_path: Path, rows: int) -> None:
    clock = HandClock()
    sums = KeptSums(SqliteBooks(tmp_path), tmp_path, "Europe/Berlin")
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        assert sums.behind() == 101
        read_on(sums, rows)
        assert sums.behind() == 0
        whole = of_journal(tmp_path)
        assert of_file(sums, 10) == of_file(sums, 9) == of_file(sums, 7) == whole
        assert whole[By.ALL, "", Part.KEPT_FREE].calls == 10
        await removed(watched, tmp_path)
        assert of_journal(tmp_path) != whole
        read_on(sums, rows)
        assert of_file(sums, 10) == whole
        counted = Minute()
        for _, minute in sums.minutes(60, 0, 2**40):
            counted.add(minute)
        assert (counted.calls, counted.ends) == (100, {"caller": 90, "server timeout": 10})
    # In a new epoch all is summed anew, but the days that lie before what was archived.
    with apsw.Connection(str(tmp_path / FILE_NAME)) as connection:
        connection.execute("UPDATE mark SET books = 'another'")
    read_on(sums, rows)
    assert of_file(sums, 10) == of_file(sums, 9) == of_file(sums, 7) == whole
    assert sum(minute.calls for _, minute in sums.minutes(3_600, 0, 2**40)) == 100


async def test_a_revision_takes_the_place_of_what_it_restates(tmp_path: Path, stores: Stores) -> None:
    async with stores.opened() as watched, looked_at(stores) as books:
        sums = KeptSums(books, tmp_path, "UTC")
        kept_back = admitted(9)
        for step in (*whole_call(1), *whole_call(2)):
            watched.submit(step)
        watched.submit(admission(kept_back), ending(ended(answered(kept_back)), NO_CDR))
        await watched.written()
        read_on(sums)
        await watched.store.revisions.revise([again(await newest(watched, number), "1") for number in (1, 9)])
        await watched.store.revisions.revise([again(await newest(watched, 1), "2")])
        read_on(sums)
        assert of_file(sums, 10) == of_file(sums, 9) == of_file(sums, 7) == of_books(books)
        assert of_file(sums, 10)[By.ALL, "", Part.KEPT_BACK].calls == 1
        other = KeptSums(books, tmp_path, "Asia/Tokyo")  # where a day is another one
        read_on(other)
        assert of_file(other, 10) == of_books(books)


async def test_a_file_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    async with plainly(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        (tmp_path / FILE_NAME).write_bytes(b"not ours" * 1_000)
        sums = KeptSums(SqliteBooks(tmp_path), tmp_path, "UTC")
        read_on(sums)
        assert of_file(sums, 7) == of_journal(tmp_path)
        assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sorted_max", [1, 20_000])
async def test_the_calls_behind_each_sum_are_found(
    tmp_path: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch, sorted_max: int
) -> None:
    monkeypatch.setattr(search, "SORTED_MAX", sorted_max)
    async with stores.opened() as watched:
        watched.submit(*whole_call(1), *whole_call(2, "other"))
        for number, policy in ((3, NO_CDR), (4, NO_SERVER_RECORDS)):
            up = answered(admitted(number))
            over = ended(up, detail=Detail.MAX_DURATION, origin=HangupOrigin.SERVER)
            watched.submit(admission(up), ending(over, policy))
        unrated = admitted(5)
        unrated = answered(replace(unrated, pricing=replace(unrated.pricing, rate=None)))
        watched.submit(admission(unrated), ending(ended(unrated)))
        await watched.written()
        overrun = replace(again(await newest(watched, 1), "1"), overrun_ms=1_500)
        await watched.store.revisions.revise([overrun])

        async def found(**wanted: object) -> list[tuple[UUID, int]]:
            asked = RecordFilter(holds=True, **wanted)  # type: ignore[arg-type]
            page = await watched.store.records.search(asked)
            return sorted((cdr.call_id, cdr.revision) for cdr in page.records)

        assert await found() == [(call_id(1), 1), (call_id(2), 0), (call_id(5), 0)]
        assert await found(account="acme") == [(call_id(1), 1), (call_id(5), 0)]
        assert await found(account="other") == [(call_id(2), 0)]
        assert await found(overrun=True) == [(call_id(1), 1)]
        assert await found(unrated=True) == await found(destination="") == [(call_id(5), 0)]
        assert await found(destination="Germany mobile") == [(call_id(2), 0)]
        assert await found(suppressed=True, part=Part.KEPT_BACK, account="acme") == [(call_id(3), 0)]
        assert await found(suppressed=True, part=Part.KEPT_FREE) == [(call_id(4), 0)]
        assert await found(gateway="") == []
        void = replace(overrun, revision=2, supersedes=1, void=True, message_id=call_id(77))
        await watched.store.revisions.revise([void])
        assert (call_id(1), 1) not in await found()
        with stores.books() as books:
            sums = KeptSums(books, tmp_path, "UTC")
            read_on(sums)
        assert of_file(sums, 10)[By.ALL, "", Part.PUBLISHED].calls == len(await found()) == 2


async def test_sums_of_a_version_before_go_on(tmp_path: Path) -> None:
    """What was archived since is in them alone."""
    async with plainly(tmp_path) as watched:
        watched.submit(*whole_call(1), *whole_call(2))
        await watched.written()
        sums = KeptSums(SqliteBooks(tmp_path), tmp_path, "UTC")
        read_on(sums)
        with apsw.Connection(str(tmp_path / FILE_NAME)) as connection:
            connection.execute(
                "ALTER TABLE mark RENAME COLUMN books TO epoch;"
                "ALTER TABLE mark DROP COLUMN read;"
                "ALTER TABLE mark ADD COLUMN seq INTEGER NOT NULL DEFAULT 2;"
                "ALTER TABLE mark ADD COLUMN entry INTEGER NOT NULL DEFAULT 0;"
                "UPDATE sums SET name = 'archived' WHERE by = 'account'; PRAGMA user_version = 2"
            )
        assert sums.behind() == 0
        watched.submit(*whole_call(3))
        await watched.written()
        read_on(sums)
        found = of_file(sums, 10)
        assert found[By.ALL, "", Part.PUBLISHED].calls == 3
        assert found[By.ACCOUNT, "archived", Part.PUBLISHED].calls == 2


async def test_records_of_all_nodes_are_summed_in_whatever_order_they_come(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    """A revision by another node is read before what it restates, and an entry that is kept back after one
    with a greater number, which was committed first."""
    stores = postgresql_stores

    def kept_back(number: int, account: str) -> tuple[Sequence[StoreCommand], Sequence[StoreCommand]]:
        up = answered(admitted(number, account))
        over = ended(up, detail=Detail.MAX_DURATION, origin=HangupOrigin.SERVER)
        return admission(up), ending(over, NO_SERVER_RECORDS)

    def is_held_up() -> bool:
        return stores.asked("SELECT 1 FROM pg_locks WHERE NOT granted") != []

    async with (
        stores.opened(node="n2", boot_id="b2") as second,
        stores.opened() as first,
        looked_at(stores) as books,
    ):
        sums = KeptSums(books, tmp_path, "UTC")
        first.submit(*whole_call(1), *whole_call(2))
        begin, end = kept_back(3, "acme")
        second.submit(*whole_call(4), begin)
        for watched in (first, second):
            await watched.written()
        await second.store.revisions.revise([again(await newest(second), "1")])
        read_on(sums, 1)
        assert of_file(sums, 10) == of_books(books)
        with psycopg.connect(stores.conninfo) as connection:
            # The foreign key of its row waits for this lock: the row is there, its commit is not.
            connection.execute("SELECT 1 FROM boots WHERE boot_id = 'b2' FOR UPDATE")
            second.submit(end)
            await until(is_held_up)
            first.submit(*kept_back(5, "other"))
            await first.written()
            for _ in range(3):
                read_on(sums, 1)
            assert of_file(sums, 10) == of_books(books)
            assert sums.behind() == 0
            connection.rollback()
        await second.written()
        assert stores.asked("SELECT count(*) FROM suppressed") == [(2,)]
        read_on(sums, 1)
        assert of_file(sums, 10) == of_file(sums, 9) == of_file(sums, 7) == of_books(books)
        assert of_file(sums, 10)[By.ALL, "", Part.KEPT_FREE].calls == 2
        assert (of_file(sums, 10)[By.ALL, "", Part.PUBLISHED].calls, sums.behind()) == (3, 0)
