"""Lossy networks on both sides of the node, which double and reorder too: each call one record, which names
who ended it; nothing is charged twice, and nothing stays up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

from sidecar.demo.children import free_ports
from sidecar.demo.subscriber import Record
from tests.chaos.outcome import Chance, Outcome
from tests.faults.lossy_relay import LossyRelay
from tests.faults.node import Node
from tests.faults.phone import Phone, Plan, Side
from tests.rig.listener import check_sequences, listening, sell

SEEDS_MAX = 20
LOSSES = (0.1, 0.3)
AT_ONCE = 50
OVER_S = 60.0
TOP_UP = 1_000


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


def is_wrong(record: Record, caller: Side, callee: Side | None) -> bool:
    """A side is said to have ended the call, and did not. The node itself may have, where too much was
    lost."""
    match record["hangup_origin"], record["detail"]:
        case "caller", "bye":
            return caller.hung_up_at is None
        case "caller", "cancel":
            return not caller.gave_up
        case "callee", "bye":
            return callee is None or callee.hung_up_at is None
        case "callee", "rejected":
            return callee is None or not callee.gave_up
        case "server", _:
            return False
    return True


async def lossy_round(folder: Path, loss: float, calls: int, seed: int) -> Counter[str]:
    """`missing`, `duplicate`, `wrong`, `up`, `broken`, `ledger`, and figures: `calls`, `server`, `seen` and
    `lost` datagrams."""
    chance = random.Random(seed)
    plans = {f"1{n:05}": any_call(chance) for n in range(calls)}
    node = Node(folder, timers="t1_ms = 100\nring_timeout_s = 5\nmax_duration_s = 8")
    places = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        near, far = [
            await stack.enter_async_context(LossyRelay(f"{node.network}.{last}", seed=seed + last, loss=loss))
            for last in (2, 3)
        ]
        caller = await stack.enter_async_context(await Phone.listen(f"{node.network}.2"))
        at = (f"{node.network}.3", free_ports(f"{node.network}.3", 1)[0])
        answers = await Phone.listen(*at, lambda invite: plans[invite.uri[4:10]])
        callee = await stack.enter_async_context(answers)
        node.gateway_port = far.to_phone[1]
        child = await stack.enter_async_context(node.up())
        listener = await stack.enter_async_context(listening(*child.broker))
        await child.command("account", "topup", "prepaid", str(TOP_UP))
        near.join(phone=(caller.host, caller.port), node=child.sip)
        far.join(phone=at, node=child.sip)
        caller.advertised, caller.peer = near.to_phone, near.to_node
        callee.advertised, callee.peer = far.to_phone, far.to_node

        async def call(number: str) -> Side:
            async with places:
                return await caller.place(number, plans[number], account="prepaid")

        async with asyncio.TaskGroup() as tasks:
            placed = [tasks.create_task(call(number), name=number) for number in plans]
        sides = {side.number: side for side in (one.result() for one in placed)}
        called = {side.number: side for side in callee.sides.values()}
        # Each call that reached the node was admitted: its INVITE was repeated until it was answered.
        reached = [side.call_id for side in sides.values() if side.codes or side.number in called]
        await listener.of(reached, within_s=OVER_S)
        await callee.all_ended(OVER_S)
        await node.empty(within_s=OVER_S)
        broken = await node.metric("sidecar_promises_broken_total")
    records = listener.records
    told = Counter(one["callee"]["received"] for one in records if one["revision"] == 0)
    known = {sides[number].call_id for number in told}
    highest = {one["call_id"]: one for one in sorted(records, key=lambda one: int(one["revision"]))}
    charged = sum(Decimal(sell(one)["total"] or 0) for one in highest.values())
    check_sequences(records)
    node.check_books()
    return Counter(
        calls=len(reached),
        missing=len(set(reached) - known),
        duplicate=sum(count - 1 for count in told.values()),
        wrong=sum(
            is_wrong(one, sides[one["callee"]["received"]], called.get(one["callee"]["received"]))
            for one in highest.values()
        ),
        server=sum(one["hangup_origin"] == "server" for one in highest.values()),
        up=node.open_entries(),
        broken=int(broken),
        ledger=int(node.balance("prepaid") != TOP_UP - charged),
        seen=near.counts["seen"] + far.counts["seen"],
        lost=near.counts["lost"] + far.counts["lost"],
    )


BROKEN = ("missing", "duplicate", "wrong", "up", "broken", "ledger")


async def loss(given: Chance) -> Outcome:
    """10 and 30 %, with as many seeds each as there are rounds, SEEDS_MAX at the most."""
    chance, total = given.draw(), Counter[str]()
    seeds = min(given.rounds, SEEDS_MAX)
    server: Counter[float] = Counter()
    for number in range(seeds):
        seed = chance.randrange(1 << 32)
        for share in LOSSES:
            folder = given.folder / f"{number}-{share}"
            folder.mkdir()
            found = await lossy_round(folder, share, given.calls, seed)
            total += found
            server[share] += found["server"]
            if any(found[name] for name in BROKEN):
                print(f"seed {seed}, {share:.0%} lost: {dict(found)}", flush=True)
    return Outcome(
        fault="lossy networks on both sides",
        rounds=seeds * len(LOSSES),
        missing=total["missing"],
        duplicate=total["duplicate"],
        figures={
            "calls": str(total["calls"]),
            "datagrams": str(total["seen"]),
            "lost": str(total["lost"]),
            "wrong origin": str(total["wrong"]),
            "left up": str(total["up"]),
            **{f"ended by the node at {share:.0%}": str(server[share]) for share in LOSSES},
        },
        broken=[f"{total[name]} {name}" for name in BROKEN if total[name]],
    )
