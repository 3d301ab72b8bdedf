"""Golden records: what each scenario leaves behind, whole, one file per scenario in tests/golden.

python -m tests.scenarios.golden        writes all of them anew; read the difference before you commit it
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.scenarios.scenario import Scenario
from tests.scenarios.table import SCENARIOS

GOLDEN = Path(__file__).parent.parent / "golden"


def golden_text(scenario: Scenario) -> str:
    """The records in the order in which they were handed over, and what the ledger was told with each."""
    ladder = scenario.play()
    left = {"settled": ladder.settled, "records": [*ladder.refusals, *ladder.records]}
    return msgspec.json.format(msgspec.json.encode(left), indent=2).decode() + "\n"


def write_all() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for path in GOLDEN.glob("*.json"):
        path.unlink()
    for scenario in SCENARIOS:
        (GOLDEN / f"{scenario.name}.json").write_text(golden_text(scenario))


if __name__ == "__main__":
    write_all()
