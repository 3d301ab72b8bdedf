"""A database that dies or freezes under calls: none is lost that is up, and new ones go on within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from sidecar.adapters.postgresql.spool import FILE_NAME, found_in
from sidecar.core.commands import Publish
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening, sell
from tests.rig.node import until
from tests.rig.postgres import Postgres

_databases = iter(f"fault{number}" for number in range(1, 100))
Fault = Callable[[Postgres], AbstractContextManager[None]]


@contextmanager
def killed(server: Postgres) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


BY_CALLER = Plan(caller_bye_s=0.5)


@pytest.mark.parametrize("fault", [killed, Postgres.frozen], ids=["killed", "frozen"])
async def test_a_server_that_is_away_ends_no_call_and_others_go_on_within_bounds(
    tmp_path: Path, postgresql: Postgres, fault: Fault
) -> None:
    billing = 'slice_s = 2\nstore_away_s = 60\nfree_numbers = ["19*"]'
    node = Node(tmp_path, dsn=postgresql.new_database(next(_databases)), billing=billing)
    bounds = {"SIDECAR_STORE__TRANCHE_S": "3600", "SIDECAR_STORE__AWAY_CALLS_MAX": "2"}
    async with (
        mosquitto(tmp_path) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
        node.up(**broker.settings(), **bounds) as child,
    ):
        caller.peer = callee.peer = child.sip
        await node.top_up("prepaid", "10")
        await node.top_up("other", "10")
        before = [caller.dial("1101", Plan()), caller.dial("1102", Plan(), account="prepaid")]
        await until(lambda: all(side.final == 200 for side in before))
        # A tranche that lasts for some calls: it grows with what is reserved.
        await until(lambda: node.ask("SELECT 1 FROM tranches WHERE account = 'prepaid' AND amount > 1"))
        with fault(postgresql):
            await until_away(node)
            extended = await node.metric("sidecar_grants_asked_total", '"extended"')
            places = [
                *(("1201", "prepaid"), ("1202", "prepaid"), ("1203", "other"), ("1204", "")),
                *(("1205", ""), ("1206", ""), ("1901", "other"), ("1902", "")),
            ]
            told = [await caller.place(number, BY_CALLER, account=of) for number, of in places]
            assert [side.final for side in told] == [200, 200, 503, 200, 200, 503, 200, 200]
            for refused in (told[2], told[5]):
                assert refused.final_response is not None
                assert "ledger_unreachable" in refused.final_response["Reason"]
            assert (await node.status())["calls_let_go"] == 6
            for ground, count in (("tranche", 2), ("unbounded", 2), ("free", 2)):
                assert await node.metric("sidecar_calls_let_go_total", f'"{ground}"') == count

            async def goes_on() -> bool:
                return await node.metric("sidecar_grants_asked_total", '"extended"') > extended

            await until(goes_on)
            caller.hang_up(before[1])
            await before[1].ended.wait()
            assert not before[0].ended.is_set()
        calls = [*before, *(side for side in told if side.final == 200)]
        caller.hang_up(before[0])
        records = await listener.of([side.call_id for side in calls])
        assert {(one["hangup_origin"], one["detail"]) for one in records} == {("caller", "bye")}
        assert len(listener.records) == len({one["call_id"] for one in listener.records}) == len(calls)
        check_sequences(listener.records)
    assert node.open_entries() == 0
    prepaid = [one for one in records if one["account"] == "prepaid"]
    assert len(prepaid) == 3
    assert node.balance("prepaid") == 10 - sum(Decimal(sell(one)["total"]) for one in prepaid) < 10
    assert node.ask("SELECT * FROM tranches") == []
    node.check_books()


async def until_away(node: Node) -> None:
    """The node has noticed, and takes calls all the same."""

    async def has_noticed() -> bool:
        return bool((await node.status())["journal_failure"])

    await until(has_noticed)
    assert (await node.status())["state"] == "accepting"
    assert await node.metric("sidecar_journal_failing") == 1


async def test_a_node_that_is_killed_while_its_database_is_away_loses_no_end_that_it_saw(
    tmp_path: Path, postgresql: Postgres
) -> None:
    """Nor does it end a call for credit that its account may have had: nobody could ask."""
    node = Node(tmp_path, dsn=postgresql.new_database(next(_databases)), billing="slice_s = 2")
    async with (
        mosquitto(tmp_path) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
    ):
        async with node.up(**broker.settings()):
            caller.peer = callee.peer = node.daemon.sip
            await node.top_up("prepaid", "10")
            calls = [caller.dial(number, Plan()) for number in ("1101", "1102", "1201")]
            calls.append(caller.dial("1103", Plan(), account="prepaid"))
            for side in calls:
                await node.live(side.number, answered=True)
            first, second, lasting, by_slices = calls
            await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE granted_s > 2"))
            with killed(postgresql):
                caller.hang_up(first)
                callee.hang_up(next(side for side in callee.sides.values() if side.number == "1102"))
                await asyncio.gather(*(side.ended.wait() for side in (first, second, by_slices)))
                ended_at = datetime.now(UTC)
                assert first.bye_code == 200
                assert not lasting.ended.is_set()
                await until(lambda: records_kept(node) == 3)
                calls.append(await let_go(node, caller))
                node.kill()
                await node.daemon.ended()
        async with node.up():
            records = await listener.of([side.call_id for side in calls])
            assert [(one["hangup_origin"], one["detail"]) for one in records] == [
                ("caller", "bye"),
                ("callee", "bye"),
                ("server", "crash_recovered"),
                ("server", "ledger_unreachable"),
                ("server", "crash_recovered"),
            ]
            for one in (records[0], records[1], records[3]):
                assert one["talk_ms"] >= 1_000
                assert datetime.fromisoformat(str(one["ended_at"])) <= ended_at
                assert one["confidence"] == "observed"
            refused = records[3]
            assert (refused["server_reason"], refused["sip_code"], refused["q850_cause"]) == (
                "resource",
                503,
                42,
            )
            assert refused["billable_ms"] <= refused["granted_s"] * 1_000
            assert records_kept(node) == 0
        assert len(listener.records) == 5
        check_sequences(listener.records)
    assert '"kept_steps_brought_in"' in node.log.read_text()
    assert node.open_entries() == 0
    assert node.balance("prepaid") == 10 - Decimal(sell(records[3])["total"]) < 10
    demo = (one for one in records if one["account"] == "demo")
    assert node.balance("demo") == -sum(Decimal(sell(one)["total"]) for one in demo)
    node.check_books()


async def let_go(node: Node, caller: Phone) -> Side:
    """A call that began while the database was away, and is up."""
    side = caller.dial("1104", Plan())
    await node.live("1104", answered=True)
    return side


def records_kept(node: Node) -> int:
    """Calls whose end waits on the node's disk."""
    found = found_in(node.data / FILE_NAME)
    assert found is not None
    assert found.damage == ""
    return sum(not isinstance(step, UUID) and isinstance(step[-1], Publish) for step in found.steps)
