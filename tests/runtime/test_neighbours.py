"""A node among others: their changes of accounts are in force here, and a person there may ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from sidecar.adapters.postgresql.at_rest import terms_differing
from sidecar.core.audit import Change, Operator
from sidecar.core.terms import Detail
from sidecar.ports import News, Told
from sidecar.runtime.neighbours import Neighbourhood
from sidecar.wire.control import ErrorCode
from sidecar.wire.control_node import NodeListParams
from tests.adapters.store_calls import terms_of
from tests.adapters.stores import PostgresqlStores
from tests.rig.node import until
from tests.rig.postgres import Postgres
from tests.runtime.node_help import Node, a_node

ANN = Operator("ann", 1000)
BLOCK = "192.0.2.0/24"
DIFFER = "account_terms_differ"
SILENT = Told(state="", calls=0, calls_max=1, version="1")


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


async def test_terms_that_another_node_has_otherwise_in_its_settings_are_named_by_all(
    node: Node, postgresql: Postgres
) -> None:
    """Who started last has given the books its own; both go on by their settings."""
    stores = PostgresqlStores(postgresql.new_database("differing"), "books")
    async with stores.opened() as one, stores.opened(node="n2", boot_id="second") as other:
        demo = node.calls.policy.accounts["demo"].terms
        theirs = replace(demo, credit_limit=Decimal(5), disabled_by_command=False)
        here = Neighbourhood(node.calls, one.store.neighbours, version="1", methods=node.admin.methods)
        await one.store.accounts.take_over([(demo, None)])
        await here.begin()

        async def told() -> dict[str, dict[str, str | None]]:
            await here.begin()
            news: News = await other.store.neighbours.exchange(SILENT)
            return news.others["n1"].terms

        await other.store.accounts.take_over([(theirs, change("set"))])
        with capture_logs() as lines:
            await here.begin()
            assert await told() == {"demo": {"credit_limit": None}}
        said = [(one["node"], one["account"], one["terms"]) for one in lines if one["event"] == DIFFER]
        assert said == [(node.calls.policy.node, "demo", {"credit_limit": None})], "once"
        [listed] = [one for one in (await here.list(NodeListParams(), ANN)).nodes if one.node == "n1"]
        assert listed.terms_differ == {"demo": {"credit_limit": None}}
        assert terms_differing(stores.conninfo, "n3") == [("n1", "demo", {"credit_limit": None})]
        assert node.calls.policy.accounts["demo"].terms == demo
        # A command changes nothing of it; a reload that gives both the same ends it.
        await other.store.accounts.change_terms("demo", {"disabled_by_command": True}, change("disable"))
        assert await told() == {"demo": {"credit_limit": None}}
        await other.store.accounts.take_over([(demo, change("set"))])
        await here.begin()
        assert await told() == {}
        # What others say of theirs.
        await other.store.neighbours.exchange(replace(SILENT, terms={"demo": {"zone": "UTC"}}))
        with capture_logs() as lines:
            await here.begin()
        [line] = [one for one in lines if one["event"] == DIFFER]
        assert (line["node"], line["account"], line["terms"]) == ("n2", "demo", {"zone": "UTC"})
