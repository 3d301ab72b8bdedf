"""`decide(call, event, given) -> (call, commands)`: the only place where one thing leads to another.

A call moves along its phases, left to right, and never back (but for a challenged caller, who tries again):

    admitting ─Admitted─> routing ─AnswerHeld─> answering ─AnswerRelayed─> talking ─┐
        └────────────────────┴────────────────────┴───────── first cause ───────────┴─> ending ─> ended
                             └─401─> awaiting_retry ─InviteReceived─> routing

TABLE says which events each phase knows, and names the handler: `setting_up`, `talking`, `extending` and
`ending` hold them. What it does not name is ignored there, because on the wire anything may come late or
twice.

What must be on disk before something leaves is asked for in one decision, and the store's answer is the
event that leads to the next: Route only follows Admitted, RelayAnswer only follows AnswerRecorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from sidecar.core import ending, extending, keeping, recovery, setting_up, talking
from sidecar.core import events as on
from sidecar.core.admit import Decision
from sidecar.core.call import Call, Phase, legs_closed
from sidecar.core.policy import Given
from sidecar.core.terms import RouteFailure

Handler = Callable[[Call, Any, Given], Decision]
Handlers = Mapping[type[on.Event], Handler]

_ANY_TIME: Handlers = {
    on.ReleaseRequested: ending.release_requested,
    on.CallLost: ending.lost,
    on.TransportFailed: ending.transport_failed,
    on.DeadlineReached: ending.deadline,
    on.LegTerminated: ending.leg_gone,
    on.AnswerDropped: ending.answer_dropped,
    on.CallFoundOpen: ending.found_open,
}
_IN_DIALOG: Handlers = {
    on.AckReceived: talking.acknowledged,
    on.Life: talking.life,
    on.SessionRefreshed: talking.session_refreshed,
    on.TargetRefreshed: talking.target_refreshed,
}

TABLE: Mapping[Phase, Handlers] = {
    Phase.ADMITTING: {
        **_ANY_TIME,
        on.Admitted: setting_up.admitted,
        on.CreditRefused: setting_up.credit_refused,
        on.StepFailed: setting_up.admission_failed,
        on.CancelReceived: ending.cancelled,
        on.ByeReceived: ending.bye,
    },
    Phase.ROUTING: {
        **_ANY_TIME,
        on.ProvisionalReceived: setting_up.provisional,
        on.Forked: setting_up.forked,
        on.AnswerHeld: setting_up.answer_held,
        on.RouteFailed: setting_up.route_failed,
        on.CancelReceived: ending.cancelled,
        on.ByeReceived: ending.bye,  # RFC 3261 §15: a caller may end an early dialog with BYE
    },
    Phase.ANSWERING: {
        **_ANY_TIME,
        **_IN_DIALOG,
        on.AnswerRecorded: setting_up.answer_recorded,
        on.StepFailed: ending.answer_failed,
        on.AnswerRelayed: setting_up.answer_relayed,
        on.CancelReceived: ending.cancelled,
        on.ByeReceived: ending.bye,
    },
    Phase.TALKING: {
        **_ANY_TIME,
        **_IN_DIALOG,
        on.GrantExtended: extending.extended,
        on.StepFailed: extending.extension_failed,
        on.ByeReceived: ending.bye,
        on.CallKept: keeping.kept,
    },
    Phase.KEPT: {
        on.CallFoundOpen: keeping.found,
    },
    Phase.AWAITING_RETRY: {
        on.InviteReceived: setting_up.retried,
        on.LegTerminated: setting_up.leg_closed,
        on.ReleaseRequested: ending.release_requested,
        on.WaitElapsed: ending.not_retried,
        on.CallFoundOpen: ending.found_open,
    },
    Phase.ENDING: {
        on.Admitted: ending.late_grant,
        on.GrantExtended: ending.late_grant,
        on.StepFailed: ending.late_step_failed,
        on.AckReceived: ending.late_life,
        on.Life: ending.late_life,
        on.ByeReceived: ending.crossing_bye,
        on.CancelReceived: ending.crossing_cancel,
        on.ReleaseDue: recovery.release_due,
        on.AnswerHeld: ending.answer_dropped,
        on.AnswerDropped: ending.answer_dropped,
        on.RouteFailed: ending.late_failure,
        on.LegTerminated: ending.leg_terminated,
        on.WaitElapsed: ending.wait_elapsed,
        on.CallFoundOpen: ending.found_open,
    },
    Phase.ENDED: {
        on.LegTerminated: ending.late_leg_terminated,
        on.ByeReceived: ending.late_bye,
        on.AnswerHeld: ending.late_answer_dropped,
        on.AnswerDropped: ending.late_answer_dropped,
    },
}


def decide(call: Call, event: on.Event, given: Given) -> Decision:
    """The next state of the call and what is to be done. Pure; raises only where a promise of ours is
    broken."""
    handler = TABLE[call.phase].get(type(event))
    if handler is None or _is_stale(call, event):
        return call, ()
    if call.recovery is not None and call.recovery.shift_ns and not isinstance(event, on.CallFoundOpen):
        event = replace(event, mono_ns=event.mono_ns + call.recovery.shift_ns)
    return handler(call, event, given)


def _is_stale(call: Call, event: on.Event) -> bool:
    """Whether the event is of the challenged INVITE of a call that has gone on with the next one."""
    if not isinstance(event, on.BridgeEvent) or isinstance(event, on.InviteReceived):
        return False
    return event.bridge_id != call.bridge_id


def may_answer_late(call: Call) -> bool:
    """Whether an attempt was given up without a final response: its 2xx may still come, and belongs in the
    record."""
    return any(
        attempt.failure is RouteFailure.NO_RESPONSE and attempt.late_answer is None
        for attempt in call.attempts
    )


def is_over(call: Call) -> bool:
    """Recorded, and no leg of it is left: the runtime may forget it."""
    return call.phase is Phase.ENDED and legs_closed(call)
