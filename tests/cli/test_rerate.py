from __future__ import annotations

import asyncio
import csv
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from sidecar.adapters.control import ControlServer
from tests.runtime.node_help import a_node

PROGRAM = "import typer; from sidecar.cli.rerate import rerate; typer.run(rerate)"
DECK = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n44,UK,EUR,0,60,1,1\n"
SINCE = ("--since", "2000-01-01T00:00:00Z")


async def run(*words: object) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, *map(str, words)), stdout=PIPE, stderr=DEVNULL
    )
    stdout, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, stdout.decode()


async def test_what_another_deck_would_change_is_shown_and_exported(tmp_path: Path) -> None:
    deck, table = tmp_path / "deck.csv", tmp_path / "calls.csv"
    deck.write_text(DECK)
    async with a_node(tmp_path) as node:
        for number in range(3):
            await node.whole(f"00442012345{number:03d}")
        socket = tmp_path / "data" / "control.sock"
        async with ControlServer(socket, node.admin.methods()).serving():
            words = ("--deck", deck, "--strip", 2, *SINCE, "--socket", socket)
            exit_code, said = await run(*words, "--csv", table, "--json")
            shown = await run(*words)
    assert exit_code == 1
    answer = json.loads(said)
    (change,) = answer["changes"]
    assert (answer["calls"], change["calls"], change["destination"]) == (3, 3, "UK")
    assert float(change["after"]) == 9  # 3 s of each call, at 1 a second
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["billed_after"], row["total_after"]) for row in rows] == [
        (f"442012345{number:03d}", "3.000000") for number in (2, 1, 0)
    ]
    assert shown[0] == 1
    assert "3 of 3 calls differ" in shown[1]


async def test_bad_input_and_no_daemon_have_their_exit_codes(tmp_path: Path) -> None:
    deck = tmp_path / "deck.csv"
    deck.write_text(DECK)
    socket = ("--socket", tmp_path / "none.sock")
    assert (await run("--deck", tmp_path / "none.csv", *socket))[0] == 2
    assert (await run("--deck", deck, "--since", "yesterday", *socket))[0] == 2
    assert (await run("--deck", deck, *socket))[0] == 3
