"""`make bench`: the whole product under load, the same calls through others, and the single benchmarks.

It is red where a call that went well has no CDR, two, or a wrong one, at whatever rate; and where the first
rate is already too much. Targets that are not reached are shown and are not red: machines differ.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sidecar.demo.children import REPO, DemoError, leaves
from tests.bench import beside, credit, journal, places, process, report, rivals
from tests.bench.credit import Control, Extended
from tests.bench.journal import Grown
from tests.bench.load import Load
from tests.bench.product import Held, Step, product
from tests.bench.report import Figures, Single

HOLD_MS = 200
WARM_UP = Load(rate=100, calls=300, hold_ms=HOLD_MS)
JOURNAL_RATE = 1000
RAMP = 700  # calls/s, for those that stay up
BESIDE_RATE = 300
CREDIT_RATE = 500
SLICE_S = 10  # of the calls that are extended
TURNS = 2  # so often
OPTIONS_INTERVAL_S = 25  # the default
PLACES_MORE = 2_000  # for those beside them
RIVAL_RATES = {"kamailio": (100, 500, 1000, 2000), "sippy": (50, 100, 200)}
SINGLES = {
    "store": ("tests.bench_store", "--calls", "5000"),
    "store, prepaid": ("tests.bench_store", "--calls", "5000", "--prepaid"),
    "reservations, one account": ("tests.bench_credit",),
    "reservations, 10,000 accounts": ("tests.bench_credit", "--calls", "10000", "--accounts", "10000"),
    "relay": ("tests.bench_relay", "--rows", "20000"),
    "rating": ("tests.bench_rating",),
    "records": ("tests.bench_records", "--calls", "5000"),
}
SINGLE_S_MAX = 120


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load_of(rate: int, seconds: float) -> Load:
    return Load(rate=rate, calls=max(1, int(rate * seconds)), hold_ms=HOLD_MS)


async def under_load(folder: Path, rates: list[int], seconds: float, collector: str) -> list[Step]:
    """Step by step up, until one is too much."""
    found: list[Step] = []
    more = {"SIDECAR_HEP__COLLECTOR": collector} if collector else {}
    async with product(folder, **more) as node:
        await node.place(WARM_UP)
        for rate in rates:
            found.append(await node.step(load_of(rate, seconds)))
            step = found[-1]
            say(f"{rate} calls/s: {step.failed} failed, {step.daemon_ms:.3f} ms CPU per call")
            if not step.green:
                break
    return found


async def with_calls_up(folder: Path, counts: list[int], seconds: float) -> list[Held]:
    """Each on a daemon of its own, so that none profits from memory that the one before has left; the highest
    count also without OPTIONS in the calls."""
    found: list[Held] = []
    without = [(max(counts), 0)] if counts else []
    for count, interval_s in [*((count, OPTIONS_INTERVAL_S) for count in counts), *without]:
        more = {
            "SIDECAR_TIMERS__OPTIONS_INTERVAL_S": str(interval_s),
            "SIDECAR_NODE__CALLS_MAX": str(max(20_000, count + PLACES_MORE)),
        }
        async with product(folder / f"{count}-{interval_s}", **more) as node:
            await node.place(WARM_UP)
            found.append(await node.held(count, interval_s, RAMP, load_of(BESIDE_RATE, seconds)))
            say(f"{count} calls up, OPTIONS {interval_s} s: {found[-1].rss_mb:.0f} MB")
    return found


async def with_a_journal(folder: Path, records: int, seconds: float) -> list[Grown]:
    """The same calls with a new journal, and with one of so many records."""
    found: list[Grown] = []
    folder.mkdir()
    for count in (0, records):
        where = folder / str(count)
        if count:
            await journal.write(where / "data", places.NODE, count)
        size = sum(file.stat().st_size for file in (where / "data").glob("journal.db*"))
        async with product(where) as node:
            rss = process.rss_bytes(node.node.pid)
            await node.place(WARM_UP)
            found.append(
                Grown(
                    records=count,
                    journal_mb=round(size / 1e6, 1),
                    start_s=round(node.start_s, 2),
                    rss_mb=round(rss / 1e6, 1),
                    step=await node.step(load_of(JOURNAL_RATE, seconds)),
                )
            )
        say(f"{count:,} records: start {found[-1].start_s} s, {found[-1].step.daemon_ms:.3f} ms CPU per call")
    return found


async def with_credit(folder: Path, calls: int, seconds: float) -> tuple[Control, Extended]:
    folder.mkdir()
    beside = await credit.control(folder, WARM_UP, load_of(CREDIT_RATE, seconds))
    say(f"prepaid: {beside.times} times the CPU per call at {CREDIT_RATE}/s")
    up = await credit.extended(folder / "extended", calls, SLICE_S, TURNS * SLICE_S, RAMP)
    say(f"{calls} prepaid calls up: {up.extensions} extensions in {up.seconds} s")
    return beside, up


def singles(folder: Path) -> list[Single]:
    found = []
    for name, (module, *words) in SINGLES.items():
        where = [] if module.endswith("rating") else ["--dir", str(folder)]
        done = subprocess.run(
            [sys.executable, "-m", module, *words, *where],
            cwd=REPO,
            capture_output=True,
            text=True,
            timeout=SINGLE_S_MAX,
            check=False,
        )
        lines = done.stdout.splitlines()
        if done.returncode:
            lines.append(f"failed: {done.stderr.strip()[-300:]}")
        found.append(Single(name=name, lines=lines))
        say(f"{name}: done")
    return found


async def measure(folder: Path, arguments: argparse.Namespace) -> Figures:
    settings = places.surroundings(folder)
    if arguments.journal_records:
        grown = await with_a_journal(folder / "journal", arguments.journal_records, arguments.seconds)
        return Figures(settings=settings, grown=grown)
    if arguments.beside:
        found = await beside.beside(folder / "beside", BESIDE_RATE, arguments.beside)
        return Figures(settings=settings, beside=found)
    began_s, stolen_s = time.monotonic(), process.stolen_s()
    steps = await under_load(folder / "steps", arguments.rates, arguments.seconds, arguments.hep)
    held = await with_calls_up(folder, arguments.up, arguments.seconds)
    control: Control | None = None
    extended: Extended | None = None
    if arguments.prepaid_up:
        control, extended = await with_credit(folder / "credit", arguments.prepaid_up, arguments.seconds)
    others: list[rivals.RivalStep] = []
    if "kamailio" in arguments.rivals:
        others += await rivals.kamailio(
            folder / "kamailio", [load_of(rate, arguments.seconds) for rate in RIVAL_RATES["kamailio"]]
        )
    if "sippy" in arguments.rivals:
        others += await rivals.sippy(
            folder / "sippy", [load_of(rate, arguments.seconds) for rate in RIVAL_RATES["sippy"]]
        )
    alone = [] if arguments.no_singles else await asyncio.to_thread(singles, folder)
    share = (process.stolen_s() - stolen_s) / (time.monotonic() - began_s) / (os.cpu_count() or 1)
    settings["stolen"] = f"{share:.0%} of the CPU time went to other machines of the host meanwhile"
    return Figures(
        settings=settings,
        steps=steps,
        held=held,
        control=control,
        extended=extended,
        rivals=others,
        singles=alone,
    )


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="What a call costs.")
    parser.add_argument(
        "--rates",
        type=numbers,
        default=[100, 500, 1000, 1500, 2000, 2500],
        metavar="N,N,...",
        help="calls per second, until one is too much (default: 100 to 2500)",
    )
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="how long each rate is kept up (default: 6)"
    )
    parser.add_argument(
        "--up",
        type=numbers,
        default=[5000, 10_000, 20_000],
        metavar="N,N,...",
        help="calls that are up at once, for memory (default: 5000,10000,20000; empty: none)",
    )
    parser.add_argument(
        "--prepaid-up",
        type=int,
        default=5000,
        metavar="N",
        help="prepaid calls that are up at once, extended every 10 s (default: 5000; 0: nothing of credit)",
    )
    parser.add_argument(
        "--rivals",
        default="kamailio,sippy",
        metavar="NAME,...",
        help="kamailio, sippy (installed from PyPI for the run), both, or empty (default: both)",
    )
    parser.add_argument(
        "--journal-records",
        type=int,
        default=0,
        metavar="N",
        help="only this: the start and the cost of a call with N records in the journal (2700000: 6 GB)",
    )
    parser.add_argument(
        "--beside",
        type=int,
        default=0,
        metavar="N",
        help="only this: calls beside an import of a million rates, and an export, a rerate, a backup and an"
        " archive of N records",
    )
    parser.add_argument(
        "--hep",
        default="",
        metavar="HOST:PORT",
        help="copy every message there under load: what a call costs with and without (default: nowhere)",
    )
    parser.add_argument("--no-singles", action="store_true", help="leave out the parts alone")
    parser.add_argument(
        "--dir",
        type=Path,
        default=REPO / ".build",
        help="where data directories are made and removed; its disk is what is measured (default: .build)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="CPU and delays over the rate, as SVG")
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    arguments.dir.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.dir))
    began_s = time.monotonic()
    figures: Figures | None = None
    try:
        figures = asyncio.run(measure(folder, arguments))
    except* DemoError as group:
        for error in leaves(group):
            say(f"bench: {error}")
    if figures is None:
        say(f"bench: logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    print(report.text(figures))
    report.write(figures, arguments.json, arguments.plot)
    steps = figures.steps + [held.beside for held in figures.held] + [one.step for one in figures.grown]
    if figures.control is not None:
        steps += [figures.control.without, figures.control.prepaid]
    wrong = [step for step in steps if not step.right] + [held for held in figures.held if held.missing]
    green = not wrong and all(step.green for step in figures.steps[:1])
    print(f"\n{'green' if green else 'RED'} after {time.monotonic() - began_s:.0f} s")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
