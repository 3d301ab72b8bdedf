"""What the daemon holds, every few seconds: memory, open files, calls, transactions, pools of pjsip."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from pathlib import Path

import msgspec

from sidecar.demo.children import Daemon
from tests.bench import process, report
from tests.bench.listener import Listener

SAMPLE_S = 5.0
HEAD = ("s", "CDRs", "RSS MB", "files", "calls", "legs left", "transactions", "pools", "journal MB")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """`pools` are those of pjsip that are in use."""

    at_s: float
    records: int
    rss_mb: float
    open_files: int
    live_calls: int
    abandoned_legs: int
    transactions: int
    pools: int
    journal_mb: float


def sample(began_s: float, up: Daemon, listener: Listener, data: Path) -> Sample:
    with urllib.request.urlopen(up.metrics, timeout=5) as answer:
        page = answer.read().decode()
    held = {
        line.split('"')[1]: int(float(line.rsplit(" ", 1)[1]))
        for line in page.splitlines()
        if line.startswith("sidecar_bridge_total{")
    }
    return Sample(
        at_s=round(time.monotonic() - began_s, 1),
        records=listener.count,
        rss_mb=round(process.rss_bytes(up.pid) / 1e6, 1),
        open_files=process.open_files(up.pid),
        live_calls=held["live_calls"],
        abandoned_legs=held["abandoned_legs"],
        transactions=held["transactions"],
        pools=held["pools"],
        journal_mb=round(sum(one.stat().st_size for one in data.glob("journal.db*")) / 1e6, 1),
    )


async def note(curve: list[Sample], up: Daemon, listener: Listener, data: Path) -> None:
    began_s = time.monotonic()
    print("  ".join(HEAD))
    while True:
        curve.append(await asyncio.to_thread(sample, began_s, up, listener, data))
        print(row(curve[-1]), flush=True)
        await asyncio.sleep(SAMPLE_S)


def row(one: Sample) -> str:
    return "  ".join(
        str(value).rjust(len(head)) for value, head in zip(asdict(one).values(), HEAD, strict=True)
    )


def asdict(one: Sample) -> dict[str, float]:
    return msgspec.structs.asdict(one)


def panels(name: str, curve: list[Sample], column: int) -> tuple[str, str]:
    """Memory and files, and what is held: two diagrams from this column on."""
    over_time = {one: [(each.at_s, asdict(each)[one]) for each in curve] for one in ("rss_mb", "open_files")}
    held = {
        one: [(each.at_s, asdict(each)[one]) for each in curve]
        for one in ("live_calls", "transactions", "pools")
    }
    return (
        report.panel(f"{name}: memory and files", over_time, column),
        report.panel(f"{name}: held", held, column + 1),
    )
