"""A disk that takes nothing for a while, with calls in every phase: full, EIO on write, EIO on fsync,
read-only."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal

from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan
from tests.faults.test_disk import TRACEABLE, WRITES, injected, is_read_only, syncs_fail, writes_fail
from tests.rig.broker import mosquitto
from tests.rig.listener import Listener, check_sequences, listening, sell
from tests.rig.node import until

CALLS_PER_S = 60
FAULT_S_MIN = 1.5  # a heartbeat falls into it
OVER_S = 60.0
TOP_UP = 1_000
PREPAID = ("prepaid", "other")

Fault = Callable[[Node], AbstractContextManager[None]]


def is_full(node: Node) -> AbstractContextManager[None]:
    return injected(node, WRITES, "ENOSPC")


FAULTS: tuple[Fault, ...] = (is_full, writes_fail, syncs_fail, is_read_only)


def any_plan(chance: random.Random) -> Plan:
    ring_s, answer_s = chance.random() * 0.2, 0.2 + chance.random() * 0.4
    match chance.randrange(6):
        case 0:
            return Plan(ring_s=ring_s, answer_s=answer_s, reject=486)
        case 1:
            return Plan(ring_s=ring_s, answer_s=answer_s, cancel_s=chance.random() * 0.8)
        case 2:
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=chance.random() * 2)
        case _:
            return Plan(ring_s=ring_s, answer_s=answer_s, caller_bye_s=chance.random() * 2)


async def _dial(caller: Phone, plans: dict[str, Plan], calls: int, chance: random.Random) -> None:
    for _ in range(calls):
        number = f"1{len(plans):06}"
        plans[number] = any_plan(chance)
        caller.dial(number, plans[number], account=chance.choice((*PREPAID, "", "")))
        await asyncio.sleep(chance.expovariate(CALLS_PER_S))


async def _fail(node: Node, fault: Fault, begin_s: float, last_s: float) -> None:
    await asyncio.sleep(begin_s)
    with fault(node):
        await asyncio.sleep(last_s)


async def disk(given: Chance) -> Outcome:
    chance, plans = given.draw(), dict[str, Plan]()
    node = Node(given.folder, timers="ring_timeout_s = 20\nt1_ms = 100")
    faults = Counter[str]()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:11]]) as (caller, callee),
        node.up(TRACEABLE, **broker.settings()) as child,
    ):
        caller.peer = callee.peer = child.sip
        for account in PREPAID:
            await child.command("account", "topup", account, str(TOP_UP))
        for _ in range(given.rounds):
            fault = chance.choice(FAULTS)
            faults[fault.__name__] += 1
            begin_s, last_s = chance.random() * given.calls / CALLS_PER_S, FAULT_S_MIN + chance.random()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_dial(caller, plans, given.calls, chance), name="dial")
                tasks.create_task(_fail(node, fault, begin_s, last_s), name="fault")
            await until(lambda: _accepts(node), OVER_S)
        await node.empty(OVER_S)
        await until(lambda: node.open_entries() == 0, OVER_S)
        head = (await node.status())["outbox_head_seq"]
        await listener.until(lambda: len(listener.records) + listener.again >= head, OVER_S)
        failures = await node.metric("sidecar_journal_failures_total")
        refused = sum(side.final == 503 for side in caller.sides.values())
    return _judged(node, callee, listener, given.rounds, {**faults, "calls": len(plans)}, failures, refused)


async def _accepts(node: Node) -> bool:
    return bool((await node.status())["state"] == "accepting")


def _judged(
    node: Node,
    callee: Phone,
    listener: Listener,
    rounds: int,
    counts: dict[str, int],
    failures: float,
    refused: int,
) -> Outcome:
    records = listener.records
    told = Counter(one["callee"]["received"] for one in records if one["revision"] == 0)
    # Leg B's INVITE is the proof that a call was admitted.
    missing = {side.number for side in callee.sides.values()} - told.keys()
    ids = Counter((one["call_id"], one["revision"]) for one in records)
    duplicate = sum(count - 1 for count in (*told.values(), *ids.values()))
    charged = {
        account: sum(Decimal(sell(one)["total"] or 0) for one in records if one["account"] == account)
        for account in PREPAID
    }
    adds_up = all(node.balance(account) == TOP_UP - charged[account] for account in PREPAID)
    broken = [
        text
        for text, is_broken in (
            ("records missing", bool(missing)),
            ("records twice", bool(duplicate)),
            ("a fault was not told", failures < rounds),
            ("ledger", not adds_up),
        )
        if is_broken
    ]
    check_sequences(records)
    node.check_books()
    figures = {name: str(count) for name, count in counts.items()}
    return Outcome(
        fault="disk",
        rounds=rounds,
        missing=len(missing),
        duplicate=duplicate,
        broken=broken,
        figures={**figures, "alarms": f"{failures:.0f}", "refused": str(refused)},
    )
