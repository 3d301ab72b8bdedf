"""What a scenario was given, and what it came to: a line of the table."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Chance:
    """`seed` is printed; the same seed draws the same plans and moments, the machine does the rest."""

    seed: int
    rounds: int
    calls: int  # in each round
    folder: Path

    def draw(self) -> random.Random:
        return random.Random(self.seed)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`broken` names each promise that did not hold; empty: all did."""

    fault: str
    rounds: int
    missing: int
    duplicate: int
    figures: dict[str, str] = field(default_factory=dict)
    broken: Sequence[str] = ()


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [("fault", "rounds", "missing", "duplicate", "other figures", "")]
    for one in outcomes:
        figures = ", ".join(f"{name} {value}" for name, value in one.figures.items())
        verdict = "; ".join(one.broken) if one.broken else "ok"
        rows.append((one.fault, str(one.rounds), str(one.missing), str(one.duplicate), figures, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
