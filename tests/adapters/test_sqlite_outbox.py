"""Rows that wait for the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.wire.cdr_codec import decode
from tests.adapters.sqlite_stores import Watched, opened
from tests.adapters.store_calls import whole_call


async def published(watched: Watched, *numbers: int) -> None:
    for number in numbers:
        watched.submit(*whole_call(number))
    await watched.written()


async def seqs(watched: Watched, after_seq: int = 0, rows_max: int = 100) -> list[int]:
    return [row.seq for row in await watched.store.outbox.pending(after_seq, rows_max)]


async def test_a_row_carries_what_the_publisher_needs(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await published(watched, 1)
        (row,) = await watched.store.outbox.pending(0, 10)
        cdr = decode(row.payload)
        assert row.topic == "sidecar/v1/_/n1/cdr/acme/caller"
        assert (row.message_id, row.seq, row.content_version) == (str(cdr.message_id), cdr.seq, 1)
    async with opened(tmp_path, boot_id="next") as watched:
        assert list(await watched.store.outbox.pending(0, 10)) == [row]  # read back, it is the same


async def test_rows_come_in_order_in_pages_and_each_once_to_a_reader_that_goes_forward(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as watched:
        await published(watched, *range(1, 8))
        assert await seqs(watched, 0, 3) == [1, 2, 3]
        assert await seqs(watched, 3, 3) == [4, 5, 6]
        assert await seqs(watched, 6, 3) == [7]
        assert await seqs(watched, 7, 3) == []
        await published(watched, 8)
        assert await seqs(watched, 7, 3) == [8]


async def test_a_reader_that_begins_anew_gets_what_was_not_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await published(watched, *range(1, 8))
        assert await seqs(watched) == [1, 2, 3, 4, 5, 6, 7]
        await watched.store.outbox.acknowledge([1, 2, 5], [])
        assert await seqs(watched) == [3, 4, 6, 7]
        await published(watched, 8)
        assert await seqs(watched, 4) == [6, 7, 8]
    async with opened(tmp_path, boot_id="next") as watched:
        assert await seqs(watched) == [3, 4, 6, 7, 8]
        await published(watched, 9)
        assert await seqs(watched, 4) == [6, 7, 8, 9]
        assert await seqs(watched, 9) == []


async def test_new_rows_are_announced_after_their_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        announced: list[int] = []
        watched.store.outbox.on_rows(lambda: announced.append(1))
        await published(watched, 1)
        assert announced == [1]
        assert await seqs(watched) == [1]


async def test_a_dead_letter_leaves_the_outbox_can_be_seen_and_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await published(watched, 1, 2, 3)
        outbox = watched.store.outbox
        await outbox.acknowledge([1], [(2, 0x87), (3, 0xEE)])
        assert await seqs(watched) == []
        first, second = await outbox.dead_letters()
        assert (first.seq, first.reason_code, first.reason_name) == (2, 0x87, "Not authorized")
        assert decode(first.payload).seq == 2
        assert second.reason_name == "0xee"
        assert [letter.seq for letter in await outbox.dead_letters(after_seq=2)] == [3]
        announced: list[int] = []
        outbox.on_rows(lambda: announced.append(1))
        assert await outbox.retry_dead([2, 99]) == 1
        assert announced == [1]
        assert await seqs(watched) == [2]
        assert await outbox.retry_dead() == 1
        assert await outbox.retry_dead() == 0
        assert await seqs(watched) == [2, 3]


async def test_a_dead_letter_that_is_dropped_is_not_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await published(watched, 1, 2, 3)
        outbox = watched.store.outbox
        await outbox.acknowledge([], [(2, 0x87), (3, 0x87)])
        assert await outbox.drop_dead([1, 2, 99]) == 1, "1 is no dead letter: it waits"
        assert await outbox.retry_dead() == 1
        assert await seqs(watched) == [1, 3]


async def test_a_settlement_repeated_after_a_retry_does_not_bury_the_row_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await published(watched, 1)
        outbox = watched.store.outbox
        await outbox.acknowledge([], [(1, 0x87)])
        await outbox.acknowledge([], [(1, 0x87)])
        assert len(await outbox.dead_letters()) == 1
        await outbox.retry_dead()
        await outbox.acknowledge([1], [])
        await outbox.acknowledge([], [(1, 0x87)])
        assert await outbox.dead_letters() == ()


async def test_the_state_says_what_the_status_and_the_metrics_need(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        empty = await watched.store.outbox.outbox_state()
        assert (empty.head_seq, empty.published, empty.depth, empty.oldest_wall_ns, empty.dead) == (0,) * 5
        began_ns = watched.store._clock.wall_ns()
        await published(watched, 1, 2, 3)
        await watched.store.outbox.acknowledge([1], [(2, 0x99)])
        state = await watched.store.outbox.outbox_state()
        assert (state.epoch, state.head_seq, state.published) == (watched.store.epoch, 3, 3)
        assert (state.depth, state.dead) == (1, 1)
        assert state.oldest_wall_ns >= began_ns


@pytest.mark.parametrize("rows_at_hand_max", [1, 3])
async def test_a_reader_that_falls_behind_reads_the_file(
    tmp_path: Path, rows_at_hand_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.outbox.ROWS_AT_HAND_MAX", rows_at_hand_max)
    async with opened(tmp_path) as watched:
        found, cursor = [], 0
        for number in range(1, 12):
            await published(watched, number)
            if number % 4 == 0:
                found += await seqs(watched, cursor, 2)
                cursor = found[-1]
        while page := await seqs(watched, cursor, 2):
            found += page
            cursor = found[-1]
        assert found == list(range(1, 12))
