"""A first page that is wrong, or a file that is shorter than it says: what can be read is saved."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.page_one import KEPT_NAME, kept_schema
from tests.adapters.sqlite_stores import Watched, opened
from tests.adapters.store_calls import terms_of, whole_call

CALLS = 60
PAGE = 4096


async def filled(data_dir: Path) -> dict[int | None, str]:
    async with opened(data_dir) as watched:
        await watched.store.accounts.create(terms_of("acme", prepaid=False))
        for number in range(1, CALLS + 1):
            watched.submit(*whole_call(number, "acme"))
        await watched.written()
        await watched.store.outbox.acknowledge(list(range(1, CALLS - 9)), [])
        return await records(watched)


async def records(watched: Watched) -> dict[int | None, str]:
    return {cdr.seq: repr(cdr) for cdr in await watched.store.records.tail(0, 1_000)}


def written(data_dir: Path, at: int, content: bytes) -> None:
    with (data_dir / FILE_NAME).open("r+b") as file:
        file.seek(at)
        file.write(content)


def flipped(data_dir: Path, at: int, bit: int) -> None:
    body = (data_dir / FILE_NAME).read_bytes()
    written(data_dir, at, bytes([body[at] ^ 1 << bit]))


async def all_saved(data_dir: Path, before: dict[int | None, str]) -> None:
    async with opened(data_dir, boot_id="after") as watched:
        assert watched.store.salvage is not None
        assert await records(watched) == before
        assert watched.store.salvage.lost_seqs == 0
        waiting = [row.seq for row in await watched.store.outbox.pending(0, 1_000)]
        assert waiting[-10:] == list(range(CALLS - 9, CALLS + 1))
        assert await watched.store.accounts.stored("acme")
        await watched.proved()


async def test_a_first_page_that_is_something_else_costs_no_row(tmp_path: Path) -> None:
    before = await filled(tmp_path)
    written(tmp_path, 0, b"\x5a" * PAGE)
    await all_saved(tmp_path, before)


@pytest.mark.parametrize("seed", range(12))
async def test_a_bit_of_the_first_page_costs_no_row(tmp_path: Path, seed: int) -> None:
    before = await filled(tmp_path)
    flipped(tmp_path, random.Random(seed).randrange(PAGE), seed % 8)
    async with opened(tmp_path, boot_id="after") as watched:
        assert await records(watched) == before
        await watched.proved()


@pytest.mark.parametrize("at", [0, 16, 19, 47, 56, 63, 100, 103])
async def test_a_bit_of_the_header_costs_no_row(tmp_path: Path, at: int) -> None:
    before = await filled(tmp_path)
    flipped(tmp_path, at, 1)
    async with opened(tmp_path, boot_id="after") as watched:
        assert await records(watched) == before
        await watched.proved()


async def test_a_file_that_is_a_page_short_costs_what_was_on_it(tmp_path: Path) -> None:
    before = await filled(tmp_path)
    size = (tmp_path / FILE_NAME).stat().st_size
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.truncate(size - PAGE)
    async with opened(tmp_path, boot_id="after") as watched:
        assert watched.store.salvage is not None
        after = await records(watched)
        assert after.items() <= before.items()
        assert len(after) >= CALLS - 3


async def test_a_schema_that_was_not_kept_is_no_fault(tmp_path: Path) -> None:
    before = await filled(tmp_path)
    (tmp_path / KEPT_NAME).write_text("00000000\nnothing")
    assert kept_schema(tmp_path) is None
    async with opened(tmp_path, boot_id="after") as watched:
        assert watched.store.salvage is None
        assert await records(watched) == before
    assert kept_schema(tmp_path) is not None


async def test_a_file_that_was_vacuumed_is_no_damage(tmp_path: Path) -> None:
    before = await filled(tmp_path)
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute("VACUUM")
    connection.close()
    async with opened(tmp_path, boot_id="after") as watched:
        assert watched.store.salvage is None
        assert await records(watched) == before
