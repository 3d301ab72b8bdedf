from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sipp.rig import Rig

MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def make_rig(tmp_path: Path) -> MakeRig:
    """`async with make_rig({"gateways.main": 'caller_id = "pai"'}, SIDECAR_LOG__LEVEL="debug") as rig`: a
    node of the test's own, with more in its profile, with these settings, and what else `Rig` takes."""

    @asynccontextmanager
    async def make(more: Mapping[str, str] | None = None, **how: Any) -> AsyncIterator[Rig]:
        settings = {name: how.pop(name) for name in [*how] if name.isupper()}
        rig = Rig(tmp_path, more, **how)
        async with rig.up(**settings):
            yield rig

    return make
