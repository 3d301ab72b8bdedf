"""The operators' page beside calls, for `make bench-web`: what pages that are open cost the setup of a call
(BESIDE=500, calls per second), and how long the page of Calls takes and holds the node with many calls up
(UP=10000)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from sidecar.adapters.control_client import ControlClient
from sidecar.core.users import Role
from sidecar.web.calls import PER_PAGE
from tests.bench import places
from tests.bench.load import Load
from tests.bench.product import Product, Spread, product, spread
from tests.rig.node import until
from tests.web.rig import HASH, Visit

OPEN = 20
LOOK_S = 2.0  # from one page that somebody opens to the next
USERS = 4  # each with a browser, and so many tabs that OPEN are open
TURNS = 5  # without and with pages, one after the other: what else goes on meets both
HOLD_MS = 200
WARM_UP = Load(rate=100, calls=300, hold_ms=HOLD_MS)
TIMES_WANTED = 1.1  # the setup's p99 with pages open over that without
PAGE_S_MAX = 0.5
RAMP = 200  # calls/s, until all are up
BESIDE_RATE = 50
ASKED = 3  # times each page
LIST_S = 2.1  # then the page makes its list of calls anew (web/calls)
PATHS = (
    *("/", "/calls", "/records", "/records?account=demo", "/revenue", "/revenue?by=destination"),
    *("/accounts", "/accounts/one?name=demo", "/rates", "/delivery", "/node", "/?range=day"),
)
_RELEASE = re.compile(r'href="/calls/([0-9a-f-]{36})/release"')


def calls_paths(calls: int) -> dict[str, int]:
    """Each with how many calls it has to show."""
    parts = -(-calls // PER_PAGE)
    rest = calls - (parts - 1) * PER_PAGE
    return {
        "/calls": PER_PAGE,
        f"/calls?page={parts // 2}": PER_PAGE,
        f"/calls?page={parts}": rest,
        f"/calls?page={parts}&order=down": rest,
        "/calls?sort=talk&order=down": PER_PAGE,
        f"/calls?sort=account&page={parts // 3}": PER_PAGE,
        "/calls?account=demo": PER_PAGE,
        "/calls?gateway=next_hop&phase=talking": PER_PAGE,
        "/calls?phase=routing": 0,
        "/calls?number=4930": PER_PAGE,
        "/calls?number=999": 0,
    }


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """Delays in milliseconds."""

    rate: int
    without: Spread
    beside: Spread
    failed: int
    looks: Spread
    looks_failed: int
    news: int  # figures that were pushed to the open pages

    @property
    def times(self) -> float:
        return self.beside.p99 / self.without.p99

    @property
    def is_green(self) -> bool:
        return not (self.failed or self.looks_failed) and self.times <= TIMES_WANTED and self.news > 0

    def __str__(self) -> str:
        return (
            f"setup at {self.rate} calls/s, ms: p50 {self.without.p50}, p99 {self.without.p99} without;"
            f" p50 {self.beside.p50}, p99 {self.beside.p99} with {OPEN} pages open: {self.times:.2f} times"
            f" (at most {TIMES_WANTED}); {self.failed} calls failed\n"
            f"pages, ms: p50 {self.looks.p50}, p99 {self.looks.p99}; {self.looks_failed} failed;"
            f" {self.news} figures pushed"
        )


@asynccontextmanager
async def _page(folder: Path, **more: str) -> AsyncIterator[tuple[Product, list[Visit]]]:
    async with product(folder, SIDECAR_WEB__LISTEN=f"{places.host(1)}:0", **more) as node:
        visits = []
        with ControlClient(folder / "data" / "control.sock") as client:
            for number in range(USERS):
                user = {"name": f"user{number}", "role": Role.ADMIN.value, "password_hash": HASH}
                client.call("user.add", {**user, "operator": "bench"})
        await until(lambda: asyncio.to_thread(_is_served, node.node.page))
        for number in range(USERS):
            visits.append(Visit(node.node.page))
            await asyncio.to_thread(visits[-1].sign_in, f"user{number}")
        await node.place(WARM_UP)
        yield node, visits


def _is_served(place: str) -> bool:
    try:
        return Visit(place).get("/sign-in").status == 200
    except OSError:
        return False


# --- pages that are open ------------------------------------------------------------------------------------


class _Open:
    """Pages of Now, each with its stream of figures, and in each somebody who looks at this and that."""

    def __init__(self, visits: Sequence[Visit]) -> None:
        self._visits = visits
        self.looks_ms: list[float] = []
        self.failed = 0
        self.news = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Each has its first figures when the block is entered."""
        seen = self.news
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(task, name="page")
                for number in range(OPEN)
                for visit in (self._visits[number % USERS],)
                for task in (self._listen(visit), self._look(visit, number))
            ]
            await until(lambda: self.news - seen >= OPEN)
            yield
            for task in running:
                task.cancel()

    async def _listen(self, visit: Visit) -> None:
        while True:  # the page ends a stream now and then, and a browser asks again
            async with _asked(visit, "/now/stream") as reader:
                is_data = False
                while line := await reader.readline():
                    self.news += is_data and line == b"\n"  # the end of an event
                    is_data = line.startswith(b"data: ")

    async def _look(self, visit: Visit, number: int) -> None:
        await asyncio.sleep(number * LOOK_S / OPEN)
        while True:
            began_s = time.perf_counter()
            async with _asked(visit, PATHS[number % len(PATHS)]) as reader:
                answer = await reader.read()
            took_s = time.perf_counter() - began_s
            self.failed += not answer.startswith(b"HTTP/1.1 200")
            self.looks_ms.append(took_s * 1_000)
            number += 1
            await asyncio.sleep(max(0.0, LOOK_S - took_s))


