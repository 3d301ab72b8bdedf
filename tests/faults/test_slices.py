"""Prepaid calls slice by slice, on the whole node: they share a balance, go on for as long as it lasts, and
end on time where it does not. A cent a second; what is granted is counted from the answer."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan, Side
from tests.rig.listener import listening, sell
from tests.rig.node import until

# A machine that is busy for longer than an extension is asked early ends no call: that has a test of its own.
SLICE = "slice_s = 2\nstore_away_s = 60\n"


def movements(node: Node) -> list[tuple[str, Decimal]]:
    rows = node.ask("SELECT kind, amount FROM ledger WHERE call_id NOTNULL ORDER BY entry")
    return [(kind, Decimal(amount)) for kind, amount in rows]


def reasons(*sides: Side) -> set[str]:
    """Of the BYE that each has got."""
    return {side.bye["Reason"] for side in sides if side.bye is not None} | {
        "none" for side in sides if side.bye is None
    }


def ended(record: Any) -> str:
    return f"{record['server_reason']}/{record['detail']} {record['sip_code']} {record['q850_cause']}"


async def test_two_calls_share_a_balance_that_would_pay_one_of_them(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        await child.command("account", "topup", "prepaid", "4.98")
        sides = [caller.dial(f"100{number}", Plan(), account="prepaid") for number in range(2)]
        live = [await node.live(side.number, answered=True) for side in sides]
        assert [one["granted_s"] for one in live] == [60, 60]
        assert await node.account("prepaid") == Decimal("3.78")  # a minute for each is held
        for side in sides:
            side.hang_up_asked.set()
            await side.ended.wait()
        records = await listener.of([side.call_id for side in sides])
    charged = sum(Decimal(sell(one)["total"]) for one in records)
    assert node.balance("prepaid") == Decimal("4.98") - charged
    assert {one["detail"] for one in records} == {"bye"}
    node.check_books()


async def test_a_call_goes_on_past_its_slices_until_the_balance_is_used_up(make_node: MakeNode) -> None:
    node = make_node(billing=SLICE)
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "prepaid", "0.05")
        side = await caller.place("1000", Plan(), account="prepaid")
        (record,) = await listener.of([side.call_id])
        (at_callee,) = callee.sides.values()
        await at_callee.ended.wait()
    assert ended(record) == "credit/grant_used_up 402 16"
    assert reasons(side, at_callee) == {'Q.850;cause=16;text="grant_used_up"'}
    assert (record["granted_s"], record["billable_ms"], sell(record)["total"]) == (5, 5000, "0.050000")
    assert movements(node) == [
        *[("reserve", Decimal(amount)) for amount in ("-0.02", "-0.02", "-0.01")],
        ("release", Decimal("0.05")),
        ("charge", Decimal("-0.05")),
    ]
    assert node.balance("prepaid") == 0
    node.check_books()


async def test_a_top_up_in_a_call_lets_it_go_on(make_node: MakeNode) -> None:
    node = make_node(billing=SLICE)
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        await child.command("account", "topup", "prepaid", "0.05")
        side = caller.dial("1000", Plan(), account="prepaid")
        await node.live("1000", answered=True)
        await node.top_up("prepaid", "1")
        await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE granted_s > 5"))
        caller.hang_up(side)
        await side.ended.wait()
        (record,) = await listener.of([side.call_id])
    assert (record["hangup_origin"], record["detail"], record["overrun_ms"]) == ("caller", "bye", 0)
    assert record["granted_s"] > 5
    assert node.balance("prepaid") == Decimal("1.05") - Decimal(record["billed_s"]) / 100
    node.check_books()


async def test_books_that_do_not_answer_end_a_call_on_time_and_not_for_credit(make_node: MakeNode) -> None:
    node = make_node(billing="slice_s = 3\n")
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "prepaid", "1")
        side = caller.dial("1000", Plan(), account="prepaid")
        await node.live("1000", answered=True)
        await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE kind = 'established'"))
        async with node.journal_locked():
            await side.ended.wait()
        (record,) = await listener.of([side.call_id])
        (at_callee,) = callee.sides.values()
        await at_callee.ended.wait()
    assert ended(record) == "resource/ledger_unreachable 503 42"
    assert reasons(side, at_callee) == {'Q.850;cause=42;text="ledger_unreachable"'}
    # The extension that waited for the books may still be had, before both sides have answered the BYE.
    assert record["granted_s"] in (3, 6)
    assert record["billable_ms"] == min(record["talk_ms"], record["granted_s"] * 1000)
    assert node.balance("prepaid") == 1 - Decimal(sell(record)["total"])
    node.check_books()


async def test_a_call_may_wait_for_books_that_are_slow(make_node: MakeNode) -> None:
    node = make_node(billing="slice_s = 3\nstore_away_s = 60\n")
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        await child.command("account", "topup", "prepaid", "1")
        side = caller.dial("1000", Plan(), account="prepaid")
        await node.live("1000", answered=True)
        await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE kind = 'established'"))
        async with node.journal_locked():
            await asyncio.sleep(4)
            assert not side.ended.is_set()  # beyond its grant
        await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE granted_s > 3"))
        assert await node.metric("sidecar_grants_asked_total", 'answer="extended"') > 0
        side.hang_up_asked.set()
        await side.ended.wait()
        (record,) = await listener.of([side.call_id])
    assert (record["hangup_origin"], record["detail"]) == ("caller", "bye")
    assert record["granted_s"] > 3
    assert record["billable_ms"] == min(record["talk_ms"], record["granted_s"] * 1000)
    assert node.balance("prepaid") == 1 - Decimal(sell(record)["total"])
    node.check_books()
