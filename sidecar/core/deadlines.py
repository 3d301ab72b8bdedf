"""How long a call may last: what the bridge is told to watch over by itself."""

from __future__ import annotations

from sidecar.core.call import Call
from sidecar.core.commands import ArmDeadline
from sidecar.core.hangup import SERVER, TABLE
from sidecar.core.policy import Policy
from sidecar.core.terms import DeadlineKind, Detail


def max_duration_ms(call: Call, policy: Policy) -> int:
    """The node's maximum, or the rate's own where that is shorter."""
    rate = call.pricing.rate
    if rate is None or rate.max_duration_s is None:
        return policy.timers.max_duration_ms
    return min(policy.timers.max_duration_ms, rate.max_duration_s * 1000)


def ring_deadline(call: Call, policy: Policy) -> ArmDeadline:
    """How long the whole set-up may take, over all attempts."""
    row = TABLE[SERVER, Detail.RING_TIMEOUT]
    return ArmDeadline(
        bridge_id=call.bridge_id,
        kind=DeadlineKind.RING,
        after_ms=policy.timers.ring_timeout_ms,
        sip_code=row.sip_code,
        q850_cause=row.q850_cause,
        text=Detail.RING_TIMEOUT.value,
    )


def talk_deadline(call: Call, policy: Policy) -> ArmDeadline:
    """The shorter of the grant and the maximum duration, counted by the bridge from our 2xx on leg A."""
    after_ms, kind, detail = max_duration_ms(call, policy), DeadlineKind.MAX_DURATION, Detail.MAX_DURATION
    if call.granted_s is not None and call.granted_s * 1000 < after_ms:
        after_ms, kind, detail = call.granted_s * 1000, DeadlineKind.GRANT, Detail.GRANT_USED_UP
    row = TABLE[SERVER, detail]
    return ArmDeadline(
        bridge_id=call.bridge_id,
        kind=kind,
        after_ms=after_ms,
        sip_code=row.sip_code,
        q850_cause=row.q850_cause,
        text=detail.value,
    )
