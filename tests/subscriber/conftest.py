from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.postgres import Postgres
from tests.subscriber.places import Place

MakePlace = Callable[[], Place]
_numbers = itertools.count(1)


@pytest.fixture(params=["json-lines", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A sink of each kind that is still empty."""
    if request.param == "postgresql":
        running: Postgres = request.getfixturevalue("postgresql")
        return Place(request.param, running.new_database(f"test{next(_numbers)}"))
    return Place(request.param, str(tmp_path / "records"))
