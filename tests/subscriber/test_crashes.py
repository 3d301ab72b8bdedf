"""The short form of what `make chaos` does in twenty rounds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.sink import FAULTS, SINKS, one_round, places


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("fault", "kind"), [*zip(FAULTS, SINKS, strict=True)])
async def test_nothing_is_missing_and_nothing_is_there_twice(fault: str, kind: str, tmp_path: Path) -> None:
    seed = str(random.randrange(10**9))
    print("seed", seed)
    async with places(tmp_path, [kind]) as found:
        counted = await one_round(tmp_path, found[kind], fault, seed)
    assert (counted["missing"], counted["duplicate"], counted["rejected"]) == (0, 0, 0)
    if fault != "subscriber killed":
        assert counted["asked"], "the broker has forgotten nothing: nothing was tried"
