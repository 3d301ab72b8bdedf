"""The journal deleted or swapped under the daemon: seen at the next heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite.file import FILE_NAME
from tests.adapters.sqlite_stores import Watched, opened
from tests.adapters.store_calls import whole_call

WAL = f"{FILE_NAME}-wal"


def beat(watched: Watched) -> list[bool]:
    clock = SystemClock()
    watched.store.heartbeat(clock.mono_ns(), clock.wall_ns())
    return watched.failing


def deleted(data_dir: Path) -> None:
    (data_dir / FILE_NAME).unlink()


def moved(data_dir: Path) -> None:
    (data_dir / FILE_NAME).rename(data_dir / "elsewhere")


def swapped(data_dir: Path) -> None:
    copy = data_dir / "copy"
    copy.write_bytes((data_dir / FILE_NAME).read_bytes())
    copy.rename(data_dir / FILE_NAME)


def without_wal(data_dir: Path) -> None:
    (data_dir / WAL).unlink()


@pytest.mark.parametrize("harm", [deleted, moved, swapped, without_wal])
async def test_a_journal_that_is_not_in_its_place_is_seen_at_the_next_heartbeat(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        assert beat(watched) == []
        harm(tmp_path)
        assert beat(watched) == [True]
        assert watched.store.failing
        assert FILE_NAME in watched.store.failure
        assert beat(watched) == [True]  # said once


async def test_a_journal_that_is_put_back_is_written_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        moved(tmp_path)
        assert beat(watched) == [True]
        (tmp_path / "elsewhere").rename(tmp_path / FILE_NAME)
        assert beat(watched) == [True, False]
        watched.submit(*whole_call(2))
        await watched.written()
    async with opened(tmp_path, boot_id="next") as watched:
        assert len(await watched.store.records.tail(0)) == 2
        assert watched.store.loss is None


async def test_ends_of_calls_after_a_deletion_are_there_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        deleted(tmp_path)
        watched.submit(*whole_call(2))
        await watched.written()
    async with opened(tmp_path, boot_id="next") as watched:
        assert watched.store.loss is None
        assert watched.store.salvage is None
        assert [cdr.seq for cdr in await watched.store.records.tail(0)] == [1, 2]
        await watched.proved()


async def test_what_was_written_beside_a_swapped_journal_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        swapped(tmp_path)
        watched.submit(*whole_call(2))
        await watched.written()
    assert (tmp_path / f"{FILE_NAME}.rescued").exists()
    async with opened(tmp_path, boot_id="next") as watched:
        assert watched.store.loss is not None  # the swapped one lacks what was told of
