"""Records from a node to a sink while the broker, the subscriber or both are killed: each of them in the end,
once.

The broker keeps in memory what it has acknowledged, as Mosquitto does by default for half an hour: a kill
loses it, with the session of the subscriber.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.chaos.outcome import Chance, Outcome
from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.node import until
from tests.rig.postgres import postgres
from tests.subscriber.places import Place
from tests.subscriber.rig import USER, Command, Node, publishing, subscribing

ROUNDS_MAX = 20
RECORDS = 600
KILLS = 4
WITHIN_S = 150.0
FAULTS = ("broker killed", "subscriber killed", "both killed")
SINKS = ("json-lines", "sqlite", "postgresql")
FORGETFUL = {
    "autosave_on_changes": "false",
    "autosave_interval": "1800",
    "max_queued_messages": "1000",
    "max_inflight_messages": "20",
}


async def one_round(folder: Path, place: Place, fault: str, seed: str) -> Counter[str]:
    """`missing`, `duplicate`, `asked` (requests for a replay), `rejected`."""
    chance = random.Random(seed)
    async with (
        mosquitto(folder, options=FORGETFUL) as broker,
        publishing(folder, broker) as node,
        subscribing(broker, place, folder / "log", ["--username", USER]) as command,
    ):
        for _ in range(KILLS):
            node.write(RECORDS // KILLS)
            await _strike(fault, chance, broker, node, command)
        await node.delivered(WITHIN_S)
        with contextlib.suppress(TimeoutError):
            await until(lambda: len(set(place.seqs())) == RECORDS, WITHIN_S)
        await command.stop()
        log = command.log.read_text()
    found = Counter(place.seqs())
    return Counter(
        missing=RECORDS - len(found),
        duplicate=sum(count - 1 for count in found.values()),
        asked=log.count("asking"),
        rejected=log.count("rejected, and kept"),
    )


async def _strike(fault: str, chance: random.Random, broker: Mosquitto, node: Node, command: Command) -> None:
    """At a moment of chance; the broker rather just when it has acknowledged what there is."""
    if "subscriber" in fault or "both" in fault:
        await asyncio.sleep(chance.random() * 0.3)
        command.kill()
        await command.ended()
    if "broker" in fault or "both" in fault:
        if chance.random() < 0.7:
            await node.delivered()
        else:
            await asyncio.sleep(chance.random() * 0.2)
        await broker.kill()
        await broker.start()
    if "subscriber" in fault or "both" in fault:
        await command.start()
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random())


@contextlib.asynccontextmanager
async def places(folder: Path, kinds: Sequence[str]) -> AsyncIterator[dict[str, Place]]:
    with contextlib.ExitStack() as stack:
        found = {kind: Place(kind, str(folder / kind)) for kind in kinds if kind != "postgresql"}
        if "postgresql" in kinds:
            server = stack.enter_context(postgres())
            found["postgresql"] = Place("postgresql", server.new_database("records"))
        yield found


async def broker_killed(chance: Chance) -> Outcome:
    return await _rounds("broker killed", chance)


async def subscriber_killed(chance: Chance) -> Outcome:
    return await _rounds("subscriber killed", chance)


async def both_killed(chance: Chance) -> Outcome:
    return await _rounds("both killed", chance)


async def _rounds(fault: str, chance: Chance) -> Outcome:
    """The sinks by turns."""
    total: Counter[str] = Counter()
    rounds = min(chance.rounds, ROUNDS_MAX)
    for number in range(rounds):
        kind = SINKS[number % len(SINKS)]
        folder = chance.folder / str(number)
        folder.mkdir()
        async with places(folder, [kind]) as found:
            total += await one_round(folder, found[kind], fault, f"{chance.seed}-{number}")
    figures = {
        "records": str(rounds * RECORDS),
        "kills a round": str(KILLS),
        "replays asked for": str(total["asked"]),
        "rejected": str(total["rejected"]),
    }
    broken = [f"{total[name]} {name}" for name in ("missing", "duplicate", "rejected") if total[name]]
    return Outcome(
        fault=f"{fault}, to a sink",
        rounds=rounds,
        missing=total["missing"],
        duplicate=total["duplicate"],
        figures=figures,
        broken=broken,
    )
