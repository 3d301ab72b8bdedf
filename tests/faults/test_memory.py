"""A node that may have little more memory refuses new calls, keeps those that are up, and lives."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sidecar.demo.children import environment
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

KEPT_BYTES = 48 << 20  # see native/memory.cpp
FREE_BYTES = 16 << 20
CALLS_MAX = 2000


def limit(node: Node, more_bytes: int | None) -> None:
    """How much more address space the daemon may have than it has; None: no limit."""
    pages = int(Path(f"/proc/{node.daemon.pid}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more_bytes if more_bytes is not None else resource.RLIM_INFINITY
    resource.prlimit(node.daemon.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


async def told(node: Node, event: str) -> None:
    """In its log, too."""
    await until(lambda: f'"{event}"' in node.log.read_text())


@pytest.mark.timeout(240)
async def test_a_node_short_of_memory_refuses_new_calls_and_ends_those_that_are_up(
    make_node: MakeNode,
) -> None:
    node = make_node(timers="t1_ms = 200")
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        first = caller.dial("10000", Plan())
        await node.live("10000", answered=True)
        limit(node, KEPT_BYTES + FREE_BYTES)
        sides = [first]
        while not any(side.final == 503 for side in sides) and len(sides) < CALLS_MAX:
            sides += [caller.dial(f"1{len(sides):04}", Plan()) for _ in range(20)]
            batch = sides[-20:]
            await until(lambda: all(side.final for side in batch))  # noqa: B023
        finals = Counter(side.final for side in sides)
        assert finals.keys() == {200, 503}, finals
        await told(node, "memory_short")
        limit(node, 0)  # and now nothing more at all
        up = [side for side in sides if side.final == 200]
        refused = [caller.dial(f"19{n:03}", Plan()) for n in range(20)]
        for side in up:
            caller.hang_up(side)
        await caller.all_ended(60)
        assert {side.bye_code for side in up} == {200}
        assert {side.final for side in refused} <= {0, 503}  # 0: not even that could be said
        limit(node, None)
        await told(node, "memory_suffices")
        again = await caller.place("19999", Plan(caller_bye_s=0.05))
        assert again.final == 200
        ended = await listener.of([side.call_id for side in (*up, again)], within_s=60)
        await node.empty()
        assert await node.metric("sidecar_promises_broken_total") == 0
    assert {(one["detail"], one["disposition"]) for one in ended} == {("bye", "answered")}
    said = [
        one["detail"] for one in listener.records if one["disposition"] in ("refused", "refused_aggregate")
    ]
    assert said
    assert set(said) == {"node_full"}
    check_sequences(listener.records)
    node.check_books()


def test_a_start_for_which_there_is_too_little_memory_says_so(make_node: MakeNode) -> None:
    node = make_node()
    node.profile.write_text(node.profile_text())
    run = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -v 250000; exec "$0" -m sidecar.cli run', sys.executable],
        env=environment(**node.settings()),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2, run
    assert "too little memory to start" in run.stderr
