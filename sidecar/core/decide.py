"""`decide(call, event, policy, load) -> (call, commands)`: the only place where one thing leads to another.

A call moves along its phases, left to right, and never back:

    admitting ─Admitted─> routing ─AnswerHeld─> answering ─AnswerRelayed─> talking ─┐
        └──────────┴─────────────────┴───────────── first cause ────────────────────┴─> ending ─legs closed─> ended

TABLE says which events each phase knows; what it does not name is ignored there, because on the wire anything may come
late or twice. The first cause is written once, on the way into `ending`; what comes after it can add evidence (a crossing
BYE, a late 2xx, a proof of life), never another cause. Evidence that comes after the record gives a new revision of it.

What must be on disk before something leaves is asked for in one decision, and the store's answer is the event that leads
to the next: Route only follows Admitted, RelayAnswer only follows AnswerRecorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from sidecar.core.admit import (
    Decision,
    begin_attempt,
    free_gateways,
    refuse,
    ring_deadline,
    route_command,
    talk_deadline,
)
from sidecar.core.call import Attempt, Call, Phase, Stamp
from sidecar.core.commands import (
    Append,
    Command,
    EntryKind,
    Publish,
    RelayAnswer,
    RelayFailure,
    Release,
    Settle,
    StoreCommand,
    Suppress,
)
from sidecar.core.dialog import Signal, after
from sidecar.core.events import (
    AckReceived,
    Admitted,
    AnswerDropped,
    AnswerHeld,
    AnswerRecorded,
    AnswerRelayed,
    ByeReceived,
    CallFoundOpen,
    CallLost,
    CancelReceived,
    CreditRefused,
    DeadlineReached,
    Event,
    InviteReceived,
    LegTerminated,
    Life,
    ProvisionalReceived,
    ReleaseRequested,
    RouteFailed,
    SessionRefreshed,
    StepFailed,
    TargetRefreshed,
    TransportFailed,
    WaitElapsed,
)
from sidecar.core.hangup import (
    CALLEE,
    CALLER,
    SERVER,
    Hangup,
    hangup,
    q850_of_reasons,
    q850_of_sip,
    ring_timeout_cause,
)
from sidecar.core.policy import Load, Policy, ProxyHangup
from sidecar.core.records import cdr_of, sell_total
from sidecar.core.terms import DeadlineKind, Detail, DialogState, Evidence, LegName, RouteFailure

Handler = Callable[[Call, Any, Policy, Load], Decision]
_NONE: tuple[Command, ...] = ()
_CHALLENGES = frozenset({401, 407, 422})
_DETAIL_OF_DEADLINE = {
    DeadlineKind.MAX_DURATION: Detail.MAX_DURATION,
    DeadlineKind.GRANT: Detail.GRANT_USED_UP,
    DeadlineKind.NO_ACK: Detail.NO_ACK,
}


def decide(call: Call, event: Event, policy: Policy, load: Load) -> Decision:
    """The next state of the call and what is to be done. Pure; raises only where a promise of ours is broken."""
    handler = TABLE[call.phase].get(type(event))
    return (call, _NONE) if handler is None else handler(call, event, policy, load)


# --- the way of a call -----------------------------------------------------------------------------------------------


def _admitted(call: Call, event: Admitted, policy: Policy, _: Load) -> Decision:
    call = replace(call, phase=Phase.ROUTING, granted_s=event.granted_s, reserved=event.reserved)
    return call, (ring_deadline(call, policy), route_command(call, policy))


def _provisional(call: Call, event: ProvisionalReceived, _policy: Policy, _load: Load) -> Decision:
    stamp = _stamp(event)
    attempt = _current(call)
    if attempt.number != event.attempt:
        return call, _NONE
    call = _with_attempt(call, replace(attempt, heard_code=max(attempt.heard_code, event.sip_code)))
    return replace(
        call,
        state_a=after(call.state_a, Signal.PROVISIONAL),
        state_b=after(call.state_b, Signal.PROVISIONAL),
        first_heard=call.first_heard or stamp,
        ringing=call.ringing or (stamp if event.sip_code == 180 else None),
    ), _NONE


def _answer_held(call: Call, event: AnswerHeld, _policy: Policy, _load: Load) -> Decision:
    stamp = _stamp(event)
    attempt = _current(call)
    if attempt.number != event.attempt:
        return call, _NONE
    call = _with_attempt(call, replace(attempt, leg=event.leg, sip_code=event.sip_code))
    call = replace(
        call,
        phase=Phase.ANSWERING,
        b_answered=stamp,
        first_heard=call.first_heard or stamp,
        state_b=after(call.state_b, Signal.ANSWER),
    )
    return call, (Append(kind=EntryKind.ANSWERED, call=call),)


def _answer_recorded(call: Call, _event: AnswerRecorded, policy: Policy, _: Load) -> Decision:
    return call, (talk_deadline(call, policy), RelayAnswer(bridge_id=call.bridge_id))


def _answer_relayed(call: Call, event: AnswerRelayed, _policy: Policy, _load: Load) -> Decision:
    return replace(
        call, phase=Phase.TALKING, answered=_stamp(event), state_a=after(call.state_a, Signal.ANSWER)
    ), _NONE


def _acknowledged(call: Call, event: AckReceived, _policy: Policy, _load: Load) -> Decision:
    if call.a_life is not None:
        return replace(call, a_life=_stamp(event)), _NONE
    call = replace(call, a_life=_stamp(event))
    return call, (Append(kind=EntryKind.ESTABLISHED, call=call),)


def _life(call: Call, event: Life, _policy: Policy, _load: Load) -> Decision:
    return _alive(call, event.leg_name, _stamp(event)), _NONE


def _session_refreshed(call: Call, event: SessionRefreshed, _policy: Policy, _load: Load) -> Decision:
    stamp = _stamp(event)
    return replace(_alive(call, event.leg_name, stamp), refreshed=stamp), _NONE


def _target_refreshed(call: Call, event: TargetRefreshed, _policy: Policy, _load: Load) -> Decision:
    change = {
        "remote_target": event.remote_target,
        "local_cseq": event.local_cseq,
        "remote_cseq": event.remote_cseq,
    }
    call = _alive(call, event.leg_name, _stamp(event))
    if event.leg_name is LegName.A:
        call = replace(call, invite=replace(call.invite, leg=replace(call.invite.leg, **change)))
    else:
        attempt = _current(call)
        call = _with_attempt(call, replace(attempt, leg=replace(attempt.leg, **change)))
    return call, (Append(kind=EntryKind.REFRESHED, call=call),)


# --- an attempt that failed ------------------------------------------------------------------------------------------


def _route_failed(call: Call, event: RouteFailed, policy: Policy, load: Load) -> Decision:
    attempt = _current(call)
    if attempt.number != event.attempt:
        return call, _NONE
    call = _with_attempt(
        call,
        replace(attempt, ended=_stamp(event), sip_code=event.sip_code, failure=event.cause, reasons=event.reasons),
    )
    call = replace(call, state_b=after(call.state_b, Signal.CLOSED))
    free = free_gateways(call.gateways, policy, load) if _may_fail_over(event) else ()
    if free:
        call = begin_attempt(call, free, event, policy)
        return call, (route_command(call, policy), Append(kind=EntryKind.ATTEMPT, call=call))
    if event.cause is not RouteFailure.FINAL_RESPONSE:
        return _release(call, event, Detail.GATEWAY_UNREACHABLE, Evidence.TIMER, policy)
    return _rejected(call, event, policy)


def _may_fail_over(event: RouteFailed) -> bool:
    """Another gateway can help where this one failed, not where the callee answered: no answer at all, or 5xx. Never
    after A has heard early media or a reliable provisional, whose offer and answer another gateway cannot continue."""
    if event.early_media_relayed:
        return False
    return event.cause is not RouteFailure.FINAL_RESPONSE or 500 <= event.sip_code <= 599


def _rejected(call: Call, event: RouteFailed, policy: Policy) -> Decision:
    # RFC 3261 §21.5.4: a 503 of B says nothing about this node, so A sees a 500 and goes on sending calls here.
    # A redirection is not followed and not shown: its Contact would take the call past the bill.
    shown = 480 if event.sip_code < 400 else 500 if event.sip_code == 503 and not policy.pass_503 else 0
    relay = RelayFailure(bridge_id=call.bridge_id, sip_code=shown, keep_retry_after=policy.pass_503)
    if event.sip_code in _CHALLENGES:
        return replace(call, phase=Phase.AWAITING_RETRY), (relay,)
    ending, commands = _end(call, event, _rejection(event, policy))
    return ending, (relay, *commands)


def _rejection(event: RouteFailed, policy: Policy) -> Hangup:
    cause = q850_of_reasons(event.reasons) or q850_of_sip(event.sip_code, policy.q850_of_sip)
    return hangup(CALLEE, Detail.REJECTED, Evidence.MESSAGE, sip_code=event.sip_code, q850_cause=cause)


def _retried(call: Call, event: InviteReceived, policy: Policy, load: Load) -> Decision:
    """The challenged caller came back with its credentials: the same call goes on, to the gateway that challenged."""
    again = (call.attempts[-1].gateway,)
    free = free_gateways(again, policy, load)
    call = replace(call, phase=Phase.ROUTING, bridge_id=event.bridge_id, invite=event, state_a=DialogState.PROCEEDING)
    if not free:
        return _release(call, event, Detail.GATEWAY_LIMIT, Evidence.MESSAGE, policy)
    call = begin_attempt(call, free, event, policy)
    return call, (
        ring_deadline(call, policy),
        route_command(call, policy),
        Append(kind=EntryKind.ATTEMPT, call=call),
    )


def _not_retried(call: Call, event: WaitElapsed, policy: Policy, _: Load) -> Decision:
    attempt = call.attempts[-1]
    cause = q850_of_reasons(attempt.reasons) or q850_of_sip(attempt.sip_code, policy.q850_of_sip)
    verdict = hangup(CALLEE, Detail.REJECTED, Evidence.MESSAGE, sip_code=attempt.sip_code, q850_cause=cause)
    ended = replace(call, hangup=verdict, ended=attempt.ended or _stamp(event))
    return _record(ended, policy)


# --- first causes ----------------------------------------------------------------------------------------------------


def _credit_refused(call: Call, event: CreditRefused, policy: Policy, _: Load) -> Decision:
    return refuse(call, Detail.NO_CREDIT, policy, event)


def _admission_failed(call: Call, event: StepFailed, policy: Policy, _: Load) -> Decision:
    return refuse(call, Detail.JOURNAL, policy, event)


def _answer_failed(call: Call, event: StepFailed, policy: Policy, _: Load) -> Decision:
    return _release(call, event, Detail.JOURNAL, Evidence.MESSAGE, policy)


def _cancelled(call: Call, event: CancelReceived, policy: Policy, _: Load) -> Decision:
    proxy = _proxy_hangup(call.invite.peer, event, policy)
    cause = q850_of_reasons(event.reasons) or 0
    if proxy is not None:
        verdict = hangup(SERVER, proxy.detail, Evidence.MESSAGE, q850_cause=cause, proxy=call.invite.peer)
    else:
        verdict = hangup(CALLER, Detail.CANCEL, Evidence.MESSAGE, q850_cause=cause)
    if call.phase is Phase.ANSWERING:
        verdict = replace(verdict, glare=True)
    return _end(call, event, verdict)


def _bye(call: Call, event: ByeReceived, policy: Policy, _: Load) -> Decision:
    """BYE in a call that was answered; on B also while its answer is held (then A was told 480), on A also before."""
    peer = call.invite.peer if event.leg_name is LegName.A else _current(call).gateway
    proxy = _proxy_hangup(peer, event, policy)
    cause = q850_of_reasons(event.reasons) or 0
    code = 480 if call.phase is Phase.ANSWERING and event.leg_name is LegName.B else 0
    if proxy is not None:
        verdict = hangup(SERVER, proxy.detail, Evidence.MESSAGE, q850_cause=cause, proxy=peer)
    else:
        origin = CALLER if event.leg_name is LegName.A else CALLEE
        verdict = hangup(origin, Detail.BYE, Evidence.MESSAGE, sip_code=code, q850_cause=cause)
    return _end(_alive(call, event.leg_name, _stamp(event)), event, verdict)


def _proxy_hangup(peer: str, event: CancelReceived | ByeReceived, policy: Policy) -> ProxyHangup | None:
    trusted = policy.peers.get(peer)
    if trusted is None:
        return None
    headers = (*event.headers, *(("reason", value) for value in event.reasons))
    return next(
        (
            rule
            for rule in trusted.proxy_hangups
            for name, value in headers
            if rule.header == name and rule.contains in value
        ),
        None,
    )


def _deadline(call: Call, event: DeadlineReached, policy: Policy, _: Load) -> Decision:
    if event.kind is DeadlineKind.RING:
        if call.phase is not Phase.ROUTING:
            return call, _NONE  # the answer was quicker
        cause = ring_timeout_cause(event.heard_code)
        return _release(call, event, Detail.RING_TIMEOUT, Evidence.TIMER, policy, cause)
    detail = _DETAIL_OF_DEADLINE.get(event.kind)
    if detail is None:
        # HOLD: either the journal took too long over a step, or we owed a decision and did not make it.
        waiting = call.phase in (Phase.ADMITTING, Phase.ANSWERING)
        detail = Detail.JOURNAL if waiting else Detail.INTERNAL_ERROR
    return _end(call, event, hangup(SERVER, detail, Evidence.TIMER))


def _transport_failed(call: Call, event: TransportFailed, policy: Policy, _: Load) -> Decision:
    return _release(call, event, Detail.TRANSPORT_LOST, Evidence.MESSAGE, policy)


def _release_requested(call: Call, event: ReleaseRequested, policy: Policy, _: Load) -> Decision:
    verdict = hangup(
        SERVER, event.detail, Evidence.MESSAGE, operator=event.operator, operator_text=event.text or None
    )
    return _release_with(call, event, verdict)


def _lost(call: Call, event: CallLost, policy: Policy, _: Load) -> Decision:
    return _release(call, event, Detail.INTERNAL_ERROR, Evidence.MESSAGE, policy)


def _found_open(call: Call, event: CallFoundOpen, policy: Policy, _: Load) -> Decision:
    """At start: no leg of this call is ours any more. A cause that was already journaled stays the cause."""
    if call.hangup is None:
        verdict = hangup(SERVER, Detail.CRASH_RECOVERED, Evidence.HEARTBEAT)
        call = replace(call, hangup=verdict, ended=_not_before(call, _stamp(event)))
    closed = replace(call, state_a=DialogState.TERMINATED, state_b=DialogState.TERMINATED)
    return _record(closed, policy)


def _not_before(call: Call, heartbeat: Stamp) -> Stamp:
    """The last heartbeat, or the call's own last stamp where that is later."""
    invited = Stamp(call.invite.mono_ns, call.invite.wall_ns)
    known = (invited, call.b_answered, call.answered, call.a_life, call.b_life, heartbeat)
    return max((stamp for stamp in known if stamp is not None), key=lambda stamp: stamp.mono_ns)


