"""kill -9 in the middle of commits: what was acknowledged is there, and everything adds up."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from sidecar.core.cdr import Cdr
from tests.adapters.store_calls import call_id, ended, ending
from tests.adapters.stores import Stores

ROOT = Path(__file__).parents[2]
KILLS = 3


def killed(place: Sequence[str], first: int, lines: int) -> dict[str, set[int]]:
    """Let the child work until it has acknowledged so many things, kill it, and return all that it told."""
    told: dict[str, set[int]] = defaultdict(set)
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.adapters.store_crash_child", *place, str(first)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout is not None
    with child:
        for count, line in enumerate(child.stdout):
            if count == lines:
                child.kill()
            if line.endswith(b"\n"):
                word, number = line.split()
                told[word.decode()].add(int(number))
    assert child.returncode == -9, "the child ended by itself"
    return told


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_acknowledged_before_a_kill_is_there_after_it(stores: Stores, seed: int) -> None:
    chance = random.Random(seed)
    admitted_numbers: set[int] = set()
    delivered: set[int] = set()
    for kill in range(KILLS):
        told = killed(stores.place, 1 + kill * 1_000_000, chance.randint(1, 2_000))
        admitted_numbers |= told["Admitted"]
        delivered |= told["Delivered"]
        assert told["Admitted"]  # a busy machine's server may have been away for a moment: StepFailed
    async with stores.opened(boot_id="after") as watched:
        await watched.proved()
        found = {call.call_id: call for call, _ in watched.store.found_open()}
        records: list[Cdr] = []
        while page := await watched.store.records.tail(len(records), 1_000):
            records += page
        recorded = {cdr.call_id for cdr in records}
        assert [cdr.seq for cdr in records] == list(range(1, len(records) + 1))
        assert len(recorded) == len(records)
        assert {call_id(n) for n in admitted_numbers} <= recorded | found.keys()
        assert not recorded & found.keys()
        waiting = {row.seq for row in await watched.store.outbox.pending(0, 100_000)}
        assert not waiting & delivered
        # Recovery gives the rest their records; then nothing is reserved any more.
        watched.submit(*(ending(ended(call)) for call in found.values()))
        await watched.written()
        await watched.proved()
        assert (await watched.store.outbox.outbox_state()).head_seq == len(records) + len(found)
    print(f"seed {seed}: {len(admitted_numbers)} admitted, {len(records)} recorded, {len(found)} found open")
