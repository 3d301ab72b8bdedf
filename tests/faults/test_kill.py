"""kill -9 at moments by chance, with calls in every phase, and again on the same data: nothing is lost,
nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening, sell
from tests.rig.node import until

ROUNDS = 3
BUSY_S = 3.0  # by how much a heartbeat may be late on a busy machine
CALLS_PER_S = 80


def any_plan(chance: random.Random) -> Plan:
    ring_s, answer_s = chance.random() * 0.2, 0.2 + chance.random() * 0.4
    match chance.randrange(6):
        case 0:
            return Plan(ring_s=ring_s, answer_s=answer_s, reject=486)
        case 1:
            return Plan(ring_s=ring_s, answer_s=answer_s, cancel_s=chance.random() * 0.8)
        case 2:
            return Plan(ring_s=ring_s, answer_s=None)
        case 3:
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=chance.random())
        case _:
            return Plan(ring_s=ring_s, answer_s=answer_s, caller_bye_s=chance.random() * 2)


async def _dial_until_killed(
    node: Node, caller: Phone, chance: random.Random, plans: dict[str, Plan]
) -> None:
    end_s = asyncio.get_running_loop().time() + 0.7 + chance.random() * 1.2
    while asyncio.get_running_loop().time() < end_s:
        number = f"1{len(plans):05}"
        plans[number] = any_plan(chance)
        caller.dial(number, plans[number], account=chance.choice(("prepaid", "other", "")))
        await asyncio.sleep(chance.expovariate(CALLS_PER_S))
    node.kill()


@pytest.mark.timeout(240)
async def test_a_node_that_is_killed_loses_no_call_and_tells_none_twice(make_node: MakeNode) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plans: dict[str, Plan] = {}
    node = make_node(timers="max_duration_s = 3\nt1_ms = 50")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:10]]) as (caller, callee),
    ):
        found_open: list[int] = []
        killed_at: list[datetime] = []
        boots: list[str] = []
        for _ in range(ROUNDS):
            async with node.up(**broker.settings()) as child:
                caller.peer = callee.peer = child.sip
                for account in ("prepaid", "other"):
                    await child.command("account", "topup", account, "1")
                boots.append((await node.status())["boot_id"])
                await _dial_until_killed(node, caller, chance, plans)
            killed_at.append(datetime.now(UTC))
            found_open.append(node.open_entries())
            # Killed again and again while it writes the records of those calls, or before, or after.
            await node.killed_while_it_starts(0.3 + chance.random())
        async with node.up() as child:
            await until(lambda: node.open_entries() == 0)
            head = (await child.command("node", "status"))["outbox_head_seq"]
            await listener.until(lambda: len(listener.records) + listener.again >= head, 40)
            status = await child.command("node", "status")
            assert (status["outbox_depth"], status["outbox_head_seq"]) == (0, head)
    print(
        found_open,
        Counter(f"{one['hangup_origin']} {one['detail']}" for one in listener.records),
        listener.again,
    )
    assert min(found_open) > 5, "no call was up when the node was killed"

    first = Counter(one["call_id"] for one in listener.records if one["revision"] == 0)
    assert set(first.values()) == {1}
    revisions = Counter((one["call_id"], one["revision"]) for one in listener.records)
    assert set(revisions.values()) == {1}
    recovered = [
        one for one in listener.records if one["detail"] == "crash_recovered" and one["revision"] == 0
    ]
    # An entry may hold a cause already, when the node dies while the legs close; and a peer may have hung up.
    assert len(recovered) <= sum(found_open)
    assert all((one["hangup_origin"], one["server_reason"]) == ("server", "fault") for one in recovered)
    for one in recovered:
        if one["evidence"] == "proved":  # both legs were up when we hung up
            assert one["ended_at"] >= min(killed_at)
            continue
        # Billed to the last sign of life of the node, which is at most a heartbeat old: never too much.
        (age_s,) = (
            (at - one["ended_at"]).total_seconds()
            for at, boot in zip(killed_at, boots, strict=True)
            if boot == one["boot_id"]
        )
        assert 0 <= age_s < 1.0 + BUSY_S, age_s
    # Leg B's INVITE is the proof that a call was admitted.
    told = Counter(one["callee"]["received"] for one in listener.records if one["revision"] == 0)
    missing = {side.number for side in callee.sides.values()} - told.keys()
    assert not missing, missing
    assert set(told.values()) == {1}
    assert len({one["store_epoch"] for one in listener.records}) == 1
    assert len({one["boot_id"] for one in listener.records}) == ROUNDS
    check_sequences(listener.records)
    highest = {one["call_id"]: one for one in sorted(listener.records, key=lambda one: int(one["revision"]))}
    for account in ("prepaid", "other"):
        charged = sum(Decimal(sell(o)["total"] or 0) for o in highest.values() if o["account"] == account)
        assert node.balance(account) == ROUNDS - charged >= 0
    node.check_books()


async def test_an_invite_that_is_repeated_after_a_kill_is_no_second_call(make_node: MakeNode) -> None:
    """RFC 3261 §17.1.1.2: it goes out until a response comes. A later INVITE of the dialog is another."""
    node = make_node()
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        async with phones(node, lambda _: Plan(answer_s=None)) as (caller, callee):
            async with node.up(**broker.settings()) as child:
                caller.peer = child.sip
                side = caller.dial("1000", Plan(), call_id="again@x", tag="t")
                await node.live("1000")
                node.kill()
            async with node.up() as child:
                caller.peer = child.sip
                assert side.invite is not None
                caller.send(side.invite.raw)
                await side.ended.wait()
                assert side.final == 500
                later = caller.dial("1000", Plan(cancel_s=0.1), call_id="again@x", tag="t", cseq=2)
                await later.ended.wait()
                await listener.until(lambda: len(listener.records) >= 2)
        assert len(callee.sides) == 2
    assert later.final == 487
    assert [one["detail"] for one in listener.records] == ["crash_recovered", "cancel"]
    node.check_books()


async def test_a_node_that_is_told_to_stop_ends_its_calls_and_records_them(make_node: MakeNode) -> None:
    """In whatever phase they are: the peers hear of it, and the next start finds nothing to recover."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plans = {f"1{n:05}": any_plan(chance) for n in range(80)}
    node = make_node(timers="max_duration_s = 60\nt1_ms = 50")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:10]]) as (caller, callee),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            await child.command("account", "topup", "prepaid", "100")
            for number, plan in plans.items():
                caller.dial(number, plan, account=chance.choice(("prepaid", "")))
                await asyncio.sleep(chance.expovariate(CALLS_PER_S))
            assert await child.stop() == 0
        # 503 is the answer of a node that drains: there is no call, and so no record.
        calls = [side.call_id for side in caller.sides.values() if side.codes and side.final != 503]
        records = await listener.of(calls)
        assert node.open_entries() == 0
        await caller.all_ended(30)
        await callee.all_ended(30)
    drained = [one for one in records if one["detail"] == "drain"]
    print(Counter(f"{one['hangup_origin']} {one['detail']}" for one in records))
    assert len(drained) > 10
    assert all(one["server_reason"] == "admin" for one in drained)
    assert all(side.ended_by for side in callee.sides.values() if side.final == 200)
    charged = sum(Decimal(sell(o)["total"] or 0) for o in records if o["account"] == "prepaid")
    assert node.balance("prepaid") == 100 - charged
    check_sequences(listener.records)
    node.check_books()


async def test_a_node_stops_in_time_though_nobody_answers(make_node: MakeNode) -> None:
    """Peers that have gone, a broker that is not there: the records wait on disk for the next start."""
    node = make_node()
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        await broker.stop()
        async with phones(node) as (caller, callee), node.up(**broker.settings()) as child:
            caller.peer = child.sip
            sides = [caller.dial(f"1{n:03}", Plan()) for n in range(20)]
            await until(lambda: all(side.final == 200 for side in sides))
            for phone in (caller, callee):
                phone.unresponsive = True
            began_s = asyncio.get_running_loop().time()
            assert await child.stop() == 0
            assert asyncio.get_running_loop().time() - began_s < 8
        assert node.open_entries() == 0
        await broker.start()
        async with node.up():
            records = await listener.of([side.call_id for side in sides])
    assert {one["detail"] for one in records} == {"drain"}
    assert len({one["boot_id"] for one in records}) == 1
    check_sequences(listener.records)
    node.check_books()
