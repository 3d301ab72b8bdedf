"""Loopback networks that no other test has, whatever worker it runs in."""

from __future__ import annotations

import itertools
import os

_numbers = itertools.count(1)
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def own_network() -> str:
    """127.x.y: at each call another one. Each worker has eight x; 127.0 is nobody's."""
    number = next(_numbers)
    return f"127.{40 + _worker * 8 + number // 250}.{number % 250 + 1}"
