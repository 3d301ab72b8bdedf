"""Messages of both sides that cross within 100 ms: one outcome, one record, nothing left over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from sidecar.demo.subscriber import Record
from tests.faults.conftest import MakeNode
from tests.faults.node import phones
from tests.faults.phone import Plan, Side
from tests.rig.listener import check_sequences, listening

CALLS = 200
AT_ONCE = 25


def cancel_and_answer(chance: random.Random) -> Plan:
    at_s = 0.02 + chance.random() * 0.1
    return Plan(ring_s=0.0, answer_s=at_s, cancel_s=max(0.0, at_s + chance.uniform(-0.1, 0.1)))


def bye_and_bye(chance: random.Random) -> Plan:
    at_s = 0.1
    return Plan(caller_bye_s=at_s + chance.random() * 0.1, callee_bye_s=at_s + chance.random() * 0.1)


@pytest.mark.parametrize("crossing", [cancel_and_answer, bye_and_bye], ids=lambda one: one.__name__)
async def test_crossing_messages_have_one_outcome(make_node: MakeNode, crossing: object) -> None:
    assert callable(crossing)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plans = {f"1{n:04}": crossing(chance) for n in range(CALLS)}
    node = make_node()
    places = asyncio.Semaphore(AT_ONCE)

    async with (
        phones(node, lambda invite: plans[invite.uri[4:9]]) as (caller, callee),
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        caller.peer = callee.peer = child.sip

        async def call(number: str) -> Side:
            async with places:
                return await caller.place(number, plans[number])

        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(call(number), name=number) for number in plans]
        sides = [one.result() for one in calls]
        records = await listener.of([side.call_id for side in sides])
        await callee.all_ended(30)
        await node.empty()
        broken = await node.metric("sidecar_promises_broken_total")
    assert len({one["call_id"] for one in listener.records}) == CALLS
    assert broken == 0
    outcomes: Counter[str] = Counter()
    for side, record in zip(sides, records, strict=True):
        outcomes[_outcome(side, record)] += 1
    print(outcomes)
    assert len(outcomes) > 1, "nothing crossed"
    assert not callee.unmatched
    # Whatever was answered was hung up by one of the two or both, and no BYE got another answer than 200.
    byes = Counter(
        side.bye_code for phone in (caller, callee) for side in phone.sides.values() if side.bye_code
    )
    assert set(byes) <= {200}, byes
    assert all(side.ended_by for side in callee.sides.values() if side.final == 200)
    assert node.open_entries() == 0
    check_sequences(listener.records)
    node.check_books()


def _outcome(side: Side, record: Record) -> str:
    """Of one call; both sides and the record must agree on it."""
    if side.final == 487:
        assert (record["hangup_origin"], record["detail"], record["talk_ms"]) == ("caller", "cancel", 0)
        assert record["disposition"] == "cancelled"
        return "cancelled"
    assert side.final == 200, side
    assert record["disposition"] == "answered"
    assert record["detail"] == "bye"
    return str(record["hangup_origin"])
