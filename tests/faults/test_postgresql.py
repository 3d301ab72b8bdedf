"""A database that dies or freezes under calls: no new call, an alarm, and no call lost that is up."""

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
from tests.faults.phone import Plan
from tests.faults.test_disk import through_the_fault
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


@pytest.mark.parametrize("fault", [killed, Postgres.frozen], ids=["killed", "frozen"])
async def test_a_server_that_is_away_ends_no_call_and_loses_none(
    tmp_path: Path, postgresql: Postgres, fault: Fault
) -> None:
    node = Node(tmp_path, dsn=postgresql.new_database(next(_databases)))

    def faulty(_: Node) -> AbstractContextManager[None]:
        return fault(postgresql)

    async with (
        phones(node) as (caller, callee),
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        caller.peer = callee.peer = child.sip
        await node.top_up("prepaid", "1")
        ended, lasting = await through_the_fault(node, caller, callee, faulty)
        records = await listener.of([side.call_id for side in ended])
        assert {(one["hangup_origin"], one["detail"]) for one in records} == {("caller", "bye")}
        assert all(one["talk_ms"] >= 950 for one in records[:3])
        for side in callee.sides.values():
            if side.number.startswith("12"):
                callee.hang_up(side)
        records = await listener.of([side.call_id for side in lasting])
        assert {(one["hangup_origin"], one["detail"]) for one in records} == {("callee", "bye")}
        check_sequences(listener.records)
    assert node.open_entries() == 0
    assert node.balance("prepaid") == 1  # what a refused call had reserved is back
    node.check_books()


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
                node.kill()
                await node.daemon.ended()
        async with node.up():
            records = await listener.of([side.call_id for side in calls])
            assert [(one["hangup_origin"], one["detail"]) for one in records] == [
                ("caller", "bye"),
                ("callee", "bye"),
                ("server", "crash_recovered"),
                ("server", "ledger_unreachable"),
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
        assert len(listener.records) == 4
        check_sequences(listener.records)
    assert '"kept_steps_brought_in"' in node.log.read_text()
    assert node.open_entries() == 0
    assert node.balance("prepaid") == 10 - Decimal(sell(records[3])["total"]) < 10
    assert node.balance("demo") == -sum(Decimal(sell(one)["total"]) for one in records[:3])
    node.check_books()


def records_kept(node: Node) -> int:
    """Calls whose end waits on the node's disk."""
    found = found_in(node.data / FILE_NAME)
    assert found is not None
    assert found.damage == ""
    return sum(not isinstance(step, UUID) and isinstance(step[-1], Publish) for step in found.steps)
