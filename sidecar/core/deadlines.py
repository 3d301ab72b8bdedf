"""How long a call may last: what the bridge is told to watch over by itself."""

from __future__ import annotations

from sidecar.core.call import Call
from sidecar.core.commands import ArmDeadline
from sidecar.core.credit import guard_ms
from sidecar.core.hangup import SERVER, TABLE
from sidecar.core.policy import Gateway, Given, Policy
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


def slice_until(begun_s: int, policy: Policy, longest_ms: int) -> int:
    """The end of the slice that begins at this second, in seconds: a started second of the maximum is granted
    whole."""
    return min(begun_s + policy.slice_s, -(-longest_ms // 1000))


def ring_deadline(call: Call, policy: Policy) -> ArmDeadline:
    """How long the whole set-up may take, over all attempts."""
    return _armed(call, DeadlineKind.RING, policy.timers.ring_timeout_ms, Detail.RING_TIMEOUT)


def talk_deadlines(call: Call, given: Given) -> tuple[ArmDeadline, ...]:
    """What ends the call, the shorter of its grant and the maximum duration, counted by the bridge from our
    2xx on leg A; and when its grant is to be extended, where it may be.

    Who reaches the end of such a grant has asked for more and heard nothing: what ends the call then, after
    `store_away_s` more, is that the books do not answer.
    """
    policy, longest_ms = given.policy, max_duration(call, given.policy)[0]
    if call.granted_s is not None and call.granted_s * 1000 < longest_ms:
        granted_ms = call.granted_s * 1000
        if call.final is not None:
            detail = Detail.GRANT_USED_UP if call.bounded_by is None else Detail.RULE
            return (_armed(call, DeadlineKind.GRANT, granted_ms, detail),)
        until_ms = granted_ms + policy.store_away_s * 1000
        extend = extend_deadline(
            call, max(0, granted_ms - guard_ms(policy.extend_guard_ms, given.load.store_ms))
        )
        if until_ms < longest_ms:
            return _armed(call, DeadlineKind.GRANT, until_ms, Detail.LEDGER_UNREACHABLE), extend
        return _armed(call, DeadlineKind.MAX_DURATION, longest_ms, Detail.MAX_DURATION), extend
    return (_armed(call, DeadlineKind.MAX_DURATION, longest_ms, Detail.MAX_DURATION),)


def extend_deadline(call: Call, after_ms: int) -> ArmDeadline:
    return _armed(call, DeadlineKind.EXTEND, after_ms, Detail.GRANT_USED_UP)


def _armed(call: Call, kind: DeadlineKind, after_ms: int, detail: Detail) -> ArmDeadline:
    row = TABLE[SERVER, detail]
    return ArmDeadline(
        bridge_id=call.bridge_id,
        kind=kind,
        after_ms=after_ms,
        sip_code=row.sip_code,
        q850_cause=row.q850_cause,
        text=detail.value,
    )
