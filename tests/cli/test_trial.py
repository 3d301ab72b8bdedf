"""`sidecar route try` and `sidecar cost --account`: asked of a node, and of what it left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sidecar.core.audit import Operator
from sidecar.wire.control_accounts import AccountCreateParams
from sidecar.wire.control_policy import PolicyBlockParams
from sidecar.wire.control_records import CdrShowParams
from tests.cli.test_commands import Done, served_node, sidecar

ANN = Operator("ann", 1000)
SETTINGS = '[sip]\nprofile = "demo"\n[node]\nname = "box"\ndata_dir = "{}"\n'


def told(done: Done) -> dict[str, Any]:
    assert done.exit_code in (0, 1), done.err
    return {name: value for name, value in done.json.items() if name != "daemon"}


async def test_a_call_is_tried_the_same_with_a_daemon_and_without(tmp_path: Path) -> None:
    config = tmp_path / "sidecar.toml"
    config.write_text(SETTINGS.format(tmp_path / "data"))
    asked = (
        ("route", "004412345678", "--from", "local", "--seconds", "90"),
        ("route", "try", "+4930123", "--from", "local"),
        ("route", "try", "+4930123", "--from", "local", "--header", "X-Account=prepaid"),
        ("cost", "004412345678", "--seconds", "90", "--account", "made", "--peer", "local"),
    )
    async with served_node(tmp_path) as served:
        node = served.node
        await node.admin.accounts.create(AccountCreateParams(name="made"), ANN)
        blocked_by = PolicyBlockParams(number="4930*", operator="ann", text="fraud")
        await node.admin.blocks.block(blocked_by, ANN)
        live = [await served.says(*words, "--json") for words in asked]
        nobody = await served.says("route", "1", "--from", "nobody")
        assert (nobody.exit_code, "there is no peer nobody" in nobody.err) == (1, True)
        unknown = await served.says("cost", "1", "--seconds", "1", "--account", "x")
        assert (unknown.exit_code, "there is no account x" in unknown.err) == (1, True)
        read = await served.says(*asked[0])
        call_id = await node.whole("004412345678", talk_ms=90_000)
        [record] = (await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)).records
    assert [done.exit_code for done in live] == [0, 1, 1, 0]
    for words, done in zip(asked, live, strict=True):
        at_rest = await sidecar(*words, "--json", "--config", str(config))
        assert (at_rest.exit_code, told(at_rest)) == (done.exit_code, told(done)), words
        assert at_rest.json.get("daemon") is not True
    tried, blocked, prepaid, cost = (done.json for done in live)
    assert (tried["daemon"], tried["account"], tried["route"]["prefix"]) == (True, "demo", "")
    assert (blocked["detail"], blocked["rule"]) == ("number_blocked", "block 4930*")
    assert prepaid["account"] == "prepaid"
    assert cost["account"] == "made"
    assert cost["charge"] == tried["sell"]["total"]
    charged = json.loads(bytes(record))["charges"][0]
    for name in ("total", "prefix", "rate", "strip_rule", "billed_number", "deck_revision", "billed_s"):
        assert tried["sell"][name] == charged[name], "as the record of the call that was made"
    for text in ("by the rule", "peer local", "gateway 1", "next_hop"):
        assert text in read.out, read.out


async def test_what_is_wrong_with_a_question_is_said(tmp_path: Path) -> None:
    config = tmp_path / "sidecar.toml"
    config.write_text(SETTINGS.format(tmp_path / "data"))
    for words, said in (
        (("cost", "44", "--seconds", "1", "--account", "demo", "--strip", "2"), "--strip: of --deck"),
        (("cost", "44", "--seconds", "1"), "give --account or --deck"),
        (("route", "44", "--from", "local", "--header", "x"), "not NAME=VALUE"),
        (("route", "44", "--from", "local", "--seconds", "x"), "seconds"),
    ):
        done = await sidecar(*words, "--config", str(config))
        assert (done.exit_code, said in done.err) == (2, True), (words, done)
    for word, said in (("44", "--from"), ("lsit", "lsit")):
        done = await sidecar("route", word)
        assert (done.exit_code, said in done.err) == (2, True), (word, done)
    config.write_text(SETTINGS.replace("demo", "nowhere"))
    done = await sidecar("route", "44", "--from", "local", "--config", str(config))
    assert (done.exit_code, "sip.profile" in done.err) == (2, True)
