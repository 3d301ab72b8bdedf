"""Reservations a second that the store makes: `python -m tests.bench_credit [--store ENGINE] [--calls N]
[--accounts N] [--extensions N] [--dir PATH]`.

So many calls are admitted with their first slice, and each is then extended again and again, when it has the
answer for the slice before. On one hot account all of it goes to one balance. Calls are made beforehand and
are not in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.sqlite import SqliteStore
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.core.call import Call
from sidecar.core.events import Admitted, CallEvent, GrantExtended
from sidecar.core.terms import Money
from tests.adapters.store_calls import BOOT_ID, admitted, call_id, extension, first_slice, terms_of
from tests.rig.postgres import postgres

SLICE_S = 10
PAID = Money(Decimal(10_000_000), "EUR")


class Driver:
    def __init__(self, store: SqliteStore | PostgresqlStore, calls: dict[int, Call], extensions: int) -> None:
        self._store = store
        self._calls = calls
        self._extensions = extensions
        self._asked = dict.fromkeys(calls, 0)
        self._asked_ns = dict.fromkeys(calls, 0)
        self.took_ns: list[int] = []
        self.over = asyncio.Event()
        store.on_outcome(self.on_outcome)
        store.on_defect(lambda call, error: print("defect", call, repr(error)))

    def begin(self) -> None:
        for key, call in self._calls.items():
            self._asked_ns[key] = time.perf_counter_ns()
            self._store.submit(first_slice(call, SLICE_S))

    def on_outcome(self, events: Sequence[CallEvent]) -> None:
        for event in events:
            if not isinstance(event, (Admitted, GrantExtended)):
                raise RuntimeError(event)
            key = event.call_id.int
            now_ns = time.perf_counter_ns()
            self.took_ns.append(now_ns - self._asked_ns[key])
            self._asked[key] += 1
            if self._asked[key] <= self._extensions:
                self._asked_ns[key] = now_ns
                self._store.submit(extension(self._calls[key], (self._asked[key] + 1) * SLICE_S))
        if len(self.took_ns) == len(self._calls) * (1 + self._extensions):
            self.over.set()


async def measure(arguments: argparse.Namespace, data_dir: Path, dsn: str) -> None:
    calls = {
        call_id(number).int: admitted(number, f"account{number % arguments.accounts}", prepaid=True)
        for number in range(1, arguments.calls + 1)
    }
    store: SqliteStore | PostgresqlStore
    if dsn:
        store = PostgresqlStore.open(
            dsn, node="n1", boot_id=BOOT_ID, clock=SystemClock(), key_file=data_dir / KEY_FILE_NAME
        )
    else:
        store = SqliteStore.open(data_dir, node="n1", boot_id=BOOT_ID, clock=SystemClock())
    for number in range(arguments.accounts):
        await store.accounts.create(terms_of(f"account{number}"))
    await asyncio.gather(
        *(store.accounts.top_up(f"account{n}", PAID, "bench") for n in range(arguments.accounts))
    )
    driver = Driver(store, calls, arguments.extensions)
    gc.collect()
    gc.freeze()  # the calls made beforehand are not the store's to be looked through again and again
    before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    driver.begin()
    await driver.over.wait()
    took_s, after = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    count = len(driver.took_ns)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ordered = sorted(driver.took_ns)
    print(
        f"{arguments.store}, {arguments.calls} calls of {arguments.accounts} accounts:"
        f" {count / took_s:.0f} reservations/s,"
        f" CPU {cpu_s * 1e6 / count:.0f} us each, answered p50 {ordered[count // 2] / 1e6:.1f} ms"
        f" p99 {ordered[count * 99 // 100] / 1e6:.1f} ms"
    )
    print("  ledger check:", await store.ledger_check() or "adds up")
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--accounts", type=int, default=1)
    parser.add_argument("--extensions", type=int, default=4, help="of each call")
    parser.add_argument("--dir", default=None, help="where the store is made (and removed); a real disk")
    arguments = parser.parse_args()
    data_dir = Path(tempfile.mkdtemp(dir=arguments.dir))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres()) if arguments.store == "postgresql" else None
        runner = stack.enter_context(contextlib.closing(asyncio.Runner()))
        runner.run(measure(arguments, data_dir, server.new_database("credit") if server else ""))
    shutil.rmtree(data_dir)


if __name__ == "__main__":
    main()