def _release(
    call: Call, event: Event, detail: Detail, evidence: Evidence, policy: Policy, q850_cause: int = 0
) -> Decision:
    return _release_with(call, event, hangup(SERVER, detail, evidence, q850_cause=q850_cause))


def _release_with(call: Call, event: Event, verdict: Hangup) -> Decision:
    release = Release(
        bridge_id=call.bridge_id,
        sip_code=verdict.sip_code,
        q850_cause=verdict.q850_cause,
        text=verdict.detail.value,
    )
    ending, commands = _end(call, event, verdict)
    return ending, (release, *commands)


def _end(call: Call, event: Event, verdict: Hangup) -> Decision:
    """Write the first cause. The entry makes it survive a crash while the legs close."""
    if call.hangup is not None:
        raise AssertionError(f"a second cause ({verdict.detail}) for a call that ended by {call.hangup.detail}")
    call = replace(call, phase=Phase.ENDING, hangup=verdict, ended=_stamp(event))
    return call, (Append(kind=EntryKind.ENDING, call=call),)


# --- after the first cause -------------------------------------------------------------------------------------------


def _leg_terminated(call: Call, event: LegTerminated, policy: Policy, _: Load) -> Decision:
    call = _closed(call, event)
    if call.phase is Phase.ENDING and _legs_closed(call):
        return _record(call, policy)
    return call, _NONE


