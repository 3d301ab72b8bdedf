"""The journal of a node that has carried many calls, for `python -m tests.bench --journal-records N`.

The calls go through the store's own batches, a portion to a commit, so that the file is what a daemon writes:
five steps a call, ids that grow in time, the outbox acknowledged. 2.7 million are 6 GB, in six minutes.
"""

from __future__ import annotations

import sys
import time
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


async def write(data: Path, node: str, records: int) -> None:
    """Make the journal of a node that has carried so many calls, the last of them just now."""
    store = SqliteStore.open(data, node=node, boot_id=BOOT_ID, clock=SystemClock())
    began_ms = time.time_ns() // MS - records * 1000 // CALLS_PER_S
    try:
        for start in range(0, records, PORTION):
            for number in range(start, min(records, start + PORTION)):
                for step in _steps(number, node, began_ms + number * 1000 // CALLS_PER_S):
                    store.submit(step)
            await store.outbox.acknowledge([], [])  # all that was submitted before is written
            rows = await store.outbox.pending(0, 2 * PORTION)
            await store.outbox.acknowledge([row.seq for row in rows], [])
            if start % TOLD_EVERY == 0:
                print(f"{start:,} of {records:,} calls are in the journal", file=sys.stderr, flush=True)
    finally:
        await store.close()


def _steps(number: int, node: str, at_ms: int) -> tuple[tuple[StoreCommand, ...], ...]:
    call = replace(
        admitted(number, "demo", at_ns=at_ms * MS), call_id=call_id_of("_", node, BOOT_ID, number, at_ms)
    )
    up = answered(call)
    return (
        admission(call),
        entry(EntryKind.ATTEMPT, replace(call, phase=Phase.ROUTING)),
        entry(EntryKind.ANSWERED, up),
        entry(EntryKind.ESTABLISHED, replace(up, phase=Phase.TALKING)),
        ending(ended(up)),
    )
