"""The end of a call: its first cause, the evidence that follows, and the record.

Two doors lead in. `end` is for what a peer or the bridge did: the wire has moved already. `release` is for
what we do: the bridge is told first. Both write the cause once; what comes later can add evidence (a
crossing BYE, a late 2xx, a proof of life), never another cause. Evidence that comes after the record gives
a new revision of it.
"""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core import extending, recovery
from sidecar.core.admit import Decision
from sidecar.core.call import (
    Attempt,
    Call,
    Phase,
    Stamp,
    alive,
    closed,
    legs_closed,
    stamp_of,
    with_attempt,
    with_dead_peer,
)
from sidecar.core.commands import Append, Command, EntryKind, Publish, Release, Settle, StoreCommand, Suppress
from sidecar.core.deadlines import max_duration
from sidecar.core.events import (
    AckReceived,
    Admitted,
    AnswerDropped,
    AnswerHeld,
    ByeReceived,
    CallFoundOpen,
    CallLost,
    CancelReceived,
    DeadlineReached,
    Event,
    GrantExtended,
    LegTerminated,
    Life,
    ReleaseRequested,
    RouteFailed,
    StepFailed,
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
from sidecar.core.policy import Given, Policy, ProxyHangup
from sidecar.core.records import billable_ms, cdr_of, sell_total
from sidecar.core.terms import (
    DeadlineKind,
    Detail,
    DialogState,
    Evidence,
    HangupOrigin,
    LegName,
    ServerReason,
)

_NONE: tuple[Command, ...] = ()
_DETAIL_OF_DEADLINE = {
    DeadlineKind.MAX_DURATION: Detail.MAX_DURATION,
    DeadlineKind.NO_ACK: Detail.NO_ACK,
    DeadlineKind.DEAD_PEER: Detail.DEAD_PEER,
    DeadlineKind.SESSION_TIMER: Detail.SESSION_TIMER,
}


def end(call: Call, event: Event, cause: Hangup, policy: Policy) -> Decision:
    """Write the first cause. The entry makes it survive a crash while the legs close."""
    if call.hangup is not None:
        raise AssertionError(f"a second cause ({cause.detail}) for a call ended by {call.hangup.detail}")
    if call.phase is Phase.ADMITTING:
        # No INVITE has left on B, and none will: in ENDING, Admitted leads to no Route.
        call = replace(call, attempts=(), state_b=DialogState.TERMINATED)
    call = replace(call, phase=Phase.ENDING, hangup=cause, ended=stamp_of(event))
    if legs_closed(call):
        return record(call, policy)
    return call, (Append(kind=EntryKind.ENDING, call=call),)


def release(call: Call, event: Event, cause: Hangup, policy: Policy) -> Decision:
    """End the call ourselves: final response, CANCEL or BYE, whatever each leg needs."""
    command = Release(
        bridge_id=call.bridge_id,
        sip_code=cause.sip_code,
        q850_cause=cause.q850_cause,
        text=cause.detail.value,
    )
    ending, commands = end(call, event, cause, policy)
    return ending, (command, *commands)


def record(call: Call, policy: Policy) -> Decision:
    """Hand the call to the store: what it costs, and the record or the reason why there is none."""
    call = replace(recovery.weighed(call), phase=Phase.ENDED)
    cdr = cdr_of(call, policy)
    commands: list[StoreCommand] = []
    total = sell_total(cdr)
    # A call that reserves is settled even if that has not been reported yet: the store works in order, and a
    # reservation that nobody returns would leak.
    if total is not None or call.account.is_bounded or call.revision:
        commands.append(Settle(call_id=call.call_id, account=call.account.name, total=total))
    commands.append(Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr))
    return call, tuple(commands)


# --- first causes: what a peer did ----------------------------------------------------------------------


def cancelled(call: Call, event: CancelReceived, given: Given) -> Decision:
    cause = hangup(CALLER, Detail.CANCEL, Evidence.MESSAGE)
    if call.phase is Phase.ANSWERING:
        cause = replace(cause, glare=True)  # it crossed B's 2xx
    return end(call, event, _as_told(cause, event, call.invite.peer, given.policy), given.policy)


