"""What prepaid control costs: the same calls with it and without, and many calls that are extended again and
again while they are up."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import apsw
import msgspec

from sidecar.adapters.sqlite.file import FILE_NAME
from tests.bench import process
from tests.bench.load import Load
from tests.bench.product import Product, Step, product

PREPAID = "prepaid = true"
SETTLE_S = 2.0  # after the last of them has come up


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The same load on an account that reserves nothing, and on one that is prepaid."""

    without: Step
    prepaid: Step

    @property
    def times(self) -> float:
        return round(self.prepaid.daemon_ms / self.without.daemon_ms, 2)


class Extended(msgspec.Struct, frozen=True, kw_only=True):
    """So many calls up, each extended every `slice_s`, looked at for `seconds`."""

    calls: int
    slice_s: int
    seconds: float
    failed: int
    extensions: int
    cpu_share: float  # of one core, of the whole daemon
    commits_per_s: float
    details: dict[str, int]  # how they ended in the end

    @property
    def due(self) -> int:
        return int(self.calls * self.seconds / self.slice_s)

    @property
    def green(self) -> bool:
        """The moments at which they are due are spread: a tenth of a turn may fall outside."""
        return not self.failed and self.extensions >= 0.9 * self.due and set(self.details) == {"bye"}


async def control(folder: Path, warm_up: Load, load: Load) -> Control:
    """Each on a daemon of its own, one after the other."""
    steps: list[Step] = []
    for name, account in (("without", ""), ("prepaid", PREPAID)):
        async with product(folder / name, account=account) as node:
            await node.place(warm_up)
            steps.append(await node.step(load))
    return Control(without=steps[0], prepaid=steps[1])


async def extended(folder: Path, calls: int, slice_s: int, seconds: float, ramp: int) -> Extended:
    more = {"SIDECAR_BILLING__SLICE_S": str(slice_s), "SIDECAR_NODE__CALLS_MAX": str(2 * calls)}
    async with product(folder, account=PREPAID, **more) as node:
        seen = node.listener.count
        up_s = calls / ramp + SETTLE_S
        load = Load(rate=ramp, calls=calls, hold_ms=int((up_s + seconds + SETTLE_S) * 1000))
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(node.place(load), name="extended-calls")
            await asyncio.sleep(up_s)
            before, cpu_s = _extensions(node), process.cpu_s(node.node.pid)
            commits, began_s = await node.commits(), time.monotonic()
            await asyncio.sleep(seconds)
            took_s = time.monotonic() - began_s
            cpu_s = process.cpu_s(node.node.pid) - cpu_s
            extensions, commits = _extensions(node) - before, await node.commits() - commits
        outcome = calling.result()
        await node.arrived(seen + calls - outcome.failed)
        records = node.listener.records(seen)
    return Extended(
        calls=calls,
        slice_s=slice_s,
        seconds=round(took_s, 1),
        failed=outcome.failed,
        extensions=extensions,
        cpu_share=round(cpu_s / took_s, 3),
        commits_per_s=round(commits / took_s, 1),
        details=dict(Counter(str(record["detail"]) for _, record in records)),
    )


def _extensions(node: Product) -> int:
    """Reservations so far: of calls that are up already each further one is an extension."""
    connection = apsw.Connection(str(node.folder / "data" / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute("SELECT count(*) FROM ledger WHERE kind = 'reserve'").get)
    finally:
        connection.close()
