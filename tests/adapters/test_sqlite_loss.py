"""Commits that were told of and are not in the file: noticed at the start, a new epoch, and no number and no
message id given out again for something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.adapters.sqlite import StoreError
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.told import TOLD_NAME, read_told
from sidecar.ports import Seen
from tests.adapters.sqlite_stores import Watched, opened
from tests.adapters.store_calls import admission, admitted, answered, ended, ending, whole_call

WAL = f"{FILE_NAME}-wal"


async def killed(source: Path, data_dir: Path) -> set[tuple[int | None, str, str]]:
    """The data directory as a kill leaves it, its commits in the WAL alone; what was published from it."""
    async with opened(source) as watched:
        watched.submit(*whole_call(1, "acme"), *whole_call(2, "beta"), admission(admitted(50, "acme")))
        await watched.written()
    async with opened(source, boot_id="b2") as watched:
        watched.submit(*whole_call(3, "acme"), *whole_call(4, "beta"))
        await watched.written()
        up = answered(admitted(50, "acme"))
        watched.submit(ending(ended(up)), admission(admitted(51, "beta")))
        await watched.written()
        told = await published(watched)
        shutil.copytree(source, data_dir, ignore=shutil.ignore_patterns("control.sock"))
    return told


async def published(watched: Watched) -> set[tuple[int | None, str, str]]:
    return {(cdr.seq, str(cdr.message_id), repr(cdr)) for cdr in await watched.store.records.tail(0, 1_000)}


def deleted(data_dir: Path) -> None:
    (data_dir / WAL).unlink()


def cut(data_dir: Path) -> None:
    with (data_dir / WAL).open("r+b") as file:
        file.truncate((data_dir / WAL).stat().st_size // 2)


def cut_to_nothing(data_dir: Path) -> None:
    (data_dir / WAL).write_bytes(b"")


def flipped(data_dir: Path) -> None:
    body = bytearray((data_dir / WAL).read_bytes())
    body[len(body) // 3] ^= 0x10
    (data_dir / WAL).write_bytes(body)


@pytest.mark.parametrize("damage", [deleted, cut, cut_to_nothing, flipped])
async def test_a_wal_that_is_not_whole_is_noticed_and_nothing_is_given_out_twice(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    data_dir = tmp_path / "killed"
    told = await killed(tmp_path / "source", data_dir)
    damage(data_dir)
    async with opened(data_dir, boot_id="after") as watched:
        store = watched.store
        assert store.loss is not None or store.salvage is not None
        for call, _ in store.found_open():
            watched.submit(ending(ended(call, 1_000)))
        watched.submit(*whole_call(90, "acme"))
        await watched.written()
        now = await published(watched)
        await watched.proved()
        assert store.epoch not in {text for _, _, text in told}
        numbers = {seq: text for seq, _, text in told}
        ids = {message: text for _, message, text in told}
        for seq, message, text in now:
            assert numbers.get(seq, text) == text
            assert ids.get(message, text) == text
        [note] = [one for one in await store.audit.list() if one.change.action == "journal.epoch"]
        assert note.change.subject == store.epoch
    async with opened(data_dir, boot_id="again") as watched:
        assert watched.store.loss is None  # said once
        assert watched.store.salvage is None


async def test_an_older_copy_in_the_place_of_the_journal_begins_an_epoch_above_all_numbers(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
    copy = (tmp_path / FILE_NAME).read_bytes()
    async with opened(tmp_path, boot_id="b2") as watched:
        watched.submit(*whole_call(2), *whole_call(3))
        await watched.written()
        epoch = watched.store.epoch
    (tmp_path / FILE_NAME).write_bytes(copy)
    async with opened(tmp_path, boot_id="b3") as watched:
        assert watched.store.epoch != epoch
        assert watched.store.loss is not None
        assert watched.store.loss.numbers_lost == 2
        watched.submit(*whole_call(4))
        await watched.written()
        assert [cdr.seq for cdr in await watched.store.records.tail(0)] == [1, 4]
        await watched.proved()


async def test_a_journal_that_was_killed_and_is_whole_goes_on_in_its_epoch(tmp_path: Path) -> None:
    told = await killed(tmp_path / "source", tmp_path / "killed")
    async with opened(tmp_path / "killed", boot_id="after") as watched:
        assert watched.store.loss is None
        assert watched.store.salvage is None
        assert await published(watched) == told


async def test_after_a_clean_stop_a_wal_that_is_deleted_costs_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        epoch = watched.store.epoch
    (tmp_path / WAL).unlink(missing_ok=True)
    async with opened(tmp_path, boot_id="b2") as watched:
        assert watched.store.epoch == epoch
        assert len(await watched.store.records.tail(0)) == 1


async def test_an_empty_directory_that_had_a_journal_is_refused_unless_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(StoreError, match=r"up to record 1.*sidecar run --new"):
        async with opened(tmp_path):
            pass
    assert not (tmp_path / FILE_NAME).exists()
    async with opened(tmp_path, begin_anew=True) as watched:
        watched.submit(*whole_call(2))
        await watched.written()
        assert [cdr.seq for cdr in await watched.store.records.tail(0)] == [2]  # above what was told


@pytest.mark.parametrize("content", ["", "1 2 3\n", "9 00 9 epoch 00000000\n", "9 zz 9 epoch 1\n"])
async def test_a_line_that_nobody_wrote_says_nothing(tmp_path: Path, content: str) -> None:
    async with opened(tmp_path) as watched:
        epoch = watched.store.epoch
    (tmp_path / TOLD_NAME).write_text(content)
    assert read_told(tmp_path) is None
    async with opened(tmp_path, boot_id="next") as watched:
        assert watched.store.epoch == epoch
    found = read_told(tmp_path)
    assert found is not None
    assert found.epoch == epoch


@pytest.mark.parametrize("with_file", [True, False])
async def test_what_the_broker_was_told_and_is_not_here_ends_the_epoch(
    tmp_path: Path, with_file: bool
) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        epoch = watched.store.epoch

    async def started(seen: Seen) -> tuple[bool, str]:
        if not with_file:
            (tmp_path / TOLD_NAME).unlink()
        async with opened(tmp_path, boot_id=seen.epoch, seen=seen) as watched:
            await watched.proved()
            return watched.store.loss is not None, watched.store.epoch

    for seen in (Seen(epoch), Seen(epoch, 1), Seen(epoch, 0)):
        assert await started(seen) == (False, epoch)
    lost, second = await started(Seen(epoch, 7))
    assert lost
    assert second != epoch
    assert await started(Seen(epoch, 7)) == (False, second)  # that epoch is over, and known
    assert await started(Seen(second)) == (False, second)
    lost, third = await started(Seen("never-heard-of", 3))
    assert lost
    async with opened(tmp_path, boot_id="last") as watched:
        assert watched.store.epoch == third
        watched.submit(*whole_call(2))
        await watched.written()
        assert (await watched.store.outbox.outbox_state()).head_seq == 8


async def test_a_new_journal_is_not_compared(tmp_path: Path) -> None:
    async with opened(tmp_path, seen=Seen("old", 7)) as watched:
        assert watched.store.loss is None
