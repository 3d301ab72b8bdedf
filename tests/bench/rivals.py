"""The same calls through others, in the same run: a Kamailio proxy, which keeps no call, and Sippy's B2BUA,
which writes no record and rates nothing."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import DemoError, free_ports, listens
from tests.bench import places, process
from tests.bench.load import HERE, Load, call, callee
from tests.bench.product import LATE_S_MAX, Spread, spread
from tests.kamailio.harness import executable

START_S_MAX = 15.0
SIPPY = "sippy==2.5.0"
SIPPY_RINGING_MS = 20  # of a 180 and a 200 that come together it sends the 200 first

Place = tuple[str, int]


class RivalStep(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    rate: int
    calls: int
    failed: int
    repeats: int
    late_s: float
    cpu_ms: float  # of all its processes, per call
    setup: Spread

    @property
    def green(self) -> bool:
        return not self.failed and self.late_s < LATE_S_MAX


async def measure(
    name: str,
    command: list[str],
    folder: Path,
    at: Place,
    to: Place,
    loads: list[Load],
    *,
    ringing_ms: int = 0,
) -> list[RivalStep]:
    """Up to the first load that is too much."""
    found: list[RivalStep] = []
    async with _running(command, folder, at) as pid, callee(folder, to, ringing_ms):
        await call(folder / "warm", places.host(1), at, Load(rate=50, calls=50, hold_ms=100))
        for number, load in enumerate(loads):
            before_s = _cpu_s(pid)
            outcome = await call(folder / f"run-{number}", places.host(1), at, load)
            found.append(
                RivalStep(
                    name=name,
                    rate=load.rate,
                    calls=load.calls,
                    failed=outcome.failed,
                    repeats=outcome.repeats,
                    late_s=outcome.late_s,
                    cpu_ms=round((_cpu_s(pid) - before_s) * 1e3 / load.calls, 3),
                    setup=spread(outcome.setup_ms),
                )
            )
            if not found[-1].green:
                break
    return found


async def kamailio(folder: Path, loads: list[Load]) -> list[RivalStep]:
    folder.mkdir()
    at, to = _place(4), _place(2)
    head, _, rest = (HERE / "kamailio.cfg").read_text().partition("\n")
    definitions = f'#!substdef "!NEXT_HOP!\\"sip:{to[0]}:{to[1]}\\"!g"\nlisten=udp:{at[0]}:{at[1]}\n'
    (folder / "bench.cfg").write_text(f"{head}\n{definitions}{rest}")
    files = ["-w", str(folder), "-Y", str(folder), "-P", str(folder / "pid")]
    command = [executable(), "-DD", "-E", *files, "-f", str(folder / "bench.cfg")]
    return await measure("Kamailio proxy", command, folder, at, to, loads)


async def sippy(folder: Path, loads: list[Load]) -> list[RivalStep]:
    """Installed for this run alone, from the index that pip is set up for."""
    folder.mkdir()
    at, to = _place(5), _place(2)
    python = folder / "venv" / "bin" / "python"
    await asyncio.to_thread(_install, folder / "venv", python)
    command = [str(python), "-m", "sippy.b2bua_simple"]
    command += ["-f", "-l", at[0], "-p", str(at[1]), "-n", f"{to[0]}:{to[1]}"]
    return await measure("Sippy B2BUA", command, folder, at, to, loads, ringing_ms=SIPPY_RINGING_MS)


def _install(venv: Path, python: Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SIPPY],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"Sippy is not installed: {done.stderr.strip()[-500:]}")


@asynccontextmanager
async def _running(command: Sequence[str], folder: Path, at: Place) -> AsyncIterator[int]:
    with (folder / "log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S_MAX):
                while child.returncode is None and not listens(*at):
                    await asyncio.sleep(0.05)
        if not listens(*at):
            said = (folder / "log").read_text(errors="replace")[-500:]
            raise DemoError(f"{command[0]} does not listen on {at}: {said}")
        yield child.pid
    finally:
        await end(child)


def _cpu_s(pid: int) -> float:
    return sum(map(process.cpu_s, (pid, *process.children(pid))))


def _place(number: int) -> Place:
    host = places.host(number)
    return host, free_ports(host, 1)[0]
