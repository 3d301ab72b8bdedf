from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.adapters.stores import PostgresqlStores, SqliteStores, Stores
from tests.rig.postgres import Postgres

_numbers = itertools.count(1)


@pytest.fixture
def postgresql_stores(postgresql: Postgres, tmp_path: Path) -> PostgresqlStores:
    return PostgresqlStores(postgresql.conninfo, f"store{next(_numbers)}", tmp_path / "key")


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "postgresql":
        found: PostgresqlStores = request.getfixturevalue("postgresql_stores")
        return found
    return SqliteStores(tmp_path)
