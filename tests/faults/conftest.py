from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.node import Node

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(tmp_path: Path) -> MakeNode:
    """`make_node(timers="ring_timeout_s = 2")` says what its profile has more; `async with node.up()` starts
    it."""

    def make(**more: str) -> Node:
        return Node(tmp_path, **more)

    return make
