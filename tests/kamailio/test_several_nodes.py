"""Three nodes on one PostgreSQL between two Kamailios: each has its share of the calls, and one that dies
costs none of those that come after."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.demo.subscriber import Record
from tests.faults.phone import Plan, Side
from tests.kamailio.cluster import Cluster, cluster
from tests.kamailio.states import DOWN, UP, until_known
from tests.rig.listener import check_sequences, sell
from tests.rig.node import until
from tests.rig.postgres import Postgres
from tests.sipp.rig import begun_seconds

pytestmark = pytest.mark.timeout(120)

PERIOD_S = 0.05  # 20 calls/s
LASTING, BEFORE, AFTER = 36, 20, 60  # 12 that last on each node; a second and 3.5 s of those that come and go
GONE_S = 2.0  # until Kamailio sends nothing more to a node that is dead
ENDED_S = 10.0  # until all legs of its calls have ended
ENDED_SHARE = 0.99
RETAIL_44 = Decimal("0.011")  # per minute, sidecar/decks/retail.csv
MILLIONTH = Decimal("0.000001")
LASTS, TALKS = Plan(), Plan(caller_bye_s=1.0)


async def dial(at: Cluster, count: int, plan: Plan) -> list[Side]:
    sides = []
    for _ in range(count):
        sides.append(at.caller.dial("0044123456789", plan))
        await asyncio.sleep(PERIOD_S)
    return sides


async def answered(sides: list[Side]) -> None:
    await until(lambda: all(side.final for side in sides))
    assert Counter(side.final for side in sides) == {200: len(sides)}


async def test_a_node_that_is_killed_costs_no_call_that_comes_after_and_its_own_are_ended_and_recorded_once(
    tmp_path: Path, postgresql: Postgres
) -> None:
    async with cluster(tmp_path, postgresql.new_database("kamailio"), lambda _: LASTS) as at:
        dead, *others = at.nodes
        lasting = await dial(at, LASTING, LASTS)
        short = await dial(at, BEFORE, TALKS)
        await answered([*lasting, *short])  # none is in the making
        up = [{one["call_id"] for one in await node.daemon.live_calls()} for node in at.nodes]
        assert min(map(len, up)) >= LASTING // 9, up  # each has its share
        dead.kill()
        async with asyncio.timeout(GONE_S), asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(until_known(at.front, DOWN, UP, UP))
            killed_s = asyncio.get_running_loop().time()
            short += await dial(at, 10, TALKS)
            await gone
        short += await dial(at, AFTER, TALKS)
        await answered(short)
        # Those that hung up meanwhile heard 200, whoever said it.
        await until(lambda: all(side.ended.is_set() for side in short))
        assert Counter(side.bye_code for side in short) == {200: len(short)}

        of_dead = await check_records_of_dead(at, lasting, short, up[0], killed_s)
        left = [side for side in lasting if side.call_id not in of_dead]
        for side in left:
            at.caller.hang_up(side)
        records = await at.listener.of([side.call_id for side in (*left, *short)])
        for one in records:
            if one["leg_a"]["sip_call_id"] not in of_dead:
                assert (one["hangup_origin"], one["detail"]) == ("caller", "bye")
                check_charge(one)
        assert {one["node"] for one in records} == {node.name for node in at.nodes}
        assert len(at.listener.records) == len(lasting) + len(short)
        check_sequences(at.listener.records)
        others[0].check_books()


async def check_records_of_dead(
    at: Cluster, lasting: list[Side], short: list[Side], up: set[str], killed_s: float
) -> set[str]:
    """One each, in the dead node's name, and their legs ended in time. The Call-IDs of leg A."""
    await at.listener.until(lambda: up <= {one["call_id"] for one in at.listener.records})
    records = {one["leg_a"]["sip_call_id"]: one for one in at.listener.records if one["call_id"] in up}
    assert {one["node"] for one in records.values()} == {"n1"}
    for side in short:
        if side.call_id in records:
            record = records[side.call_id]
            assert (record["hangup_origin"], record["detail"]) == ("caller", "bye")
            check_charge(record)
    told_s: list[float] = []
    for side in lasting:
        if side.call_id not in records:
            continue
        record = records[side.call_id]
        assert (record["hangup_origin"], record["detail"]) == ("server", "crash_recovered")
        check_charge(record)
        far = at.callee.sides[record["leg_b"]["sip_call_id"]]
        told_s += [one.told_s - killed_s if one.told_s else math.inf for one in (side, far)]
    assert told_s
    assert sum(one <= ENDED_S for one in told_s) >= ENDED_SHARE * len(told_s), sorted(told_s)
    return set(records)


def check_charge(record: Record) -> None:
    total = (RETAIL_44 * record["billed_s"] / 60).quantize(MILLIONTH)
    assert Decimal(sell(record)["total"]) == total
    assert record["billed_s"] == begun_seconds(record["billable_ms"])
