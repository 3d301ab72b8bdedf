"""Rows that wait for the broker."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.wire.cdr_codec import decode
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import whole_call
from tests.adapters.stores import PostgresqlStores, SqliteStores, Stores
from tests.rig.postgres import Postgres

_numbers = itertools.count(1)


async def published(watched: AnyWatched, *numbers: int) -> None:
    for number in numbers:
        watched.submit(*whole_call(number))
    await watched.written()


async def seqs(watched: AnyWatched, after_seq: int = 0, rows_max: int = 100) -> list[int]:
    return [row.seq for row in await watched.store.outbox.pending(after_seq, rows_max)]


async def test_a_row_carries_what_the_publisher_needs(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1)
        (row,) = await watched.store.outbox.pending(0, 10)
        cdr = decode(row.payload)
        assert row.topic == "sidecar/v1/_/n1/cdr/acme/caller"
        assert (row.message_id, row.seq, row.content_version) == (str(cdr.message_id), cdr.seq, 1)
    async with stores.opened(boot_id="next") as watched:
        assert list(await watched.store.outbox.pending(0, 10)) == [row]  # read back, it is the same


async def test_rows_come_in_order_in_pages_and_each_once_to_a_reader_that_goes_forward(
    stores: Stores,
) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 8))
        assert await seqs(watched, 0, 3) == [1, 2, 3]
        assert await seqs(watched, 3, 3) == [4, 5, 6]
        assert await seqs(watched, 6, 3) == [7]
        assert await seqs(watched, 7, 3) == []
        await published(watched, 8)
        assert await seqs(watched, 7, 3) == [8]


async def test_a_reader_that_begins_anew_gets_what_was_not_acknowledged(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 8))
        assert await seqs(watched) == [1, 2, 3, 4, 5, 6, 7]
        await watched.store.outbox.acknowledge([1, 2, 5], [])
        assert await seqs(watched) == [3, 4, 6, 7]
        await published(watched, 8)
        assert await seqs(watched, 4) == [6, 7, 8]
    async with stores.opened(boot_id="next") as watched:
        assert await seqs(watched) == [3, 4, 6, 7, 8]
        await published(watched, 9)
        assert await seqs(watched, 4) == [6, 7, 8, 9]
        assert await seqs(watched, 9) == []


async def test_new_rows_are_announced_after_their_commit(stores: Stores) -> None:
    async with stores.opened() as watched:
        announced: list[int] = []
        watched.store.outbox.on_rows(lambda: announced.append(1))
        await published(watched, 1)
        assert announced == [1]
        assert await seqs(watched) == [1]


async def test_a_dead_letter_leaves_the_outbox_can_be_seen_and_tried_again(stores: Stores) -> None:
    async with stores.opened() as watched:
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


async def test_a_dead_letter_that_is_dropped_is_not_tried_again(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1, 2, 3)
        outbox = watched.store.outbox
        await outbox.acknowledge([], [(2, 0x87), (3, 0x87)])
        assert await outbox.drop_dead([1, 2, 99]) == 1, "1 is no dead letter: it waits"
        assert await outbox.retry_dead() == 1
        assert await seqs(watched) == [1, 3]


async def test_an_acknowledgement_repeated_after_a_retry_does_not_bury_the_row_twice(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1)
        outbox = watched.store.outbox
        await outbox.acknowledge([], [(1, 0x87)])
        await outbox.acknowledge([], [(1, 0x87)])
        assert len(await outbox.dead_letters()) == 1
        await outbox.retry_dead()
        await outbox.acknowledge([1], [])
        await outbox.acknowledge([], [(1, 0x87)])
        assert await outbox.dead_letters() == ()


async def test_the_state_says_what_the_status_and_the_metrics_need(stores: Stores) -> None:
    async with stores.opened() as watched:
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
    stores: Stores, rows_at_hand_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.store.outbox.ROWS_AT_HAND_MAX", rows_at_hand_max)
    async with stores.opened() as watched:
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


# --- the mark, and what waits behind it ---------------------------------------------------------------------


async def mark(watched: AnyWatched, stores: Stores) -> tuple[object, list[object]]:
    """(the mark, the numbers below it that wait), from the file."""
    await watched.written()
    ((acknowledged_seq,),) = stores.asked(f"SELECT acknowledged_seq FROM {stores.marks}")
    return acknowledged_seq, [seq for (seq,) in stores.asked("SELECT seq FROM outbox_behind ORDER BY seq")]


async def test_in_order_only_the_mark_moves(stores: Stores) -> None:
    async with stores.opened() as watched:
        assert await mark(watched, stores) == (0, [])
        await published(watched, *range(1, 6))
        assert await mark(watched, stores) == (0, [])
        await watched.store.outbox.acknowledge([1, 2], [])
        assert await mark(watched, stores) == (2, [])
        await watched.store.outbox.acknowledge([4, 3], [(5, 0x87)])
        assert await mark(watched, stores) == (5, [])
        await watched.proved()
    async with stores.opened(boot_id="next") as watched:
        await published(watched, 6)
        assert await mark(watched, stores) == (5, [])
        assert await seqs(watched) == [6]


async def test_what_is_passed_over_waits_until_it_is_acknowledged(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 10))
        outbox = watched.store.outbox
        await outbox.acknowledge([2, 3, 6], [])
        assert await mark(watched, stores) == (6, [1, 4, 5])
        assert await seqs(watched) == [1, 4, 5, 7, 8, 9]
        assert await seqs(watched, 0, 2) == [1, 4]
        assert await seqs(watched, 4, 3) == [5, 7, 8]
        assert (await outbox.outbox_state()).depth == 6
        await watched.proved()
        await outbox.acknowledge([3, 4, 7], [(5, 0x87)])
        assert await mark(watched, stores) == (7, [1])
        await outbox.acknowledge([1, 2, 8], [])
        assert await mark(watched, stores) == (8, [])
        assert await seqs(watched) == [9]
        assert [letter.seq for letter in await outbox.dead_letters()] == [5]
        await watched.proved()


async def test_one_acknowledgement_may_lie_on_both_sides_of_the_mark(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 8))
        await watched.store.outbox.acknowledge([4], [])
        assert await mark(watched, stores) == (4, [1, 2, 3])
        await watched.store.outbox.acknowledge([3, 4, 5, 6], [])
        assert await mark(watched, stores) == (6, [1, 2])
        assert await seqs(watched) == [1, 2, 7]
        await watched.proved()


async def test_an_acknowledgement_that_comes_late_does_not_take_the_mark_back(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 5))
        await watched.store.outbox.acknowledge([1, 2, 3], [])
        await watched.store.outbox.acknowledge([1], [(2, 0x87)])
        assert await mark(watched, stores) == (3, [])
        assert await watched.store.outbox.dead_letters() == ()


async def test_a_number_that_no_record_has_yet_cannot_be_acknowledged(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1, 2)
        await watched.store.outbox.acknowledge([1, 3, 99], [(4, 0x87)])
        assert await mark(watched, stores) == (1, [])
        await published(watched, 3, 4)
        assert await seqs(watched) == [2, 3, 4]
        assert await watched.store.outbox.dead_letters() == ()


async def test_a_record_of_the_same_commit_cannot_have_been_acknowledged(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1)
        watched.submit(*whole_call(2))
        await watched.store.outbox.acknowledge([1, 2], [])  # in one turn: one commit
        assert await seqs(watched) == [2]


async def test_a_dead_letter_that_is_tried_again_waits_behind_the_mark(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 5))
        outbox = watched.store.outbox
        began_ns = watched.store._clock.wall_ns()
        await outbox.acknowledge([1, 3], [(2, 0x87)])
        assert await outbox.retry_dead() == 1
        assert await mark(watched, stores) == (3, [2])
        state = await outbox.outbox_state()
        assert (state.depth, state.dead) == (2, 0)
        assert state.oldest_wall_ns >= began_ns  # it waits since it was put back
        await outbox.acknowledge([], [(2, 0x95)])
        assert [letter.reason_code for letter in await outbox.dead_letters()] == [0x95]
        assert await mark(watched, stores) == (3, [])


async def test_the_oldest_is_the_lowest_number_that_waits_wherever_it_stands(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, 1, 2, 3)
        outbox = watched.store.outbox
        for seq, written_ns in ((1, 100), (2, 200), (3, 300)):
            stores.forced("UPDATE cdrs SET written_wall_ns = ? WHERE seq = ?", written_ns, seq)
        assert (await outbox.outbox_state()).oldest_wall_ns == 100
        await outbox.acknowledge([2], [])
        assert (await outbox.outbox_state()).oldest_wall_ns == 100
        await outbox.acknowledge([1], [])
        assert (await outbox.outbox_state()).oldest_wall_ns == 300
        await outbox.acknowledge([3], [])
        assert (await outbox.outbox_state()).oldest_wall_ns == 0


async def test_a_damaged_record_is_passed_and_counted_and_holds_nothing_up(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 5))
        stores.forced(f"UPDATE {stores.bodies} SET crc = crc + 1 WHERE seq = 2")
    async with stores.opened(boot_id="next") as watched:
        rows = await seqs(watched)
        assert rows == [1, 3, 4]
        await watched.store.outbox.acknowledge(rows, [])
        assert await mark(watched, stores) == (4, [2])
        assert (await watched.store.outbox.outbox_state()).depth == 1


async def test_damaged_records_do_not_shorten_what_is_read_at_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        await published(watched, *range(1, 41))
        stores.forced(f"UPDATE {stores.bodies} SET crc = crc + 1 WHERE seq % 10 != 0 AND seq != 39")
    async with stores.opened(boot_id="next") as watched:
        outbox = watched.store.outbox
        assert [row.seq for row in await outbox.pending(0, 3)] == [10, 20, 30]
        assert [row.seq for row in await outbox.pending(30, 3)] == [39, 40]
        await outbox.acknowledge([10, 20, 30, 39, 40], [])
        assert [row.seq for row in await outbox.pending(0, 3)] == []
        assert (await outbox.outbox_state()).depth == 35


answers = given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "answer", "dead", "retry", "boot"]), st.integers(0, 2**9 - 1))
    )
)


@settings(max_examples=40, deadline=None)
@answers
async def test_whatever_the_broker_answers_exactly_the_others_wait(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]
) -> None:
    await exactly_the_others_wait(SqliteStores(tmp_path_factory.mktemp("store")), actions)


@settings(max_examples=6, deadline=None)
@answers
async def test_whatever_the_broker_answers_exactly_the_others_wait_on_a_server(
    postgresql: Postgres, actions: list[tuple[str, int]]
) -> None:
    await exactly_the_others_wait(PostgresqlStores(postgresql.conninfo, f"outbox{next(_numbers)}"), actions)


async def exactly_the_others_wait(stores: Stores, actions: list[tuple[str, int]]) -> None:
    """Against a model that is a set of numbers; `answer` and `dead` name some of the lowest that wait, and
    some that do not, by the bits of the second."""
    waiting: set[int] = set()
    dead: set[int] = set()
    head = 0
    rest = [("publish", 6), *actions]
    boot = 0
    while rest:
        boot += 1
        async with stores.opened(boot_id=f"boot{boot}") as watched:
            outbox = watched.store.outbox
            while rest:
                kind, bits = rest.pop(0)
                chosen = [seq for bit, seq in enumerate(range(max(1, head - 7), head + 2)) if bits >> bit & 1]
                if kind == "boot":
                    break
                if kind == "publish":
                    more = range(head + 1, head + 2 + bits % 6)
                    await published(watched, *more)
                    head = more[-1]
                    waiting.update(more)
                elif kind == "answer":
                    await outbox.acknowledge(chosen, [])
                    waiting.difference_update(chosen)
                elif kind == "dead":
                    await outbox.acknowledge([], [(seq, 0x87) for seq in chosen])
                    dead |= waiting.intersection(chosen)
                    waiting.difference_update(chosen)
                else:
                    assert await outbox.retry_dead(chosen) == len(dead.intersection(chosen))
                    waiting |= dead.intersection(chosen)
                    dead.difference_update(chosen)
                state = await outbox.outbox_state()
                assert (state.head_seq, state.depth, state.dead) == (head, len(waiting), len(dead))
                assert bool(state.oldest_wall_ns) == bool(waiting)
                assert await seqs(watched) == sorted(waiting)
                assert [letter.seq for letter in await outbox.dead_letters()] == sorted(dead)
            await watched.proved()


async def test_the_age_of_the_outbox_is_that_of_the_lowest_number_that_waits(stores: Stores) -> None:
    async with stores.opened() as watched:
        for number in range(1, 6):
            await published(watched, number)
        written = [0, *(at for (at,) in stores.asked("SELECT written_wall_ns FROM cdrs ORDER BY seq"))]
        for answered, lowest in (([], 1), ([1], 2), ([4], 2), ([2], 3), ([3], 5), ([5], 0)):
            await watched.store.outbox.acknowledge(answered, [])
            state = await watched.store.outbox.outbox_state()
            assert state.oldest_wall_ns == written[lowest]


async def test_after_a_fault_only_the_file_says_what_waits(stores: Stores) -> None:
    async with stores.opened() as watched:
        outbox = watched.store.outbox
        await published(watched, 1)
        [row] = await outbox.pending(0, 9)
        outbox.rows_added([replace(row, seq=2)])
        assert await seqs(watched, 1) == [2]
        outbox.rows_added([replace(row, seq=3)])
        outbox.rows_doubtful()
        assert await seqs(watched, 2) == []
