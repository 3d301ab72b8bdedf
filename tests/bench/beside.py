"""Calls beside what people do with a large node, for `python -m tests.bench --beside N`: a deck of a million
rows is imported; N records are exported, looked through, rated again, copied away, and archived; settings are
read again."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from sidecar.demo.children import DemoError, environment
from tests.bench import journal, places
from tests.bench.load import Load
from tests.bench.product import Product, Spread, product, spread
from tests.rig.node import SIDECAR

DECK_ROWS = 1_000_000
PART_S = 3  # of the calls: one after the other until the command is done
OLD_S = 70 * 86_400  # more than a whole month, and the one that is going on


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """`took_s`: the command; delays in milliseconds."""

    name: str
    took_s: float
    calls: int
    failed: int
    setup: Spread


async def beside(folder: Path, rate: int, records: int) -> list[Beside]:
    """Half of the records are old enough to be archived."""
    folder.mkdir()
    now = datetime.now(UTC)
    for age_s in (OLD_S, 0):
        await journal.write(folder / "data", places.NODE, records // 2, age_s)
    deck = folder / "deck.csv"
    _write_deck(deck)
    year = (now - timedelta(days=365)).strftime("%Y-%m-%d")
    commands = {
        "nothing": (),
        f"deck import, {DECK_ROWS:,} rows": ("deck", "import", str(deck)),
        "cdr export": ("cdr", "export", "--out", str(folder / "export")),
        "cdr search": ("cdr", "search", "--since", year, "--limit", "1000"),
        "node reload": ("node", "reload"),
        "rerate, dry": ("rerate", "--deck", "demo", "--since", year),
        "backup": ("backup", str(folder / "backup")),
        "retention archive": ("retention", "archive", "--months", "1", "--out", str(folder / "archive")),
    }
    found = []
    async with product(folder) as node:
        load = Load(rate=rate, calls=rate * PART_S, hold_ms=200)
        for name, words in commands.items():
            found.append(await _calls_beside(node, load, name, words))
    return found


async def _calls_beside(node: Product, load: Load, name: str, words: tuple[str, ...]) -> Beside:
    began_s, setup_ms, failed, calls = time.monotonic(), list[float](), 0, 0
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_done(node.folder, words), name=name)
        while not (calls and running.done()):
            outcome = await node.place(load)
            setup_ms += outcome.setup_ms
            failed, calls = failed + outcome.failed, calls + outcome.calls
    took_s = running.result() - began_s if words else 0.0
    return Beside(name=name, took_s=round(took_s, 1), calls=calls, failed=failed, setup=spread(setup_ms))


async def _done(folder: Path, words: tuple[str, ...]) -> float:
    """When it was."""
    if words:
        child = await asyncio.create_subprocess_exec(
            *SIDECAR,
            *words,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            env=environment(SIDECAR_NODE__DATA_DIR=str(folder / "data"), SIDECAR_NODE__NAME=places.NODE),
        )
        _, said = await child.communicate()
        if child.returncode != (words[0] == "rerate"):  # 1: something would change
            raise DemoError(f"{' '.join(words)}: {said.decode()}")
    return time.monotonic()


def _write_deck(path: Path) -> None:
    with path.open("w") as file:
        file.write(
            "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps,default\n"
        )
        file.writelines(
            f"{number},Somewhere,EUR,0,0.0{number % 89 + 10},60,1,,\n"
            for number in range(10**6, 10**6 + DECK_ROWS)
        )
