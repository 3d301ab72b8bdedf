"""A planned restart: calls go on over it, with both phones hearing nothing of it."""

from __future__ import annotations

import os
import signal
from decimal import Decimal

import pytest

from sidecar.demo.children import DemoError
from tests.faults.conftest import MakeNode
from tests.faults.node import phones
from tests.faults.phone import Plan, by_number
from tests.rig.broker import mosquitto
from tests.rig.collector import Homer
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

CALLS = 30
RESTARTS = 2


@pytest.mark.timeout(120)
async def test_calls_go_on_over_two_restarts_and_each_has_its_one_record(make_node: MakeNode) -> None:
    node = make_node(billing="slice_s = 2\nstore_away_s = 60")
    homer = Homer()
    collector = ":".join(map(str, await homer.listen(f"{node.network}.8")))
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
        node.up(**broker.settings(), SIDECAR_HEP__COLLECTOR=collector) as child,
    ):
        caller.peer = callee.peer = child.sip
        await node.top_up("prepaid", "1000")
        accounts = ["prepaid" if number % 3 == 0 else "demo" for number in range(CALLS)]
        sides = [
            caller.dial(f"1{number:03}", Plan(), account=account) for number, account in enumerate(accounts)
        ]
        for side in sides:
            await node.live(side.number, answered=True)
        boots = {(await node.status())["boot_id"]}
        for _ in range(RESTARTS):
            done = await child.command("node", "restart", "--text", "update")
            assert (done["calls"], done["calls_now"]) == (CALLS, CALLS)
            boots.add(done["boot_id"])
        assert len(boots) == RESTARTS + 1
        assert [side.byes for side in (*caller.sides.values(), *callee.sides.values())] == [0] * 2 * CALLS
        called = {side.number: side for side in callee.sides.values()}
        for number, side in enumerate(sides):
            if number % 2:
                caller.hang_up(side)
            else:
                callee.hang_up(called[side.number])
        records = await listener.of([side.call_id for side in sides])
        await caller.all_ended(30)
        await callee.all_ended(30)
    homer.transport.close()
    ends = {one.correlation_id.decode() for one in homer.copies if one.text.startswith(b"BYE")}
    assert ends == {record["call_id"] for record in records}  # of calls that another boot began
    for number, (side, record) in enumerate(zip(sides, records, strict=True)):
        assert record["hangup_origin"] == ("caller" if number % 2 else "callee")
        assert (record["detail"], record["confidence"]) == ("bye", "observed")
        assert (side.bye_code or 200) == 200
        talked_s = (record["ended_at"] - record["answered_at"]).total_seconds()
        assert abs(record["talk_ms"] / 1000 - talked_s) < 0.01
        [sell] = [charge for charge in record["charges"] if charge["side"] == "sell"]
        assert Decimal(sell["total"]) == Decimal("0.01") * sell["billed_s"]
    assert len(listener.records) == CALLS
    check_sequences(listener.records)
    assert node.open_entries() == 0
    node.check_books()


async def test_a_restart_with_settings_that_would_not_start_is_refused_and_nothing_changes(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with phones(node) as (caller, callee), node.up() as child:
        caller.peer = callee.peer = child.sip
        side = caller.dial("1000", Plan())
        before = await node.live("1000", answered=True)
        boot_id = (await node.status())["boot_id"]
        node.profile.write_text(node.profile_text() + "\n[gateways.main2]\nprot = 5\n")
        with pytest.raises(DemoError, match=r"node\.toml:\d+: gateways\.main2\.prot"):
            await child.command("node", "restart")
        status = await node.status()
        assert (status["boot_id"], status["state"]) == (boot_id, "accepting")
        assert (await node.live("1000", answered=True))["call_id"] == before["call_id"]
        assert side.byes == 0


async def test_a_call_that_rings_is_ended_as_drain_and_those_of_a_restart_that_is_killed_have_one_record(
    make_node: MakeNode,
) -> None:
    """Wherever the kill meets it: the next start goes on with them, or ends them as after a crash."""
    node = make_node()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, by_number({"1999": Plan(answer_s=None)})) as (caller, callee),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            sides = [caller.dial(f"100{number}", Plan()) for number in range(5)]
            for side in sides:
                await node.live(side.number, answered=True)
            rings = caller.dial("1999", Plan())
            await until(lambda: 180 in rings.codes)
            await node.control("node.restart", operator="jane")
            await until(lambda: "calls_kept" in node.log.read_text())
            node.kill()
            await child.ended()
        assert rings.final == 480
        async with node.up() as child:
            for side in sides:
                caller.hang_up(side)
            records = await listener.of([side.call_id for side in (rings, *sides)])
    assert (records[0]["detail"], records[0]["disposition"]) == ("drain", "failed")
    assert {one["detail"] for one in records[1:]} <= {"bye", "crash_recovered"}
    assert [one["revision"] for one in listener.records] == [0] * 6
    assert node.open_entries() == 0
    node.check_books()


async def test_a_node_that_is_told_to_end_while_it_restarts_ends_its_calls_when_it_has(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            side = caller.dial("1000", Plan())
            await node.live("1000", answered=True)
            await node.control("node.restart", operator="jane")
            os.kill(child.pid, signal.SIGTERM)
            assert await child.ended() == 0
            await caller.all_ended(30)
            await callee.all_ended(30)
        async with node.up():
            [record] = await listener.of([side.call_id])
    assert (record["detail"], record["confidence"], side.byes) == ("drain", "observed", 1)
    node.check_books()
