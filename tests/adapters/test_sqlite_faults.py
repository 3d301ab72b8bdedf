"""The disk fails while calls are up: new ones are refused, nothing acknowledged is lost, ends come later."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import apsw
import pytest
from msgspec.structs import replace

from sidecar.adapters.sqlite.file import FILE_NAME, verify
from sidecar.adapters.store.writer import STEPS_PER_COMMIT_MAX
from sidecar.core.commands import EntryKind
from sidecar.core.events import Admitted, AnswerRecorded, StepFailed
from sidecar.core.terms import Money
from tests.adapters.sqlite_faulty_disk import FSYNC, FULL, READ_ONLY, WRITE, Disk, faulty_disk
from tests.adapters.sqlite_stores import WAIT_S, Watched, asked, opened
from tests.adapters.store_calls import (
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    terms_of,
    whole_call,
)

FAULTS = pytest.mark.parametrize(
    "code", [FULL, WRITE, FSYNC, READ_ONLY], ids=["full", "write", "fsync", "read-only"]
)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with faulty_disk() as found:
        yield found


def outcome(watched: Watched, number: int) -> type:
    return type(watched.outcome(call_id(number)))


@FAULTS
async def test_calls_that_wait_are_refused_and_ends_are_written_when_the_disk_is_back(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        store = watched.store
        await store.accounts.create(terms_of("acme"))
        await store.accounts.top_up("acme", Money(Decimal(100), "EUR"), "first")
        up = [admitted(n, prepaid=True) for n in range(1, 6)]
        watched.submit(*map(admission, up))
        await watched.until(lambda: len(watched.events) == 5)
        disk.break_down(code)
        watched.submit(*(ending(ended(answered(call))) for call in up), admission(admitted(6, prepaid=True)))
        watched.submit(entry(EntryKind.ANSWERED, answered(admitted(7))))
        await watched.until(lambda: watched.failing == [True] and len(watched.events) == 7)
        assert store.failing
        assert store.failure
        assert outcome(watched, 6) is StepFailed
        assert outcome(watched, 7) is StepFailed
        watched.submit(admission(admitted(8)))
        await watched.until(lambda: len(watched.events) == 8)
        assert outcome(watched, 8) is StepFailed
        disk.repair()
        await watched.until(lambda: watched.failing == [True, False])
        watched.submit(*whole_call(9))
        await watched.written()
        assert outcome_kinds(watched, 9) == [Admitted, AnswerRecorded]
        records = await store.records.tail(0)
        assert [cdr.call_id for cdr in records] == [call_id(n) for n in (1, 2, 3, 4, 5, 9)]
        assert [cdr.seq for cdr in records] == [1, 2, 3, 4, 5, 6]
        assert [row.seq for row in await store.outbox.pending(0, 10)] == [1, 2, 3, 4, 5, 6]
        await watched.proved()
    assert disk.failed > 0
    assert asked(tmp_path, "SELECT count(*) FROM open_calls") == [(0,)]


def outcome_kinds(watched: Watched, number: int) -> list[type]:
    return [type(event) for event in watched.events if event.call_id == call_id(number)]


@FAULTS
@pytest.mark.parametrize("errors", [1, 2, 3, 6])
async def test_an_admission_that_was_reported_as_failed_leaves_nothing_behind(
    tmp_path: Path, disk: Disk, code: int, errors: int
) -> None:
    """After a failed fsync the rows may be in the file all the same: they must be undone."""
    async with opened(tmp_path, vfs="faulty") as watched:
        await watched.store.accounts.create(terms_of("acme"))
        await watched.store.accounts.top_up("acme", Money(Decimal(5), "EUR"), "first")
        disk.break_down(code, errors)
        watched.submit(admission(admitted(1, prepaid=True)))
        await watched.until(lambda: len(watched.events) == 1 and watched.failing[-1:] == [False])
        assert outcome(watched, 1) is StepFailed
        watched.submit(admission(admitted(2, prepaid=True)))
        await watched.until(lambda: len(watched.events) == 2)
        await watched.written()
        await watched.proved()
    async with opened(tmp_path, boot_id="next") as watched:
        assert [call.call_id for call, _ in watched.store.found_open()] == [call_id(2)]


@FAULTS
async def test_an_end_survives_a_stop_while_the_disk_fails_as_a_call_found_open(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(admission(admitted(1)))
        await watched.until(lambda: len(watched.events) == 1)
        disk.break_down(code)
        watched.submit(ending(ended(answered(admitted(1)))))
        await watched.until(lambda: watched.failing == [True])
    disk.repair()
    async with opened(tmp_path, boot_id="next") as watched:
        found = [call.call_id for call, _ in watched.store.found_open()]
        records = await watched.store.records.tail(0)
        # Exactly one of the two, whatever became of the failed commit: never both, never neither.
        assert len(found) + len(records) == 1
        await watched.proved()


@FAULTS
async def test_what_the_broker_acknowledged_is_not_forgotten(tmp_path: Path, disk: Disk, code: int) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(*whole_call(1), *whole_call(2))
        await watched.written()
        disk.break_down(code, 4)
        await watched.store.outbox.acknowledge([1], [(2, 0x87)])
        await watched.until(lambda: watched.failing == [True, False])
        state = await watched.store.outbox.outbox_state()
        assert (state.depth, state.dead) == (0, 1)


async def test_a_top_up_fails_at_once_and_may_be_repeated(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        accounts = watched.store.accounts
        await accounts.create(terms_of("acme"))
        disk.break_down(FSYNC, 3)
        with pytest.raises(Exception, match="cannot write at present"):
            await accounts.top_up("acme", Money(Decimal(5), "EUR"), "first")
        await watched.until(lambda: watched.failing == [True, False])
        assert await accounts.top_up("acme", Money(Decimal(5), "EUR"), "first") == Money(Decimal(5), "EUR")
        await watched.proved()


async def test_a_checkpoint_that_fails_is_not_passed_over(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite ignores the errors of automatic checkpoints; ours are asked for."""
    monkeypatch.setattr("sidecar.adapters.sqlite.writer.WAL_PAGES_MAX", 1)
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        disk.break_down(FSYNC, 1, database_only=True)  # the commits themselves succeed
        synced = len(watched.failing)
        for number in range(2, 5):
            watched.submit(*whole_call(number))
            await watched.written()
        await watched.until(lambda: len(watched.failing) >= synced + 2)
        assert watched.failing[synced:] == [True, False]
        assert disk.failed == 1
        assert {cdr.call_id for cdr in await watched.store.records.tail(0)} >= {call_id(1)}
        await watched.proved()


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_acknowledged_is_ever_lost_on_a_disk_that_comes_and_goes(
    tmp_path: Path, disk: Disk, seed: int
) -> None:
    codes = (FULL, WRITE, FSYNC)
    acknowledged: set[UUID] = set()
    async with opened(tmp_path, vfs="faulty") as watched:
        for number in range(1, 61):
            if number % 7 == seed:
                disk.break_down(codes[(number + seed) % 3], 1 + (number * (seed + 3)) % 9)
            watched.submit(admission(admitted(number)))
            known = number
            await watched.until(lambda known=known: bool(outcome_kinds(watched, known)))  # type: ignore[misc]
            if outcome(watched, number) is Admitted:
                acknowledged.add(call_id(number))
                if number % 3:
                    watched.submit(ending(ended(answered(admitted(number)))))
        disk.repair()
        await watched.written()
        recorded = {cdr.call_id for cdr in await watched.store.records.tail(0)}
        assert [cdr.seq for cdr in await watched.store.records.tail(0)] == list(range(1, len(recorded) + 1))
        await watched.proved()
    async with opened(tmp_path, boot_id="next") as watched:
        still_open = {call.call_id for call, _ in watched.store.found_open()}
    assert recorded | still_open == acknowledged
    assert not recorded & still_open
    assert disk.failed > 0


