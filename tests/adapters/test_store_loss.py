"""Books that were put back: what was published since is not in them, and no number and no message id is given
out again for something else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from sidecar.core.cdr import message_id
from sidecar.ports import Seen
from tests.adapters.sqlite_stores import WAIT_S
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, whole_call
from tests.adapters.stores import Stores


async def test_what_the_broker_was_told_and_is_not_here_ends_the_epoch(stores: Stores) -> None:
    async with stores.opened(seen=Seen("of a node of before", 9)) as watched:
        assert (watched.store.is_new, watched.store.loss) == (True, None)  # it holds nothing to compare
        watched.submit(*whole_call(1), *whole_call(2), admission(admitted(50)))
        await watched.written()
        await watched.store.outbox.acknowledge([1], [])
        first = watched.store.epoch
        for seen in (Seen(first), Seen(first, 2), Seen(first, 0)):
            assert await watched.store.contradicts(seen) == ""
        told = await watched.store.contradicts(Seen(first, 7))
        assert told == "the broker was told of record 7, and 2 is the last one here"
    async with stores.opened(boot_id="second", seen=Seen(first, 7)) as watched:
        second, loss = watched.store.epoch, watched.store.loss
        assert second != first
        assert loss is not None
        assert (loss.cause, loss.numbers_lost, loss.calls_maybe_told) == (told, 5, 1)
        assert await watched.store.contradicts(Seen(first, 7)) == ""  # that epoch is over, and known
        watched.submit(ending(ended(answered(admitted(50)))), *whole_call(3))
        await watched.written()
        rows = await watched.store.outbox.pending(0, 10)
        assert [row.seq for row in rows] == [2, 8, 9], "what waited goes on, and what follows is above"
        assert rows[1].message_id == str(message_id(call_id(50), 0, second))
        state = await watched.store.outbox.outbox_state()
        assert (state.epoch, state.head_seq, state.published, state.depth) == (second, 9, 2, 3)
        assert [cdr.seq for cdr in await watched.store.records.tail(0)] == [1, 2, 8, 9]
        page = await watched.store.replays.replay(None, 1, None, 100)
        assert ([row.seq for row in page.rows], page.head_seq) == ([1], 9)
        assert (page.waiting, page.absent) == (((2, 2), (8, 9)), ((3, 7),))
        await watched.store.outbox.acknowledge([8, 9], [(2, 0x87)])
        assert [one.seq for one in await watched.store.outbox.dead_letters()] == [2]
        assert await watched.store.outbox.retry_dead() == 1
        assert [row.seq for row in await watched.store.outbox.pending(0, 10)] == [2]
        await watched.store.outbox.acknowledge([2], [])
        assert await watched.store.outbox.pending(0, 10) == ()
        noted = [one.change for one in await watched.store.audit.list()]
        assert [(one.action, one.subject, one.text) for one in noted] == [("journal.epoch", second, told)]
        await watched.proved()
    async with stores.opened(boot_id="third", seen=Seen("never heard of")) as watched:
        assert watched.store.epoch not in (first, second)
        assert watched.store.loss is not None
        assert watched.store.loss.cause.startswith("the broker has the status of epoch never heard of")
        third = watched.store.epoch
    async with stores.opened(boot_id="last") as watched:
        assert (watched.store.epoch, watched.store.loss, watched.store.is_new) == (third, None, False)


async def test_new_books_are_discarded_and_old_ones_are_not(stores: Stores) -> None:
    async with stores.opened() as watched:
        assert watched.store.is_new
        await watched.store.discard()
    async with stores.opened(boot_id="again") as watched:
        assert watched.store.is_new
        watched.submit(*whole_call(1))
        await watched.written()
        await watched.store.discard()  # it is new, and yet
    async with stores.opened(boot_id="later") as watched:
        is_kept = not watched.store.is_new
        await watched.store.discard()
    async with stores.opened(boot_id="last") as watched:
        assert is_kept == (not watched.store.is_new)


async def test_a_record_that_is_not_as_it_was_written_is_told_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1), *whole_call(2))
        await watched.written()
        told: list[Sequence[str]] = []
        came = asyncio.Event()

        def on_wrong(found: Sequence[str]) -> None:
            told.append(found)
            came.set()

        async def look() -> None:
            with suppress(asyncio.CancelledError):
                await watched.store.keep_checking(on_wrong, 0.01)

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            looking = group.create_task(look(), name="looking")
            for seq in (2, 1):
                stores.forced(f"UPDATE {stores.bodies} SET crc = crc + 1 WHERE seq = {seq}")
                await came.wait()
                came.clear()
            looking.cancel()
        first, second = told
        assert first
        assert second
        assert not set(first) & set(second)
