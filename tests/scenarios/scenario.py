"""What a scenario is: a ladder, and the record that it must give."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from sidecar.core.cdr import Cdr
from sidecar.core.policy import Load
from tests.scenarios.ladder import Ladder
from tests.scenarios.world import policy_of

ARM = "arm ring_timeout 120000"
ARMED = "arm max_duration 14400000"
ROUTED = f"{ARM}, route 1 alpha"
ANSWERED = f"{ROUTED}, {ARMED}, answer"


def armed_for(granted_s: int) -> str:
    """A grant that may be extended."""
    return f"arm ledger_unreachable {granted_s * 1000}, arm extend {granted_s * 1000 - 200}"


def refused_after(granted_s: int) -> str:
    """The books have refused to extend it."""
    return f"arm grant_used_up {granted_s * 1000}"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """`cdr` reads: origin[/reason]/detail, SIP code, Q.850 cause, disposition, billable ms,
    evidence/confidence. It is the record that counts: of the highest revision. `wire` has the commands to the
    bridge in order."""

    name: str
    ladder: str
    cdr: str
    wire: str
    sold: str = "0"  # what the account is charged; "-": nothing, and no record of the call leaves
    also: Mapping[str, Any] = {}  # other fields of the CDR
    policy: Mapping[str, Any] = {}  # what differs from world.policy_of()
    load: Mapping[str, Any] = {}
    balance: str = "0"
    revisions: int = 1
    refused: bool = False  # not admitted: no ledger, no journal

    def play(self) -> Ladder:
        policy, load = policy_of(**self.policy), Load(**self.load)
        return Ladder(policy, balance=Decimal(self.balance), load=load).play(self.ladder)


def summary(cdr: Cdr) -> str:
    """The line that `Scenario.cdr` expects."""
    who = "/".join(part for part in (cdr.hangup_origin, cdr.server_reason, cdr.detail) if part)
    return (
        f"{who} {cdr.sip_code} {cdr.q850_cause} {cdr.disposition} {cdr.billable_ms} "
        f"{cdr.evidence}/{cdr.confidence}"
    )