def _leg_gone(call: Call, event: LegTerminated, policy: Policy, _: Load) -> Decision:
    """A leg closed although nothing had ended the call: ours to explain once both are gone."""
    call = _closed(call, event)
    if not _legs_closed(call):
        return call, _NONE
    ending, _commands = _end(call, event, hangup(SERVER, Detail.INTERNAL_ERROR, Evidence.MESSAGE))
    return _record(ending, policy)


def _leg_closed(call: Call, event: LegTerminated, _policy: Policy, _load: Load) -> Decision:
    return _closed(call, event), _NONE


def _late_ack(call: Call, event: AckReceived, _policy: Policy, _load: Load) -> Decision:
    return _alive(call, LegName.A, _stamp(event)), _NONE


def _crossing_bye(call: Call, event: ByeReceived, _policy: Policy, _load: Load) -> Decision:
    return _with_glare(_alive(call, event.leg_name, _stamp(event))), _NONE


def _with_glare(call: Call) -> Call:
    """Messages of both sides crossed: BYE and BYE, or CANCEL and 2xx."""
    if call.hangup is None or call.hangup.glare:
        return call
    return replace(call, hangup=replace(call.hangup, glare=True))


def _answer_dropped(call: Call, event: AnswerDropped, _policy: Policy, _load: Load) -> Decision:
    return _late_answer(call, event), _NONE


