"""What a service manager hears of a node, at a real socket: that it is ready, reloads, ends, and lives."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from sidecar.adapters.service_manager import ServiceManager
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.node import SIDECAR, until

STALLED = (SIDECAR[0], "-m", "tests.faults.stalled_daemon")
WATCHDOG_S = 1.0


class Manager:
    def __init__(self, place: str) -> None:
        self.place = place
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.door.bind(place.replace("@", "\0", 1))
        self.door.setblocking(False)

    def variables(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.place, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}

    async def hears(self, within_s: float = 30) -> dict[str, str]:
        async with asyncio.timeout(within_s):
            said = await asyncio.get_running_loop().sock_recv(self.door, 4096)
        return dict(line.split("=", 1) for line in said.decode().splitlines())

    async def hears_of(self, word: str) -> dict[str, str]:
        while word not in (said := await self.hears()):
            pass
        return said

    async def hears_nothing(self) -> None:
        """Until it has heard nothing for as long as it allows."""
        while True:
            try:
                await self.hears(WATCHDOG_S)
            except TimeoutError:
                return


@asynccontextmanager
async def watched(node: Node, manager: Manager) -> AsyncIterator[None]:
    stall = node.folder / "stall"
    async with node.up(program=STALLED, STALL=str(stall), **manager.variables()):
        assert (await manager.hears())["READY"] == "1"
        yield


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(f"@{tmp_path}/notify")
    with one.door:
        yield one


@contextmanager
def standing_still(pid: int, name: str) -> Iterator[None]:
    """One thread of a child, as a debugger stops it: SIGSTOP would stop all of them."""
    seize, interrupt, detach, any_kind_of_child = 0x4206, 0x4207, 17, 0x40000000
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes, ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    tasks = Path(f"/proc/{pid}/task").iterdir()
    [thread] = [int(one.name) for one in tasks if (one / "comm").read_text().strip() == name]
    for request in (seize, interrupt):
        assert ptrace(request, thread, 0, 0) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(thread, any_kind_of_child)
    try:
        yield
    finally:
        ptrace(detach, thread, 0, 0)


async def test_it_hears_that_the_node_is_ready_reloads_and_ends(make_node: MakeNode, tmp_path: Path) -> None:
    node, manager = make_node(), Manager(str(tmp_path / "notify"))
    with manager.door:
        async with node.up(**manager.variables(), SIDECAR_NODE__DRAIN_S="60") as child:
            ready = await manager.hears()
            assert ready == {"READY": "1", "STATUS": f"calls at udp:{node.host}:{node.port}"}
            await child.command("node", "reload")
            reloading = await manager.hears_of("RELOADING")
            assert int(reloading["MONOTONIC_USEC"]) > 0
            assert (await manager.hears_of("READY"))["STATUS"] == ready["STATUS"]
            async with phones(node) as (caller, callee):
                caller.peer = callee.peer = child.sip
                side = caller.dial("1000", Plan())
                await node.live("1000", answered=True)
                os.kill(child.pid, signal.SIGTERM)
                stopping = await manager.hears_of("STOPPING")
                assert stopping["STATUS"] == "draining: 1 calls are up"
                assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 10_000_000
                caller.hang_up(side)
                assert (await manager.hears_of("STOPPING"))["STATUS"] == "ending 0 calls"
                assert await child.ended() == 0


async def test_no_sign_of_life_while_the_sip_thread_stands_still(
    make_node: MakeNode, manager: Manager
) -> None:
    node = make_node()
    async with watched(node, manager):
        await manager.hears_of("WATCHDOG")
        with standing_still(node.daemon.pid, "sip"):
            await until(lambda: "sip_thread_stands_still" in node.log.read_text())
            await manager.hears_nothing()
        await manager.hears_of("WATCHDOG")


async def test_no_sign_of_life_while_the_event_loop_stands_still(
    make_node: MakeNode, manager: Manager
) -> None:
    node = make_node()
    async with watched(node, manager), phones(node) as (caller, callee):
        caller.peer = callee.peer = node.daemon.sip
        await manager.hears_of("WATCHDOG")
        (node.folder / "stall").touch()
        caller.dial("1000", Plan(caller_bye_s=0))
        await manager.hears_nothing()
        (node.folder / "stall").unlink()
        await manager.hears_of("WATCHDOG")


async def test_signs_of_life_that_are_asked_of_another_process_are_not_given(manager: Manager) -> None:
    asked = {**manager.variables(), "WATCHDOG_PID": "1", "HOME": "/"}
    assert ServiceManager(asked).watchdog_s == 0
    assert asked == {"HOME": "/"}
    assert ServiceManager(manager.variables()).watchdog_s == WATCHDOG_S


def test_a_socket_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("here")
