"""Between lossy networks on both sides: nothing is charged twice, every admitted call has its record, every
leg is closed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from sidecar.demo.children import free_ports
from tests.faults.conftest import MakeNode
from tests.faults.lossy_relay import LossyRelay
from tests.faults.phone import Phone, Plan, Side, finals
from tests.rig.listener import check_sequences, listening, sell

CALLS = 150
AT_ONCE = 50


def any_call(chance: random.Random) -> Plan:
    ring_s = chance.choice((0.0, 0.05, None))
    answer_s = 0.1 + chance.random() * 0.1
    match chance.randrange(5):
        case 0:
            return Plan(ring_s=ring_s, answer_s=answer_s, reject=chance.choice((404, 480, 486, 603)))
        case 1:
            return Plan(ring_s=ring_s, answer_s=answer_s, cancel_s=chance.random() * 0.3)
        case 2:
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=chance.random() * 0.5)
        case 3:
            bye_s = chance.random() * 0.3
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=bye_s, caller_bye_s=bye_s)
        case _:
            return Plan(ring_s=ring_s, answer_s=answer_s, caller_bye_s=chance.random() * 0.5)


@pytest.mark.parametrize("loss", [0.1, 0.3])
async def test_a_lossy_network_charges_nothing_twice(make_node: MakeNode, loss: float) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plans = {f"1{n:04}": any_call(chance) for n in range(CALLS)}
    node = make_node(timers="t1_ms = 100\nring_timeout_s = 5\nmax_duration_s = 8")
    places = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        near = await stack.enter_async_context(LossyRelay(f"{node.network}.2", seed=seed, loss=loss))
        far = await stack.enter_async_context(LossyRelay(f"{node.network}.3", seed=seed + 1, loss=loss))
        caller = await stack.enter_async_context(await Phone.listen(f"{node.network}.2"))
        callee = await stack.enter_async_context(
            await Phone.listen(
                f"{node.network}.3",
                free_ports(f"{node.network}.3", 1)[0],
                lambda invite: plans[invite.uri[4:9]],
            )
        )
        node.gateway_port = far.to_phone[1]
        child = await stack.enter_async_context(node.up())
        listener = await stack.enter_async_context(listening(*child.broker))
        await child.command("account", "topup", "prepaid", "1000")
        near.join(phone=(caller.host, caller.port), node=child.sip)
        far.join(phone=(callee.host, callee.port), node=child.sip)
        caller.advertised, caller.peer = near.to_phone, near.to_node
        callee.advertised, callee.peer = far.to_phone, far.to_node

        async def call(number: str) -> Side:
            async with places:
                return await caller.place(number, plans[number], account="prepaid")

        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(call(number), name=number) for number in plans]
        sides = [one.result() for one in calls]
        admitted = {side.number for side in callee.sides.values()}
        # Each call that reached the node was admitted: its INVITE was repeated until it was answered.
        reached = [side.call_id for side in sides if side.codes or side.number in admitted]
        records = await listener.of(reached, within_s=40)
        await node.empty(within_s=40)
        print(near.counts, far.counts, finals(sides), Counter(str(one["detail"]) for one in records))
        broken = await node.metric("sidecar_promises_broken_total")
    assert broken == 0
    assert near.counts["lost"] > CALLS * loss
    by_call: dict[str, int] = Counter(one["call_id"] for one in listener.records if one["revision"] == 0)
    assert set(by_call.values()) == {1}
    assert len(by_call) == len(reached)
    assert admitted <= {one["callee"]["received"] for one in records}
    highest = {one["call_id"]: one for one in sorted(listener.records, key=lambda one: int(one["revision"]))}
    charged = sum(Decimal(sell(one)["total"] or 0) for one in highest.values())
    assert node.balance("prepaid") == 1000 - charged
    assert node.open_entries() == 0
    check_sequences(listener.records)
    node.check_books()
