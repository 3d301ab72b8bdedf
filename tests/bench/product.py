"""The whole product under load: the daemon as a child process with the settings of `make run`, its embedded
Mosquitto, a live subscriber, the demo deck, the journal on a disk.

A step is green when no call failed, none was late, and the subscriber had exactly one CDR per call.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from sidecar.adapters.control_client import ControlClient
from sidecar.demo.children import Daemon, DemoError, free_ports
from tests.bench import places, process
from tests.bench.listener import Listener, Record
from tests.bench.load import Load, Outcome, call, callee
from tests.rig.node import with_lines

RECORDS_S_MAX = 30.0  # from the last call to its CDR
LATE_S_MAX = 1.5  # SIPp counts whole seconds
RAMP_S_MORE = 3.0
HELD_S_MORE = 8.0  # that calls are held beyond what is measured meanwhile
# The kernel calls the first thread as the program.
THREADS = {"pjsua_0": "SIP", "store-writer": "store writer"} | dict.fromkeys(
    ("python", "python3"), "event loop"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class Spread(msgspec.Struct, frozen=True):
    p50: float
    p99: float
    most: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One rate. CPU is in milliseconds per call; delays are in milliseconds."""

    rate: int
    calls: int
    failed: int
    repeats: int
    late_s: float
    missing: int
    duplicate: int
    wrong: int  # CDRs that say anything but: answered, ended by the caller, rated
    daemon_ms: float
    commits: float  # per call
    wakeups: float  # per call: how often a thread of the daemon went to sleep
    threads_ms: dict[str, float]
    broker_ms: float
    setup: Spread
    bye: Spread
    bye_to_cdr: Spread

    @property
    def green(self) -> bool:
        """It carried all that was asked for."""
        return not self.failed and self.late_s < LATE_S_MAX and self.right

    @property
    def right(self) -> bool:
        """Each call that went well has its one CDR: it must also be so where there were too many calls."""
        return not (self.missing or self.duplicate or self.wrong)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """So many calls up, and a step beside them."""

    calls: int
    options_interval_s: int  # 0: nobody is asked whether he is there
    failed: int
    missing: int
    rss_mb: float
    kb_per_call: float  # more than before they came up
    open_files: int
    beside: Step

    @property
    def green(self) -> bool:
        return not (self.failed or self.missing) and self.beside.green


