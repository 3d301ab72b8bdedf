"""Setting a call up: routed once it is admitted, tried at one gateway after another, answered or challenged.

Its own order is the promise: Route only follows Admitted, RelayAnswer only follows AnswerRecorded.
"""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core.admit import (
    Decision,
    above_margin_floor,
    begin_attempt,
    refuse,
    route_command,
    server_for,
    servers_tried,
)
from sidecar.core.call import Call, Phase, closed, stamp_of, with_attempt
from sidecar.core.commands import Append, ArmDeadline, Command, EntryKind, RelayAnswer, RelayFailure
from sidecar.core.deadlines import ring_deadline, talk_deadlines
from sidecar.core.dialog import Signal, after
from sidecar.core.ending import answer_dropped, failed, rejected, unreachable
from sidecar.core.events import (
    Admitted,
    AnswerHeld,
    AnswerRecorded,
    AnswerRelayed,
    CreditRefused,
    Forked,
    InviteReceived,
    LegTerminated,
    ProvisionalReceived,
    RouteFailed,
    StepFailed,
)
from sidecar.core.policy import SERVER_FAILURES, Given, Policy
from sidecar.core.redirect import redirection, use_contacts
from sidecar.core.routing import free_gateways, next_server
from sidecar.core.servers import Server
from sidecar.core.terms import Detail, DialogState, Redirection, RouteFailure

_NONE: tuple[Command, ...] = ()
# Questions to the caller: 401 and 407 want credentials, 422 another session timer (RFC 4028 §6).
_CHALLENGES = frozenset({401, 407, 422})
# Further servers of a gateway are left out of a call that has tried so much: their number is DNS's to say.
ATTEMPTS_MAX = 16


# --- admitted or not ------------------------------------------------------------------------------------


def admitted(call: Call, event: Admitted, given: Given) -> Decision:
    call = replace(call, phase=Phase.ROUTING, granted_s=event.granted_s, reserved=event.reserved)
    call = replace(call, bounded_by=event.rule)
    return call, (*_armed(call, ring_deadline(call, given.policy)), route_command(call, given.policy))


def _armed(call: Call, *deadlines: ArmDeadline) -> tuple[ArmDeadline, ...]:
    """No time ends an emergency call."""
    return () if call.is_emergency else deadlines


def credit_refused(call: Call, event: CreditRefused, given: Given) -> Decision:
    return refuse(call, event.detail, given.policy, event, event.rule)


def admission_failed(call: Call, event: StepFailed, given: Given) -> Decision:
    return refuse(call, Detail.JOURNAL, given.policy, event)


# --- the answer -----------------------------------------------------------------------------------------


def provisional(call: Call, event: ProvisionalReceived, _given: Given) -> Decision:
    attempt = call.attempts[-1]
    if attempt.number != event.attempt:
        return call, _NONE
    stamp = stamp_of(event)
    # 180 once it rang: that B alerted is what a ring timeout is classified by, whatever came after it.
    codes = (attempt.heard_code, event.sip_code)
    heard_code = 180 if 180 in codes else max(codes)
    call = with_attempt(call, replace(attempt, heard_code=heard_code))
    return replace(
        call,
        state_a=after(call.state_a, Signal.PROVISIONAL),
        state_b=after(call.state_b, Signal.PROVISIONAL),
        first_heard=call.first_heard or stamp,
        ringing=call.ringing or (stamp if event.sip_code == 180 else None),
    ), _NONE


def forked(call: Call, event: Forked, _given: Given) -> Decision:
    """The entry holds what is needed to end each early dialog after a crash; nobody waits for it."""
    attempt = call.attempts[-1]
    if attempt.number != event.attempt:
        return call, _NONE
    call = with_attempt(call, replace(attempt, branches=event.branches))
    return call, (Append(kind=EntryKind.ATTEMPT, call=call),)