@FAULTS
async def test_a_call_that_was_recorded_before_a_fault_is_not_admitted_again(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        disk.break_down(code, 2)
        watched.submit(admission(admitted(2)))
        await watched.until(lambda: watched.failing == [True, False])
        watched.events.clear()
        watched.submit(admission(admitted(1)))
        assert await watched.kinds() == ["StepFailed"]


async def test_what_was_kept_is_written_once_and_together(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        calls = [admitted(number) for number in range(1, 6)]
        watched.submit(*map(admission, calls))
        await watched.until(lambda: len(watched.events) == 5)
        watched.commits.clear()
        disk.break_down(FULL)
        watched.submit(*(ending(ended(answered(call))) for call in calls))
        await watched.until(lambda: watched.failing == [True])
        disk.repair()
        await watched.until(lambda: watched.failing == [True, False])
        assert watched.commits == [5]


@FAULTS
@pytest.mark.parametrize("syncs", range(8))
async def test_what_is_kept_outlives_a_disk_that_passes_the_probe_and_fails_the_next_commit(
    tmp_path: Path, disk: Disk, code: int, syncs: int
) -> None:
    """Which of the syncs after the first fault is that commit depends on what was done to the file before."""
    async with opened(tmp_path, vfs="faulty") as watched:
        calls = [admitted(number) for number in range(1, 6)]
        watched.submit(*map(admission, calls))
        await watched.until(lambda: len(watched.events) == 5)
        disk.break_down(code, 1)
        disk.break_down_again(code, syncs)
        watched.submit(*(ending(ended(answered(call))) for call in calls))
        await watched.until(lambda: watched.failing[-1:] == [False])
        for number in range(6, 12):  # where it was none of those, one of these is
            watched.submit(*whole_call(number))
            await watched.written()
        assert disk.failed == 2
        records = [cdr.call_id for cdr in await watched.store.records.tail(0)]
        assert records[:5] == [call.call_id for call in calls]
        assert len(set(records)) == len(records)
        await watched.proved()


@pytest.mark.parametrize("syncs", [None, 1, 2, 3])
async def test_more_than_a_commit_holds_is_kept_in_order_and_written_once(
    tmp_path: Path, disk: Disk, syncs: int | None
) -> None:
    """None: the disk is well again; else it fails once more, before or between the commits."""
    count = STEPS_PER_COMMIT_MAX + 88
    async with opened(tmp_path, vfs="faulty") as watched:
        calls = [admitted(number) for number in range(1, count + 1)]
        watched.submit(*map(admission, calls))
        await watched.until(lambda: len(watched.events) == count)
        disk.break_down(FULL)
        watched.submit(*(ending(ended(answered(call))) for call in calls[:-1]))
        await watched.until(lambda: watched.failing == [True])
        watched.commits.clear()
        if syncs is not None:
            disk.break_down_again(FULL, syncs)
        watched.submit(ending(ended(answered(calls[-1]))))
        disk.repair()
        await watched.until(lambda: watched.failing == [True, False])
        assert watched.commits == [STEPS_PER_COMMIT_MAX, 88]
        records = [*await watched.store.records.tail(0, 1_000)]
        assert [cdr.call_id for cdr in records] == [call.call_id for call in calls]
        assert [row.seq for row in await watched.store.outbox.pending(0, 1_000)] == [*range(1, count + 1)]
        await watched.proved()


@FAULTS
async def test_a_stop_on_a_disk_that_fails_raises_nothing_and_keeps_what_was_committed(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        assert len(await watched.store.records.tail(0)) == 1  # a reader has the file open too
        disk.break_down(code)
    disk.repair()
    async with opened(tmp_path, boot_id="next") as watched:
        assert [cdr.call_id for cdr in await watched.store.records.tail(0)] == [call_id(1)]
        await watched.proved()


async def test_after_a_fault_the_wal_is_taken_up_as_before(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.writer.WAL_PAGES_MAX", 200)
    async with opened(tmp_path, vfs="faulty") as watched:
        disk.break_down(FSYNC, 1)
        watched.submit(admission(admitted(100)))
        await watched.until(lambda: watched.failing == [True, False])
        for number in range(1, 51):
            watched.submit(*whole_call(number))
            await watched.written()
        assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size < 300 * 4_120


async def test_a_lock_of_another_process_is_waited_out_whoever_reads_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.file.BUSY_MS_MAX", 10)
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        reader, other = (apsw.Connection(str(tmp_path / FILE_NAME)) for _ in range(2))
        reader.execute("BEGIN; SELECT count(*) FROM cdrs")
        other.execute("BEGIN IMMEDIATE")
        watched.submit(admission(admitted(2)))
        await watched.until(lambda: watched.failing == [True])
        other.execute("ROLLBACK")
        await watched.until(lambda: watched.failing == [True, False])
        reader.close()
        other.close()
        await watched.proved()


@FAULTS
async def test_an_end_beside_a_defect_is_written_when_the_disk_is_back(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(admission(admitted(1)))
        await watched.until(lambda: len(watched.events) == 1)
        disk.break_down(code, 3)
        broken = replace(admitted(2), bridge_id="not a number")
        watched.submit(admission(broken), ending(ended(answered(admitted(1)))))
        await watched.until(lambda: watched.failing == [True, False])
        assert watched.defects == [call_id(2)]
        assert [cdr.call_id for cdr in await watched.store.records.tail(0)] == [call_id(1)]
        await watched.proved()


@FAULTS
async def test_what_was_committed_beside_a_defect_is_not_undone_when_the_disk_fails_after_it(
    tmp_path: Path, disk: Disk, code: int
) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        watched.submit(admission(admitted(1)))
        await watched.until(lambda: len(watched.events) == 1)
        disk.break_down_again(code, 1)
        broken = replace(admitted(3), bridge_id="not a number")
        watched.submit(admission(admitted(2)), admission(broken), ending(ended(answered(admitted(1)))))
        await watched.until(lambda: watched.failing == [True, False])
        await watched.written()
        assert outcome_kinds(watched, 2) == [Admitted]
        assert [cdr.call_id for cdr in await watched.store.records.tail(0)] == [call_id(1)]
        await watched.proved()
    async with opened(tmp_path, boot_id="next") as watched:
        assert [call.call_id for call, _ in watched.store.found_open()] == [call_id(2)]


async def test_after_a_fault_nothing_is_believed_that_was_read_before(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path, vfs="faulty") as watched:
        outbox = watched.store.outbox
        told: list[int] = []
        outbox.on_rows(lambda: told.append(len(watched.failing)))
        watched.submit(*whole_call(1))
        await watched.written()
        [row] = await outbox.pending(0, 9)
        outbox.rows_added([replace(row, seq=2)])  # not in the file
        assert len(await watched.store.records.tail(0)) == 1
        disk.break_down(FSYNC, 1)
        watched.submit(admission(admitted(3)))
        await watched.until(lambda: watched.failing == [True, False])
        assert watched.store._reader._connection is None  # else SQLite would not read the WAL anew
        assert told[-2:] == [0, 1]  # each time before anybody hears that the store fails or writes again
        assert await outbox.pending(1, 9) == ()


async def test_after_a_fault_all_of_the_wal_is_in_the_database(tmp_path: Path, disk: Disk) -> None:
    wal = tmp_path / f"{FILE_NAME}-wal"
    async with opened(tmp_path, vfs="faulty") as watched:
        for number in range(1, 51):
            watched.submit(*whole_call(number))
            await watched.written()
        before = wal.stat().st_size
        disk.break_down(FSYNC, 2)  # the second is that of closing the file, which SQLite passes over
        watched.submit(admission(admitted(100)))
        await watched.until(lambda: watched.failing == [True, False])
        assert wal.stat().st_size < before / 2


async def test_a_file_that_was_damaged_meanwhile_is_not_written_to_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[apsw.Connection] = []

    def checking(connection: apsw.Connection) -> None:
        checked.append(connection)
        verify(connection)

    monkeypatch.setattr("sidecar.adapters.sqlite.store.verify", checking)
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
    [(page,)] = asked(tmp_path, "SELECT rootpage - 1 FROM sqlite_schema WHERE name = 'suppressed_by_end'")
    async with opened(tmp_path, boot_id="next", vfs="faulty") as watched:
        with (tmp_path / FILE_NAME).open("r+b") as file:
            file.seek(int(str(page)) * 4096)
            sound = file.read(8)
            file.seek(-8, os.SEEK_CUR)
            file.write(b"\xff" * 8)
            file.flush()
            disk.break_down(FSYNC, 1)
            watched.submit(admission(admitted(2)))
            async with asyncio.timeout(WAIT_S):
                while len(checked) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert watched.failing == [True]
            file.seek(-8, os.SEEK_CUR)
            file.write(sound)
        await watched.until(lambda: watched.failing == [True, False])
        await watched.proved()
