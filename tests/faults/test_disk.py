"""A journal that cannot be written: no new call, an alarm, and no call lost that is up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
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

WRITES = "pwrite64,write,pwritev,ftruncate,fallocate"
SYNCS = "fsync,fdatasync"

# The daemon, which lets anybody of its user trace it, where Yama asks for that (prctl(2), PR_SET_PTRACER).
_TRACEABLE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "sidecar.cli", *sys.argv[1:]])
"""
TRACEABLE = (sys.executable, "-c", _TRACEABLE)

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


@contextlib.contextmanager
def injected(node: Node, calls: str, error: str) -> Iterator[None]:
    """These system calls fail for the journal's files, as a disk fails that has errors or was made read-only
    by the kernel: whoever had the file open has it still."""
    log = node.folder / "strace.log"
    paths = [word for suffix in ("", "-wal") for word in ("-P", str(node.data / f"journal.db{suffix}"))]
    inject = ("-e", f"trace={calls}", "-e", f"inject={calls}:error={error}")
    words = ("strace", "-f", "-qq", "-o", str(log), *inject, *paths, "-p", str(node.daemon.pid))
    with subprocess.Popen(words, stderr=subprocess.PIPE) as tracer:
        try:
            yield
        finally:
            tracer.terminate()
            try:
                said = tracer.communicate(timeout=5)[1]
            except subprocess.TimeoutExpired:  # of a process that was killed it cannot let go
                tracer.kill()
                said = tracer.communicate()[1]
    assert f"{error} " in log.read_text(), f"nothing failed: {said.decode()}"


def writes_fail(node: Node) -> AbstractContextManager[None]:
    return injected(node, WRITES, "EIO")


def syncs_fail(node: Node) -> AbstractContextManager[None]:
    return injected(node, SYNCS, "EIO")


def is_read_only(node: Node) -> AbstractContextManager[None]:
    return injected(node, WRITES, "EROFS")


def on_small_disk(data: Path) -> tuple[str, ...] | None:
    """What runs the daemon with a small disk of its own at `data`; None where we may not mount one."""
    namespace = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-r", "-m")
    mount = 'mount -t tmpfs -o size=$1m none "$2" && shift 2 && exec "$@"'
    words = (*namespace, "sh", "-c", mount, "sh", str(DISK_MIB), str(data))
    data.mkdir()
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return None
    return *words, sys.executable, "-m", "sidecar.cli"


async def through_the_fault(
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
        await _is_told(node, failing=True)
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
    await _is_told(node, failing=False)
    return ending, lasting


async def _is_told(node: Node, *, failing: bool) -> None:
    """By the metric and the status; the log has its own look, see `_is_logged`."""

    async def all_say_so() -> bool:
        status = await node.status()
        return (
            bool(await node.metric("sidecar_journal_failing")) is failing
            and status["state"] == ("journal" if failing else "accepting")
            and bool(status["journal_failure"]) is failing
        )

    await until(all_say_so)
    assert await node.metric("sidecar_journal_failures_total") >= 1


def _is_logged(node: Node) -> None:
    """With its cause, as an error; after the node has ended, when its log is whole."""
    lines = [json.loads(line) for line in node.log.read_text().splitlines() if line.startswith("{")]
    told = [line for line in lines if line["event"] in ("journal_failing", "journal_writes_again")]
    assert (told[0]["event"], told[0]["level"]) == ("journal_failing", "error")
    assert told[0]["cause"].startswith("SQLITE_")
    assert told[-1]["event"] == "journal_writes_again"


async def _accepted_again(caller: Phone) -> Side:
    async with asyncio.timeout(30):
        while (side := await caller.place("1400", BYE)).final != 200:
            assert side.final == 503
            await asyncio.sleep(0.05)
    return side


@pytest.mark.parametrize(
    "faulty_disk",
    [files_cannot_grow, disk_full, writes_fail, syncs_fail, is_read_only],
    ids=lambda one: one.__name__,
)
async def test_a_disk_that_takes_nothing_ends_no_call_and_loses_none(
    make_node: MakeNode, faulty_disk: FaultyDisk
) -> None:
    node = make_node()
    program = on_small_disk(node.data) if faulty_disk is disk_full else TRACEABLE
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
        ended, lasting = await through_the_fault(node, caller, callee, faulty_disk)
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
    _is_logged(node)
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


@pytest.mark.parametrize("faulty_disk", [writes_fail, syncs_fail], ids=lambda one: one.__name__)
async def test_a_node_that_is_killed_while_its_disk_fails_owes_no_record(
    make_node: MakeNode, faulty_disk: FaultyDisk
) -> None:
    """Whatever of the failed commits reached the disk: each admitted call has one record, no refused one has,
    and the books add up."""
    node = make_node()
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
    ):
        async with node.up(TRACEABLE, **broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            for account in ("prepaid", "other"):
                await node.top_up(account, "5")
            before = await caller.place("1000", BYE)
            accounts = ("prepaid", "other", "")
            ending = [
                caller.dial(f"110{n}", Plan(caller_bye_s=1.0), account=a) for n, a in enumerate(accounts)
            ]
            lasting = [caller.dial(f"12{n:02}", Plan()) for n in range(3)]
            await until(lambda: all(side.final == 200 for side in (*ending, *lasting)))
            with faulty_disk(node):
                for side in ending:
                    await side.ended.wait()
                await _is_told(node, failing=True)
                refused = await caller.place("1300", BYE, account="prepaid")
                assert refused.final == 503
                node.kill()
        async with node.up(**broker.settings()):
            admitted = [side.call_id for side in (before, *ending, *lasting)]
            records = await listener.of(admitted)
            assert len(records) == len(admitted)
            await node.empty()
        counts = Counter(one["leg_a"]["sip_call_id"] for one in listener.records)
        assert counts == Counter(admitted)
    assert node.open_entries() == 0
    node.check_books()
