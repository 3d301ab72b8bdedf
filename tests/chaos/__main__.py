"""`make chaos`: every scenario, one after the other, and a table at the end. ONLY=crash ROUNDS=5 SEED=7 for
some of it, or the same again."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from tests.chaos.crash import crash
from tests.chaos.credit import credit
from tests.chaos.disk import disk
from tests.chaos.loss import loss
from tests.chaos.memory import memory
from tests.chaos.outcome import Chance, Outcome, table
from tests.chaos.overload import overload
from tests.chaos.pitr import pitr
from tests.chaos.reload import reload
from tests.chaos.restart import restart
from tests.chaos.sink import both_killed, broker_killed, subscriber_killed

SCENARIOS: Final[dict[str, Callable[[Chance], Coroutine[Any, Any, Outcome]]]] = {
    "crash": crash,
    "credit": credit,
    "disk": disk,
    "loss": loss,
    "memory": memory,
    "overload": overload,
    "pitr": pitr,
    "reload": reload,
    "restart": restart,
    "broker": broker_killed,
    "subscriber": subscriber_killed,
    "both": both_killed,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--only", choices=list(SCENARIOS), action="append")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=200, help="in each round")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    outcomes: list[Outcome] = []
    for name in given.only or SCENARIOS:
        print(f"{name}: seed {given.seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"chaos-{name}-") as folder:
            chance = Chance(seed=given.seed, rounds=given.rounds, calls=given.calls, folder=Path(folder))
            outcomes.append(asyncio.run(SCENARIOS[name](chance)))
    print(table(outcomes))
    return 1 if any(one.broken for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
