"""Two nodes on one database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.check import summary
from sidecar.subscriber.heads import read_heads
from sidecar.wire.control import CommandError
from tests.cli.test_commands import sidecar
from tests.rig.node import until
from tests.rig.postgres import Postgres
from tests.sipp.rig import Rig

_databases = iter(f"several{number}" for number in range(1, 100))
# Whatever account a call names, if there is one.
NAMED = '[[account_rules]]\naccount_from = "header"\nheader = "x-account"\n'
DEMO = '[[account_rules]]\naccount = "demo"\ncalled_prefix = "00"\n'


class NamedRig(Rig):
    def profile_text(self) -> str:
        return super().profile_text().replace(DEMO, NAMED + DEMO)


@pytest.fixture
async def make_rig(tmp_path: Path, postgresql: Postgres) -> Callable[[str], NamedRig]:
    owner, node = postgresql.new_database_with_roles(next(_databases))
    (tmp_path / "owner").touch(mode=0o600)
    (tmp_path / "owner").write_text(owner)
    done = await sidecar("store", "prepare", "--dsn-file", str(tmp_path / "owner"))
    assert done.exit_code == 0, done.err

    def rig(name: str) -> NamedRig:
        (tmp_path / name).mkdir()
        return NamedRig(tmp_path / name, dsn=node, max_duration_s=30)

    return rig


async def see_one_another(one: NamedRig, two: NamedRig) -> None:
    first, found = one.daemon, dict[str, Any]()

    async def is_told() -> bool:
        found.update({node["node"]: node for node in (await one.control("node.list"))["nodes"]})
        gateways = {
            gateway["gateway"]: gateway for gateway in (await one.control("node.gateways"))["gateways"]
        }
        return (found["two"]["calls"], gateways["small"]["calls_elsewhere"]) == (1, 1)

    async def seen_and_released(dialled: str) -> None:
        call = await two.live(dialled, answered=True)
        await until(is_told)
        refused = await one.place("server-gateway-limit", dialled=dialled)
        assert summary(refused) == "server/resource/gateway_limit 500 34 refused"
        listed = await first.command("call", "list", "--all-nodes")
        assert [(one["node"], one["call_id"]) for one in listed["calls"]] == [("two", call["call_id"])]
        assert (await one.control("account.show", name="demo"))["live_calls"] == 1
        asked = {"call_id": call["call_id"], "operator": "jane"}
        await one.control("node.ask", node="two", what="call.release", asked=asked)

    pair = ("server-operator-release-in-call", "server-operator-release-in-call")
    cdr = await two.place(*pair, gateway="small", dialled="0544123456789", meanwhile=seen_and_released)
    assert (summary(cdr), cdr["operator"]) == ("server/admin/operator 480 31 answered", "jane")
    other = found["two"]
    assert (found["one"]["state"], other["state"], other["open_calls"]) == ("accepting", "accepting", 1)
    status = await first.command("node", "status", "two")
    assert (status["node"], status["store_epoch"]) == ("two", other["epoch"])
    listed = await first.command("node", "list", "--epochs")
    (one.folder / "heads.json").write_text(json.dumps(listed))
    assert [head.source.node for head in read_heads(one.folder / "heads.json")] == ["one", "two"]
    epochs = listed["nodes"]
    assert [(epoch["node"], epoch["base_seq"]) for epoch in epochs] == [("one", 0), ("two", 0)]
    assert epochs[1]["head_seq"] == cdr["seq"] == len(two.listener.records)
    # Records and their delivery are seen, and asked for again, from here.
    assert (await first.command("cdr", "tail", "--limit", "1"))["call_id"] == cdr["call_id"]
    assert (await first.command("dead-letter", "list", "--node", "two")) == []
    assert other["dead_letters"] == 0
    sent = await first.command("cdr", "replay", "--node", "two", "--from-seq", str(cdr["seq"]))
    assert (sent["sent"], sent["to_seq"]) == (1, cdr["seq"])
    await first.command("policy", "block", "0033*", "--text", "fraud wave")

    async def is_blocked() -> bool:
        return bool((await two.control("policy.blocks"))["blocks"] == ["0033*"])

    await until(is_blocked)
    drained = await first.command("node", "drain", "two", "--operator", "jane", "--text", "update")
    assert drained["draining"]
    assert [(await rig.status())["state"] for rig in (one, two)] == ["accepting", "drain"]
    noted = (await two.control("audit.list", action="node.drain"))["entries"][-1]
    assert (noted["operator"], noted["subject"], noted["text"]) == ("jane", "two", "update")
    await first.command("node", "accept", "two")
    assert (await two.status())["state"] == "accepting"
    for name, said in (("three", "there is no node three; there are one, two"), ("one", "one is this node")):
        with pytest.raises(CommandError, match=said):
            await one.control("node.ask", node=name, what="node.status")


async def test_two_nodes_have_the_same_accounts_and_see_one_another(
    make_rig: Callable[[str], NamedRig],
) -> None:
    """An account that is made, paid or disabled on one is so on the other for the very next call. Whatever
    node is asked shows all of them, and drains another."""
    one, two = make_rig("one"), make_rig("two")
    pair = ("caller-bye-in-call", "caller-bye-in-call")
    refused = ("server-no-credit", None)
    async with one.up(SIDECAR_NODE__NAME="one") as first, two.up(SIDECAR_NODE__NAME="two") as second:
        await first.command("account", "create", "fresh", "--prepaid")
        cdr = await two.place(*refused, account="fresh")
        assert (summary(cdr), cdr["account"]) == ("server/credit/no_credit 402 21 refused", "fresh")
        await second.command("account", "topup", "fresh", "1")
        cdr = await two.place(*pair, account="fresh")
        assert (summary(cdr), cdr["account"]) == ("caller/bye 200 16 answered", "fresh")
        assert cdr["granted_s"] is not None
        await first.command("account", "disable", "fresh")
        cdr = await two.place("server-refused-by-policy", account="fresh")
        assert summary(cdr) == "server/policy/account_disabled 403 21 refused"

        async def is_the_same() -> bool:  # what nodes hold in advance moves between two looks
            return await one.account("fresh") == await two.account("fresh")

        await until(is_the_same)
        await see_one_another(one, two)
    one.check_books()


async def test_a_node_that_moved_from_its_file_goes_on_in_its_epoch(
    make_rig: Callable[[str], NamedRig],
) -> None:
    pair = ("caller-bye-in-call", "caller-bye-in-call")
    moved = make_rig("moved")
    before = NamedRig(moved.folder, network=moved.network)
    async with before.up():
        await before.top_up("prepaid", "5")
        first = await before.place(*pair, account="prepaid")
        balance = await before.account("prepaid")
    words = ("store", "migrate", "--from", "sqlite", "--to", "postgresql")
    done = await sidecar(*words, cwd=moved.folder, **moved.settings())
    assert done.exit_code == 0, done.err
    assert f"moved: node node goes on in epoch {first['store_epoch']}" in done.out
    async with moved.up():
        assert await moved.account("prepaid") == balance
        second = await moved.place(*pair, account="prepaid")
        assert (first["seq"], second["seq"], second["account_prev_seq"]) == (1, 2, 1)
        assert second["store_epoch"] == first["store_epoch"]
    moved.check_books()
