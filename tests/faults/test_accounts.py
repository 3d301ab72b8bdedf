"""The terms of accounts, on the whole node: what they refuse, what they end, what they tell."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.listener import listening, sell
from tests.rig.node import until

SLICE = "slice_s = 2\n"


def ended(record: Any) -> tuple[str, str | None, int]:
    return f"{record['server_reason']}/{record['detail']}", record["rule"], record["sip_code"]


def audited(node: Node, action: str) -> list[tuple[str, str | None]]:
    return [
        (operator, text)
        for operator, text in node.ask(
            f"SELECT operator, text FROM audit WHERE action = '{action}' ORDER BY entry"
        )
    ]


async def test_a_disabled_account_loses_its_calls_at_once_and_has_none_until_it_is_enabled(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "prepaid", "5")
        side, other = (caller.dial("1000", Plan(), account="prepaid"), caller.dial("1001", Plan()))
        await node.live("1000", answered=True)
        await node.live("1001", answered=True)
        await child.command("account", "disable", "prepaid", "--text", "stolen", "--operator", "ann")
        await side.ended.wait()
        refused = await caller.place("1002", Plan(), account="prepaid")
        await child.command("account", "enable", "prepaid", "--operator", "ann")
        again = await caller.place("1003", Plan(caller_bye_s=0.05), account="prepaid")
        other.hang_up_asked.set()
        await other.ended.wait()
        records = await listener.of([side.call_id, refused.call_id, again.call_id, other.call_id])
    assert [ended(one) for one in records[:2]] == [("policy/account_disabled", None, 403)] * 2
    assert (records[0]["operator"], records[0]["operator_text"]) == ("ann", "stolen")
    assert side.bye is not None
    assert side.bye["Reason"] == 'Q.850;cause=21;text="account_disabled"'
    assert [one["detail"] for one in records[2:]] == ["bye", "bye"]
    assert audited(node, "account.disable") == [("ann", "stolen")]
    node.check_books()


async def test_an_account_of_the_settings_stays_disabled_over_a_restart(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, callee):
        async with node.up() as child:
            await child.command("account", "disable", "other")
        async with node.up() as child, listening(*child.broker) as listener:
            caller.peer = callee.peer = child.sip
            side = await caller.place("1000", Plan(), account="other")
            (record,) = await listener.of([side.call_id])
    assert ended(record) == ("policy/account_disabled", None, 403)


async def test_a_spent_day_limit_ends_the_call_and_refuses_the_next(make_node: MakeNode) -> None:
    node = make_node(billing=SLICE, other='day_limit = "0.05"\n')
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "other", "9")
        side = await caller.place("1000", Plan(), account="other")
        refused = await caller.place("1001", Plan(), account="other")
        first, second = await listener.of([side.call_id, refused.call_id])
    assert ended(first) == ended(second) == ("policy/rule", "spending_limit", 403)
    assert (first["granted_s"], sell(first)["total"]) == (5, "0.050000")
    assert second["disposition"] == "refused"
    assert node.balance("other") == Decimal("8.95")
    node.check_books()


async def test_calls_at_once_stay_within_a_day_limit(make_node: MakeNode) -> None:
    node = make_node(billing=SLICE, other='credit_limit = "100"\nday_limit = "0.10"\n')
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        sides = [caller.dial(f"10{number:02}", Plan(), account="other") for number in range(12)]
        for side in sides:
            await side.ended.wait()
        records = await listener.of([side.call_id for side in sides])
    charged = sum(Decimal(sell(one)["total"] or 0) for one in records)
    assert charged == Decimal("0.10") == -node.balance("other")
    assert {ended(one) for one in records} == {("policy/rule", "spending_limit", 403)}
    node.check_books()


async def test_a_postpaid_account_talks_as_far_as_its_limit_and_a_free_one_pays_nothing(
    make_node: MakeNode,
) -> None:
    node = make_node(billing=SLICE)
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "create", "bounded", "--credit-limit", "0.04")
        await child.command("account", "create", "gratis", "--kind", "free")
        side = await caller.place("1000", Plan(), account="bounded")
        refused = await caller.place("1001", Plan(), account="bounded")
        free = await caller.place("1002", Plan(caller_bye_s=1.2), account="gratis")
        first, second, third = await listener.of([side.call_id, refused.call_id, free.call_id])
        await child.command("account", "set", "bounded", "--credit-limit", "1")
        more = await caller.place("1003", Plan(caller_bye_s=1.2), account="bounded")
        (fourth,) = await listener.of([more.call_id])
    assert ended(first) == ("credit/grant_used_up", None, 402)
    assert ended(second) == ("credit/no_credit", None, 402)
    assert (third["detail"], sell(third)["rating_status"], sell(third)["total"]) == ("bye", "free", "0")
    assert (fourth["detail"], sell(fourth)["total"]) == ("bye", "0.020000")
    assert node.balance("bounded") == Decimal("-0.06")
    assert node.balance("gratis") == 0
    node.check_books()


async def test_a_low_balance_is_told_once_until_it_was_above(make_node: MakeNode) -> None:
    node = make_node(prepaid='low_balance = "1"\n')
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "prepaid", "1.01")
        side = caller.dial("1000", Plan(), account="prepaid")  # what it holds is not told
        await node.live("1000", answered=True)
        assert audited(node, "alarm.low_balance") == []
        await asyncio.sleep(1.2)
        side.hang_up_asked.set()
        await side.ended.wait()
        for _ in range(2):
            again = await caller.place("1001", Plan(caller_bye_s=0.05), account="prepaid")
            await listener.of([again.call_id])
        await child.command("account", "topup", "prepaid", "1")
        await child.command("account", "adjust", "prepaid", "-1.50", "--text", "charged back")
        await until(lambda: len(audited(node, "alarm.low_balance")) == 2)
    node.check_books()


async def test_terms_of_the_settings_change_by_a_reload(make_node: MakeNode) -> None:
    node = make_node(other="enabled = true\n")
    profile = node.profile
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await child.command("account", "topup", "other", "5")
        side = caller.dial("1000", Plan(), account="other")
        await node.live("1000", answered=True)
        text = profile.read_text()
        profile.write_text(text.replace("enabled = true", "enabled = false"))
        done = await child.command("node", "reload", "--operator", "ann")
        await side.ended.wait()
        (record,) = await listener.of([side.call_id])
    assert (done["account_terms"], done["differences"]) == (1, ["~ accounts.other.enabled: true -> false"])
    assert (record["detail"], record["operator"]) == ("account_disabled", "ann")
    assert audited(node, "account.set") == [("ann", "node reload")]
