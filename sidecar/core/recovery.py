"""Calls of an earlier boot: each was found open, its legs are in the network, and nobody here knows them yet.

A call begins anew in ENDING. Its legs are adopted before anything is heard, so a peer's own BYE is answered
and names who ended the call. The others are released by us, a few at a time, and their answers say what the
end is known from:

| answers to our BYE          | the call was up until    | evidence    |
|-----------------------------|--------------------------|-------------|
| a 2xx on both legs          | our BYE                  | `proved`    |
| anything else, or nothing   | the node's last heartbeat| `heartbeat` |
| a peer's own BYE (or CANCEL)| an interval, its start   | `message`   |

A request of a peer is repeated for 64*T1, so what arrives after the start may have been sent before it: its
arrival dates the end only to that. What is billed is the start of the interval.

A crash of this boot, too, finds the call open again: with `Recovery` in its entry, if the release was
written. The end is then proved by the first release, and the second BYE repeats the first (native/leg.cpp).
"""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core.admit import Decision, route_command
from sidecar.core.call import Call, Phase, Recovery, Stamp, stamp_of
from sidecar.core.commands import Adopt, Append, EntryKind, GivenUp, Release
from sidecar.core.dialog import Signal, after
from sidecar.core.events import Event, ReleaseDue, StrayBye
from sidecar.core.hangup import SERVER, Hangup, hangup
from sidecar.core.policy import Given, Policy
from sidecar.core.terms import Detail, DialogState, Evidence, HangupOrigin, LegName, SavedLegState

RECOVERED_IDS = 1 << 48  # bridge ids from here on: no boot counts its own calls so far
REPEATED_NS = 32_000_000_000  # 64*T1 of RFC 3261, whatever the peer's own is

_NO_FINAL_CODE = 500  # for A where the cause has none: a BYE ended it, and is not known to have


def clock_shift(last: Stamp, now: Stamp, *, of_other_node: bool = False) -> int:
    """What is added to this boot's monotonic stamps to go on with those of the call's. Not 0 where the
    machine was started anew meanwhile, or is another one: then the wall clock says how long that took."""
    if now.mono_ns >= last.mono_ns and not of_other_node:
        return 0
    return last.mono_ns + max(0, now.wall_ns - last.wall_ns) - now.mono_ns


def begin(call: Call, last_known: Stamp, shift_ns: int, policy: Policy) -> Call:
    """The call as it is found: its cause as far as it is known, and which legs may still be up."""
    if call.hangup is None:
        cause = hangup(SERVER, Detail.CRASH_RECOVERED, Evidence.HEARTBEAT)
        call = replace(call, hangup=cause, ended=last_known)
    before = call.recovery
    recovery = Recovery(
        last_known=last_known if before is None else before.last_known,
        released=None if before is None else before.released,
        shift_ns=shift_ns,
    )
    call = replace(call, recovery=recovery)
    if _a_state(call) is SavedLegState.OVER:
        call = replace(call, state_a=after(call.state_a, Signal.CLOSED))
    if _b_state(call, policy) is SavedLegState.OVER:
        call = replace(call, state_b=after(call.state_b, Signal.CLOSED))
    return replace(call, phase=Phase.ENDING)


def adopt(found: Call, call: Call, policy: Policy) -> Adopt:
    """`found` is the call as its entry has it, `call` what `begin` made of it."""
    b_state = _b_state(replace(call, phase=found.phase), policy)
    last = call.attempts[-1] if call.attempts else None
    unanswered = b_state is SavedLegState.EARLY
    return Adopt(
        bridge_id=call.bridge_id,
        peer=call.invite.peer,
        request_uri=call.invite.request_uri,
        echoed=call.invite.echoed,
        b_token=call.invite.b_token,
        attempt=last.number if last is not None else 0,
        gateway=last.gateway if last is not None else "",
        a_state=_a_state(replace(call, phase=found.phase)),
        leg_a=call.invite.leg,
        b_state=b_state,
        leg_b=last.leg if last is not None and call.b_answered is not None else None,
        route=route_command(call, policy) if unanswered else None,
        given_up=tuple(
            GivenUp(attempt=one.number, gateway=one.gateway, leg=one.leg) for one in call.attempts[:-1]
        ),
    )