def bye(call: Call, event: ByeReceived, given: Given) -> Decision:
    """BYE in an answered call; from B also while its answer is held, from A also while the call rings."""
    cause = _bye_cause(call, event, given.policy)
    call = alive(call, event.leg_name, stamp_of(event))
    return end(call, event, cause, given.policy)


def _bye_cause(call: Call, event: ByeReceived, policy: Policy) -> Hangup:
    if event.leg_name is LegName.A:
        return _as_told(hangup(CALLER, Detail.BYE, Evidence.MESSAGE), event, call.invite.peer, policy)
    held = call.phase is Phase.ANSWERING  # A has no answer yet and was told 480
    cause = hangup(CALLEE, Detail.BYE, Evidence.MESSAGE, sip_code=480 if held else 0)
    return _as_told(cause, event, _callee_peer(call, policy), policy)


def rejected(call: Call, event: RouteFailed, policy: Policy) -> Decision:
    attempt = call.attempts[-1]
    cause = _as_told(rejection(attempt, policy), event, _callee_peer(call, policy), policy)
    return end(call, event, cause, policy)


def _callee_peer(call: Call, policy: Policy) -> str:
    gateway = policy.gateways.get(call.attempts[-1].gateway)
    return gateway.peer if gateway is not None else ""


def rejection(attempt: Attempt, policy: Policy) -> Hangup:
    """The first cause of a call whose last attempt got a final response >= 300."""
    q850_cause = q850_of_reasons(attempt.reasons) or q850_of_sip(attempt.sip_code, policy.q850_of_sip)
    return hangup(CALLEE, Detail.REJECTED, Evidence.MESSAGE, sip_code=attempt.sip_code, q850_cause=q850_cause)


def _as_told(
    cause: Hangup, event: CancelReceived | ByeReceived | RouteFailed, peer: str, policy: Policy
) -> Hangup:
    """The cause with what the message itself says: a received Q.850 Reason beats the mapping, and a trusted
    proxy may say that it was the one who ended the call."""
    q850_cause = q850_of_reasons(event.reasons) or 0
    proxy = _proxy_hangup(peer, event, policy)
    if proxy is None:
        return replace(cause, q850_cause=q850_cause) if q850_cause else cause
    sip_code = event.sip_code if isinstance(event, RouteFailed) else 0
    told = hangup(
        SERVER, proxy.detail, Evidence.MESSAGE, sip_code=sip_code, q850_cause=q850_cause, proxy=peer
    )
    return replace(told, glare=cause.glare)


def _proxy_hangup(
    peer: str, event: CancelReceived | ByeReceived | RouteFailed, policy: Policy
) -> ProxyHangup | None:
    trusted = policy.peers.get(peer)
    if trusted is None or not trusted.proxy_hangups:
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


# --- first causes: what we did, or must answer for ------------------------------------------------------


def deadline(call: Call, event: DeadlineReached, given: Given) -> Decision:
    if event.kind is DeadlineKind.RING:
        return _ring_timeout(call, event, given.policy) if call.phase is Phase.ROUTING else (call, _NONE)
    if event.kind is DeadlineKind.EXTEND:
        return extending.due(call, event, given)
    if event.kind is DeadlineKind.HOLD:
        # Either the journal took too long over a step, or we owed a decision and did not make it.
        waiting = call.phase in (Phase.ADMITTING, Phase.ANSWERING)
        detail = Detail.JOURNAL if waiting else Detail.INTERNAL_ERROR
    elif event.kind is DeadlineKind.GRANT:
        detail = extending.cause_of_end(call, event)
    else:
        detail = _DETAIL_OF_DEADLINE[event.kind]
    if event.silence is not None:
        call = with_dead_peer(call, event.silence, stamp_of(event), given.policy.flags.dead_peer_billing)
    whose = max_duration(call, given.policy)[1] if detail is Detail.MAX_DURATION else None
    rule = call.bounded_by if detail is Detail.RULE else None
    cause = hangup(SERVER, detail, Evidence.TIMER, max_duration_of=whose, rule=rule)
    return end(call, event, cause, given.policy)


def _ring_timeout(call: Call, event: DeadlineReached, policy: Policy) -> Decision:
    attempt = call.attempts[-1]
    heard_code = attempt.heard_code or event.heard_code
    call = with_attempt(call, replace(attempt, heard_code=heard_code))
    cause = hangup(SERVER, Detail.RING_TIMEOUT, Evidence.TIMER, q850_cause=ring_timeout_cause(heard_code))
    return release(call, event, cause, policy)


