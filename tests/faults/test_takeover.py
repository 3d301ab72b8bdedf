"""A node that dies, sleeps or is cut off, and others on its database."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo

from sidecar.cli.output import Exit
from tests.b2bua.scripted_ua import Message
from tests.faults.cluster import LEASE_S, OneOf, Proxy, cluster, know_each_other, up
from tests.faults.node import phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.listener import Listener, check_sequences, listening, sell
from tests.rig.node import until
from tests.rig.postgres import Postgres

_databases = iter(f"takeover{number}" for number in range(1, 100))
TAKEN_S = 4.0  # after the end of the lease
TALKS, RINGS = Plan(), Plan(answer_s=None)


def plan(invite: Message) -> Plan:
    return RINGS if invite.uri.startswith("sip:19") else TALKS


class Place(NamedTuple):
    nodes: list[OneOf]
    caller: Phone
    callee: Phone
    calls: list[Side]  # of n1, as the caller sees them
    sides: list[Side]  # both of each
    listener: Listener
    broker: Mosquitto


@asynccontextmanager
async def place(folder: Path, dsn: str, count: int, way: Proxy | None = None) -> AsyncIterator[Place]:
    """With so many nodes, that know each other. `n1` has two calls that talk, one of them prepaid, and one
    that rings; `way` is its way to the database."""
    nodes = cluster(folder, dsn, count)
    if way is not None:
        (nodes[0].folder / "dsn").write_text(make_conninfo(dsn, port=way.port))
    async with AsyncExitStack() as stack:
        caller, callee = await stack.enter_async_context(phones(nodes[0], plan))
        broker = await stack.enter_async_context(mosquitto(folder))
        listener = await stack.enter_async_context(listening(broker.host, broker.port))
        for node in nodes:
            await stack.enter_async_context(up(node, broker))
        await know_each_other(nodes)
        await nodes[0].top_up("prepaid", "10")
        caller.peer = callee.peer = nodes[0].daemon.sip
        caller.dial("1001", TALKS, account="prepaid")
        caller.dial("1002", TALKS)
        caller.dial("1901", RINGS)
        await nodes[0].live("1001", answered=True)
        await nodes[0].live("1002", answered=True)
        await nodes[0].live("1901")
        await until(lambda: all(side.proceeding.is_set() for side in caller.sides.values()))
        await until(lambda: nodes[0].open_entries() == 3)
        calls = [*caller.sides.values()]
        yield Place(nodes, caller, callee, calls, [*calls, *callee.sides.values()], listener, broker)


def is_ended(side: Side) -> bool:
    return side.ended_by == "me" or side.bye_received.is_set() or side.cancelled.is_set() or side.final >= 300


async def taken(at: Place, survivors: list[OneOf], since: datetime) -> str:
    """Who has taken n1 over, alone and in time."""
    await until(lambda: any(node.told("takeover_over") for node in survivors))
    ((name, told),) = [(node.name, one) for node in survivors for one in node.told("node_taken_over")]
    assert (told["node"], told["calls"]) == ("n1", 3)
    took_s = (datetime.fromisoformat(told["at"]) - since).total_seconds()
    assert took_s <= LEASE_S + 1 + TAKEN_S, took_s  # a heartbeat may have begun the lease a second later
    await until(lambda: all(map(is_ended, at.sides)))
    return name


async def check_head(at: Place, epoch: str) -> None:
    """It is what the broker keeps of n1."""
    others = {(await node.status())["store_epoch"] for node in at.nodes[1:]}
    async with listening(at.broker.host, at.broker.port) as late:
        await late.until(lambda: len({one["epoch"] for one in late.statuses}) == len(at.nodes))
        assert {one["epoch"] for one in late.statuses} == {epoch, *others}
        assert {one["head_seq"] for one in late.statuses if one["epoch"] == epoch} == {3}


async def check_told(at: Place, survivors: list[OneOf]) -> None:
    """To whom nobody looks at a log: an event, the metrics, and the next one who asks."""
    await at.listener.until(lambda: bool(at.listener.events))
    (event,) = at.listener.events
    told = event["alarm"]
    assert (told["kind"], told["dead"], told["calls"]) == ("node_taken_over", "n1", 3)
    assert told["epoch"] == at.listener.records[0]["store_epoch"]
    (taker,) = [node for node in survivors if node.name == event["node"]]
    of_n1 = 'node="n1"'
    assert await taker.metric("sidecar_node_takeovers_total", of_n1) == 1
    assert await taker.metric("sidecar_node_takeover_calls_total", of_n1) == 3
    books_s, calls_s = [
        await taker.metric("sidecar_node_takeover_seconds", of_n1, f'phase="{phase}"')
        for phase in ("books", "calls")
    ]
    assert LEASE_S < books_s < calls_s
    assert abs(books_s * 1_000 - told["silent_ms"]) < 1
    await until(lambda: len(taker.told("alarm")) == 1)

    async def is_over() -> bool:
        return await taker.metric("sidecar_node_dead", of_n1) == 0

    await until(is_over)


async def check_records(at: Place, second: str = "server/crash_recovered") -> None:
    records = await at.listener.of([side.call_id for side in at.calls])
    assert len(at.listener.records) == 3
    assert {one["node"] for one in records} == {"n1"}
    causes = [f"{one['hangup_origin']}/{one['detail']}" for one in records]
    assert causes == ["server/crash_recovered", second, "server/crash_recovered"]
    assert [one["answered_at"] is not None for one in records] == [True, True, False]
    (epoch,) = {one["store_epoch"] for one in records}
    assert sorted(one["seq"] for one in records) == [1, 2, 3]
    check_sequences(at.listener.records)
    await check_head(at, epoch)
    node = at.nodes[0]
    assert node.ask("SELECT count(*) FROM open_calls WHERE node = 'n1'") == [(0,)]
    # What the dead node held in advance is in its tranche still.
    ((held,),) = node.ask("SELECT coalesce(sum(amount), 0) FROM tranches WHERE account = 'prepaid'")
    assert node.balance("prepaid") + held == 10 - Decimal(sell(records[0])["total"]) < 10
    node.check_books()


async def test_of_two_who_see_a_node_die_one_ends_its_calls_and_each_has_one_record(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database(next(_databases))
    async with place(tmp_path, dsn, 3) as at:
        first, *survivors = at.nodes
        at.caller.peer = survivors[0].daemon.sip
        lasting = at.caller.dial("1003", TALKS)
        await survivors[0].live("1003", answered=True)
        first.kill()
        at.caller.hang_up(at.calls[1])  # its BYE comes to a node that does not know the call yet
        await taken(at, survivors, datetime.now(UTC))
        await check_records(at, "caller/bye")
        assert at.calls[1].bye_code == 481
        await check_told(at, survivors)
        # A call of the survivor's own went on, and the dead node begins as always.
        assert await survivors[0].live("1003", answered=True)
        async with up(first, at.broker):
            await know_each_other(at.nodes)
            assert (await first.status())["outbox_head_seq"] == 3
            by_name = {one["node"]: one for one in (await first.control("node.list"))["nodes"]}
            assert by_name["n1"]["taken_over_by"] in {node.name for node in survivors}
            assert [by_name[node.name]["taken_over_by"] for node in survivors] == [None, None]
        at.caller.hang_up(lasting)
        await at.listener.of([lasting.call_id])


async def test_a_node_that_slept_is_fenced_ends_its_calls_and_writes_nothing(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database(next(_databases))
    async with place(tmp_path, dsn, 2) as at:
        first, survivor = at.nodes
        os.kill(first.daemon.pid, signal.SIGSTOP)
        try:
            await taken(at, [survivor], datetime.now(UTC))
            await check_records(at)
        finally:
            os.kill(first.daemon.pid, signal.SIGCONT)
        assert await first.daemon.ended() == Exit.FENCED
        (said,) = first.told("fenced")
        assert said["calls"] >= 2  # the callee that rang has told n1, whose its INVITE was, that it stopped
        assert len(at.listener.records) == 3
        await check_head(at, at.listener.records[0]["store_epoch"])
        assert first.ask("SELECT count(*) FROM cdrs") == [(3,)]
        first.check_books()


async def test_a_node_that_its_database_cannot_hear_keeps_its_calls(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database(next(_databases))
    async with Proxy(postgresql.port) as way, place(tmp_path, dsn, 2, way) as at:
        first, survivor = at.nodes
        before = first.ask("SELECT epoch, boot FROM epochs WHERE node = 'n1'")
        way.cut()
        over = "SELECT leased_until < clock_timestamp() FROM epochs WHERE node = 'n1'"
        await until(lambda: first.ask(over) == [(True,)])
        answered = await first.metric("sidecar_bridge_total", '"options_answered"')

        async def is_asked_again() -> bool:
            return await first.metric("sidecar_bridge_total", '"options_answered"') >= answered + 4

        await until(is_asked_again)
        assert not survivor.told("node_taken_over")
        assert first.ask("SELECT epoch, boot FROM epochs WHERE node = 'n1'") == before
        assert not any(map(is_ended, at.sides))
        way.is_cut = False
        at.caller.hang_up(at.calls[1])
        (record,) = await at.listener.of([at.calls[1].call_id])
        assert (record["hangup_origin"], record["node"]) == ("caller", "n1")


async def test_rows_of_a_dead_node_that_cannot_be_read_are_said_and_keep_nothing_else_back(
    tmp_path: Path, postgresql: Postgres
) -> None:
    """An open call, and a record that the broker has not: the first is put aside, the second waits where it
    is, and the node is taken over once."""
    dsn = postgresql.new_database(next(_databases))
    async with place(tmp_path, dsn, 2) as at:
        first, survivor = at.nodes
        at.caller.hang_up(at.calls[1])
        (record,) = await at.listener.of([at.calls[1].call_id])
        acknowledged = "SELECT acknowledged_seq FROM epochs WHERE node = 'n1'"
        await until(lambda: first.ask(acknowledged) == [(1,)])
        with psycopg.connect(dsn) as database:
            database.execute("SET session_replication_role = replica")  # no trigger is asked
            database.execute("UPDATE epochs SET acknowledged_seq = 0 WHERE node = 'n1'")
            database.execute("UPDATE cdrs SET body = body || '\\x00' WHERE seq = 1")
            database.execute("UPDATE open_calls SET body = body || '\\x00' WHERE account = 'prepaid'")
        first.kill()
        (ringing,) = await at.listener.of([at.calls[2].call_id])
        assert (ringing["node"], ringing["seq"]) == ("n1", 2)
        await until(lambda: bool(survivor.told("records_wait")))
        assert first.ask("SELECT count(*) FROM epochs WHERE node = 'n1'") == [(2,)]
        held = "SELECT leased_until > clock_timestamp() FROM epochs WHERE node = 'n1' AND boot IS NOT NULL"
        assert first.ask(held) == [(True,)]
        await at.listener.until(lambda: len(at.listener.events) == 2)
        told = {event["alarm"]["kind"]: event["alarm"] for event in at.listener.events}
        assert told.keys() == {"node_taken_over", "books_salvaged"}
        salvaged = told["books_salvaged"]
        assert (salvaged["books_of"], salvaged["rows"], salvaged["accounts"]) == ("n1", 1, 1)
        assert Path(salvaged["aside"]).parent == survivor.data
        # Until somebody decides, its account carries no call.
        at.caller.peer = survivor.daemon.sip
        refused = at.caller.dial("1001", TALKS, account="prepaid")
        await until(lambda: refused.final == 503)
        async with up(first, at.broker):
            await until(lambda: bool(first.told("journal_not_as_written")))
            said = first.told("journal_not_as_written")[0]["text"]
            assert said.startswith(f"record of call {record['call_id']}")