def release_due(call: Call, event: ReleaseDue, _given: Given) -> Decision:
    """The entry holds when our BYE left: should this boot be killed too, it was the first that ended the
    call."""
    cause, recovery = call.hangup, call.recovery
    if cause is None or recovery is None or recovery.ended_not_after is not None:
        return call, ()
    command = Release(
        bridge_id=call.bridge_id,
        sip_code=cause.sip_code if cause.sip_code >= 300 else _NO_FINAL_CODE,
        q850_cause=cause.q850_cause,
        text=cause.detail.value,
    )
    call = replace(call, recovery=replace(recovery, released=recovery.released or stamp_of(event)))
    return call, (command, Append(kind=EntryKind.ENDING, call=call))


def left_at_another(call: Call, bye: StrayBye, policy: Policy) -> LegName | None:
    """Whose BYE came to a node that did not know the call, if it is of this one."""
    ends = {LegName.A: (call.invite.peer, call.invite.leg)}
    if call.attempts:
        last = call.attempts[-1]
        gateway = policy.gateways.get(last.gateway)
        ends[LegName.B] = (gateway.peer if gateway is not None else "", last.leg)
    heard = (bye.peer, bye.sip_call_id, bye.local_tag, bye.remote_tag)
    for leg_name, (peer, leg) in ends.items():
        if heard == (peer, leg.sip_call_id, leg.local_tag, leg.remote_tag):
            return leg_name
    return None


def is_unexplained(call: Call) -> bool:
    """Whether nothing but the crash is known of the end yet."""
    return (
        call.recovery is not None
        and call.hangup is not None
        and call.hangup.detail is Detail.CRASH_RECOVERED
        and call.hangup.evidence is Evidence.HEARTBEAT
    )


def ended_by_peer(call: Call, event: Event, cause: Hangup) -> Call:
    """A peer has ended the call, at some time since it was last known to be up."""
    assert call.recovery is not None, "no call of an earlier boot"
    arrived, known = stamp_of(event), call.recovery.last_known
    sent = Stamp(arrived.mono_ns - REPEATED_NS, arrived.wall_ns - REPEATED_NS)
    ended = max(known, sent, key=lambda stamp: stamp.mono_ns)
    return replace(call, hangup=cause, ended=ended, recovery=replace(call.recovery, ended_not_after=arrived))


def weighed(call: Call) -> Call:
    """The call with the evidence that its legs have given; as it is where there is none, or no need."""
    recovery = call.recovery
    if not is_unexplained(call) or recovery is None or recovery.released is None:
        return call
    released = recovery.released
    lives = (call.a_life, call.b_life)
    if all(life is not None and life.mono_ns >= released.mono_ns for life in lives):
        assert call.hangup is not None
        return replace(
            call,
            hangup=replace(call.hangup, evidence=Evidence.PROVED),
            ended=released,
            recovery=replace(recovery, ended_not_after=None),
        )
    return replace(call, recovery=replace(recovery, ended_not_after=released))


def _a_state(call: Call) -> SavedLegState:
    cause = call.hangup
    if call.state_a is DialogState.TERMINATED or _left(cause, HangupOrigin.CALLER):
        return SavedLegState.OVER
    if call.a_life is not None:
        return SavedLegState.ANSWERED
    # An entry that nobody waited for says whether our 2xx left; that of the answer was written before it.
    may_have_left = call.answered is not None or call.phase is Phase.ANSWERING
    return SavedLegState.ANSWERING if may_have_left else SavedLegState.EARLY


def _b_state(call: Call, policy: Policy) -> SavedLegState:
    cause = call.hangup
    if not call.attempts or call.state_b is DialogState.TERMINATED or _left(cause, HangupOrigin.CALLEE):
        return SavedLegState.OVER
    if call.b_answered is None:
        known = call.attempts[-1].gateway in policy.gateways
        return SavedLegState.EARLY if known else SavedLegState.OVER
    return SavedLegState.ANSWERED if call.answered is not None else SavedLegState.ANSWERING


def _left(cause: Hangup | None, origin: HangupOrigin) -> bool:
    """Whether this side ended its own leg: by BYE, or by a final response."""
    return cause is not None and cause.origin is origin and cause.detail in (Detail.BYE, Detail.REJECTED)
