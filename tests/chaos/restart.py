"""Planned restarts, one after the other, with many calls up and prepaid ones among them: no phone hears a
BYE, and each call has the one record that it would have had."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime
from typing import Final

from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

RESTARTS: Final = 2
CALLS_PER_S: Final = 200
PATIENCE_S: Final = 120.0


async def restart(given: Chance) -> Outcome:
    """Not by chance: with ten times the calls of a round."""
    node = Node(given.folder)
    count, broken = 10 * given.calls, list[str]()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
        node.up(**broker.settings()) as child,
    ):
        caller.peer = callee.peer = child.sip
        await node.top_up("prepaid", f"{count}")
        sides = []
        for number in range(count):
            account = "demo" if number % 3 else "prepaid"
            sides.append(caller.dial(f"1{number:05}", Plan(), account=account))
            await asyncio.sleep(1 / CALLS_PER_S)
        await until(lambda: all(side.acked.is_set() for side in callee.sides.values()), PATIENCE_S)
        for _ in range(RESTARTS):
            done = await child.command("node", "restart")
            if (done["calls"], done["calls_now"]) != (count, count):
                broken.append(f"{done}")
        byes = sum(side.byes for side in (*caller.sides.values(), *callee.sides.values()))
        for side in sides:
            caller.hang_up(side)
            await asyncio.sleep(1 / CALLS_PER_S)
        await listener.of([side.call_id for side in sides], PATIENCE_S)
        await caller.all_ended(PATIENCE_S)
        await callee.all_ended(PATIENCE_S)
    check_sequences(listener.records)
    node.check_books()
    said = Counter(f"{one['detail']} {one['confidence']}" for one in listener.records)
    if byes or said != {"bye observed": count}:
        broken.append(f"{byes} BYEs; {dict(said)}")
    return Outcome(
        fault=f"restart with {count} calls",
        rounds=RESTARTS,
        missing=count - len({one["call_id"] for one in listener.records}),
        duplicate=len(listener.records) - len({one["call_id"] for one in listener.records}),
        figures={"silent": ", ".join(f"{one:.2f} s" for one in silences(node))},
        broken=broken,
    )


def silences(node: Node) -> list[float]:
    """From when the first call is kept until the next node is ready."""
    moments = [
        (one["event"], datetime.fromisoformat(one["at"]))
        for one in map(json.loads, node.log.read_text().splitlines())
        if one["event"] in ("keeping_calls", "ready")
    ][1:]
    return [
        (after[1] - before[1]).total_seconds()
        for before, after in zip(moments[::2], moments[1::2], strict=True)
    ]
