"""Records from a node to a sink while the broker, the subscriber or both are killed: N rows in the end, none
missing, none twice. `python -m tests.subscriber.crashes [--rounds 20] [--seed N]` prints a table.

The broker keeps in memory what it has acknowledged, as Mosquitto does by default for half an hour: a kill
loses it, with the session of the subscriber.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.node import until
from tests.rig.postgres import postgres
from tests.subscriber.places import Place
from tests.subscriber.rig import USER, Command, Node, publishing, subscribing

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


class Row(NamedTuple):
    """Of `make chaos`: `other` has figures by their names."""

    fault: str
    rounds: int
    missing: int
    duplicate: int
    other: str


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


async def scenario(fault: str, rounds: int, seed: int) -> Row:
    """So many rounds, the sinks by turns."""
    total: Counter[str] = Counter()
    began_s = time.monotonic()
    for number in range(rounds):
        kind = SINKS[number % len(SINKS)]
        with tempfile.TemporaryDirectory(prefix="sidecar-crashes-") as name:
            async with places(Path(name), [kind]) as found:
                total += await one_round(Path(name), found[kind], fault, f"{seed}-{number}")
    took_s = time.monotonic() - began_s
    other = (
        f"{rounds * RECORDS} records, {KILLS} kills a round, {total['asked']} replays asked for, "
        f"{total['rejected']} rejected, {took_s:.0f} s"
    )
    return Row(f"{fault}, real Mosquitto", rounds, total["missing"], total["duplicate"], other)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    rows = [asyncio.run(scenario(fault, arguments.rounds, arguments.seed)) for fault in FAULTS]
    for row in (Row._fields, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, (34, 7, 8, 10, 0), strict=True)))
    if any(row.missing or row.duplicate for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