def unreachable(call: Call, event: RouteFailed, policy: Policy) -> Decision:
    return release(call, event, hangup(SERVER, Detail.GATEWAY_UNREACHABLE, Evidence.TIMER), policy)


def answer_failed(call: Call, event: StepFailed, given: Given) -> Decision:
    return release(call, event, hangup(SERVER, Detail.JOURNAL, Evidence.MESSAGE), given.policy)


def transport_failed(call: Call, event: TransportFailed, given: Given) -> Decision:
    return release(call, event, hangup(SERVER, Detail.TRANSPORT_LOST, Evidence.MESSAGE), given.policy)


def release_requested(call: Call, event: ReleaseRequested, given: Given) -> Decision:
    cause = hangup(
        SERVER,
        event.detail,
        Evidence.MESSAGE,
        operator=event.operator,
        operator_text=event.text or None,
        rule=event.rule,
    )
    if call.is_emergency and cause.reason is not ServerReason.ADMIN:  # no rule ends an emergency call
        return call, _NONE
    return release(call, event, cause, given.policy)


def lost(call: Call, event: CallLost, given: Given) -> Decision:
    return release(call, event, hangup(SERVER, Detail.INTERNAL_ERROR, Evidence.MESSAGE), given.policy)


def leg_gone(call: Call, event: LegTerminated, given: Given) -> Decision:
    """A leg closed although nothing had ended the call: ours to explain once both are gone."""
    call = closed(call, event)
    if not legs_closed(call):
        return call, _NONE
    return end(call, event, hangup(SERVER, Detail.INTERNAL_ERROR, Evidence.MESSAGE), given.policy)


def not_retried(call: Call, event: WaitElapsed, given: Given) -> Decision:
    return _rejected_by_challenge(call, event, given.policy)


def _rejected_by_challenge(call: Call, event: Event, policy: Policy) -> Decision:
    """The challenged caller did not come back: the challenge was the callee's last word."""
    attempt = call.attempts[-1]
    ended = replace(call, hangup=rejection(attempt, policy), ended=attempt.ended or stamp_of(event))
    return record(ended, policy)


def found_open(found: Call, event: CallFoundOpen, given: Given) -> Decision:
    """At start: its legs are adopted, and released in their turn (ReleaseDue). A cause that was already
    journaled stays the cause."""
    if found.phase is Phase.AWAITING_RETRY:  # A has had its final response
        closed_call = replace(found, state_a=DialogState.TERMINATED, state_b=DialogState.TERMINATED)
        return _rejected_by_challenge(closed_call, event, given.policy)
    call = recovery.begin(found, _last_known(found, stamp_of(event)), event.shift_ns, given.policy)
    if legs_closed(call):
        return record(call, given.policy)
    return call, (recovery.adopt(found, call, given.policy),)


def _last_known(call: Call, heartbeat: Stamp) -> Stamp:
    """The last heartbeat, or the call's own last stamp where that is later."""
    invited = Stamp(call.invite.mono_ns, call.invite.wall_ns)
    tried = tuple(attempt.started for attempt in call.attempts)
    seen = (call.ringing, call.b_answered, call.answered, call.a_life, call.b_life, heartbeat)
    known = (invited, *tried, *(stamp for stamp in seen if stamp is not None))
    return max(known, key=lambda stamp: stamp.mono_ns)


# --- evidence after the first cause ---------------------------------------------------------------------


def late_grant(call: Call, event: Admitted | GrantExtended, _given: Given) -> Decision:
    """A peer was quicker than the disk: the call ended while it was being admitted, or its grant extended."""
    return replace(call, granted_s=event.granted_s, reserved=event.reserved, extending=None), _NONE


def late_step_failed(call: Call, _event: StepFailed, _given: Given) -> Decision:
    """The end does not depend on it any more."""
    return call, _NONE


def late_life(call: Call, event: AckReceived | Life, _given: Given) -> Decision:
    leg_name = event.leg_name if isinstance(event, Life) else LegName.A
    return alive(call, leg_name, stamp_of(event)), _NONE


def leg_terminated(call: Call, event: LegTerminated, given: Given) -> Decision:
    call = closed(call, event)
    return record(call, given.policy) if legs_closed(call) else (call, _NONE)


