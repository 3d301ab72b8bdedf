"""Prepaid accounts on the whole node: nobody talks for more than there is, and what was reserved comes
back."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side, by_number
from tests.rig.broker import mosquitto
from tests.rig.listener import listening, sell
from tests.rig.node import until

CALLS = 60


async def test_parallel_calls_on_one_balance_never_overspend(make_node: MakeNode) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    node = make_node(timers="max_duration_s = 2", sip="refused_cdr_per_s = 1000")
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        await child.command("account", "topup", "prepaid", "0.25")
        sides = [
            caller.dial(f"1{n:03}", Plan(caller_bye_s=chance.random() * 2.5), account="prepaid")
            for n in range(CALLS)
        ]
        for side in sides:
            await side.ended.wait()
        records = await listener.of([side.call_id for side in sides])
        await node.empty()
    charged = sum(Decimal(sell(one)["total"] or 0) for one in records)
    assert node.balance("prepaid") == Decimal("0.25") - charged >= 0
    assert (
        min(Decimal(row[0]) for row in node.ask("SELECT balance FROM ledger WHERE account = 'prepaid'")) >= 0
    )
    refused = [one for one in records if one["detail"] == "no_credit"]
    # Twelve calls have two seconds each, one has the last cent; whoever comes later may find what they left.
    assert 0 < len(refused) <= CALLS - 13
    assert all(one["sip_code"] == 402 and one["server_reason"] == "credit" for one in refused)
    node.check_books()


async def test_a_balance_for_exactly_so_many_seconds(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "prepaid", "0.02")
        side = await caller.place("1000", Plan(), account="prepaid")
        again = await caller.place("1001", Plan(), account="prepaid")
        record, refused = await listener.of([side.call_id, again.call_id])
    assert (record["server_reason"], record["detail"], record["granted_s"]) == ("credit", "grant_used_up", 2)
    assert (record["billable_ms"], record["billed_s"], sell(record)["total"]) == (2000, 2, "0.020000")
    assert 0 <= record["overrun_ms"] <= 1000  # not billed, on the busiest machine
    assert refused["detail"] == "no_credit"
    assert node.balance("prepaid") == 0
    node.check_books()


async def _cancel_in_admission(node: Node, caller: Phone) -> Side:
    async with node.journal_locked():
        side = caller.dial("1000", Plan(cancel_s=0.05), account="prepaid")
        await side.ended.wait()
    return side


async def _operator(node: Node, caller: Phone) -> Side:
    side = caller.dial("1000", Plan(), account="prepaid")
    call = await node.live("1000", answered=True)
    await asyncio.sleep(0.2)  # a call of 0 s would cost nothing
    await node.control("call.release", call_id=call["call_id"], operator="jane")
    await side.ended.wait()
    return side


async def _not_acknowledged(node: Node, caller: Phone) -> Side:
    return await caller.place("1000", Plan(acknowledges=False), account="prepaid")


@pytest.mark.parametrize(
    ("way", "detail", "talked"),
    [
        (Plan(caller_bye_s=0.1), "bye", True),
        (Plan(callee_bye_s=0.1), "bye", True),
        (Plan(answer_s=None, cancel_s=0.1), "cancel", False),
        (Plan(reject=486), "rejected", False),
        (Plan(answer_s=None), "ring_timeout", False),
        (Plan(), "max_duration", True),
        (_cancel_in_admission, "cancel", False),
        (_operator, "operator", True),
        (_not_acknowledged, "no_ack", True),  # its first sign of life is its answer to our BYE
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_was_reserved_comes_back_however_the_call_ends(
    make_node: MakeNode, way: Any, detail: str, talked: bool
) -> None:
    node = make_node(timers="max_duration_s = 2\nring_timeout_s = 1\nt1_ms = 20")
    plans = {"1000": way} if isinstance(way, Plan) else {}
    async with phones(node, by_number(plans)) as (caller, callee), node.up() as child:
        caller.peer = callee.peer = child.sip
        async with listening(*child.broker) as listener:
            await child.command("account", "topup", "prepaid", "1")
            if isinstance(way, Plan):
                side = await caller.place("1000", way, account="prepaid")
            else:
                side = await way(node, caller)
            (record,) = await listener.of([side.call_id])
            assert record["detail"] == detail
            cents = record["billed_s"]
            assert (cents > 0) == talked
            assert await node.account("prepaid") == Decimal(1) - Decimal(cents) / 100
            await node.empty()
    kinds = [kind for (kind,) in node.ask("SELECT kind FROM ledger WHERE call_id NOTNULL ORDER BY entry")]
    assert kinds == ["reserve", "release", *["charge"] * talked]
    assert node.open_entries() == 0
    node.check_books()


async def test_what_was_reserved_comes_back_after_a_crash(make_node: MakeNode) -> None:
    node = make_node()
    heartbeat = "SELECT max(heartbeat_mono_ns) FROM boots"
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, by_number({"1001": Plan(answer_s=None)})) as (caller, _),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = child.sip
            await child.command("account", "topup", "prepaid", "1")
            await child.command("account", "topup", "other", "1")
            caller.dial("1000", Plan(), account="prepaid")
            caller.dial("1001", Plan(answer_s=None), account="other")
            await node.live("1000", answered=True)
            await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE kind = 'established'"))
            assert await node.account("prepaid") == await node.account("other") == Decimal("0.4")
            [(begun_ns,)] = node.ask(heartbeat)
            await until(lambda: node.ask(heartbeat)[0][0] > begun_ns + 100_000_000)  # enough to be charged
            node.kill()
        async with node.up():
            await listener.until(lambda: len(listener.records) == 2)
    charged = {one["account"]: Decimal(sell(one)["total"]) for one in listener.records}
    assert charged["other"] == 0 < charged["prepaid"]
    for account in ("prepaid", "other"):
        assert node.balance(account) == 1 - charged[account]
    assert all(one["detail"] == "crash_recovered" for one in listener.records)
    node.check_books()
