"""Old calls are archived and removed, and numbers erased, while calls go on."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE

from sidecar.demo.children import environment
from tests.adapters.test_sqlite_retention import NUMBER, HandClock, acknowledge_all, fill, opened
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan, Side
from tests.rig.listener import listening
from tests.rig.node import SIDECAR


async def said(node: Node, *words: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(*SIDECAR, *words, "--json"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(**node.settings()),
    )
    out, wrong = await process.communicate()
    return process.returncode, out.decode(), wrong.decode()


async def test_old_months_are_archived_while_calls_go_on(make_node: MakeNode) -> None:
    node = make_node()
    clock = HandClock()
    node.data.mkdir()
    async with opened(node.data, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
    before = node.ask("SELECT count(*) FROM cdrs")[0][0] + node.ask("SELECT count(*) FROM suppressed")[0][0]
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip

        out = ("--out", str(node.folder / "out"), "--text", "monthly")
        sides: list[Side] = []
        async with asyncio.TaskGroup() as tasks:
            archiving = tasks.create_task(
                said(node, "retention", "archive", "--months", "1", *out), name="archiving"
            )
            while not archiving.done():
                sides.append(caller.dial(f"1{len(sides):04}", Plan(caller_bye_s=0.1)))
                await asyncio.sleep(0.1)
        code, found, wrong = archiving.result()
        assert code == 0, wrong
        for side in sides:
            await side.ended.wait()
        assert {side.final for side in sides} == {200}
        await listener.of([side.call_id for side in sides])
        await node.empty()
    removed = json.loads(found)["archive"]["records"]
    assert removed > 0
    left = node.ask("SELECT count(*) FROM cdrs")[0][0] + node.ask("SELECT count(*) FROM suppressed")[0][0]
    # The call that was found open has its record now.
    assert left == before - removed + len(sides) + 1
    noted = node.ask("SELECT subject, text FROM audit WHERE action = 'retention.archive'")
    assert noted == [(str(node.folder / "out"), "monthly")]
    node.check_books()


async def test_a_number_is_erased_while_calls_go_on(make_node: MakeNode) -> None:
    node = make_node()
    clock = HandClock()
    node.data.mkdir()
    async with opened(node.data, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        sides: list[Side] = []
        async with asyncio.TaskGroup() as tasks:
            erasing = tasks.create_task(
                said(node, "retention", "erase", NUMBER, "--text", "asked for"), name="erasing"
            )
            while not erasing.done():
                sides.append(caller.dial(f"1{len(sides):04}", Plan(caller_bye_s=0.1)))
                await asyncio.sleep(0.1)
        code, found, wrong = erasing.result()
        for side in sides:
            await side.ended.wait()
        assert {side.final for side in sides} == {200}
        await listener.of([side.call_id for side in sides])
        await node.empty()
        assert code in (0, 1), wrong  # 1: the record of the call that was found open waited for the broker
        again = await said(node, "retention", "erase", NUMBER)
        assert again[0] == 0, again
    assert json.loads(found)["records"] + json.loads(again[1])["records"] == 102
    pseudonym = json.loads(found)["pseudonym"]
    assert node.ask("SELECT count(*) FROM cdrs WHERE callee GLOB ?", f"*{NUMBER}*") == [(0,)]
    noted = node.ask("SELECT DISTINCT subject, text FROM audit WHERE action = 'retention.erase'")
    assert noted == [(pseudonym, "asked for"), (pseudonym, "")]
    node.check_books()
