"""All scenarios."""

from __future__ import annotations

from tests.scenarios import faults, parties, server
from tests.scenarios.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *parties.CALLER,
    *parties.CALLEE,
    *parties.GLARE,
    *server.TIMEOUT,
    *server.CREDIT,
    *server.POLICY,
    *server.ADMIN,
    *server.RESOURCE,
    *server.SUPPRESSED,
    *faults.FAULT,
    *faults.CRASH,
    *faults.PROXY,
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
