"""The journal of a node that has carried many calls, for `python -m tests.bench --journal-records N`.

The calls go through the store's own batches, a portion to a commit, so that the file is what a daemon writes:
five steps a call, ids that grow in time, the outbox acknowledged. 2.7 million are 6 GB, in six minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.core.call import Phase
from sidecar.core.commands import EntryKind, StoreCommand
from sidecar.core.identity import call_id_of
from tests.adapters.store_calls import BOOT_ID, admission, admitted, answered, ended, ending, entry
from tests.bench.product import Step

PORTION = 500  # calls to a commit
CALLS_PER_S = 100
TOLD_EVERY = 100_000
MS = 1_000_000


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon on a journal of so many records; 0: on a new one, in the same run."""

    records: int
    journal_mb: float
    start_s: float
    rss_mb: float  # after the start
    step: Step


class AgedClock(SystemClock):
    """As it stood so long ago."""

    def __init__(self, age_s: int) -> None:
        self._age_ns = age_s * 1_000_000_000

    def wall_ns(self) -> int:
        return super().wall_ns() - self._age_ns


async def write(data: Path, node: str, records: int, age_s: int = 0) -> None:
    """The journal of a node that has carried so many calls, the last of them just now, or so long ago."""
    clock = AgedClock(age_s)
    # Its own for each time: ids are made of it.
    store = SqliteStore.open(data, node=node, boot_id=f"{BOOT_ID}-{age_s}", clock=clock)
    began_ms = clock.wall_ns() // MS - records * 1000 // CALLS_PER_S
    try:
        for start in range(0, records, PORTION):
            for number in range(start, min(records, start + PORTION)):
                at_ms = began_ms + number * 1000 // CALLS_PER_S
                for step in _steps(number, node, at_ms, f"{BOOT_ID}-{age_s}"):
                    store.submit(step)
            await store.outbox.acknowledge([], [])  # all that was submitted before is written
            rows = await store.outbox.pending(0, 2 * PORTION)
            await store.outbox.acknowledge([row.seq for row in rows], [])
            if start % TOLD_EVERY == 0:
                print(f"{start:,} of {records:,} calls are in the journal", file=sys.stderr, flush=True)
    finally:
        await store.close()


def _steps(number: int, node: str, at_ms: int, boot_id: str) -> tuple[tuple[StoreCommand, ...], ...]:
    call = replace(
        admitted(number, "demo", at_ns=at_ms * MS), call_id=call_id_of("_", node, boot_id, number, at_ms)
    )
    up = answered(call)
    return (
        admission(call),
        entry(EntryKind.ATTEMPT, replace(call, phase=Phase.ROUTING)),
        entry(EntryKind.ANSWERED, up),
        entry(EntryKind.ESTABLISHED, replace(up, phase=Phase.TALKING)),
        ending(ended(up)),
    )
