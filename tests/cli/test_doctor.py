from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import NamedTuple

from sidecar.adapters.control import ControlServer
from tests.runtime.node_help import a_node

DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n44,UK,EUR,0,0.6,60,60\n"
)
SINCE = ("--since", "2000-01-01T00:00:00Z")

PROGRAM = "import typer; from sidecar.cli.doctor import doctor; typer.run(doctor)"


class Done(NamedTuple):
    exit_code: int
    stdout: str


async def run(*words: object) -> Done:
    """In a process of its own: the node's log goes to this one's standard output."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, *map(str, words)), stdout=PIPE, stderr=DEVNULL
    )
    stdout, _ = await child.communicate()
    assert child.returncode is not None
    return Done(child.returncode, stdout.decode())


async def examined(folder: Path, callees: list[str], *words: object) -> Done:
    """What the doctor says of a node that has carried calls to these numbers."""
    async with a_node(folder) as node:
        for callee in callees:
            await node.whole(callee)
        socket = folder / "data" / "control.sock"
        async with ControlServer(socket, node.admin.methods()).serving():
            return await run(*words, *SINCE, "--socket", socket)


async def test_numbers_that_were_not_stripped_are_named_with_the_fix(tmp_path: Path) -> None:
    deck = tmp_path / "deck.csv"
    deck.write_text(DECK)
    result = await examined(tmp_path, [f"00442012345{n}" for n in range(670, 675)], "--deck", deck)
    assert result.exit_code == 1
    assert "not stripped: 5 of 5 calls" in result.stdout
    assert "GATEWAY_ROUTE_PREFIX to 2" in result.stdout
    assert "with 2 digits stripped 5 of 5 calls are rated (now 0)" in result.stdout


async def test_findings_are_told_to_programs_too(tmp_path: Path) -> None:
    result = await examined(tmp_path, [f"00442012345{n}" for n in range(670, 675)], "--json")
    ((finding,),) = [[one["finding"] for one in json.loads(result.stdout)]]
    assert (finding["symptom"], finding["strip"], finding["calls"]) == ("not_stripped", 2, 5)


async def test_a_healthy_node_is_passed_over_in_silence(tmp_path: Path) -> None:
    result = await examined(tmp_path, [f"+442012345{n}" for n in range(670, 675)])
    assert result.exit_code == 0
    assert result.stdout.startswith("0 findings in 5 charges")


async def test_bad_input_and_no_daemon_have_their_exit_codes(tmp_path: Path) -> None:
    socket = ("--socket", tmp_path / "none.sock")
    assert (await run("--since", "yesterday", *socket)).exit_code == 2
    assert (await run("--deck", tmp_path / "none.csv", *socket)).exit_code == 2
    assert (await run(*socket)).exit_code == 3
