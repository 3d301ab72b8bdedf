"""The answered call: who was heard of when, and how each dialog can be reached should this node crash."""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core.admit import Decision
from sidecar.core.call import Call, alive, stamp_of, with_attempt
from sidecar.core.commands import Append, EntryKind
from sidecar.core.events import AckReceived, BridgeEvent, Life, SessionRefreshed, TargetRefreshed
from sidecar.core.policy import Given
from sidecar.core.terms import LegName


def acknowledged(call: Call, event: AckReceived, _given: Given) -> Decision:
    return _heard(call, LegName.A, event)


def life(call: Call, event: Life, _given: Given) -> Decision:
    return _heard(call, event.leg_name, event)


def session_refreshed(call: Call, event: SessionRefreshed, _given: Given) -> Decision:
    return _heard(replace(call, refreshed=stamp_of(event)), event.leg_name, event)


def _heard(call: Call, leg_name: LegName, event: BridgeEvent) -> Decision:
    """A's first sign of life is what makes the call billable: it is journaled, and nobody waits for that."""
    after = alive(call, leg_name, stamp_of(event))
    if call.a_life is None and after.a_life is not None:
        return after, (Append(kind=EntryKind.ESTABLISHED, call=after),)
    return after, ()


def target_refreshed(call: Call, event: TargetRefreshed, _given: Given) -> Decision:
    change = {
        "remote_target": event.remote_target,
        "local_cseq": event.local_cseq,
        "remote_cseq": event.remote_cseq,
    }
    call = alive(call, event.leg_name, stamp_of(event))
    if event.leg_name is LegName.A:
        call = replace(call, invite=replace(call.invite, leg=replace(call.invite.leg, **change)))
    else:
        attempt = call.attempts[-1]
        call = with_attempt(call, replace(attempt, leg=replace(attempt.leg, **change)))
    return call, (Append(kind=EntryKind.REFRESHED, call=call),)
