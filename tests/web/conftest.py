from __future__ import annotations

import itertools

import pytest

from tests.rig.postgres import Postgres

_numbers = itertools.count(1)


@pytest.fixture
def database(postgresql: Postgres) -> str:
    """A new one of this test, and how it is reached as who owns it."""
    return postgresql.new_database(f"page{next(_numbers)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def dsn(request: pytest.FixtureRequest) -> str:
    """Of the books of a node; empty: they are a journal in its data directory."""
    return request.getfixturevalue("database") if request.param == "postgresql" else ""
