"""A node among others: their changes of accounts are in force here, and a person there may ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.core.audit import Change, Operator
from sidecar.core.terms import Detail
from sidecar.runtime.neighbours import Neighbourhood
from sidecar.wire.control import ErrorCode
from tests.adapters.store_calls import terms_of
from tests.adapters.stores import PostgresqlStores
from tests.rig.node import until
from tests.rig.postgres import Postgres
from tests.runtime.node_help import Node, a_node

ANN = Operator("ann", 1000)
BLOCK = "192.0.2.0/24"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as up:
        yield up


def change(action: str) -> Change:
    return Change(operator=ANN, action=action, subject="-")


async def test_what_others_change_is_in_force_when_they_are_answered(
    node: Node, postgresql: Postgres
) -> None:
    stores = PostgresqlStores(postgresql.new_database("neighbours"), "books")
    async with stores.opened() as one, stores.opened(node="n2", boot_id="second") as other:
        there, seen = other.store.accounts, other.store.neighbours
        here = Neighbourhood(node.calls, one.store.neighbours, version="1", methods=node.admin.methods)
        demo = node.calls.policy.accounts["demo"].terms
        await there.create(replace(demo, credit_limit=Decimal(5)))
        await here.begin()
        assert node.calls.policy.accounts["demo"].terms == demo  # it is in the settings: they hold
        async with asyncio.TaskGroup() as group:
            running = group.create_task(here.run(), name="neighbours")
            await there.create(terms_of("new"))
            assert node.calls.policy.accounts["new"].terms == terms_of("new")
            await there.add_address("new", BLOCK, change("give"))
            assert node.calls.policy.account_addresses.at(BLOCK) == "new"
            await there.remove_address("new", BLOCK, change("take"))
            assert node.calls.policy.account_addresses.at(BLOCK) is None
            call_id = await node.up()
            await there.change_terms("demo", {"disabled_by_command": True}, change("disable"))
            assert node.calls.policy.accounts["demo"].terms == replace(demo, disabled_by_command=True)
            await until(lambda: node.calls.find(call_id) is None)
            await node.closed(1)
            [record] = await node.store.records.show(str(call_id))
            assert (record.detail, record.operator) == (Detail.ACCOUNT_DISABLED, "sidecar")
            answer = await seen.ask("n1", "node.drain", b'{"operator":"jane"}', ANN)
            assert msgspec.json.decode(answer)["result"] == {"draining": True, "live": 0, "released": 0}
            assert node.calls.state == "drain"
            for method, params, code in (
                ("audit.list", b"{}", ErrorCode.METHOD_NOT_FOUND),
                ("node.drain", b"{}", ErrorCode.INVALID_PARAMS),
                ("call.release", b'{"operator":"jane"}', ErrorCode.INVALID_PARAMS),
            ):
                refused = msgspec.json.decode(await seen.ask("n1", method, params, ANN))
                assert (refused["code"], "result" in refused) == (code, False)
            running.cancel()