def _wait_elapsed(call: Call, _event: WaitElapsed, policy: Policy, _: Load) -> Decision:
    return _record(call, policy)


def _record(call: Call, policy: Policy) -> Decision:
    """Hand the call to the store: what it costs, and the record or the reason why there is none."""
    call = replace(call, phase=Phase.ENDED)
    cdr = cdr_of(call, policy)
    commands: list[StoreCommand] = []
    total = sell_total(cdr)
    # A prepaid call is settled even if its reservation has not been reported yet: the store works in order, and a
    # reservation that nobody returns would leak.
    if total is not None or call.account.prepaid or call.revision:
        commands.append(Settle(call_id=call.call_id, account=call.account.name, total=total))
    commands.append(Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr))
    return call, tuple(commands)


def _revise(before: Call, call: Call, policy: Policy) -> Decision:
    """Evidence that came after the record: restate it, if it says anything new."""
    if call == before:
        return call, _NONE
    return _record(replace(call, revision=call.revision + 1), policy)


def _late_leg_terminated(call: Call, event: LegTerminated, policy: Policy, _: Load) -> Decision:
    closed = _closed(call, event)
    if call.answered is not None and call.a_life is None and closed.a_life is not None:
        return _record(replace(closed, revision=call.revision + 1), policy)
    return closed, _NONE


