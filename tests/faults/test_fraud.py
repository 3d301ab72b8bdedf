"""Fraud rules on the whole node: real calls that are watched, refused and ended, with what both sides, the
record, the balance, the broker and the audit table have of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.demo.children import DemoError, environment
from sidecar.demo.subscriber import Record
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.listener import Listener, listening, sell
from tests.rig.node import SIDECAR, until

RULES = """
[[fraud_rules]]
name = "watched"
scope = "account"
measure = "destinations"
threshold = 2
window_s = 3600
except_accounts = ["prepaid", "other"]

[[fraud_rules]]
name = "refused"
scope = "caller"
measure = "calls"
threshold = 2
window_s = 3600
mode = "refuse"
except_accounts = ["demo", "prepaid"]

[[fraud_rules]]
name = "ended"
scope = "account"
measure = "money"
threshold = "0.05"
window_s = 3600
mode = "end"
except_accounts = ["demo", "other"]
"""
TALK = Plan()  # until the server ends it
SHORT = Plan(caller_bye_s=0.05)


class RuledNode(Node):
    def __init__(self, folder: Path, rules: str = RULES, **more: str) -> None:
        super().__init__(folder, **more)
        self.rules = rules

    def profile_text(self) -> str:
        return super().profile_text() + self.rules


@pytest.fixture
def node(tmp_path: Path) -> RuledNode:
    return RuledNode(tmp_path, timers="max_duration_s = 60")


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[tuple[Phone, Phone, Listener]]:
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        yield caller, callee, listener


def alarms(listener: Listener, rule: str) -> list[Record]:
    return [one["alarm"] for one in listener.events if one["alarm"]["rule"] == rule]


async def test_a_rule_watches_refuses_or_ends_calls_as_its_mode_says(node: RuledNode) -> None:
    async with running(node) as (caller, callee, listener):
        child = node.daemon
        await node.top_up("prepaid", "10")
        await node.top_up("other", "10")
        watched = [await caller.place(f"100{n}", SHORT) for n in (1, 2, 3, 4)]
        refused = [await caller.place("1000", SHORT, account="other", caller="49301") for _ in range(4)]
        another = await caller.place("1000", SHORT, account="other", caller="49302")
        up = [caller.dial(f"102{n}", TALK, account="prepaid") for n in (1, 2, 3)]
        for side in up:  # nobody hangs up: the amount is reached while they talk
            await side.ended.wait()
        late = await caller.place("1029", TALK, account="prepaid")

        assert [side.final for side in watched] == [200] * 4
        assert [side.final for side in refused] == [200, 200, 403, 403]
        assert another.final == 200
        assert late.final == 403
        records = await listener.of([side.call_id for side in (*refused, *up, late, watched[2])])
        _check_refused(records[2])
        _check_refused(records[3])
        _check_refused(records[7], "ended")
        _check_ended(up, records[4:7], callee)

        await listener.until(lambda: len(listener.events) >= 3)
        [alarm] = alarms(listener, "watched")
        assert (alarm["key"], alarm["measured"], alarm["call_id"]) == ("demo", "3", records[8]["call_id"])
        [alarm] = alarms(listener, "refused")
        assert (alarm["scope"], alarm["key"], alarm["threshold"]) == ("caller", "49301", "2")
        assert alarm["call_id"] == records[2]["call_id"]
        [alarm] = alarms(listener, "ended")
        assert (alarm["key"], alarm["currency"], alarm["mode"]) == ("prepaid", "EUR", "end")
        assert Decimal("0.05") < Decimal(alarm["measured"])
        found = await child.command("audit", "list", "--action", "alarm.fraud_rule")
        assert sorted(one["subject"] for one in found) == ["ended", "refused", "watched"]
        assert await node.metric("sidecar_alarms_total", "fraud_rule") == 3
        assert await node.metric("sidecar_fraud_rule_fired_total", "refused") == 1
        assert len(listener.events) == 3, "one for each firing"
        await node.empty()
    charged = sum(Decimal(sell(one)["total"]) for one in records[4:7])
    assert charged > Decimal("0.05")
    assert node.balance("prepaid") == 10 - charged
    node.check_books()


def _check_refused(record: Record, rule: str = "refused") -> None:
    assert (record["disposition"], record["server_reason"], record["detail"]) == ("refused", "policy", "rule")
    assert (record["rule"], record["sip_code"], record["q850_cause"]) == (rule, 403, 21)


def _check_ended(sides: list[Side], records: list[Record], callee: Phone) -> None:
    for side, record in zip(sides, records, strict=True):
        said = (record["hangup_origin"], record["server_reason"], record["detail"], record["rule"])
        assert said == ("server", "policy", "rule", "ended")
        assert record["disposition"] == "answered"
        assert (record["sip_code"], record["q850_cause"]) == (403, 21)
        assert abs(record["billable_ms"] - record["talk_ms"]) <= 1
        other = next(one for one in callee.sides.values() if one.number == side.number)
        for leg in (side, other):
            assert leg.byes == 1
            assert leg.bye is not None
            assert leg.bye["Reason"] == 'Q.850;cause=21;text="rule"'


async def test_what_a_rule_holds_outlasts_a_restart_and_what_is_lifted_stays_lifted(node: RuledNode) -> None:
    async def place(caller: Phone, number: str = "1000") -> int:
        side = await caller.place(number, SHORT, account="other", caller="4930111222333")
        return side.final

    async with running(node) as (caller, _, listener):
        await node.top_up("other", "10")
        assert [await place(caller) for _ in range(4)] == [200, 200, 403, 403]
        [held] = (await node.daemon.command("policy", "show"))["held"]
        assert (held["rule"], held["key"], held["measured"]) == ("refused", "4930111222333", "3")
        await listener.until(lambda: len(listener.records) == 4)
    async with running(node) as (caller, _, listener):
        [again] = (await node.daemon.command("policy", "show"))["held"]
        assert abs(_seconds(again["since"]) - _seconds(held["since"])) < 1
        assert await place(caller) == 403
        lift = ("policy", "lift", "refused", "4930111222333", "--text", "a dialler", "--operator", "jane")
        await node.daemon.command(*lift)
        [noted] = await node.daemon.command("audit", "list", "--action", "policy.lift")
        assert (noted["operator"], noted["subject"], noted["text"]) == ("jane", "refused", "a dialler")
        assert "4930111222333" not in str(noted)
        assert [await place(caller) for _ in range(2)] == [200, 200]
        await listener.until(lambda: len(listener.records) == 3)
        assert not listener.events, "it fired before this start"
    async with running(node) as (caller, _, listener):
        assert (await node.daemon.command("policy", "show"))["held"] == []
        assert [await place(caller) for _ in range(2)] == [403, 403]
        await listener.until(lambda: len(listener.events) == 1)
    tried = await _try(node, "refused")
    assert (tried["fired"], tried["refused"], tried["ended"]) == (
        1,
        7,
        0,
    )  # of nine; as if nobody had lifted it
    [fired] = tried["firings"]
    assert (fired["key"], fired["measured"]) == ("4930111222333", "3")
    assert {one["done"] for one in tried["hits"]} == {"refused"}
    assert Decimal(tried["not_sold"]["EUR"]) > 0  # two of them were sold after the lift


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


async def _try(node: Node, rule: str, *options: str) -> Record:
    """Without a daemon."""
    child = await asyncio.create_subprocess_exec(
        *(*SIDECAR, "policy", "try", rule, "--since", "2026-01-01T00:00Z", "--json", *options),
        stdout=asyncio.subprocess.PIPE,
        env=environment(**node.settings()),
    )
    said, _ = await child.communicate()
    assert child.returncode == 1  # it would have fired
    return dict(json.loads(said))


NEW_RULE = """
[[fraud_rules]]
name = "new"
scope = "account"
measure = "calls_at_once"
threshold = 1
mode = "end"
"""


async def test_a_rule_that_comes_into_force_ends_the_calls_that_are_up(tmp_path: Path) -> None:
    node = RuledNode(tmp_path, "")
    async with running(node) as (caller, _, listener):
        up = [caller.dial(f"100{n}", TALK) for n in (1, 2)]
        for side in up:
            await node.live(side.number, answered=True)
        node.profile.write_text(node.profile_text() + NEW_RULE.replace("= 1", "= 1.5"))
        with pytest.raises(DemoError, match=r"fraud_rules\[0\]\.threshold"):
            await node.daemon.command("node", "reload")
        node.profile.write_text(node.profile_text() + NEW_RULE)
        [line] = (await node.daemon.command("node", "reload"))["differences"]
        assert line.startswith("+ fraud_rules.new = ")
        for side in up:
            await side.ended.wait()
        records = await listener.of([side.call_id for side in up])
        assert {(one["server_reason"], one["detail"], one["rule"]) for one in records} == {
            ("policy", "rule", "new")
        }
        await listener.until(lambda: len(listener.events) == 1)
        [noted] = await node.daemon.command("audit", "list", "--action", "node.reload")
        assert noted["after"]["changed"] == [line]
    rules = tmp_path / "rules.toml"
    rules.write_text(NEW_RULE.replace('"new"', '"other"').replace('"end"', '"watch"'))
    tried = await _try(node, "other", "--rules", str(rules))
    assert (tried["mode"], tried["fired"], tried["refused"]) == ("watch", 1, 0)
    tried = await _try(node, "other", "--rules", str(rules), "--mode", "refuse")
    assert (tried["mode"], tried["fired"], tried["refused"]) == ("refuse", 1, 1)


UNBILLED = """
[[fraud_rules]]
name = "unbilled"
scope = "caller"
measure = "unbilled_ends"
threshold = 1
window_s = 600
mode = "refuse"
"""


async def test_calls_that_nobody_acknowledges_are_refused_after_some(tmp_path: Path) -> None:
    node = RuledNode(tmp_path, UNBILLED, timers="t1_ms = 20")  # no ACK for 1.28 s ends a call
    async with running(node) as (caller, _, listener):
        silent = Plan(acknowledges=False, caller_bye_s=30)
        first = [caller.dial(f"100{n}", silent, caller="4930555") for n in (1, 2)]
        await until(lambda: all(side.final == 200 for side in first))
        caller.unresponsive = True  # nor does it answer a BYE: nothing proves that it ever heard the answer
        records = await listener.of([side.call_id for side in first])
        caller.unresponsive = False
        assert {(one["detail"], one["billable_ms"]) for one in records} == {("no_ack", 0)}
        await listener.until(lambda: len(listener.events) == 1)
        refused = await caller.place("1003", SHORT, caller="4930555")
        other = await caller.place("1003", SHORT, caller="4930556")
        assert (refused.final, other.final) == (403, 200)
        [record] = await listener.of([refused.call_id])
        assert record["rule"] == "unbilled"
