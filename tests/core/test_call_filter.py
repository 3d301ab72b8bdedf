"""Which calls an operator means."""

from __future__ import annotations

import pytest

from sidecar.core.admit import open_call
from sidecar.core.call_filter import CallFilter
from sidecar.core.policy import Given, Load
from tests.scenarios import world
from tests.scenarios.world import policy_of

AT_NS = world.mono_ns(5_000)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (CallFilter(), True),
        (CallFilter(account="acme", peer="carrier", gateway="alpha", older_than_s=5), True),
        (CallFilter(account="acm"), False),
        (CallFilter(account="acme", peer="vendor"), False),
        (CallFilter(gateway="beta"), False),
        (CallFilter(older_than_s=6), False),
        (CallFilter(callee="4930*"), True),
        (CallFilter(callee="+4930*"), True),
        (CallFilter(callee="4930"), False),
        (CallFilter(callee="930*"), False),
        (CallFilter(caller="*"), True),
        (CallFilter(caller="4930*", callee="1*"), False),
    ],
)
def test_all_that_is_given_must_hold(wanted: CallFilter, holds: bool) -> None:
    invite = world.invite(0, number="+4930-123")
    call, _ = open_call(world.call_id(), invite, Given(policy_of(), Load()))
    assert wanted.holds(call, AT_NS) is holds
