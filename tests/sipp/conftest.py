from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.sipp.rig import Rig

_numbers = itertools.count(1)
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]


def own_host() -> str:
    """127.x.y.1 of this rig alone."""
    return f"127.{100 + _worker}.{next(_numbers) % 250 + 1}.1"


@asynccontextmanager
async def rig_in(
    folder: Path,
    *,
    calls_max: int = 100,
    max_duration_s: int = 2,
    program: Sequence[str] = (),
    **settings: str,
) -> AsyncIterator[Rig]:
    rig = Rig(folder, own_host(), program)
    rig.write_profile(calls_max=calls_max, max_duration_s=max_duration_s)
    async with rig.up(**settings):
        yield rig


@pytest.fixture
def make_rig(tmp_path: Path) -> MakeRig:
    """`async with make_rig(calls_max=1) as rig` gives a node of the test's own."""

    def make(**how: object) -> AbstractAsyncContextManager[Rig]:
        return rig_in(tmp_path, **how)  # type: ignore[arg-type]

    return make