def spread(values: list[float]) -> Spread:
    ordered = sorted(values) or [0.0]
    return Spread(
        round(ordered[len(ordered) // 2], 2),
        round(ordered[len(ordered) * 99 // 100], 2),
        round(ordered[-1], 2),
    )


class Product:
    """A daemon that is up, with its callee and its listener."""

    def __init__(self, folder: Path, node: Daemon, start_s: float, listener: Listener) -> None:
        self.folder = folder
        self.node = node
        self.start_s = start_s
        self.broker_pid = process.child_named(node.pid, "mosquitto")
        self.listener = listener
        self._runs = 0

    async def place(self, load: Load) -> Outcome:
        self._runs += 1
        return await call(self.folder / f"run-{self._runs}", places.host(1), self.node.sip, load)

    async def step(self, load: Load) -> Step:
        pid, seen = self.node.pid, self.listener.count
        threads = process.cpu_by_thread_s(pid)
        daemon_s, broker_s = process.cpu_s(pid), process.cpu_s(self.broker_pid)
        commits, wakeups = await self.commits(), process.wakeups(pid)
        outcome = await self.place(load)
        good = load.calls - outcome.failed
        await self.arrived(seen + good)
        daemon_s, broker_s = process.cpu_s(pid) - daemon_s, process.cpu_s(self.broker_pid) - broker_s
        wakeups, commits = process.wakeups(pid) - wakeups, await self.commits() - commits
        spent = {
            THREADS.get(name, name): (after_s - threads.get(name, 0.0)) * 1e3 / load.calls
            for name, after_s in process.cpu_by_thread_s(pid).items()
        }
        records = self.listener.records(seen)
        by_call = Counter(str(record["call_id"]) for _, record in records)
        return Step(
            rate=load.rate,
            calls=load.calls,
            failed=outcome.failed,
            repeats=outcome.repeats,
            late_s=outcome.late_s,
            missing=max(0, good - len(by_call)),
            duplicate=len(records) - len(by_call),
            wrong=max(0, sum(not _right(record) for _, record in records) - outcome.failed),
            daemon_ms=round(daemon_s * 1e3 / load.calls, 3),
            commits=round(commits / load.calls, 2),
            wakeups=round(wakeups / load.calls, 1),
            threads_ms={name: round(ms, 3) for name, ms in spent.items() if ms >= 0.0005},
            broker_ms=round(broker_s * 1e3 / load.calls, 3),
            setup=spread(outcome.setup_ms),
            bye=spread(outcome.bye_ms),
            bye_to_cdr=spread([_delay_ms(at_ns, record) for at_ns, record in records]),
        )

    async def held(self, calls: int, options_interval_s: int, ramp: int, beside: Load) -> Held:
        """So many calls are up and stay up: what they occupy, and what others cost beside them."""
        empty, seen = process.rss_bytes(self.node.pid), self.listener.count
        hold_s = calls / ramp + beside.lasts_s + HELD_S_MORE
        background = Load(rate=ramp, calls=calls, hold_ms=int(hold_s * 1000))
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(self.place(background), name="held-calls")
            until_s = time.monotonic() + calls / ramp + RAMP_S_MORE  # those that fail never come up
            while await self._live() < calls and time.monotonic() < until_s:
                await asyncio.sleep(0.2)
            rss = process.rss_bytes(self.node.pid)
            files = process.open_files(self.node.pid)
            step = await self.step(beside)
            if calling.done():
                raise DemoError(f"{calls} calls did not stay up: {calling.result().failed} failed")
        outcome = calling.result()
        expected = seen + step.calls - step.failed + calls - outcome.failed
        await self.arrived(expected)
        return Held(
            calls=calls,
            options_interval_s=options_interval_s,
            failed=outcome.failed,
            missing=max(0, expected - self.listener.count),
            rss_mb=round(rss / 1e6, 1),
            kb_per_call=round((rss - empty) / calls / 1e3, 1) if calls else 0.0,
            open_files=files,
            beside=step,
        )

    async def _live(self) -> int:
        def ask() -> int:
            with ControlClient(self.folder / "data" / "control.sock") as client:
                return int(client.call("node.status")["calls"])

        return await asyncio.to_thread(ask)

    async def commits(self) -> int:
        def ask() -> int:
            with urllib.request.urlopen(self.node.metrics, timeout=5) as answer:
                page = answer.read().decode()
            return int(float(page.partition("\nsidecar_commit_seconds_count ")[2].split("\n", 1)[0]))

        return await asyncio.to_thread(ask)

    async def arrived(self, count: int) -> None:
        """Until so many CDRs are here, or no more come; then a moment more, for one that is too many."""
        until_s = time.monotonic() + RECORDS_S_MAX
        while self.listener.count < count and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)


def _right(record: Record) -> bool:
    (sell,) = (one for one in record["charges"] if one["side"] == "sell")
    return bool(
        record["disposition"] == "answered"
        and record["hangup_origin"] == "caller"
        and record["revision"] == 0
        and sell["rating_status"] == "rated"
        and sell["billed_s"] == record["billed_s"] > 0
    )


def _delay_ms(at_ns: int, record: Record) -> float:
    """From the BYE, as the daemon stamped it where it was received, to the CDR at the subscriber."""
    ended_at: datetime = record["ended_at"]
    return at_ns / 1e6 - (ended_at - _EPOCH) / _US / 1e3


@asynccontextmanager
async def product(folder: Path, *, account: str = "", **more: str) -> AsyncIterator[Product]:
    """`more` are settings, as variables of the environment. `account`: lines of that of the calls; it gets
    more than enough to pay them."""
    folder.mkdir(exist_ok=True)  # it may hold a journal
    at = (places.host(2), free_ports(places.host(2), 1)[0])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(callee(folder, at))
        profile = places.loopback_profile(places.host(1), at)
        if account:
            profile = with_lines(profile, {"accounts.demo": account})
        node = places.node(folder, profile)
        began_s = time.monotonic()
        up = await stack.enter_async_context(node.up(**more))
        start_s = time.monotonic() - began_s
        if account:
            await node.control("account.topup", name="demo", amount="1000000", reference="bench")
        yield Product(folder, up, start_s, stack.enter_context(Listener(*up.broker)))
