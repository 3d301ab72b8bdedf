"""A process that stands still (SIGSTOP, a starved machine) bills by when messages arrived, not by when it has
read them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.listener import listening
from tests.rig.node import until

MAX_S = 4
STALL_S = 6.0
SOON_S = 1.5  # that a busy machine may need for what takes a millisecond


@asynccontextmanager
async def stopped(node: Node) -> AsyncIterator[None]:
    os.kill(node.daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.daemon.pid, signal.SIGCONT)


@pytest.mark.timeout(120)
async def test_what_arrived_in_a_stall_is_billed_by_when_it_arrived(make_node: MakeNode) -> None:
    node = make_node(timers=f"max_duration_s = {MAX_S}")
    async with (
        phones(node) as (caller, callee),
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        caller.peer = callee.peer = child.sip
        names = ("by_caller", "by_callee", "too_late", "nobody")
        calls = {name: caller.dial(f"1{number:03}", Plan()) for number, name in enumerate(names)}
        for side in calls.values():
            await node.live(side.number, answered=True)
        called = {side.number: side for side in callee.sides.values()}
        async with stopped(node):
            began_at = datetime.now(UTC)
            caller.hang_up(calls["by_caller"])
            callee.hang_up(called[calls["by_callee"].number])
            await asyncio.sleep(MAX_S + SOON_S / 2)
            caller.hang_up(calls["too_late"])
            await asyncio.sleep(STALL_S - MAX_S - SOON_S / 2)
        records = await listener.of([side.call_id for side in calls.values()])
        await caller.all_ended(30)
        await callee.all_ended(30)
        assert await node.metric("sidecar_bridge_total", '"stalls"') >= 1
    said = dict(zip(names, records, strict=True))
    assert {name: f"{one['hangup_origin']} {one['detail']}" for name, one in said.items()} == {
        "by_caller": "caller bye",
        "by_callee": "callee bye",
        "too_late": "server max_duration",
        "nobody": "server max_duration",
    }
    for name in ("by_caller", "by_callee"):
        assert abs((said[name]["ended_at"] - began_at).total_seconds()) < SOON_S, said[name]
    for name in ("too_late", "nobody"):
        assert said[name]["talk_ms"] == said[name]["billable_ms"] == MAX_S * 1000
    for one in records:
        on_the_wall = (one["ended_at"] - one["answered_at"]).total_seconds() * 1000
        assert abs(on_the_wall - one["talk_ms"]) < 2, one
    node.check_books()


@pytest.mark.timeout(120)
async def test_an_answer_that_was_held_in_a_stall_is_not_taken_back(make_node: MakeNode) -> None:
    """Nobody could decide about it meanwhile."""
    node = make_node(timers=f"answer_hold_ms_max = {int(STALL_S * 1000) - 1000}")
    async with (
        phones(node, lambda _: Plan(answer_s=0.5)) as (caller, callee),
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        caller.peer = callee.peer = child.sip
        side = caller.dial("1000", Plan(caller_bye_s=0.1))
        await until(lambda: any(180 in side.codes for side in caller.sides.values()))
        async with node.journal_locked():
            await until(lambda: [one.final for one in callee.sides.values()] == [200])
            async with stopped(node):
                await asyncio.sleep(STALL_S)
        [record] = await listener.of([side.call_id])
    assert f"{record['hangup_origin']} {record['detail']}" == "caller bye"
    node.check_books()