def _late_bye(call: Call, event: ByeReceived, policy: Policy, load: Load) -> Decision:
    return _revise(call, _with_glare(call), policy)


def _late_answer_dropped(call: Call, event: AnswerDropped, policy: Policy, load: Load) -> Decision:
    return _revise(call, _late_answer(call, event), policy)


def _late_admission(call: Call, event: Admitted, policy: Policy, _: Load) -> Decision:
    """The caller was quicker than the disk: the call ended while it was being admitted."""
    return replace(call, granted_s=event.granted_s, reserved=event.reserved), _NONE


# --- helpers ---------------------------------------------------------------------------------------------------------


def _stamp(event: Event) -> Stamp:
    return Stamp(event.mono_ns, event.wall_ns)


def _current(call: Call) -> Attempt:
    return call.attempts[-1]


def _with_attempt(call: Call, attempt: Attempt) -> Call:
    """The call with one of its attempts replaced by number."""
    return replace(
        call, attempts=tuple(attempt if one.number == attempt.number else one for one in call.attempts)
    )


def _late_answer(call: Call, event: AnswerDropped) -> Call:
    attempt = next((one for one in call.attempts if one.number == event.attempt), None)
    if attempt is None or attempt.late_answer is not None:
        return call
    if call.hangup is not None and call.hangup.detail is Detail.CANCEL and attempt is call.attempts[-1]:
        call = _with_glare(call)
    return _with_attempt(call, replace(attempt, late_answer=_stamp(event)))


