"""Between lossy networks on both sides: nothing is charged twice, every admitted call has its record, every
leg is closed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.loss import BROKEN, lossy_round

CALLS = 150


@pytest.mark.parametrize("loss", [0.1, 0.3])
async def test_a_lossy_network_charges_nothing_twice(tmp_path: Path, loss: float) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    found = await lossy_round(tmp_path, loss, CALLS, seed)
    print(found)
    assert not any(found[name] for name in BROKEN), found
    assert found["lost"] > CALLS * loss
    assert found["calls"] > CALLS * 0.9
