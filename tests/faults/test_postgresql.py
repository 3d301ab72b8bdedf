"""A database that dies or freezes under calls: no new call, an alarm, and no call lost that is up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.node import Node, phones
from tests.faults.test_disk import through_the_fault
from tests.rig.listener import check_sequences, listening
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