def wait_elapsed(call: Call, _event: WaitElapsed, given: Given) -> Decision:
    return record(call, given.policy)


def crossing_bye(call: Call, event: ByeReceived, given: Given) -> Decision:
    if recovery.is_unexplained(call):
        return recovery.ended_by_peer(call, event, _bye_cause(call, event, given.policy)), _NONE
    return _crossed(alive(call, event.leg_name, stamp_of(event)), event), _NONE


def crossing_cancel(call: Call, event: CancelReceived, given: Given) -> Decision:
    """Of a call of an earlier boot; else its 487 is on the way already."""
    if not recovery.is_unexplained(call):
        return call, _NONE
    cause = _as_told(hangup(CALLER, Detail.CANCEL, Evidence.MESSAGE), event, call.invite.peer, given.policy)
    return recovery.ended_by_peer(call, event, cause), _NONE


def answer_dropped(call: Call, event: AnswerDropped | AnswerHeld, _given: Given) -> Decision:
    return _late_answer(call, event), _NONE


def late_failure(call: Call, event: RouteFailed, _given: Given) -> Decision:
    """B's failure crossed our own end of the call: noted with its attempt."""
    attempt = call.attempts[-1] if call.attempts else None
    if attempt is None or attempt.number != event.attempt or attempt.ended is not None:
        return call, _NONE
    return with_attempt(call, failed(attempt, event)), _NONE


def failed(attempt: Attempt, event: RouteFailed) -> Attempt:
    """The attempt with what ended it."""
    return replace(
        attempt,
        ended=stamp_of(event),
        sip_code=event.sip_code,
        failure=event.cause,
        reasons=event.reasons,
        heard_code=attempt.heard_code or event.heard_code,
    )


def _crossed(call: Call, event: ByeReceived) -> Call:
    """Messages of both sides crossed. The BYE of the side that ended the call is no second side."""
    side = HangupOrigin.CALLER if event.leg_name is LegName.A else HangupOrigin.CALLEE
    cause = call.hangup
    if cause is None or cause.glare or cause.refused or cause.origin is side:
        return call
    return replace(call, hangup=replace(cause, glare=True))


def _late_answer(call: Call, event: AnswerDropped | AnswerHeld) -> Call:
    attempt = next((tried for tried in call.attempts if tried.number == event.attempt), None)
    tag = event.leg.remote_tag
    if attempt is None or tag in attempt.dropped_tags:
        return call
    first = attempt.late_answer is None
    if (
        first
        and call.hangup is not None
        and call.hangup.detail is Detail.CANCEL
        and attempt is call.attempts[-1]
    ):
        call = replace(call, hangup=replace(call.hangup, glare=True))
    late_answer = stamp_of(event) if first else attempt.late_answer
    dropped_tags = (*attempt.dropped_tags, tag)
    return with_attempt(call, replace(attempt, late_answer=late_answer, dropped_tags=dropped_tags))


# --- evidence after the record --------------------------------------------------------------------------


def late_leg_terminated(call: Call, event: LegTerminated, given: Given) -> Decision:
    return _revised(call, closed(call, event), given.policy, event)


def late_bye(call: Call, event: ByeReceived, given: Given) -> Decision:
    return _revised(call, _crossed(alive(call, event.leg_name, stamp_of(event)), event), given.policy, event)


def late_answer_dropped(call: Call, event: AnswerDropped | AnswerHeld, given: Given) -> Decision:
    return _revised(call, _late_answer(call, event), given.policy, event)


def _revised(before: Call, after: Call, policy: Policy, event: Event) -> Decision:
    """Restate the record if the evidence changes what it says: that messages crossed, a late 2xx, or a proof
    that A had our 2xx, or lived for longer than was billed."""
    after = recovery.weighed(after)
    if _said(after) == _said(before):
        return after, _NONE
    return record(replace(after, revision=after.revision + 1, revised=stamp_of(event)), policy)


def _said(call: Call) -> tuple[object, ...]:
    assert call.hangup is not None, "the record of a call without a cause"
    challenged = call.a_bye_challenge, call.b_bye_challenge
    late = (attempt.dropped_tags for attempt in call.attempts)
    return call.hangup, billable_ms(call, call.hangup), challenged, *late