def _alive(call: Call, leg: LegName, stamp: Stamp) -> Call:
    if leg is LegName.B:
        return replace(call, b_life=stamp)
    return replace(call, a_life=stamp) if call.answered is not None else call


def _closed(call: Call, event: LegTerminated) -> Call:
    if event.alive:
        call = _alive(call, event.leg_name, _stamp(event))
    if event.leg_name is LegName.A:
        return replace(call, state_a=DialogState.TERMINATED)
    return replace(call, state_b=DialogState.TERMINATED)


def _legs_closed(call: Call) -> bool:
    return call.state_a is DialogState.TERMINATED and call.state_b is DialogState.TERMINATED


def is_over(call: Call) -> bool:
    """Recorded, and no leg of it is left: the runtime may forget it."""
    return call.phase is Phase.ENDED and _legs_closed(call)


_ANY_TIME: Mapping[type[Event], Handler] = {
    ReleaseRequested: _release_requested,
    CallLost: _lost,
    TransportFailed: _transport_failed,
    DeadlineReached: _deadline,
    LegTerminated: _leg_gone,
    AnswerDropped: _answer_dropped,
}
_IN_DIALOG: Mapping[type[Event], Handler] = {
    AckReceived: _acknowledged,
    Life: _life,
    SessionRefreshed: _session_refreshed,
    TargetRefreshed: _target_refreshed,
}

TABLE: Mapping[Phase, Mapping[type[Event], Handler]] = {
    Phase.ADMITTING: {
        **_ANY_TIME,
        Admitted: _admitted,
        CreditRefused: _credit_refused,
        StepFailed: _admission_failed,
        CancelReceived: _cancelled,
        ByeReceived: _bye,
        CallFoundOpen: _found_open,
    },
    Phase.ROUTING: {
        **_ANY_TIME,
        ProvisionalReceived: _provisional,
        AnswerHeld: _answer_held,
        RouteFailed: _route_failed,
        CancelReceived: _cancelled,
        ByeReceived: _bye,  # RFC 3261 §15: a caller may end an early dialog with BYE
        CallFoundOpen: _found_open,
    },
    Phase.ANSWERING: {
        **_ANY_TIME,
        **_IN_DIALOG,
        AnswerRecorded: _answer_recorded,
        StepFailed: _answer_failed,
        AnswerRelayed: _answer_relayed,
        CancelReceived: _cancelled,
        ByeReceived: _bye,
        CallFoundOpen: _found_open,
    },
    Phase.TALKING: {
        **_ANY_TIME,
        **_IN_DIALOG,
        ByeReceived: _bye,
        CallFoundOpen: _found_open,
    },
    Phase.AWAITING_RETRY: {
        InviteReceived: _retried,
        LegTerminated: _leg_closed,
        WaitElapsed: _not_retried,
        ReleaseRequested: _release_requested,
        CallFoundOpen: _found_open,
    },
    Phase.ENDING: {
        Admitted: _late_admission,
        LegTerminated: _leg_terminated,
        ByeReceived: _crossing_bye,
        AckReceived: _late_ack,
        Life: _life,
        AnswerDropped: _answer_dropped,
        WaitElapsed: _wait_elapsed,
        CallFoundOpen: _found_open,
    },
    Phase.ENDED: {
        LegTerminated: _late_leg_terminated,
        ByeReceived: _late_bye,
        AnswerDropped: _late_answer_dropped,
    },
}
