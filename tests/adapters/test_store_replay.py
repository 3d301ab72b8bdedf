"""Published records again: each number that is asked for is a row, or said to wait, to be dead, or not to be
there."""

from __future__ import annotations

from datetime import timedelta

from sidecar.core.commands import Publish
from sidecar.ports import ReplayPage
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.stores import Stores
from tests.adapters.test_store_records import record


async def published(watched: AnyWatched, *numbers: int) -> None:
    for number in numbers:
        watched.submit((Publish(cdr=record(number)),))
    await watched.written()


def sent(page: ReplayPage) -> list[int]:
    return [row.seq for row in page.rows]


async def test_each_number_is_accounted_for(stores: Stores) -> None:
    async with stores.opened() as watched:
        replays = watched.store.replays
        await published(watched, *range(1, 9))
        first, *_ = await watched.store.outbox.pending(0, 10)
        await watched.store.outbox.acknowledge([1, 2, 4, 6], [(5, 0x87)])
        stores.forced(f"UPDATE {stores.bodies} SET crc = crc + 1 WHERE seq = 6")
        page = await replays.replay(None, 1, None, 100)
        assert (sent(page), page.to_seq, page.head_seq) == ([1, 2, 4], 8, 8)
        assert (page.waiting, page.dead, page.absent) == (((3, 3), (7, 8)), ((5, 5),), ((6, 6),))
        assert page.rows[0] == first
        part = await replays.replay(None, 2, 7, 2)
        assert (sent(part), part.to_seq, part.head_seq) == ([2], 3, 8)
        none = await replays.replay(None, 9, None, 100)
        assert (none.rows, none.to_seq, none.head_seq) == ((), 8, 8)


async def test_an_epoch_is_asked_for_by_its_name(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1, 2)
        await watched.store.outbox.acknowledge([1, 2], [])
        ours = await watched.store.replays.replay(watched.store.epoch, 1, None, 100)
        assert (sent(ours), ours.head_seq) == ([1, 2], 2)
        unknown = await watched.store.replays.replay("never heard of", 1, None, 100)
        assert (unknown.rows, unknown.to_seq, unknown.head_seq) == ((), 0, 0)


async def test_the_first_number_since_a_moment_is_found(stores: Stores) -> None:
    async with stores.opened() as watched:
        assert await watched.store.replays.first_seq_since(record(1).ended_at) is None
        await published(watched, 3, 1, 2)  # as they end
        since = watched.store.replays.first_seq_since
        assert await since(record(2).ended_at) == 1
        assert await since(record(3).ended_at) == 1
        assert await since(record(3).ended_at + timedelta(microseconds=1)) is None
