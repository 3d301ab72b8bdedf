"""Limits that hold over all nodes of a database, with real calls at two of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.cluster import OneOf, cluster, up
from tests.faults.node import phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import Listener, listening
from tests.rig.node import until
from tests.rig.postgres import Postgres

_databases = iter(f"limits{number}" for number in range(1, 100))
TALKS, SHORT = Plan(), Plan(caller_bye_s=0.05)
PER_S = 10
LIMITS = {"peers.others": "calls_max = 3", "accounts.demo": f"calls_per_s = {PER_S}"}
RULES = """
[[fraud_rules]]
name = "refused"
scope = "caller"
measure = "calls"
threshold = 3
window_s = 3600
mode = "refuse"
[[fraud_rules]]
name = "ended"
scope = "account"
measure = "calls_at_once"
threshold = 3
mode = "end"
"""


class Place(NamedTuple):
    nodes: list[OneOf]
    callers: list[Phone]  # of each node
    listener: Listener

    def dial(self, node: int, number: str, caller: str = "49300") -> Side:
        return self.callers[node].dial(number, TALKS, caller=caller)

    async def answer(self, node: int, number: str, caller: str = "49300") -> int:
        return await _final(self.dial(node, number, caller))

    def told(self) -> list[tuple[str, str, str]]:
        """Of fraud rules: the node, the rule, what it measured."""
        events = [(one["node"], one["alarm"]) for one in self.listener.events]
        return [(node, alarm["rule"], alarm["measured"]) for node, alarm in events if "rule" in alarm]


@asynccontextmanager
async def place(folder: Path, dsn: str, caller: int, tables: str = "", **more: str) -> AsyncIterator[Place]:
    """Two nodes; at each calls somebody with address `caller` of the network."""
    nodes = cluster(folder, dsn, 2, **more)
    for node in nodes:
        node.more_tables = tables
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(phones(nodes[0]))
        broker = await stack.enter_async_context(mosquitto(folder))
        listener = await stack.enter_async_context(listening(broker.host, broker.port))
        callers = list[Phone]()
        for node in nodes:
            phone = await Phone.listen(f"{nodes[0].network}.{caller}")
            callers.append(await stack.enter_async_context(phone))
            await stack.enter_async_context(up(node, broker))
            phone.peer = node.daemon.sip
        yield Place(nodes, callers, listener)


async def _final(side: Side) -> int:
    await until(lambda: side.final)
    return side.final


async def hears_of(node: OneOf, calls: int) -> None:
    """Until it goes by what the other carries."""

    async def is_told() -> bool:
        gateways = (await node.control("node.gateways"))["gateways"]
        return [one["calls_elsewhere"] for one in gateways] == [calls, 0]

    await until(is_told)


async def test_calls_of_a_peer_group_are_counted_at_all_nodes(tmp_path: Path, postgresql: Postgres) -> None:
    dsn = postgresql.new_database(next(_databases))
    async with place(tmp_path, dsn, 4, **LIMITS) as at:
        first, second = at.nodes
        assert [await at.answer(0, f"100{number}") for number in (1, 2)] == [200, 200]
        await hears_of(second, calls=2)
        assert [await at.answer(1, f"101{number}") for number in (1, 2)] == [200, 480]
        await hears_of(first, calls=1)
        late = at.callers[0].dial("1003", TALKS)
        assert await _final(late) == 480
        [record] = await at.listener.of([late.call_id])
        assert (record["detail"], record["rule"]) == ("peer_limit", "calls_max")
        next(iter(at.callers[0].sides.values())).hang_up_asked.set()
        await hears_of(second, calls=1)
        assert await at.answer(1, "1013") == 200


async def _burst(at: Place, nodes: list[int]) -> tuple[int, float]:
    """More than the limit, at each of them: how many passed, and the time in which they came."""
    await asyncio.sleep(1.0)  # until the buckets are full
    sides = [at.callers[node].dial(f"1{number:03}", SHORT) for number in range(PER_S + 2) for node in nodes]
    finals = [await _final(side) for side in sides]
    assert set(finals) == {200, 480}
    records = await at.listener.of([side.call_id for side in sides])
    assert {one["detail"] for one in records if one["sip_code"] == 480} == {"account_limit"}
    came = [one["invited_at"] for one in records]
    return finals.count(200), (max(came) - min(came)).total_seconds()


async def test_calls_per_second_are_divided_between_nodes_and_one_alone_has_them_all(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database(next(_databases))
    async with place(tmp_path, dsn, 2, **LIMITS) as at:
        for node in (0, 1):
            assert await at.answer(node, "1000") == 200
        for one in at.nodes:
            await hears_of(one, calls=1)
        passed, span_s = await _burst(at, [0, 1])
        # A share changes where all of it was taken, or by little: then no more than it comes to is left.
        assert passed <= PER_S * (1 + 2 * span_s) + 3, "each by itself lets twice as many through"

        most = 0

        async def is_alone() -> bool:
            nonlocal most
            passed, span_s = await _burst(at, [0])
            assert passed <= PER_S * (1 + span_s) + 1
            most = max(most, passed)
            return most >= PER_S * 0.9

        await until(is_alone)


async def held(node: OneOf) -> list[tuple[str, str]]:
    return [(one["rule"], one["key"]) for one in (await node.control("policy.show"))["held"]]


async def test_fraud_rules_count_the_calls_of_all_nodes_and_what_one_finds_acts_on_all_and_is_told_once(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database(next(_databases))
    async with place(tmp_path, dsn, 2, RULES) as at:
        first, second = at.nodes

        async def hold(*rules: tuple[str, str]) -> None:
            for node in at.nodes:
                await until_is(node, *rules)

        async def until_is(node: OneOf, *rules: tuple[str, str]) -> None:
            async def is_so() -> bool:
                return await held(node) == list(rules)

            await until(is_so)

        up = [at.dial(0, f"100{number}", "49301") for number in (1, 2)]
        assert [await _final(side) for side in up] == [200, 200]
        await hears_of(second, calls=2)
        up.append(at.dial(1, "1003", "49301"))
        assert await _final(up[-1]) == 200
        assert await at.answer(1, "1004", "49301") == 403, "the fourth of this caller"
        await hold(("refused", "49301"))
        assert await at.answer(0, "1005", "49301") == 403

        assert await at.answer(1, "1006") == 403, "the fourth at once of this account"
        for side in up:
            await side.ended.wait()  # nobody hangs up
        records = await at.listener.of([side.call_id for side in up])
        assert [one["node"] for one in records] == ["n1", "n1", "n2"]
        assert {(one["detail"], one["rule"]) for one in records} == {("rule", "ended")}
        await hold(("refused", "49301"), ("ended", "demo"))
        await at.listener.until(lambda: len(at.told()) >= 2)
        assert at.told() == [("n2", "refused", "4"), ("n2", "ended", "4")]

        for rule, key in (("refused", "49301"), ("ended", "demo")):
            await first.control("policy.lift", rule=rule, key=key, operator="jane", text="asked")
        await hold()
        assert await at.answer(1, "1007", "49301") == 200
        await hears_of(first, calls=1)
        second.kill()
        await hears_of(first, calls=0)  # it is silent; what it has counted is not forgotten
        assert [await at.answer(0, f"101{number}", "49301") for number in (1, 2, 3)] == [200, 200, 403]
        await at.listener.until(lambda: len(at.told()) >= 3)
        assert at.told()[2:] == [("n1", "refused", "4")]
