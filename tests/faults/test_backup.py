"""A backup of a node that carries calls, and the same node from it: a new epoch, and what is not in it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_commands import sidecar
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

BYE = Plan(caller_bye_s=0.02)


def settings_of(node: Node, **more: str) -> dict[str, str]:
    return {
        "SIDECAR_NODE__NAME": "node",
        "SIDECAR_NODE__DATA_DIR": str(node.data),
        "SIDECAR_SIP__PROFILE": str(node.profile),
        **more,
    }


async def test_what_was_published_after_a_backup_is_found_and_no_number_comes_twice(
    make_node: MakeNode, tmp_path: Path
) -> None:
    node, copy, sink = make_node(), tmp_path / "backup", tmp_path / "sink.jsonl"
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
    ):
        settings = settings_of(node, **broker.settings())
        async with node.up(**broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            await node.top_up("prepaid", "5")
            before = [await caller.place(f"10{n:02}", BYE, account="prepaid") for n in range(5)]
            await listener.of([side.call_id for side in before])
            lasting = caller.dial("1100", Plan())
            await until(lambda: lasting.final == 200)
            taken = await sidecar("backup", str(copy), "--json", cwd=tmp_path, **settings)
            assert taken.exit_code == 0, taken.err
            manifest = json.loads(taken.out)
            assert (manifest["records"], manifest["open_calls"], manifest["head_seq"]) == (5, 1, 5)
            after = [await caller.place(f"12{n:02}", BYE, account="prepaid") for n in range(3)]
            callee.hang_up(next(side for side in callee.sides.values() if side.number == "1100"))
            published = await listener.of([side.call_id for side in (*after, lasting)])
            refused = await sidecar("restore", str(copy), "--json", cwd=tmp_path, **settings)
            assert refused.exit_code == 1  # the daemon runs
            assert "in use by process" in refused.err
        sink.write_text("".join(json.dumps(one, default=str) + "\n" for one in listener.records))
        done = await sidecar(
            "restore", str(copy), "--json-lines", str(sink), "--json", cwd=tmp_path, **settings
        )
        assert done.exit_code == 0, done.err
        said = json.loads(done.out)
        assert {one["message_id"] for one in said["published_later"]} == {
            one["message_id"] for one in published
        }
        assert (said["open_calls"], said["goes_on_above"]) == (1, 9)
        assert said["epoch"] != manifest["store_epoch"]
        node.check_books()
        async with node.up(**broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            again = await caller.place("1300", BYE, account="prepaid")
            await listener.of([again.call_id])
            # The call that was up at the backup has a record of the crash, under an id of its own.
            await until(lambda: sum(r["detail"] == "crash_recovered" for r in listener.records) == 1)
    assert {one["store_epoch"] for one in listener.records[9:]} == {said["epoch"]}
    assert min(one["seq"] for one in listener.records[9:]) > 9
    check_sequences(listener.records[:9])
    assert node.open_entries() == 0
    node.check_books()
    shown = await sidecar("journal", "verify", cwd=tmp_path, **settings)
    assert shown.exit_code == 0, shown.out
    [(noted,)] = node.ask("SELECT after FROM audit WHERE action = 'journal.restore'")
    assert json.loads(noted)["published_later"] == 4
