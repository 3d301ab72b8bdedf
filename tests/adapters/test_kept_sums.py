"""Sums beside the journal: always those of the records that hold, however they came to be read."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import apsw
import pytest
from msgspec.structs import replace

from sidecar.adapters.sqlite import newest_records
from sidecar.adapters.sqlite.kept_sums import FILE_NAME, KeptSums
from sidecar.adapters.store import search
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
from tests.adapters.test_sqlite_retention import HandClock, acknowledge_all, fill, opened, removed
from tests.adapters.test_store_revisions import NO_CDR, again, newest

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


def of_journal(data_dir: Path) -> Found:
    found: Found = {}
    for cdr in newest_records(data_dir):
        for by, name in groups_of(cdr):
            found.setdefault((by, name, part_of(cdr)), Sums()).add(sums_of(cdr))
    return found


@pytest.mark.parametrize("rows", [1, 7, 500])
async def test_sums_are_those_of_the_records_that_hold_after_retention_too(tmp_path: Path, rows: int) -> None:
    clock = HandClock()
    sums = KeptSums(tmp_path, "Europe/Berlin")
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
        connection.execute("UPDATE mark SET epoch = 'another'")
    read_on(sums, rows)
    assert of_file(sums, 10) == of_file(sums, 9) == of_file(sums, 7) == whole
    assert sum(minute.calls for _, minute in sums.minutes(3_600, 0, 2**40)) == 100


async def test_a_revision_takes_the_place_of_what_it_restates(tmp_path: Path) -> None:
    sums = KeptSums(tmp_path, "UTC")
    async with plainly(tmp_path) as watched:
        kept_back = admitted(9)
        for step in (*whole_call(1), *whole_call(2)):
            watched.submit(step)
        watched.submit(admission(kept_back), ending(ended(answered(kept_back)), NO_CDR))
        await watched.written()
        read_on(sums)
        await watched.store.revisions.revise([again(await newest(watched, number), "1") for number in (1, 9)])
        await watched.store.revisions.revise([again(await newest(watched, 1), "2")])
        read_on(sums)
        assert of_file(sums, 10) == of_file(sums, 9) == of_file(sums, 7) == of_journal(tmp_path)
        assert of_file(sums, 10)[By.ALL, "", Part.KEPT_BACK].calls == 1
    other = KeptSums(tmp_path, "Asia/Tokyo")  # where a day is another one
    read_on(other)
    assert of_file(other, 10) == of_journal(tmp_path)


async def test_a_file_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    async with plainly(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        (tmp_path / FILE_NAME).write_bytes(b"not ours" * 1_000)
        sums = KeptSums(tmp_path, "UTC")
        read_on(sums)
        assert of_file(sums, 7) == of_journal(tmp_path)
        assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sorted_max", [1, 20_000])
async def test_the_calls_behind_each_sum_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sorted_max: int
) -> None:
    monkeypatch.setattr(search, "SORTED_MAX", sorted_max)
    async with plainly(tmp_path) as watched:
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
        sums = KeptSums(tmp_path, "UTC")
        read_on(sums)
        assert of_file(sums, 10)[By.ALL, "", Part.PUBLISHED].calls == len(await found()) == 2
