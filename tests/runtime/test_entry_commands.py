"""Peers, gateways, routes and account rules made by command, on a node with its real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.core.audit import Operator
from sidecar.runtime.reload import Reading
from sidecar.wire.control import CommandError, ErrorCode
from sidecar.wire.control_entries import EntryChanged
from tests.runtime.node_help import Node, a_node

ANN = Operator("ann", 0)
HOST = {"host": "127.0.0.9", "port": "5095", "no_response_failover_s": "1"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as node:
        node.settings = Reading(policy=node.calls.policy)
        yield node


async def ask(node: Node, method: str, **params: object) -> Any:
    serving = node.admin.methods()[method]
    if not method.endswith((".list", ".show")):
        params.setdefault("operator", "ann")
    return await serving.handle(msgspec.convert(params, serving.params), ANN)


async def refused(node: Node, method: str, **params: object) -> CommandError:
    with pytest.raises(CommandError) as error:
        await ask(node, method, **params)
    return error.value


async def kept(node: Node) -> list[str]:
    return [f"{one.table} {one.name}" for one in await node.store.stored.all()]


async def test_a_gateway_from_its_making_to_its_end(node: Node) -> None:
    made = await ask(node, "gateway.add", name="alt", set=HOST, text="a new carrier")
    assert made == EntryChanged(name="alt", settings_revision=2, warnings=())
    assert node.calls.policy.gateways["alt"].host == "127.0.0.9"
    shown = await ask(node, "gateway.show", name="alt")
    assert shown.fields == {"host": "127.0.0.9", "port": 5095, "no_response_failover_s": 1}
    assert (shown.operator, shown.text) == ("ann", "a new carrier")
    assert shown.source.startswith("command of ann, ")
    await ask(node, "gateway.set", name="alt", set={"calls_max": "30"}, text="less")
    assert (await ask(node, "gateway.show", name="alt")).fields["calls_max"] == 30
    await ask(node, "gateway.set", name="alt", unset=["calls_max"])
    assert "calls_max" not in (await ask(node, "gateway.show", name="alt")).fields
    await ask(node, "gateway.remove", name="alt", text="gone")
    assert await kept(node) == []
    noted = [one.change for one in await node.store.audit.list()]
    noted = [one for one in noted if one.action != "node.reload"]
    assert [one.action for one in noted] == ["gateway.add", "gateway.set", "gateway.set", "gateway.remove"]
    assert noted[1].before == '{"host":"127.0.0.9","no_response_failover_s":1,"port":5095}'
    assert noted[1].after == noted[1].before.replace("{", '{"calls_max":30,')
    assert noted[-1].after is None


async def test_a_wrong_key_or_value_is_named_and_nothing_is_kept(node: Node) -> None:
    error = await refused(node, "gateway.add", name="alt", set={**HOST, "port": "x"})
    assert (error.code, error.text) == (ErrorCode.INVALID_PARAMS, "port: expected a whole number, not 'x'")
    error = await refused(node, "gateway.add", name="alt", set={**HOST, "prot": "1", "transport": "upd"})
    assert error.code is ErrorCode.REFUSED
    assert "prot: there is no such key; did you mean 'port'?" in error.text
    assert "transport: expected one of udp, tcp, tls, not 'upd'; did you mean 'udp'?" in error.text
    assert await kept(node) == []


async def test_what_something_refers_to_is_not_removed(node: Node) -> None:
    await ask(node, "gateway.add", name="alt", set=HOST)
    await ask(node, "route.add", name="4999", set={"gateways": "alt"})
    error = await refused(node, "gateway.remove", name="alt")
    assert "routes.4999.gateways: there is no gateway 'alt'" in error.text
    assert await kept(node) == ["gateways alt", "routes 4999"]


async def test_what_a_file_has_is_changed_there(node: Node) -> None:
    listed = (await ask(node, "gateway.list")).entries
    [one, *_] = listed
    assert one.operator is None
    assert "demo.toml:" in one.source
    for method in ("gateway.set", "gateway.remove"):
        error = await refused(node, method, name=one.name)
        assert error.text == f"gateway {one.name} is of {one.source}: it is changed there"
    error = await refused(node, "gateway.add", name=one.name, set=HOST)
    assert "is of" in error.text
    assert await kept(node) == []


async def test_an_entry_is_made_once_and_one_that_is_not_there_is_not_found(node: Node) -> None:
    await ask(node, "peer.add", name="far", set={"addresses": "192.0.2.0/24"})
    assert "was made already" in (await refused(node, "peer.add", name="far", set={})).text
    assert (await refused(node, "peer.show", name="near")).code is ErrorCode.NOT_FOUND
    assert (await refused(node, "peer.remove", name="near")).code is ErrorCode.NOT_FOUND
    assert "is not set" in (await refused(node, "peer.set", name="far", unset=["port"])).text


async def test_rules_are_placed_beside_each_other(node: Node) -> None:
    for name, prefix in (("a", "71"), ("b", "72")):
        rule = {"account": "demo", "called_prefix": prefix}
        await ask(node, "account-rule.add", name=name, set=rule)
    await ask(node, "account-rule.add", name="c", set={"account": "demo", "called_prefix": "73"}, before="b")
    names = [one.name for one in (await ask(node, "account-rule.list")).entries if one.operator]
    assert names == ["a", "c", "b"]
    await ask(node, "account-rule.set", name="a", after="b")
    assert await kept(node) == ["account_rules c", "account_rules b", "account_rules a"]
    assert "was not made by a command" in (await refused(node, "account-rule.set", name="a", after="x")).text
    assert "one of the two" in (await refused(node, "account-rule.set", name="a", after="b", before="c")).text


async def test_what_the_reload_refuses_is_not_kept(node: Node) -> None:
    node.beside.renewed = ["the certificate has ended"]
    error = await refused(node, "gateway.add", name="alt", set=HOST)
    assert error.text == "the certificate has ended"
    node.beside.renewed, node.beside.fixed = False, ["sip.listen_udp"]
    error = await refused(node, "gateway.add", name="alt", set=HOST)
    assert error.text == "nothing was changed: sip.listen_udp from the next start on only"
    assert (await kept(node), await node.store.audit.list()) == ([], ())


async def test_what_could_not_be_put_in_force_is_taken_back(node: Node) -> None:
    node.beside.wrong = ["cannot listen on udp 127.0.0.1:5060"]
    error = await refused(node, "gateway.add", name="alt", set=HOST)
    assert error.text == "cannot listen on udp 127.0.0.1:5060"
    assert await kept(node) == []
    assert "alt" not in node.calls.policy.gateways
    noted = [one.change for one in await node.store.audit.list()]
    assert [one.action for one in noted] == ["gateway.add", "node.reload", "node.reload"]
    assert noted[-1].text == "taken back: cannot listen on udp 127.0.0.1:5060"


async def test_a_route_and_a_rule_are_in_force_for_the_next_call(node: Node) -> None:
    [gateway, *_] = node.calls.policy.gateways
    done = await ask(node, "route.add", name="4999", set={"gateways": gateway})
    assert done.settings_revision == node.calls.policy.settings_revision
    rule_of_it = node.calls.policy.routes.match("49991")
    assert rule_of_it is not None
    assert rule_of_it.gateways == (gateway,)
    rule = {"account": "demo", "called_prefix": "4999"}
    await ask(node, "account-rule.add", name="ours", set=rule, first=True)
    assert next(iter(node.calls.policy.account_rules)).called_prefix == "4999"
    await ask(node, "account-rule.remove", name="ours")
    assert all(one.called_prefix != "4999" for one in node.calls.policy.account_rules)
