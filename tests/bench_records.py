"""What the commands cost that read the whole journal: export and verify in each format, and the doctor.

    python -m tests.bench_records [--calls N] [--dir FOLDER]

The calls are made by the product's own code, sold and bought, to eleven countries behind 00; the store writes
them, and each part reads them all, as its command does. Seconds are of the clock; the data are on a real disk
only if --dir is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sidecar.adapters.destinations import NUMBERING_PLAN
from sidecar.adapters.exports import Format, export, verify
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.core.commands import Publish
from sidecar.core.doctor import book_of, diagnose, observed_of
from sidecar.ports import RecordFilter
from tests.adapters.sqlite_stores import opened
from tests.core.doctor_traffic import calls, deck, e164, in_front, policy

CALLS = 20_000
STEP = 500
ALL = RecordFilter()


async def write(folder: Path, count: int) -> None:
    world = policy(strip=2, buy=deck("buy", "USD"), gateways={"carrier": 2})
    records = calls(in_front("00", e164(count)), world)
    async with opened(folder) as watched:
        for start in range(0, count, STEP):
            for cdr in records[start : start + STEP]:
                watched.submit((Publish(cdr=cdr),))
            await watched.written()


def run(folder: Path, count: int) -> None:
    asyncio.run(write(folder / "data", count))
    for wanted in Format:
        out = folder / wanted

        def written(out: Path = out, wanted: Format = wanted) -> None:
            with Snapshot(folder / "data") as journal:
                at = datetime.now(UTC)
                export(journal.records(ALL), out, wanted, filters={}, product="bench", generated_at=at)

        took(f"export, {wanted}", count, written)
        size = sum(path.stat().st_size for path in out.iterdir())
        print(f"  {'':<16} {size / count:>8.0f} B a record")
        took(f"verify, {wanted}", count, lambda out=out: right(out, count))  # type: ignore[misc]
    took("doctor", count, lambda: examined(folder / "data"))


def right(out: Path, count: int) -> None:
    found = verify(out)
    assert (found.records, found.findings) == (count, ()), found


def examined(data_dir: Path) -> None:
    world = policy(strip=2, buy=deck("buy", "USD"), gateways={"carrier": 2})
    with Snapshot(data_dir) as journal:
        charges = [one for cdr in journal.records(ALL) for one in observed_of(cdr)]
    assert diagnose(charges, NUMBERING_PLAN, book_of(world)) == []


def took(name: str, count: int, part: Callable[[], None]) -> None:
    began, began_cpu = time.perf_counter(), time.process_time()
    part()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    print(f"  {name:<16} {count / seconds:>8,.0f} records/s  {seconds:.2f} s  CPU {cpu_s:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--dir", default=None, help="where the data are made (and removed); a real disk")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"records, {arguments.calls} calls, {os.cpu_count()} cores, load before the run {load:.1f}")
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        run(Path(folder), arguments.calls)


if __name__ == "__main__":
    main()
