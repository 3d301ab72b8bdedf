"""SIPp as caller and callee, and what it says of a run."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import DemoError, free_ports, listens
from tests.bench.places import DIALLED

HERE = Path(__file__).parent
LISTEN_S_MAX = 5.0
ENDING_S_MAX = 40  # of the last call, after it should have ended: SIPp gives up a lost message after 32 s


class Load(msgspec.Struct, frozen=True, kw_only=True):
    rate: int  # calls per second
    calls: int
    hold_ms: int

    @property
    def lasts_s(self) -> float:
        return self.calls / self.rate + self.hold_ms / 1000


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`late_s`: how much longer it took than such a load should."""

    calls: int
    failed: int
    repeats: int  # requests that SIPp sent again, for want of an answer in 500 ms
    late_s: float
    setup_ms: list[float]
    bye_ms: list[float]


@asynccontextmanager
async def callee(folder: Path, place: tuple[str, int], ringing_ms: int = 0) -> AsyncIterator[None]:
    child = await sipp(folder, HERE / "callee.uas.xml", place, "-d", str(ringing_ms))
    try:
        async with asyncio.timeout(LISTEN_S_MAX):
            while not listens(*place):
                await asyncio.sleep(0.02)
        yield
    finally:
        await end(child)


async def call(
    folder: Path, host: str, remote: tuple[str, int], load: Load, dialled: str = DIALLED
) -> Outcome:
    """Place the calls and wait for the last. `folder` is for this run alone."""
    folder.mkdir()
    (port,) = free_ports(host, 1)
    statistics = folder / "statistics.csv"
    child = await sipp(
        folder,
        HERE / "caller.uac.xml",
        (host, port),
        f"{remote[0]}:{remote[1]}",
        *("-r", str(load.rate), "-m", str(load.calls), "-l", str(load.calls), "-d", str(load.hold_ms)),
        *("-s", dialled, "-timeout", str(int(load.lasts_s) + ENDING_S_MAX)),
        *("-trace_stat", "-fd", "1", "-stf", str(statistics), "-trace_rtt", "-rtt_freq", "10"),
    )
    try:
        await child.wait()
    finally:
        await end(child)
    last = _last_row(statistics)
    good = int(last["SuccessfulCall(C)"])
    hours, minutes, seconds = map(int, last["ElapsedTime(C)"].split(":")[:3])
    found = delays(folder)
    return Outcome(
        calls=load.calls,
        failed=load.calls - good,
        repeats=int(last["Retransmissions(C)"]),
        late_s=max(0.0, hours * 3600 + minutes * 60 + seconds - load.lasts_s),
        setup_ms=found["setup"],
        bye_ms=found["bye"],
    )


async def sipp(
    folder: Path, scenario: Path, place: tuple[str, int], *more: str
) -> asyncio.subprocess.Process:
    """SIPp for many calls; `folder` is where its files go."""
    (control,) = free_ports("127.0.0.1", 1)
    return await asyncio.create_subprocess_exec(
        *("sipp", "-sf", str(scenario), "-i", place[0], "-p", str(place[1]), "-aa"),
        *("-ci", "127.0.0.1", "-cp", str(control), "-nostdin"),
        # Every millisecond a few calls instead of a burst every ten; no memory of calls that are over.
        *("-timer_resol", "1", "-deadcall_wait", "0", "-buff_size", "1048576"),
        *("-trace_err", "-error_file", str(folder / f"{scenario.stem}.errors")),
        *more,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )


def succeeded(statistics: Path) -> int:
    """How many calls went as the scenario says: the last row of what SIPp's -trace_stat has written."""
    return int(_last_row(statistics)["SuccessfulCall(C)"])


def _last_row(statistics: Path) -> dict[str, str]:
    if not statistics.exists():
        raise DemoError(f"SIPp did not run: see {statistics.parent}")
    with statistics.open() as file:
        return list(csv.DictReader(file, delimiter=";"))[-1]


def delays(folder: Path) -> dict[str, list[float]]:
    """Of the calls that SIPp made with -trace_rtt there, in milliseconds."""
    found: dict[str, list[float]] = {"setup": [], "bye": []}
    for path in folder.glob("*_rtt.csv"):
        with path.open() as file:
            for row in csv.DictReader(file, delimiter=";"):
                found[row["rtd_no"]].append(float(row["response_time_ms"]))
    return found
