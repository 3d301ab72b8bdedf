"""A node that may have little more memory refuses new calls, keeps those that are up, and lives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sidecar.demo.children import environment
from tests.chaos.memory import BROKEN, short_of_memory
from tests.faults.conftest import MakeNode


@pytest.mark.timeout(240)
async def test_a_node_short_of_memory_refuses_new_calls_and_ends_those_that_are_up(
    make_node: MakeNode,
) -> None:
    found = await short_of_memory(make_node(timers="t1_ms = 200"))
    assert not any(found[name] for name in BROKEN), found
    assert found["refused"]


@pytest.mark.parametrize("limit_kb", [250_000, 350_000, 450_000])
def test_a_start_for_which_there_is_too_little_memory_says_so(make_node: MakeNode, limit_kb: int) -> None:
    node = make_node()
    node.profile.write_text(node.profile_text())
    run = subprocess.run(
        ["/bin/sh", "-c", f'ulimit -v {limit_kb}; exec "$0" -m sidecar.cli run', sys.executable],
        env=environment(**node.settings()),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2, run
    assert "too little memory to start" in run.stderr
