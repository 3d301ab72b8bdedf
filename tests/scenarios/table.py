"""All scenarios."""

from __future__ import annotations

from tests.scenarios import by_callee, by_caller, by_fault, by_limit, by_price, by_rule, crossings, suppressed
from tests.scenarios.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *by_caller.CALLER,
    *by_callee.CALLEE,
    *crossings.GLARE,
    *by_limit.TIMEOUT,
    *by_limit.CREDIT,
    *by_price.PRICE,
    *by_rule.POLICY,
    *by_rule.ADMIN,
    *by_rule.RESOURCE,
    *suppressed.SUPPRESSED,
    *by_fault.FAULT,
    *by_fault.CRASH,
    *by_fault.PROXY,
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
