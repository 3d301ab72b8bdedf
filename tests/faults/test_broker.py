"""A broker that is absent, silent or killed: calls know nothing of it, and its backlog arrives whole and in
order."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
from collections.abc import Sequence

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import Listener, check_sequences, listening
from tests.rig.node import until

BUSY_MS = 1000  # a call that waited for the broker would wait for seconds
TALK = Plan(answer_s=0.0, caller_bye_s=0.02)


async def _calls(caller: Phone, count: int, first: int) -> list[Side]:
    """So many short calls, four at a time: all of them are answered."""
    places = asyncio.Semaphore(4)

    async def call(number: int) -> Side:
        async with places:
            return await caller.place(f"1{number:04}", TALK)

    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(call(first + n), name=f"call {n}") for n in range(count)]
    sides = [one.result() for one in calls]
    assert {side.final for side in sides} == {200}
    return sides


async def _backlog(node: Node, count: int) -> None:
    """The status and the metrics name a broker that is gone and what waits for it."""

    async def is_told() -> bool:
        status = await node.status()
        return not status["broker_connected"] and status["outbox_depth"] == count

    await until(is_told, within_s=60)
    status = await node.status()
    assert status["state"] == "accepting"
    assert status["outbox_oldest_s"] > 0

    async def is_measured() -> bool:
        return await node.metric("sidecar_outbox_depth") == count

    await until(is_measured)
    assert await node.metric("sidecar_broker_connected") == 0


async def _all_arrived(node: Node, listener: Listener, sides: Sequence[Side]) -> None:
    records = await listener.of([side.call_id for side in sides], within_s=60)
    assert len(listener.records) == len(records)
    seqs = [one["seq"] for one in listener.records]
    assert seqs == sorted(seqs), "the backlog did not drain in order"
    check_sequences(listener.records)

    await until(lambda: _outbox_is_empty(node))


async def _outbox_is_empty(node: Node) -> bool:
    return not (await node.status())["outbox_depth"]


def setup_ms(sides: Sequence[Side]) -> float:
    return statistics.median(side.setup_s for side in sides) * 1000


async def test_a_broker_that_is_absent_at_the_start_stops_nothing(make_node: MakeNode) -> None:
    node = make_node()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, _),
    ):
        await broker.stop()
        async with node.up(**broker.settings()) as child:
            caller.peer = child.sip
            sides = await _calls(caller, 20, 0)
            await node.empty()
            await _backlog(node, 20)
            await broker.start()
            await _all_arrived(node, listener, sides)
            await listener.until(lambda: any(one.get("head_seq") == 20 for one in listener.statuses))
    node.check_books()


async def test_a_broker_that_is_stopped_in_mid_run_slows_no_call(make_node: MakeNode) -> None:
    node = make_node()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, _),
        node.up(**broker.settings()) as child,
    ):
        caller.peer = child.sip
        before = await _calls(caller, 60, 0)
        await listener.of([side.call_id for side in before])
        await until(lambda: _outbox_is_empty(node))  # it may answer us after it has told the subscriber
        broker.signal(signal.SIGSTOP)
        stopped = await _calls(caller, 60, 100)
        await node.empty()
        await _backlog(node, 60)  # the link is given up although it is still there
        later = await _calls(caller, 60, 200)
        broker.signal(signal.SIGCONT)
        await _all_arrived(node, listener, [*before, *stopped, *later])
        print(setup_ms(before), setup_ms(stopped), setup_ms(later), listener.again)
    assert max(setup_ms(stopped), setup_ms(later)) < 1.5 * setup_ms(before) + BUSY_MS
    node.check_books()


async def test_a_broker_that_is_killed_gets_the_backlog_when_it_is_back(make_node: MakeNode) -> None:
    node = make_node()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, _),
        node.up(**broker.settings()) as child,
    ):
        caller.peer = child.sip
        sides = await _calls(caller, 30, 0)
        await listener.of([side.call_id for side in sides])
        await until(lambda: _outbox_is_empty(node))
        for first in (100, 200):
            await broker.kill()
            more = await _calls(caller, 30, first)
            await node.empty()
            await _backlog(node, 30)
            await broker.start()
            sides += more
            await _all_arrived(node, listener, sides)
    node.check_books()


async def test_the_broker_of_the_node_itself_is_started_again(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        sides = await _calls(caller, 10, 0)
        await listener.of([side.call_id for side in sides])
        os.kill(int((node.data / "broker" / "mosquitto.pid").read_text()), signal.SIGKILL)
        sides += await _calls(caller, 10, 100)
        await listener.until(lambda: listener.connects > 1, within_s=60)
        later = await _calls(caller, 10, 200)
        await listener.of([side.call_id for side in later], within_s=60)
        # The subscriber's session died with the broker: what left before it was back reached nobody, and is
        # counted.
        told = {one["leg_a"]["sip_call_id"] for one in listener.records}
        unheard = sum(side.call_id not in told for side in sides)
        assert unheard <= await node.metric("sidecar_outbox_no_subscriber_total")
        await until(lambda: _outbox_is_empty(node), within_s=60)
    node.check_books()