@asynccontextmanager
async def _asked(visit: Visit, path: str) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection(visit.host, visit.port)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: {visit.host}:{visit.port}\r\nCookie: {visit.cookie}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        yield reader
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def opened(folder: Path, rate: int, seconds: float, more: Mapping[str, str]) -> Opened:
    """`more`: settings."""
    load = Load(rate=rate, calls=max(1, int(rate * seconds)), hold_ms=HOLD_MS)
    without, beside, failed = list[float](), list[float](), 0
    async with _page(folder, **more) as (node, visits):
        pages = _Open(visits)
        for _ in range(TURNS):
            alone = await node.place(load)
            async with pages.open():
                among = await node.place(load)
            without += alone.setup_ms
            beside += among.setup_ms
            failed += alone.failed + among.failed
    return Opened(
        rate=rate,
        without=spread(without),
        beside=spread(beside),
        failed=failed,
        looks=spread(pages.looks_ms),
        looks_failed=pages.failed,
        news=pages.news,
    )


# --- many calls up ------------------------------------------------------------------------------------------


async def calls_up(folder: Path, calls: int) -> bool:
    """Prints what it finds; whether every page was in time and no call failed."""
    lasts_s = ASKED * len(calls_paths(calls)) * LIST_S * 2
    up = Load(rate=RAMP, calls=calls, hold_ms=int((calls / RAMP + lasts_s + 10) * 1_000))
    beside = Load(rate=BESIDE_RATE, calls=int(BESIDE_RATE * lasts_s / 4), hold_ms=HOLD_MS)
    more = {"SIDECAR_NODE__CALLS_MAX": str(calls + 2_000)}
    is_green = True
    async with _page(folder, **more) as (node, visits), asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(node.place(up), name="calls-up")
        await until(lambda: asyncio.to_thread(_are_up, folder, calls), calls / RAMP + 30)
        alone = await _held_ms(folder, tasks.create_task(node.place(beside), name="beside"))
        print(f"{calls:,} calls up; node.status answered within ms: {alone}, when nobody looks")
        looking = tasks.create_task(_timed(visits[0], calls), name="looking")
        asked = await _held_ms(folder, looking)
        print(f"{'page':<45} {'least ms':>9} {'most ms':>9}")
        for path, took_ms in looking.result().items():
            is_late = max(took_ms) > PAGE_S_MAX * 1_000
            is_green = is_green and not is_late
            print(f"{path:<45} {min(took_ms):>9.1f} {max(took_ms):>9.1f}{' late' * is_late}")
        print(f"node.status answered within ms: {asked}, while the list is made again and again")
        assert not calling.done(), "the calls did not stay up"
    print(f"{calling.result().failed} calls failed")
    return is_green and not calling.result().failed


def _are_up(folder: Path, calls: int) -> bool:
    with ControlClient(folder / "data" / "control.sock") as client:
        return int(client.call("node.status")["calls"]) >= calls


async def _timed(visit: Visit, calls: int) -> dict[str, list[float]]:
    """Each page, with a list of calls that is made for it; ids are in the order of the INVITEs."""
    wanted = calls_paths(calls)
    found: dict[str, list[float]] = {path: [] for path in wanted}
    for _ in range(ASKED):
        shown: dict[str, list[str]] = {}
        for path, took_ms in found.items():
            await asyncio.sleep(LIST_S)
            began_s = time.perf_counter()
            answer = await asyncio.to_thread(visit.get, path)
            took_ms.append((time.perf_counter() - began_s) * 1_000)
            shown[path] = _RELEASE.findall(answer.text)
            assert (answer.status, len(shown[path])) == (200, wanted[path]), path
        first, *_, last, latest = [shown[path] for path in list(wanted)[:4]]
        assert first == sorted(first) < last == sorted(last)
        assert latest[::-1] == first[: len(latest)]
    return found


async def _held_ms(folder: Path, meanwhile: asyncio.Task[object]) -> Spread:
    """How long the node's event loop keeps who asks it waiting, until the task is done."""

    def ask() -> list[float]:
        waited: list[float] = []
        with ControlClient(folder / "data" / "control.sock") as client:
            while not meanwhile.done():
                began_s = time.perf_counter()
                client.call("node.status")
                waited.append((time.perf_counter() - began_s) * 1_000)
                time.sleep(0.005)
        return waited

    waited = await asyncio.to_thread(ask)
    await meanwhile
    return spread(waited)
