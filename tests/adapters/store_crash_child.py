"""A daemon's work for the store, until somebody kills it: prints what was acknowledged, a word and a number
a line.

`python -m tests.adapters.store_crash_child sqlite|postgresql DATA_DIR|CONNINFO KEY_FILE FIRST_NUMBER`
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.sqlite import SqliteStore
from sidecar.core.commands import StoreCommand
from sidecar.core.events import Admitted, AnswerRecorded, CallEvent
from sidecar.core.terms import Money
from tests.adapters.store_calls import call_id, terms_of, whole_call

CALLS_UP = 40


async def work(engine: str, place: str, key_file: str, first: int) -> None:
    boot_id, clock = f"boot{first}", SystemClock()
    store = (
        SqliteStore.open(Path(place), node="n1", boot_id=boot_id, clock=clock, key_file=Path(key_file))
        if engine == "sqlite"
        else PostgresqlStore.open(place, node="n1", boot_id=boot_id, clock=clock, key_file=Path(key_file))
    )
    calls: dict[UUID, tuple[int, list[tuple[StoreCommand, ...]]]] = {}
    numbers = iter(range(first, first + 100_000))

    def begin() -> None:
        number = next(numbers)
        steps = whole_call(number, f"a{number % 3}", prepaid=number % 2 == 0)
        calls[call_id(number)] = (number, steps)
        store.submit(steps[0])

    def on_outcome(events: Sequence[CallEvent]) -> None:
        said = []
        for event in events:
            number, steps = calls[event.call_id]
            said.append(f"{type(event).__name__} {number}\n")
            if isinstance(event, Admitted):
                store.submit(steps[1])
                store.submit(steps[2])
            elif isinstance(event, AnswerRecorded) and number % 5:
                store.submit(steps[3])
                store.submit(steps[4])
            begin()
        os.write(1, "".join(said).encode())

    store.on_outcome(on_outcome)
    for name in ("a0", "a1", "a2"):
        await store.accounts.create(terms_of(name))
        await store.accounts.top_up(name, Money(Decimal(1000), "EUR"), f"boot{first}")
    os.write(1, b"Ready 0\n")
    for _ in range(CALLS_UP):
        begin()
    while True:
        rows = await store.outbox.pending(0, 20)
        await store.outbox.acknowledge([row.seq for row in rows], [])
        for row in rows:
            os.write(1, f"Delivered {row.seq}\n".encode())
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
