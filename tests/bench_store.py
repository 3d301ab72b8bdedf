"""What the store costs a call: `python -m tests.bench_store [--calls N] [--up N] [--rate N] [--ring-ms N]
[--prepaid] [--accounts N] [--dir PATH]`.

Each call takes the five steps of an answered call, each submitted when the outcome of the one before is
there, as the runtime does; its CDR is then taken from the outbox and acknowledged in pages, as the relay
does. Calls and CDRs are made beforehand and are not in the figures. `--up` keeps so many calls going (closed
loop); `--rate` starts so many a second instead (open loop). `--ring-ms` is, on average, between admission and
answer, and twice as long between answer and end: without it the steps of a call come together, as they do in
no real call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import apsw

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.core.commands import StoreCommand
from sidecar.core.events import Admitted, AnswerRecorded, CallEvent
from sidecar.core.terms import Money
from tests.adapters.store_calls import BOOT_ID, call_id, terms_of, whole_call

PAGE = 100
ACKNOWLEDGE_INTERVAL_S = 0.05  # as in runtime/outbox

Steps = list[tuple[StoreCommand, ...]]


class Driver:
    def __init__(self, store: SqliteStore, calls: dict[UUID, Steps], ring_s: float) -> None:
        self.store = store
        self.calls = calls
        self.waiting: Iterator[tuple[UUID, Steps]] = iter(list(calls.items()))
        self.submitted_ns: dict[UUID, int] = {}
        self.admitted_ns: list[int] = []
        self.commits: list[int] = []
        self.finished = asyncio.Event()
        self.acknowledged = 0
        self.ring_s = ring_s
        self.later = asyncio.get_running_loop().call_later
        self.refill = True
        self.rows = asyncio.Event()
        store.on_outcome(self.on_outcome)
        store.on_commit(lambda _steps, duration_ns: self.commits.append(duration_ns))
        store.on_defect(lambda call, error: print("defect", call, repr(error)))
        store.outbox.on_rows(self.rows.set)

    def begin(self) -> bool:
        for call, steps in self.waiting:
            self.submitted_ns[call] = time.perf_counter_ns()
            self.store.submit(steps[0])
            return True
        return False

    def on_outcome(self, events: Sequence[CallEvent]) -> None:
        submit = self.store.submit
        for event in events:
            steps = self.calls[event.call_id]
            if type(event) is Admitted:
                self.admitted_ns.append(time.perf_counter_ns() - self.submitted_ns[event.call_id])
                submit(steps[1])
                if self.ring_s:
                    self.later(2 * random.random() * self.ring_s, submit, steps[2])
                else:
                    submit(steps[2])
            elif type(event) is AnswerRecorded:
                if self.ring_s:
                    self.later(random.random() * self.ring_s / 5, submit, steps[3])
                    self.later((1 + 2 * random.random()) * self.ring_s, submit, steps[4])
                else:
                    submit(steps[3])
                    submit(steps[4])
                if self.refill:
                    self.begin()
            else:
                raise RuntimeError(event)

    async def drain(self) -> None:
        cursor = 0
        while self.acknowledged < len(self.calls):
            rows = await self.store.outbox.pending(cursor, PAGE)
            if not rows:
                self.rows.clear()
                await self.rows.wait()
                continue
            cursor = rows[-1].seq
            await self.store.outbox.acknowledge([row.seq for row in rows], [])
            self.acknowledged += len(rows)
            await asyncio.sleep(ACKNOWLEDGE_INTERVAL_S)


async def measure(arguments: argparse.Namespace, data_dir: Path) -> None:
    calls = {
        call_id(n): whole_call(n, f"account{n % arguments.accounts}", prepaid=arguments.prepaid)
        for n in range(1, arguments.calls + 1)
    }
    store = SqliteStore.open(data_dir, node="n1", boot_id=BOOT_ID, clock=SystemClock())
    if arguments.prepaid:
        for n in range(arguments.accounts):
            await store.accounts.create(terms_of(f"account{n}"))
            await store.accounts.top_up(f"account{n}", Money(Decimal(10_000_000), "EUR"), "bench")
    driver = Driver(store, calls, arguments.ring_ms / 1000)
    gc.collect()
    gc.freeze()  # the calls made beforehand are not the store's to be looked through again and again
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    draining = asyncio.get_running_loop().create_task(driver.drain(), name="drain")
    if arguments.rate:
        driver.refill = False
        tick_s = 0.005 if arguments.rate > 200 else 1 / arguments.rate
        for tick in range(1, 10**9):
            due = round(tick * tick_s * arguments.rate)
            more = True
            while len(driver.submitted_ns) < due and more:
                more = driver.begin()
            if not more:
                break
            await asyncio.sleep(max(0.0, began + tick * tick_s - time.perf_counter()))
    else:
        for _ in range(arguments.up):
            driver.begin()
    await draining
    took_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    user_us = (after.ru_utime - before.ru_utime) * 1e6 / arguments.calls
    system_us = (after.ru_stime - before.ru_stime) * 1e6 / arguments.calls
    print(
        f"{arguments.calls} calls, {'prepaid' if arguments.prepaid else 'postpaid'},"
        f" {f'{arguments.rate}/s offered' if arguments.rate else f'{arguments.up} up'}:"
        f" {arguments.calls / took_s:.0f} calls/s, CPU {user_us + system_us:.0f} us/call"
        f" (user {user_us:.0f}, system {system_us:.0f})"
    )
    pages = store._writer._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]  # type: ignore[union-attr]
    print(
        f"  {len(driver.commits) / arguments.calls:.2f} commits/call,"
        f" {pages / len(driver.commits):.1f} pages/commit, {pages / arguments.calls:.2f} pages/call,"
        f" commit {_spread(driver.commits)},"
        f" submit to Admitted {_spread(driver.admitted_ns)},"
        f" files {store_bytes(data_dir) / arguments.calls:.0f} B/call"
    )
    if arguments.check:
        print("  ledger check:", await store.ledger_check() or "adds up")
    await store.close()


def store_bytes(data_dir: Path) -> int:
    return sum(path.stat().st_size for path in data_dir.iterdir())


def _spread(durations_ns: list[int]) -> str:
    ordered = sorted(durations_ns)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50 / 1e6:.2f} ms p99 {p99 / 1e6:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--up", type=int, default=100)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--ring-ms", type=int, default=0)
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--prepaid", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--dir", default=None, help="where the store is made (and removed); a real disk")
    arguments = parser.parse_args()
    data_dir = Path(tempfile.mkdtemp(dir=arguments.dir))
    with contextlib.closing(asyncio.Runner()) as runner:
        runner.run(measure(arguments, data_dir))
    shutil.rmtree(data_dir)


if __name__ == "__main__":
    main()
