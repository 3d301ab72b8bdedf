"""PostgreSQL goes back to a moment while calls are made: by its base backup and its log, as the reference has
it. What a node had published after that moment is at the subscriber, and is found there."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any, Final

import psycopg

from sidecar.demo.children import environment
from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.broker import mosquitto
from tests.rig.node import SIDECAR, until
from tests.rig.postgres import Postgres, postgres_folder
from tests.subscriber.places import Place
from tests.subscriber.rig import USER, subscribing

CALLS_PER_S: Final = 50
PATIENCE_S: Final = 120.0
SHORT: Final = Plan(caller_bye_s=0.2)


async def pitr(given: Chance) -> Outcome:
    """Once: at a moment of chance."""
    count, chance = given.calls, given.draw()
    back_at = chance.randrange(count // 4, count - count // 4)
    sink = Place("json-lines", str(given.folder / "sink"))
    with postgres_folder() as folder:
        server = Postgres(folder)
        server.start(**server.archiving())
        dsn = server.new_database("books")
        node = Node(given.folder, dsn=dsn)
        async with (
            mosquitto(node.folder) as broker,
            subscribing(broker, sink, given.folder / "log", ["--username", USER]),
            phones(node) as (caller, callee),
        ):
            async with node.up(**broker.settings()) as child:
                caller.peer = callee.peer = child.sip
                await asyncio.to_thread(server.base_backup, folder / "base")
                moment = ""
                for number in range(count):
                    if number == back_at:
                        moment = _now(dsn)
                    caller.dial(f"1{number:05}", SHORT, account="demo")
                    await asyncio.sleep(1 / CALLS_PER_S)
                await caller.all_ended(PATIENCE_S)
                await node.empty(PATIENCE_S)
                await until(lambda: len(sink.records()) >= count, PATIENCE_S)
                told = (await node.status())["store_epoch"]
            await asyncio.to_thread(server.archived)
            server.stop()
            restored = Postgres(folder / "base")
            try:
                restored.port = server.port  # in its place
                await asyncio.to_thread(restored.recover, server.archive, moment)
                return await _again(given, node, sink, count, told, (caller, callee))
            finally:
                restored.stop()


async def _again(
    given: Chance, node: Node, sink: Place, count: int, told: str, both: tuple[Any, Any]
) -> Outcome:
    caller, callee = both
    broken: list[str] = []
    async with node.up() as child:
        caller.peer = callee.peer = child.sip
        status = await node.status()
        for number in range(count // 4):
            caller.dial(f"1{count + number:05}", SHORT, account="demo")
            await asyncio.sleep(1 / CALLS_PER_S)
        await caller.all_ended(PATIENCE_S)
        await node.empty(PATIENCE_S)
        later = await _says(node, "store", "compare", "--json-lines", sink.where)
        verdict = await _says(node, "journal", "verify")
        wrong = await _says(node, "journal", "check")
        await until(lambda: _of_epoch(sink, status["store_epoch"]) >= count // 4, PATIENCE_S)
    records = sink.records()
    numbers = [(one["store_epoch"], one["seq"]) for one in records]
    lost = {(one["store_epoch"], one["seq"]) for one in later["published_later"]}
    kept = {tuple(row) for row in node.ask("SELECT name, seq FROM cdrs JOIN epochs USING (epoch)")}
    if status["store_epoch"] == told:
        broken.append("no new epoch")
    if verdict["wrong"] or wrong["wrong"]:
        broken.append(f"{verdict['wrong'] or wrong['wrong']}")
    if lost & kept or not lost or not kept:
        broken.append(f"{len(lost)} lost, {len(kept)} kept, {len(lost & kept)} of them both")
    return Outcome(
        fault=f"back to a moment in {count} calls",
        rounds=1,
        missing=len(set(numbers) - lost - kept),
        duplicate=len(numbers) - len(set(numbers)),
        figures={"found at the subscriber": str(len(lost))},
        broken=broken,
    )


def _of_epoch(sink: Place, epoch: str) -> int:
    return sum(one["store_epoch"] == epoch for one in sink.records())


def _now(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        ((moment,),) = connection.execute(b"SELECT clock_timestamp()::text").fetchall()
        return str(moment)


async def _says(node: Node, *words: str) -> Any:
    command = await asyncio.create_subprocess_exec(
        *(*SIDECAR, *words, "--json"), stdin=DEVNULL, stdout=PIPE, env=environment(**node.settings())
    )
    out, _ = await command.communicate()
    return json.loads(out)
