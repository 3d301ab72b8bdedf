"""Leases, and the books of a node that are taken over by another one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import psycopg
import pytest
from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.store.bodies import crc_of
from sidecar.core.cdr import message_id
from sidecar.core.events import StrayBye
from sidecar.ports import AuditFilter, UnavailableError
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, whole_call
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_store import with_balance

HEARD_AT = ("udp:192.0.2.1:5060", "tls:[2001:db8::1]:5061")
LAPSED = "UPDATE epochs SET leased_until = clock_timestamp() - interval '1 second' WHERE node = 'n1'"


def books(watched: AnyWatched) -> PostgresqlStore:
    return cast("PostgresqlStore", watched.store)


async def test_a_node_lives_for_its_lease_after_each_commit_by_the_clock_of_the_database(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    left = "SELECT EXTRACT(EPOCH FROM leased_until - clock_timestamp()) FROM epochs WHERE node = 'n1'"
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        ((starting_s,),) = postgresql_stores.asked(left)
        assert 50 < starting_s <= 60
        await books(one).serve(HEARD_AT, 3.0)
        ((leased_s,),) = postgresql_stores.asked(left)
        assert 2 < leased_s <= 3
        (seen,) = await books(other).others()
        assert (seen.name, seen.writer, seen.heard_at) == ("n1", "n1", HEARD_AT)
        assert (seen.is_over, seen.has_work) == (False, False)
        postgresql_stores.asked(LAPSED)
        one.submit(admission(admitted(1)))
        await one.written()
        assert postgresql_stores.asked(left)[0][0] > 2
    ((resting_s,),) = postgresql_stores.asked(left)
    assert 25 < resting_s <= 30


async def test_of_two_who_take_a_node_over_one_wins_and_the_node_is_fenced(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened, fenced = postgresql_stores.opened, []
    async with (
        opened() as one,
        opened(node="n2", boot_id="second") as second,
        opened(node="n3", boot_id="third") as third,
    ):
        await with_balance(one, "10")
        books(one).on_fenced(lambda: fenced.append(True))
        one.submit(*whole_call(1), admission(admitted(2, prepaid=True)))
        await one.written()
        (seen,) = [node for node in await books(second).others() if node.name == "n1"]
        assert await books(second).take(seen) is None  # it lives
        postgresql_stores.asked(LAPSED)
        (seen,) = [node for node in await books(second).others() if node.name == "n1"]
        assert (seen.is_over, seen.has_work) == (True, True)
        takers = await asyncio.gather(books(second).take(seen), books(third).take(seen))
        (taken,) = [store for store in takers if store is not None]
        watched = AnyWatched(taken)
        assert taken.epoch != one.store.epoch
        ((call, _),) = taken.found_open()
        assert call.call_id == call_id(2)
        # What it kept becomes no second record, and it hears of it.
        one.submit(ending(ended(answered(admitted(2, prepaid=True)), 9_000)))
        await one.until(lambda: bool(fenced))
        watched.submit(ending(ended(answered(admitted(2, prepaid=True)), 5_000)))
        await watched.written()
        # The record that its own broker may not have had is told too, and the numbers go on.
        assert [row.seq for row in await taken.outbox.pending(0, 9)] == [1, 2]
        state = await taken.outbox.outbox_state()
        assert (state.epoch, state.head_seq, state.published) == (taken.epoch, 2, 1)
        await taken.outbox.acknowledge([1, 2], [])
        await watched.proved()
        await taken.close()
        (seen,) = [node for node in await books(second).others() if node.name == "n1"]
        assert (seen.is_over, seen.has_work) == (True, False)
        assert seen.writer in ("n2", "n3")
    assert fenced == [True]
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs WHERE call_id = ?", call_id(2).bytes) == [(1,)]


async def test_a_call_of_books_that_were_put_back_is_told_under_another_id_by_a_survivor_too(
    postgresql_stores: PostgresqlStores,
) -> None:
    """The dead node may have told its record, which the dump has not."""
    opened = postgresql_stores.opened
    async with opened() as one:
        one.submit(admission(admitted(1)))
        await one.written()
    postgresql_stores.asked("UPDATE epochs SET place = 'another database'")
    postgresql_stores.asked(LAPSED)
    async with opened(node="n2", boot_id="second") as second:
        (seen,) = await books(second).others()
        taken = await books(second).take(seen)
        assert taken is not None
        watched = AnyWatched(taken)
        watched.submit(ending(ended(answered(admitted(1)))))
        await watched.written()
        (told,) = await taken.records.show(str(call_id(1)))
        assert told.message_id == message_id(call_id(1), 0, taken.epoch)
        await taken.close()


async def test_a_node_that_returns_writes_at_once_and_fences_who_has_taken_over(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened, fenced = postgresql_stores.opened, []
    async with opened() as one:
        one.submit(admission(admitted(1)))
        await one.written()
    postgresql_stores.asked(LAPSED)
    async with opened(node="n2", boot_id="second") as second:
        (seen,) = await books(second).others()
        taken = await books(second).take(seen)
        assert taken is not None
        taken.on_fenced(lambda: fenced.append(True))
        watched = AnyWatched(taken)
        async with opened(boot_id="third") as back:
            assert back.store.epoch == taken.epoch
            shown, one_of_two = await back.store.neighbours.seen(), {"n1": "n2", "n2": None}
            assert {seen.node: seen.taken_over_by for seen in shown} == one_of_two
            assert shown[0].taken_over_wall_ns > 0
            every = await back.store.neighbours.seen(every_epoch=True)
            assert [(seen.node, seen.taken_over_by) for seen in every] == [
                ("n1", None),
                ("n1", "n2"),
                ("n2", None),
            ]
            watched.submit(ending(ended(answered(admitted(1)), 5_000)))
            await watched.until(lambda: bool(fenced))
            assert [call.call_id for call, _ in back.store.found_open()] == [call_id(1)]
            back.submit(ending(ended(answered(admitted(1)), 3_000)))
            await back.written()
            await back.proved()
        await taken.close()
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(1,)]


async def test_what_a_survivor_leaves_undone_another_one_takes_over_from_it(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    async with opened() as one:
        one.submit(admission(admitted(1)))
        await one.written()
    postgresql_stores.asked(LAPSED)
    async with (
        opened(node="n2", boot_id="second") as second,
        opened(node="n3", boot_id="third") as third,
    ):
        (seen,) = [node for node in await books(second).others() if node.name == "n1"]
        taken = await books(second).take(seen)
        assert taken is not None
        await taken.serve(HEARD_AT, 3.0)
        (seen,) = [node for node in await books(third).others() if node.name == "n1"]
        assert (seen.writer, seen.heard_at, seen.is_over) == ("n2", HEARD_AT, False)
        postgresql_stores.asked(LAPSED)
        (seen,) = [node for node in await books(third).others() if node.name == "n1"]
        again = await books(third).take(seen)
        assert again is not None
        assert [call.call_id for call, _ in again.found_open()] == [call_id(1)]
        watched = AnyWatched(again)
        watched.submit(ending(ended(answered(admitted(1)), 3_000)))
        await watched.written()
        await watched.proved()
        await taken.close()
        await again.close()
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(1,)]


async def test_a_process_whose_lease_is_over_keeps_no_other_of_its_node_from_starting(
    postgresql_stores: PostgresqlStores,
) -> None:
    """It sleeps, or its machine is gone: the server keeps its lock."""
    fenced = list[bool]()
    async with postgresql_stores.opened() as one:
        books(one).on_fenced(lambda: fenced.append(True))
        postgresql_stores.asked(LAPSED)
        async with postgresql_stores.opened(boot_id="second") as again:
            one.submit(admission(admitted(1)))
            await one.until(lambda: bool(fenced))
            again.submit(admission(admitted(2)))
            assert await again.kinds() == ["Admitted"]


async def test_byes_that_nobody_knew_are_there_for_some_minutes_by_the_clock_of_who_asks(
    postgresql_stores: PostgresqlStores,
) -> None:
    async with postgresql_stores.opened() as one:
        clock = SystemClock()
        bye = StrayBye(
            mono_ns=7,
            wall_ns=0,
            peer="callers",
            sip_call_id="",
            local_tag="a",
            remote_tag="b",
            reasons=("Q.850;cause=16",),
            headers=(("x-bye", "1"),),
        )
        now_ns = clock.wall_ns()
        for ago_s in (1_000, 60, 1):
            books(one).note_stray(
                replace(bye, wall_ns=now_ns - ago_s * 1_000_000_000, sip_call_id=f"{ago_s}")
            )
            await one.written()
        found = await books(one).strays()
        assert [one.sip_call_id for one in found] == ["60", "1"]
        last = found[1]
        assert last == replace(bye, mono_ns=last.mono_ns, wall_ns=last.wall_ns, sip_call_id="1")
        assert 1_000_000_000 <= clock.mono_ns() - last.mono_ns < 30_000_000_000


async def followed(watched: AnyWatched, cursor: str | None, rows_max: int) -> tuple[list[int], str]:
    page = await watched.store.records.follow(cursor, rows_max)
    return [
        next(number for number in range(1, 99) if cdr.call_id == call_id(number)) for cdr in page.records
    ], page.cursor


async def test_who_follows_the_records_of_all_nodes_misses_none_that_is_committed_late(
    postgresql_stores: PostgresqlStores,
) -> None:
    """Nor one of an epoch that begins meanwhile; and gets each once, though a page ends between the nodes."""
    opened = postgresql_stores.opened

    async def call(watched: AnyWatched, number: int) -> None:
        watched.submit(*whole_call(number))
        await watched.written()

    async with opened() as one, opened(node="n2", boot_id="second") as other:
        assert await followed(one, None, 5) == ([], ";1:0,2:0")
        for number, watched in ((1, one), (2, other), (3, one), (4, other), (5, other)):
            await call(watched, number)
        shown, cursor = await followed(one, None, 3)
        assert shown == [3, 4, 5]
        assert await followed(other, None, 3) == (shown, cursor)
        assert (await followed(one, ";1:0,2:0", 2))[0] == [1, 2]
        found, cursor = list[int](), ";1:0,2:0"
        while len(found) < 5:
            shown, cursor = await followed(one, cursor, 2)
            found += shown
        assert found == [1, 2, 3, 4, 5]
        assert await followed(one, cursor, 2) == ([], cursor)
        assert (await one.store.records.follow(cursor)).own_seq == 2
        with psycopg.connect(postgresql_stores.conninfo) as late:  # as a node whose commit takes long
            # What would be in it is the record after next, with a number and a time of before.
            late.execute("UPDATE epochs SET head_seq = head_seq + 1 WHERE node = 'n2'")
            late.execute(
                "INSERT INTO cdrs SELECT (jsonb_populate_record(one, jsonb_build_object("
                "'seq', 4, 'revision', 1, 'written_wall_ns', 0))).*"
                " FROM cdrs AS one WHERE epoch = 2 AND seq = 3"
            )
            await call(one, 6)
            shown, cursor = await followed(one, cursor, 9)
            assert shown == [6]
            late.commit()
        shown, cursor = await followed(one, cursor, 9)
        assert shown == [5]
    postgresql_stores.asked(LAPSED)
    async with opened(node="n2", boot_id="third") as other:
        (seen,) = await books(other).others()
        taken = await books(other).take(seen)
        assert taken is not None
        watched = AnyWatched(taken)
        await call(watched, 7)
        shown, cursor = await followed(other, cursor, 9)
        assert (shown, cursor) == ([7], "1-1;2:4,3:4")  # the epoch that is over is not asked for again
        await taken.close()
    for wrong in ("x", "1:2", ";1", "2-;"):
        async with opened(node="n2", boot_id="fourth") as other:
            with pytest.raises(ValueError, match="not one that was given"):
                await other.store.records.follow(wrong)


async def test_an_open_call_that_cannot_be_read_is_put_aside_and_all_else_goes_on(
    postgresql_stores: PostgresqlStores, tmp_path: Path
) -> None:
    """At a start of its node, and where another one takes it over: what it held is in suspense."""
    opened = postgresql_stores.opened
    damaged = "UPDATE open_calls SET body = body || '\\x00' WHERE call_id = ?"
    async with opened() as one:
        await with_balance(one, "10")
        one.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2, 3)))
        one.submit(admission(admitted(4, "free")))
        await one.written()
        (before,) = await one.store.accounts.balance("acme")
    for number in (1, 4):
        postgresql_stores.asked(damaged, call_id(number).bytes)
    async with opened(boot_id="later", kept_in=tmp_path / "kept.db") as one:
        salvage = one.store.salvage
        assert salvage is not None
        assert (salvage.dropped, salvage.suspended) == ({"open_calls": 2}, ["acme"])
        assert "its checksum is not that of its bytes" in salvage.cause
        kept = [json.loads(line) for line in salvage.aside.read_text().splitlines()]
        assert [line["call_id"] for line in kept] == [str(call_id(1)), str(call_id(4))]
        assert salvage.aside.stat().st_mode & 0o777 == 0o600
        assert {call.call_id for call, _ in one.store.found_open()} == {call_id(2), call_id(3)}
        assert await one.store.accounts.balance("acme") == (before,)
        (held,) = await one.store.suspense.suspended()
        assert (held.account, held.call_id, held.amount < 0) == ("acme", call_id(1), True)
        (noted,) = await one.store.audit.list(wanted=AuditFilter(action="journal.salvage"))
        assert str(call_id(4)) in (noted.change.after or "")
        await one.proved()
    postgresql_stores.asked(damaged, call_id(2).bytes)
    postgresql_stores.asked(LAPSED)
    async with opened(node="n2", boot_id="second") as other:
        (seen,) = await books(other).others()
        taken = await books(other).take(seen)
        assert taken is not None
        assert taken.salvage is not None
        assert [call.call_id for call, _ in taken.found_open()] == [call_id(3)]
        watched = AnyWatched(taken)
        watched.submit(ending(ended(answered(admitted(3, prepaid=True)), 5_000)))
        await watched.written()
        await watched.proved()
        await taken.close()
    async with opened(boot_id="last") as one:
        assert one.store.salvage is None


async def test_a_call_of_another_version_is_left_to_who_knows_it(postgresql_stores: PostgresqlStores) -> None:
    opened, later = postgresql_stores.opened, b"\x02later"
    async with opened() as one:
        one.submit(admission(admitted(1)))
        await one.written()
    postgresql_stores.forced("UPDATE open_calls SET body = ?, crc = ?", later, crc_of(later))
    postgresql_stores.asked(LAPSED)
    epochs = postgresql_stores.asked("SELECT count(*) FROM epochs")
    async with opened(node="n2", boot_id="second") as other:
        (seen,) = await books(other).others()
        with pytest.raises(UnavailableError, match="a journal entry of version 2; this program knows 1"):
            await books(other).take(seen)
    ((before,),) = epochs
    assert postgresql_stores.asked("SELECT count(*) FROM epochs") == [(before + 1,)], "n2's own alone"
    assert postgresql_stores.asked("SELECT node FROM open_calls") == [("n1",)]
