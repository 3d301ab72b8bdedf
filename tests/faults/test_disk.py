"""A journal that cannot be written: no new call, and no call lost that is up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

BYE = Plan(caller_bye_s=0.02)
DISK_MIB = 8

FaultyDisk = Callable[[Node], AbstractContextManager[None]]


@contextlib.contextmanager
def files_cannot_grow(node: Node) -> Iterator[None]:
    """Every write of the daemon fails with EFBIG, which SQLite takes for a fault of the disk."""
    resource.prlimit(node.daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(node.daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@contextlib.contextmanager
def disk_full(node: Node) -> Iterator[None]:
    """No byte is left on the small disk of the daemon, which only its own mount namespace shows."""
    filler = Path(f"/proc/{node.daemon.pid}/root{node.data}/filler")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65_536, 4_096, 512):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    try:
        yield
    finally:
        filler.unlink()


def on_small_disk(data: Path) -> tuple[str, ...] | None:
    """What runs the daemon with a small disk of its own at `data`; None where we may not mount one."""
    namespace = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-r", "-m")
    mount = 'mount -t tmpfs -o size=$1m none "$2" && shift 2 && exec "$@"'
    words = (*namespace, "sh", "-c", mount, "sh", str(DISK_MIB), str(data))
    data.mkdir()
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return None
    return *words, sys.executable, "-m", "sidecar.cli"


async def _through_the_fault(
    node: Node, caller: Phone, callee: Phone, faulty_disk: FaultyDisk
) -> tuple[list[Side], list[Side]]:
    """Calls that were up when the fault began: those that ended in it, and those that went on."""
    ending = [caller.dial(f"11{n:02}", Plan(caller_bye_s=1.0)) for n in range(3)]
    lasting = [caller.dial(f"12{n:02}", Plan()) for n in range(3)]
    await until(lambda: all(side.final == 200 for side in (*ending, *lasting)))
    with faulty_disk(node):
        for side in ending:
            await side.ended.wait()
            assert side.bye_code == 200
        for n in range(5):
            refused = await caller.place(f"13{n:02}", BYE, account="prepaid")
            assert refused.final == 503
            assert refused.final_response is not None
            assert refused.final_response["Retry-After"] == "5"
        assert not any(side.ended.is_set() for side in lasting), "a live call was ended"
        assert not any(side.number.startswith("13") for side in callee.sides.values())

        async def all_counted() -> bool:
            return await node.metric("sidecar_calls_refused_total", '"journal"') >= 5

        await until(all_counted)
    ending.append(await _accepted_again(caller))
    return ending, lasting


async def _accepted_again(caller: Phone) -> Side:
    async with asyncio.timeout(30):
        while (side := await caller.place("1400", BYE)).final != 200:
            assert side.final == 503
            await asyncio.sleep(0.05)
    return side


@pytest.mark.parametrize("faulty_disk", [files_cannot_grow, disk_full], ids=lambda one: one.__name__)
async def test_a_disk_that_takes_nothing_ends_no_call_and_loses_none(
    make_node: MakeNode, faulty_disk: FaultyDisk
) -> None:
    node = make_node()
    program = on_small_disk(node.data) if faulty_disk is disk_full else ()
    if program is None:
        print("nobody may mount here: files that cannot grow instead")
        program, faulty_disk = (), files_cannot_grow
    copy = node.folder / "copy"
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
        node.up(program, **broker.settings()) as child,
    ):
        caller.peer = callee.peer = child.sip
        await node.top_up("prepaid", "1")
        ended, lasting = await _through_the_fault(node, caller, callee, faulty_disk)
        records = await listener.of([side.call_id for side in ended])
        assert {(one["hangup_origin"], one["detail"]) for one in records} == {("caller", "bye")}
        assert all(one["talk_ms"] >= 950 for one in records[:3])
        assert await node.metric("sidecar_calls{", '"talking"') == len(lasting)
        # A callee that hangs up now is heard: those calls are as alive as they were.
        for side in callee.sides.values():
            if side.number.startswith("12"):
                callee.hang_up(side)
        records = await listener.of([side.call_id for side in lasting])
        assert {(one["hangup_origin"], one["detail"]) for one in records} == {("callee", "bye")}
        check_sequences(listener.records)
        shutil.copytree(f"/proc/{child.pid}/root{node.data}", copy, ignore=shutil.ignore_patterns("*.sock"))
    node.data = copy
    assert node.open_entries() == 0
    assert node.balance("prepaid") == 1  # what a refused call had reserved is back
    node.check_books()


async def test_a_journal_that_is_locked_for_long_refuses_and_keeps(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        await node.top_up("prepaid", "1")
        ending, lasting = caller.dial("1000", Plan(caller_bye_s=1.0)), caller.dial("1001", Plan())
        await until(lambda: ending.final == lasting.final == 200)
        async with node.journal_locked():
            held = caller.dial("1002", BYE, account="prepaid")
            await ending.ended.wait()
            await held.ended.wait()
            assert held.final == 500  # nobody knew yet that the lock would stay

            async def is_refused() -> bool:
                return (await caller.place("1003", BYE)).final == 503

            await until(is_refused, 30)
            assert not lasting.ended.is_set()
        after = await _accepted_again(caller)
        ended, failed, last = await listener.of([ending.call_id, held.call_id, after.call_id])
        assert (ended["detail"], last["detail"]) == ("bye", "bye")
        assert (failed["server_reason"], failed["detail"]) == ("fault", "journal")
        assert not any(side.number == "1002" for side in callee.sides.values())
        callee.hang_up(next(side for side in callee.sides.values() if side.number == "1001"))
        (record,) = await listener.of([lasting.call_id])
        assert record["hangup_origin"] == "callee"
        await node.empty()
    assert node.balance("prepaid") == 1
    check_sequences(listener.records)
    node.check_books()
