"""The rules that the reference shows, and a working day of calls that none of them minds."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from sidecar.config.crosscheck_fraud import rules_of_file
from sidecar.core.fraud_rules import FraudRule
from tests.core.fraud_streams import Made

PAGE = Path(__file__).resolve().parents[2] / "sidecar/reference/fraud.md"
DAY = datetime(2026, 11, 24, tzinfo=UTC)  # a Tuesday


def sample_text() -> str:
    [text] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(text)


@cache
def sample_rules(folder: Path) -> dict[str, FraudRule]:
    file = folder / "rules.toml"
    file.write_text(sample_text())
    return {rule.name: rule for rule in rules_of_file(file, "EUR")}


# Share of a day's calls in each hour, of business customers.
HOURS = (1, 1, 1, 1, 1, 2, 8, 35, 80, 110, 115, 100, 75, 85, 100, 105, 90, 60, 25, 12, 8, 5, 3, 2)
# Where they go: (share, beginning, cents per minute)
TOWARDS = (
    (600, "4930", 1),
    (180, "49151", 8),
    (60, "49171", 8),
    (50, "4369", 12),
    (40, "4179", 14),
    (30, "3361", 10),
    (15, "4420", 2),
    (10, "1212", 2),
    (5, "97150", 25),
    (4, "8613", 3),
    (2, "1712", 3),
    (2, "2165", 60),
    (1, "3712", 30),
    (1, "1876", 40),
)


def working_day(calls: int, seed: int) -> Iterator[Made]:
    """In the order of their times: 400 accounts of very different size, each with its extensions, its regular
    numbers and its voice mail."""
    chance = random.Random(seed)
    accounts = [f"customer{number}" for number in range(400)]
    sizes = [1 / (number + 8) for number in range(400)]
    hours = chance.choices(range(24), HOURS, k=calls)
    moments = sorted(hour * 3_600_000 + chance.randrange(3_600_000) for hour in hours)
    towards = chance.choices(TOWARDS, [share for share, _, _ in TOWARDS], k=calls)
    whose = chance.choices(accounts, sizes, k=calls)
    for at_ms, (_, begins, cents), account in zip(moments, towards, whose, strict=True):
        answered = chance.random() < 0.62
        # Some fall into a voice mail and are over; the rest last 3 minutes in the mean, a few an hour.
        talk_s = (
            chance.uniform(1, 6) if chance.random() < 0.1 else min(7_200, chance.lognormvariate(4.6, 1.1))
        )
        yield Made(
            # 01:00 in Berlin is 00:00 in UTC; the hours above are those of Berlin
            at=DAY - timedelta(hours=1) + timedelta(milliseconds=at_ms),
            account=account,
            caller=f"4930{account.removeprefix('customer')}{chance.randrange(10, 40)}",
            number=f"{begins}{chance.randrange(10**6, 10**7)}",
            prefix=begins,
            talk_s=talk_s if answered else None,
            ring_s=chance.uniform(3, 25),
            cents_per_min=cents,
        )