def answer_held(call: Call, event: AnswerHeld, given: Given) -> Decision:
    attempt = call.attempts[-1]
    if attempt.number != event.attempt:
        return answer_dropped(call, event, given)
    stamp = stamp_of(event)
    call = with_attempt(call, replace(attempt, leg=event.leg, sip_code=event.sip_code, ended=stamp))
    call = replace(
        call,
        phase=Phase.ANSWERING,
        invite=call.invite if event.caller is None else replace(call.invite, leg=event.caller),
        b_answered=stamp,
        first_heard=call.first_heard or stamp,
        state_b=after(call.state_b, Signal.ANSWER),
    )
    return call, (Append(kind=EntryKind.ANSWERED, call=call),)


def answer_recorded(call: Call, _event: AnswerRecorded, given: Given) -> Decision:
    return call, (*_armed(call, *talk_deadlines(call, given)), RelayAnswer(bridge_id=call.bridge_id))


def answer_relayed(call: Call, event: AnswerRelayed, _given: Given) -> Decision:
    return replace(
        call,
        phase=Phase.TALKING,
        invite=replace(call.invite, echoed=()),  # there is no other response to it
        answered=stamp_of(event),
        state_a=after(call.state_a, Signal.ANSWER),
    ), _NONE


# --- an attempt that failed -----------------------------------------------------------------------------


def route_failed(call: Call, event: RouteFailed, given: Given) -> Decision:
    attempt = call.attempts[-1]
    if attempt.number != event.attempt:
        return call, _NONE
    call = with_attempt(call, failed(attempt, event))
    call = replace(call, state_b=after(call.state_b, Signal.CLOSED))
    credentials_rejected = _credentials_rejected(call, event, given.policy)
    challenged = event.sip_code in _CHALLENGES and not credentials_rejected
    following = _next_attempt(use_contacts(call, event, given), event, challenged, given)
    if following is not None:
        return following, (
            route_command(following, given.policy),
            Append(kind=EntryKind.ATTEMPT, call=following),
        )
    if event.cause is not RouteFailure.FINAL_RESPONSE:
        return unreachable(call, event, given.policy)
    if challenged:
        call = replace(call, phase=Phase.AWAITING_RETRY)
        return call, (
            _relay_failure(call, event, given.policy),
            Append(kind=EntryKind.ATTEMPT, call=call),
        )
    ending, commands = rejected(call, event, given.policy)
    if credentials_rejected:  # not shown as it is: the caller has nothing to answer it with
        return ending, (RelayFailure(bridge_id=call.bridge_id, sip_code=500), *commands)
    return ending, (_relay_failure(call, event, given.policy), *commands)


def _next_attempt(call: Call, event: RouteFailed, challenged: bool, given: Given) -> Call | None:
    """The call at the next place that may help, where there is one: first where a 3xx has sent it, then the
    other servers of its gateway, then the rest of its route."""
    policy = given.policy
    # RFC 3261 §8.1.3.4: the next Contact is tried after any failure but a global one; here, nor after a
    # question to the caller, nor when A has heard early media.
    if not (event.early_media_relayed or event.sip_code >= 600 or challenged):
        for place, target in enumerate(call.redirects, start=1):
            gateway = free_gateways((target.gateway,), given, event.mono_ns, even_full=call.is_emergency)
            if above_margin_floor(gateway, call, policy, event, target.user):
                call = replace(call, redirects=call.redirects[place:])
                server = server_for(gateway[0], call, given, target.user)
                return begin_attempt(call, (*gateway, *call.gateways), event, policy, target.user, server)
    if _may_fail_over(call, event, policy) and (other := _other_server(call, event, given)) is not None:
        last = call.attempts[-1]
        return begin_attempt(call, (last.gateway, *call.gateways), event, policy, last.sent_user, other)
    free: tuple[str, ...] = ()
    if _may_fail_over(call, event, policy):
        free = free_gateways(call.gateways, given, event.mono_ns, even_full=call.is_emergency)
        free = above_margin_floor(free, call, policy, event)
    return begin_attempt(call, free, event, policy, server=server_for(free[0], call, given)) if free else None


