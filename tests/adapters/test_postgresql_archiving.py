"""Records of old calls leave the database once they are archived, and the books are what they were."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from msgspec.structs import replace

from sidecar.adapters.postgresql.archiving import kept_back, last_archive, next_cut, published, remove, seal
from sidecar.adapters.postgresql.chain import AUDIT_IN_ORDER
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.chain import by_id
from sidecar.adapters.store.keys import read_keys
from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import Change, Operator
from sidecar.core.call import Call
from sidecar.core.identity import call_id_of
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import BOOT_ID, MS, WALL_NS, admission, admitted, answered, ended, ending
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_store_revisions import NO_CDR, again
from tests.rig.node import until

DAY_NS = 86_400 * 10**9
CHANGE = Change(operator=Operator("op", 1), action="retention.archive", subject="/archive")


def of(day: int, number: int) -> Call:
    at_ns = WALL_NS + day * DAY_NS
    call = admitted(number, "ab"[number % 2], at_ns=at_ns)
    return replace(call, call_id=call_id_of("_", "n1", BOOT_ID, number, at_ns // MS))


def until_us(day: int) -> int:
    return (WALL_NS + day * DAY_NS) // 1_000


@contextmanager
def owner(stores: PostgresqlStores) -> Iterator[Server]:
    server = Server(stores.conninfo, "archives")
    try:
        yield server
    finally:
        server.close()


async def one_a_day(watched: AnyWatched, first: int, count: int = 10, *, kept_back_one: bool = True) -> None:
    for day in range(count):
        call = of(day, first + day)
        policy = {"policy": NO_CDR} if kept_back_one and day == 2 else {}
        watched.submit(admission(call), ending(ended(answered(call)), **policy))
    await watched.written()


async def acknowledged(watched: AnyWatched) -> None:
    await watched.written()
    head = (await watched.store.outbox.outbox_state()).head_seq
    await watched.store.outbox.acknowledge(range(1, head + 1), [])


async def test_old_records_of_all_nodes_go_and_the_books_hold(postgresql_stores: PostgresqlStores) -> None:
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        keys = by_id(read_keys(postgresql_stores.key_file))
        await one_a_day(one, 1)
        await one_a_day(other, 101)
        await acknowledged(one)
        await other.store.outbox.acknowledge([1, 2], [])  # the broker has two of its calls
        balances = [await one.store.accounts.balance(name) for name in "ab"]
        with owner(postgresql_stores) as server:
            assert next_cut(server, until_us(-1)) is None
            cut = next_cut(server, until_us(5))
            assert cut is not None
            assert [(span.after, span.until) for span in cut.published] == [(0, 4), (0, 2)]
            with server.moment():
                gone = list(published(server, cut))
                assert [cdr.seq for cdr in gone] == [1, 2, 3, 4, 1, 2]
                assert len(list(kept_back(server, cut))) == 2
            with pytest.raises(StoreError, match="n9 has never begun"):
                seal(server, cut, "a" * 64, "n9", 1, CHANGE, keys)
            seal(server, cut, "a" * 64, "n1", 1, CHANGE, keys)
            await one.proved()  # a crash here
            assert remove(server, keys) == 8
            assert last_archive(server) == "a" * 64
            assert next_cut(server, until_us(5)) is None
        await one.proved()
        assert [await one.store.accounts.balance(name) for name in "ab"] == balances
        assert [cdr.seq for cdr in await one.store.records.tail(0)] == [5, 6, 7, 8, 9]
        assert await one.store.records.show(str(gone[0].call_id)) == ()
        page = await one.store.replays.replay(None, 1, None, 100)
        assert (len(page.rows), page.absent) == (5, ((1, 4),))
        noted = [one.change for one in await one.store.audit.list()]
        assert [(one.action, one.subject) for one in noted] == [("retention.archive", "/archive")]
        # Whatever is repeated for a call that is gone changes nothing.
        call = of(0, 1)
        one.submit(admission(call), ending(ended(answered(call))))
        await one.written()
        assert not any(await one.store.revisions.revise([again(gone[0], "1")]))
        assert [await one.store.accounts.balance(name) for name in "ab"] == balances
        await acknowledged(other)
        with owner(postgresql_stores) as server:
            cut = next_cut(server, until_us(5))
            assert cut is not None
            assert [(span.after, span.until) for span in cut.published] == [(2, 4)]
            assert cut.kept_back[0] == cut.kept_back[1]
            rest = next_cut(server, until_us(100))
            assert rest is not None
            seal(server, rest, "b" * 64, "n1", 1, CHANGE, keys)
            remove(server, keys)
        await one.proved()
    async with opened(boot_id="third") as watched:
        late = of(200, 301)
        watched.submit(admission(late), ending(ended(answered(late))))
        await watched.written()
        (cdr,) = await watched.store.records.tail(0)
        assert (cdr.seq, cdr.account_prev_seq) == (10, 8)
        await watched.proved()


async def test_a_revision_does_not_go_before_the_record_that_it_supersedes(
    postgresql_stores: PostgresqlStores,
) -> None:
    """The first is at a node whose broker has not taken it; the revision at one that has told all. What would
    be left is a record that the ledger contradicts."""
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        keys = by_id(read_keys(postgresql_stores.key_file))
        await one_a_day(one, 1)
        await one_a_day(other, 101, 1, kept_back_one=False)
        published_late = (await one.store.records.tail(0))[3]
        assert all(await other.store.revisions.revise([again(published_late, "0.5")]))
        await one_a_day(other, 201, 1, kept_back_one=False)
        await acknowledged(other)
        await one.store.outbox.acknowledge([1, 2, 3], [])
        with owner(postgresql_stores) as server:
            cut = next_cut(server, until_us(100))
            assert cut is not None
            assert [(span.after, span.until) for span in cut.published] == [(0, 3), (0, 1)]
            seal(server, cut, "a" * 64, "n1", 1, CHANGE, keys)
            remove(server, keys)
            await one.proved()
            await acknowledged(one)
            rest = next_cut(server, until_us(100))
            assert rest is not None
            assert [(span.after, span.until) for span in rest.published] == [(3, 9), (1, 3)]
            seal(server, rest, "b" * 64, "n1", 1, CHANGE, keys)
            remove(server, keys)
        await one.proved()


async def test_the_note_of_an_archive_is_in_the_order_of_the_commits(
    postgresql_stores: PostgresqlStores,
) -> None:
    """Whoever follows the audit table behind its last entry misses none that was still being written."""
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    )
    async with postgresql_stores.opened() as watched:
        await one_a_day(watched, 1)
        await acknowledged(watched)
        keys = by_id(read_keys(postgresql_stores.key_file))
        with owner(postgresql_stores) as server, psycopg.connect(postgresql_stores.conninfo) as other:
            cut = next_cut(server, until_us(5))
            assert cut is not None
            other.execute(AUDIT_IN_ORDER.encode())
            async with asyncio.TaskGroup() as group:
                sealing = group.create_task(
                    asyncio.to_thread(seal, server, cut, "a" * 64, "n1", 1, CHANGE, keys), name="seal"
                )
                await until(lambda: sealing.done() or postgresql_stores.asked(waits) != [(0,)])
                assert not sealing.done()
                other.rollback()
        await watched.proved()
