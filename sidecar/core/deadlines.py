"""How long a call may last: what the bridge is told to watch over by itself."""

from __future__ import annotations

from sidecar.core.call import Call
from sidecar.core.commands import ArmDeadline
from sidecar.core.hangup import SERVER, TABLE
from sidecar.core.policy import Gateway, Policy
from sidecar.core.terms import DeadlineKind, Detail, MaxDurationOf


def max_duration_ms(call: Call, policy: Policy) -> int:
    """The least maximum of those that hold wherever the call goes: the gateway's is not among them."""
    return _least(call, policy, None)[0]


def max_duration(call: Call, policy: Policy) -> tuple[int, MaxDurationOf]:
    """In milliseconds, and whose it is: the least of the node's, the account's, the rate's and that of the
    gateway that the call is at."""
    return _least(call, policy, policy.gateways.get(call.attempts[-1].gateway) if call.attempts else None)


def _least(call: Call, policy: Policy, gateway: Gateway | None) -> tuple[int, MaxDurationOf]:
    """Of two that are equal the more particular one."""
    rate = call.pricing.rate
    given = (
        (rate.max_duration_s if rate is not None else None, MaxDurationOf.RATE),
        (gateway.max_duration_s if gateway is not None else None, MaxDurationOf.GATEWAY),
        (call.account.max_duration_s, MaxDurationOf.ACCOUNT),
    )
    known = [(longest_s * 1000, whose) for longest_s, whose in given if longest_s is not None]
    return min((*known, (policy.timers.max_duration_ms, MaxDurationOf.NODE)), key=lambda one: one[0])


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
    after_ms, kind, detail = max_duration(call, policy)[0], DeadlineKind.MAX_DURATION, Detail.MAX_DURATION
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