def _other_server(call: Call, event: RouteFailed, given: Given) -> Server | None:
    """RFC 3263 §4.3: another server of the same name helps where this one could not be reached, or said 503.
    Any other response speaks for the gateway as a whole."""
    last = call.attempts[-1]
    gateway = given.policy.gateways.get(last.gateway)
    spoke = event.cause is RouteFailure.FINAL_RESPONSE and event.sip_code != 503
    if gateway is None or last.server is None or spoke or len(call.attempts) >= ATTEMPTS_MAX:
        return None
    return next_server(gateway, call.call_id, servers_tried(call, last.gateway, last.sent_user), given.load)


def _credentials_rejected(call: Call, event: RouteFailed, policy: Policy) -> bool:
    """The gateway refuses the credentials that its profile has for it, and that the bridge has tried."""
    gateway = policy.gateways.get(call.attempts[-1].gateway)
    return event.sip_code in (401, 407) and gateway is not None and gateway.username != ""


def _may_fail_over(call: Call, event: RouteFailed, policy: Policy) -> bool:
    """Another gateway can help where this one failed, not where the callee answered: no answer at all, a code
    that the gateway's setting lists, or our credentials rejected. Never after A has heard early media or a
    reliable provisional, whose offer and answer another gateway cannot continue."""
    if event.early_media_relayed:
        return False
    if event.cause is not RouteFailure.FINAL_RESPONSE or _credentials_rejected(call, event, policy):
        return True
    gateway = policy.gateways.get(call.attempts[-1].gateway)
    return event.sip_code in (SERVER_FAILURES if gateway is None else gateway.failover_codes)


def _relay_failure(call: Call, event: RouteFailed, policy: Policy) -> RelayFailure:
    # RFC 3261 §21.5.4: a 503 of B says nothing about this node, so A sees a 500 and goes on sending calls
    # here. A redirection is not shown unless a setting says so: its Contact may take the call past the bill.
    sent_there = event.sip_code < 400 and redirection(call, policy) is Redirection.PASS
    shown = 0
    if event.sip_code < 400 and not sent_there:
        shown = 480
    elif event.sip_code == 503 and not policy.pass_503:
        shown = 500
    return RelayFailure(
        bridge_id=call.bridge_id, sip_code=shown, keep_retry_after=not shown, keep_contacts=sent_there
    )


# --- a challenge ----------------------------------------------------------------------------------------


def is_retry(call: Call, invite: InviteReceived) -> bool:
    """Whether `invite` is the challenged caller with its credentials (RFC 3261 §22.2: same Call-ID, same
    From, same Request-URI, next CSeq). Another number is another call: it has another price."""
    first = call.invite
    return (
        call.phase is Phase.AWAITING_RETRY
        and invite.peer == first.peer
        and invite.request_user == first.request_user
        and invite.claimed_peer == first.claimed_peer
        and invite.leg.sip_call_id == first.leg.sip_call_id
        and invite.leg.remote_tag == first.leg.remote_tag
        and invite.leg.remote_cseq > first.leg.remote_cseq
    )


def retried(call: Call, event: InviteReceived, given: Given) -> Decision:
    """The same call goes on, at the gateway that challenged; its place there was kept, and so was its
    price."""
    if not is_retry(call, event):
        return call, _NONE
    invite = replace(event, mono_ns=call.invite.mono_ns, wall_ns=call.invite.wall_ns)
    call = replace(
        call,
        phase=Phase.ROUTING,
        bridge_id=event.bridge_id,
        invite=invite,
        state_a=DialogState.PROCEEDING,
    )
    last = call.attempts[-1]
    names = (last.gateway, *call.gateways)
    call = begin_attempt(call, names, event, given.policy, last.sent_user, last.server)
    return call, (
        *_armed(call, ring_deadline(call, given.policy)),
        route_command(call, given.policy),
        Append(kind=EntryKind.ATTEMPT, call=call),
    )


def leg_closed(call: Call, event: LegTerminated, _given: Given) -> Decision:
    """The challenged INVITE's transaction is over; the call waits on."""
    return closed(call, event), _NONE
