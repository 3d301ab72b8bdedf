"""A database that is far away: it shows in the setup of calls, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.cluster import Proxy
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until
from tests.rig.postgres import Postgres

CALLS, CALLS_PER_S, TALK_S = 10, 10, 0.3
ROUND_TRIPS_MIN = 4  # a commit has two: one before the call is routed, one before it is answered
AT_ONCE_S_MAX = 0.1  # on a machine that does much else; the median
_databases = iter(f"slow{number}" for number in range(1, 100))


class Seen(NamedTuple):
    """Of one call, in seconds."""

    side: Side
    setup_s: float
    talk_s: float
    bye_s: float  # until it is answered
    asked_s: float  # how long the node takes for a question that needs no database


async def called(caller: Phone, node: Node, number: int) -> Seen:
    now = asyncio.get_running_loop().time
    await asyncio.sleep(number / CALLS_PER_S)
    dialled_s = now()
    side = caller.dial(f"1{number:03}", Plan(), account="prepaid")
    await until(lambda: side.final)
    answered_s = now()
    assert side.final == 200
    await node.daemon.live_calls()
    asked_s = now() - answered_s
    await asyncio.sleep(TALK_S)
    hung_up_s = now()
    caller.hang_up(side)
    await side.ended.wait()
    return Seen(side, answered_s - dialled_s, hung_up_s - answered_s, now() - hung_up_s, asked_s)


@asynccontextmanager
async def leased(dsn: str) -> AsyncIterator[None]:
    """The node's lease is never over meanwhile, once a commit was as slow as they are now."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:

        async def of_epoch(what: str) -> Any:
            found = await (await connection.execute(f"SELECT {what} FROM epochs".encode())).fetchone()
            assert found is not None
            return found[0]

        async def watch() -> None:
            while True:
                assert await of_epoch("leased_until > clock_timestamp()"), "its lease is over"
                await asyncio.sleep(0.05)

        commits = await of_epoch("commits")

        async def are_slow() -> bool:  # the first began before, the second says how long they take
            return bool(await of_epoch("commits") >= commits + 3)

        await until(are_slow)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watch(), name="lease")
            yield
            task.cancel()


async def test_a_node_goes_on_a_second_away_from_its_database(tmp_path: Path, postgresql: Postgres) -> None:
    """With the timers that it has by itself no call is set up: each is refused, or its answer given up, which
    has a record. Nothing fails, nothing is fenced, and when the way is short again a call is set up."""
    dsn = postgresql.new_database(next(_databases))
    async with Proxy(postgresql.port) as way:
        node = Node(tmp_path, dsn=make_conninfo(dsn, port=way.port))
        async with (
            phones(node) as (caller, callee),
            node.up() as child,
            listening(*child.broker) as listener,
        ):
            caller.peer = callee.peer = child.sip
            await node.top_up("prepaid", "1000")
            way.round_trip_s = 1.0
            async with leased(dsn):
                sides = [caller.dial(f"1{number:03}", Plan(), account="prepaid") for number in range(CALLS)]
                await until(lambda: all(side.final for side in sides))
                assert {side.final for side in sides} <= {500, 503}
                await listener.of([side.call_id for side in sides if side.final == 500])
            way.round_trip_s = 0.0
            seen = await called(caller, node, 0)
            await listener.of([seen.side.call_id])
            check_sequences(listener.records)
            assert not await node.metric("sidecar_journal_failures_total")
        node._dsn = dsn
        node.check_books()


# A second, with timers that let calls be set up, was measured by hand: reference/operation.md.
@pytest.mark.parametrize("round_trip_ms", [10, 100])
async def test_a_slow_database_shows_in_the_setup_of_calls_alone(
    tmp_path: Path, postgresql: Postgres, round_trip_ms: int
) -> None:
    dsn = postgresql.new_database(next(_databases))
    round_trip_s = round_trip_ms / 1000
    async with Proxy(postgresql.port) as way:
        timers = "admission_wait_ms_max = 4000"
        node = Node(tmp_path, dsn=make_conninfo(dsn, port=way.port), timers=timers)
        async with (
            phones(node) as (caller, callee),
            node.up() as child,
            listening(*child.broker) as listener,
        ):
            caller.peer = callee.peer = child.sip
            await node.top_up("prepaid", "1000")
            way.round_trip_s = round_trip_s
            async with leased(dsn):
                seen = await asyncio.gather(*(called(caller, node, number) for number in range(CALLS)))
            assert min(one.setup_s for one in seen) >= ROUND_TRIPS_MIN * round_trip_s
            assert median(one.bye_s for one in seen) < AT_ONCE_S_MAX
            assert median(one.asked_s for one in seen) < AT_ONCE_S_MAX
            records = await listener.of([one.side.call_id for one in seen])
            assert {(one["hangup_origin"], one["detail"]) for one in records} == {("caller", "bye")}
            told = zip(records, seen, strict=True)
            late = [abs(record["talk_ms"] / 1000 - one.talk_s) for record, one in told]
            assert median(late) < AT_ONCE_S_MAX
            check_sequences(listener.records)
            assert not await node.metric("sidecar_journal_failures_total")
        node._dsn = dsn
        node.check_books()
