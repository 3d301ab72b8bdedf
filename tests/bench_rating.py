"""What rating costs: import, memory and ratings per second of a deck of 1,000,000 prefixes.

    python -m tests.bench_rating [PREFIXES]

The deck is made anew, with prefixes of 4-9 digits, 2,000 destinations, 3,000 prices and four kinds of
increments. Each measured part is strip + look-up + charge of a random number below a random prefix of the
deck: the worst case for every cache, where real traffic goes to few destinations. Look-ups by who calls are
of a deck of as many rows, thirty of each prefix. The import runs in a process of its own, so that its memory
is its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

SEED = 20260301
PREFIXES = 1_000_000
RATINGS = 300_000
ROUNDS = 5
CALLER_PREFIXES = 28  # of each prefix, beside a row for any caller and one for the surcharge class
TARGETS = {
    "import_s": 5.0,
    "memory_mb": 100.0,
    "ratings_per_s": 300_000.0,
    "lookups_by_caller_per_s": 250_000.0,
}


def write_deck(path: Path, count: int) -> None:
    generator = random.Random(SEED)
    prefixes: set[str] = set()
    while len(prefixes) < count:
        prefixes.add(str(generator.randrange(10**8, 10**9))[: generator.randint(4, 9)])
    names = [f"Country {number // 8} network {number % 8}" for number in range(2000)]
    with path.open("w", encoding="utf-8") as file:
        file.write(
            "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps,"
            "effective_from,effective_to,max_duration_s\n"
        )
        for prefix in generator.sample(sorted(prefixes), count):
            initial_s, increment_s = generator.choice(((60, 60), (1, 1), (60, 1), (30, 6)))
            price = f"0.{generator.randrange(1, 3001):04d}"
            file.write(f"{prefix},{generator.choice(names)},EUR,0,{price},{initial_s},{increment_s},,,,\n")


def measure(path: Path) -> dict[str, float]:
    """In this process: the import, then the ratings."""
    from sidecar.adapters.deck_files import read_deck
    from sidecar.core.numbers import StripPlan, billed_number
    from sidecar.core.rating import RatingTerms, charge

    before_mb = _memory_mb("VmRSS")
    started, started_cpu = time.perf_counter(), time.process_time()
    deck = read_deck(path)
    import_s, import_cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    memory_mb = _memory_mb("VmRSS") - before_mb
    peak_mb = _memory_mb("VmHWM") - before_mb

    generator = random.Random(SEED)
    prefixes = [prefix for prefix, _, _, _ in deck.rows()]
    calls = [
        (f"00{generator.choice(prefixes)}{generator.randrange(10**4, 10**5)}", generator.randrange(1, 3600))
        for _ in range(RATINGS)
    ]
    del prefixes
    plan, terms, at = StripPlan(global_strip=2), RatingTerms(), datetime.now(UTC)
    best_s = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for user, hold_s in calls:
            billed = billed_number(user, plan).billed
            if billed is not None:
                rate = deck.match(billed, at)
                if rate is not None:
                    charge(rate, hold_s, terms, at)
        best_s = min(best_s, time.perf_counter() - started)
    return {
        "prefixes": len(deck),
        "import_s": round(import_s, 2),
        "import_cpu_s": round(import_cpu_s, 2),
        "memory_mb": round(memory_mb, 1),
        "memory_peak_mb": round(peak_mb, 1),
        "ratings_per_s": round(RATINGS / best_s),
        "lookups_by_caller_per_s": round(_lookups_by_caller_per_s(len(deck))),
    }


def _lookups_by_caller_per_s(rows: int) -> float:
    """Of a deck in which each prefix has thirty rows, by who calls."""
    from decimal import Decimal

    from sidecar.core.tariff import SURCHARGE, Deck, DeckBuilder, Rate, per_minute_steps

    generator, builder = random.Random(SEED), DeckBuilder()
    callers = ["", SURCHARGE, *map(str, generator.sample(range(20, 1000), CALLER_PREFIXES))]
    steps = per_minute_steps(Decimal("0.01"), 1, 1)
    kinds = [
        builder.kind(Rate(prefix="", currency="EUR", steps=steps, caller_prefix=caller))[0]
        for caller in callers
    ]
    destination = builder.destination("somewhere")
    for prefix in generator.sample(range(10**6, 10**7), rows // len(callers)):
        for kind in kinds:
            builder.add(str(prefix), destination, kind, generator.randrange(1, 10**9))
    assert not builder.sort()
    deck, at = Deck.built("by caller", builder), datetime.now(UTC)
    prefixes = [prefix for prefix, _, _, _ in deck.rows()]
    calls = [
        (f"{generator.choice(prefixes)}12345", f"{generator.randrange(20, 1000)}1234567")
        for _ in range(RATINGS)
    ]
    best_s = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for billed, caller in calls:
            deck.match(billed, at, caller)
        best_s = min(best_s, time.perf_counter() - started)
    return RATINGS / best_s


def run(count: int = PREFIXES) -> dict[str, float]:
    """The figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deck.csv"
        write_deck(path, count)
        answer = subprocess.run(
            [sys.executable, "-m", "tests.bench_rating", "--measure", str(path)],
            check=True,
            stdout=subprocess.PIPE,
        )
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def _memory_mb(name: str) -> float:
    # Not ru_maxrss: that counts what the parent had when it started us.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--measure"]:
        print(json.dumps(measure(Path(arguments[1]))))
        return
    load = os.getloadavg()[0]
    print(f"rating, {os.cpu_count()} cores, load before the run {load:.1f}, best of {ROUNDS}")
    for name, value in run(int(arguments[0]) if arguments else PREFIXES).items():
        target = f"   (wanted: {TARGETS[name]:,.0f})" if name in TARGETS else ""
        print(f"  {name:<24} {value:>12,}{target}")


if __name__ == "__main__":
    main(sys.argv[1:])
