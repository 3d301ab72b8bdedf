"""A damaged WAL: commits that SQLite would pass over in silence are found behind the place where it stops."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.wal import FRAME_HEADER_BYTES, HEADER_BYTES, hidden
from tests.adapters.sqlite_stores import Watched, opened
from tests.adapters.store_calls import terms_of, whole_call

WAL = f"{FILE_NAME}-wal"
FRAME = FRAME_HEADER_BYTES + 4096
CALLS = 60


async def killed(tmp_path: Path) -> tuple[Path, dict[int | None, str]]:
    """A data directory as a kill leaves it, all commits of its last boot in the WAL; its records."""
    source, data_dir = tmp_path / "source", tmp_path / "killed"
    async with opened(source) as watched:
        await watched.store.accounts.create(terms_of("acme", prepaid=False))
    async with opened(source, boot_id="b2") as watched:
        for number in range(1, CALLS + 1):
            watched.submit(*whole_call(number, "acme"))
            await watched.written()
        shutil.copytree(source, data_dir)
        return data_dir, await records(watched)


async def records(watched: Watched) -> dict[int | None, str]:
    return {cdr.seq: repr(cdr) for cdr in await watched.store.records.tail(0, 1_000)}


def pair(file: Path) -> list[bytes]:
    """A file and its WAL."""
    return [file.with_name(f"{file.name}{suffix}").read_bytes() for suffix in ("", "-wal")]


def flipped(data_dir: Path, at: int, bit: int = 0) -> None:
    body = bytearray((data_dir / WAL).read_bytes())
    body[at] ^= 1 << bit
    (data_dir / WAL).write_bytes(body)


async def test_a_wal_that_is_whole_hides_nothing(tmp_path: Path) -> None:
    data_dir, before = await killed(tmp_path)
    assert hidden(data_dir / FILE_NAME) is None
    # Nor does one that ends within a commit: nobody was told of that.
    with (data_dir / WAL).open("ab") as file:
        file.write(b"\x00" * FRAME)
    assert hidden(data_dir / FILE_NAME) is None
    async with opened(data_dir, boot_id="after") as watched:
        assert watched.store.salvage is None
        assert await records(watched) == before


@pytest.mark.parametrize("seed", range(6))
async def test_a_flipped_bit_costs_no_more_than_the_page_that_it_is_in(tmp_path: Path, seed: int) -> None:
    data_dir, before = await killed(tmp_path)
    chance = random.Random(seed)
    flipped(data_dir, chance.randrange(HEADER_BYTES, (data_dir / WAL).stat().st_size - FRAME), seed)
    damaged = pair(data_dir / FILE_NAME)
    async with opened(data_dir, boot_id="after") as watched:
        assert watched.store.salvage is not None
        assert pair(watched.store.salvage.aside) == damaged  # as it was, for whoever wants to look
        assert not [path.name for path in data_dir.iterdir() if ".reading" in path.name]
        assert "the WAL is damaged" in watched.store.salvage.cause
        after = await records(watched)
        assert after.items() <= before.items()
        assert len(after) >= CALLS - 3
        assert watched.store.salvage.lost_seqs == CALLS - len(after)
        watched.submit(*whole_call(900, "acme"))
        await watched.written()
        [last] = await watched.store.records.tail(CALLS)
        assert (last.seq, last.store_epoch) == (CALLS + 1, watched.store.epoch)


@pytest.mark.parametrize("at", [0, 3, 8, 11, 16, 20, 24, 31])
async def test_a_header_that_is_wrong_costs_nothing(tmp_path: Path, at: int) -> None:
    data_dir, before = await killed(tmp_path)
    flipped(data_dir, at, 2)
    async with opened(data_dir, boot_id="after") as watched:
        assert watched.store.salvage is not None
        assert await records(watched) == before


async def test_frames_of_an_earlier_life_of_the_file_are_not_missed(tmp_path: Path) -> None:
    data_dir, _ = await killed(tmp_path)
    async with opened(data_dir, boot_id="after") as watched:
        await watched.written()
    # What a checkpoint leaves: a WAL begun anew over the frames of before.
    async with opened(data_dir, boot_id="b4") as watched:
        for number in range(201, 206):
            watched.submit(*whole_call(number, "acme"))
            await watched.written()
        assert hidden(data_dir / FILE_NAME) is None
