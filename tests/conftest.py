from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.rig.postgres import Postgres, postgres

# A busy machine is no defect: what is too slow is found by the benchmark and by pytest's own time limit.
settings.register_profile("sidecar", deadline=None)
settings.load_profile("sidecar")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """How the run ended, for .ci/run: 1 is a run of all tests in which some failed."""
    if (cache := getattr(session.config, "cache", None)) is not None and not hasattr(
        session.config, "workerinput"
    ):
        cache.set("sidecar/exit_status", int(exitstatus))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgres]:
    """A server of this session; each test has a database or a schema of its own."""
    with postgres() as running:
        yield running
