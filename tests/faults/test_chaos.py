"""The scenarios of `make chaos`, a round or two of each."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.crash import crash
from tests.chaos.credit import credit
from tests.chaos.disk import disk
from tests.chaos.outcome import Chance, table


@pytest.mark.timeout(240)
async def test_calls_that_a_kill_has_cut_are_ended_and_recorded_once(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    outcome = await crash(Chance(seed=seed, rounds=2, calls=80, folder=tmp_path))
    print(table([outcome]))
    assert not outcome.broken, outcome.broken
    assert int(outcome.figures["found open"]) > 20
    assert int(outcome.figures["proved"]) > 0


@pytest.mark.timeout(240)
async def test_a_disk_that_fails_for_a_while_loses_no_call_and_is_told_each_time(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    outcome = await disk(Chance(seed=seed, rounds=2, calls=60, folder=tmp_path))
    print(table([outcome]))
    assert not outcome.broken, outcome.broken
    assert int(outcome.figures["refused"]) > 0


@pytest.mark.timeout(240)
async def test_prepaid_calls_overspend_nothing_over_kills(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    outcome = await credit(Chance(seed=seed, rounds=1, calls=80, folder=tmp_path))
    print(table([outcome]))
    assert not outcome.broken, outcome.broken
    for figure in ("found open", "extensions"):
        assert int(outcome.figures[figure]) > 0, figure
