"""Calls that go on over a planned restart of the node.

    talking ──CallKept──> kept ──CallFoundOpen, soon after──> talking
                           └────CallFoundOpen, else─────────> ending (core/recovery)

The bridge lets go of a call that nothing is open of, and tells all that the next start needs to take it up as
it was: what its peers say meanwhile they say again. That is written before this boot ends; the next one takes
it up once, and writes that before it hears anything. Whatever goes wrong in between, the entry is that of an
open call, which the start after it ends and records as after a crash.
"""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core import ending, recovery
from sidecar.core.admit import Decision, route_command
from sidecar.core.call import Call, Kept, Phase, stamp_of, with_attempt
from sidecar.core.commands import Append, ArmDeadline, EntryKind
from sidecar.core.deadlines import talk_deadlines
from sidecar.core.events import CallFoundOpen, CallKept
from sidecar.core.policy import Given, Policy
from sidecar.core.terms import DeadlineKind, SavedLegState

# Who said something in a dialog repeats it for 64*T1 (RFC 3261 §17.1.2.2); later its peers may have ended it.
SILENT_NS_MAX = 30_000_000_000
# Both clocks say how long that was. Where they differ the machine was started anew, or its clock was set.
CLOCKS_APART_NS_MAX = 1_000_000_000
BOOKS_ANSWER_MS = 3_000  # of a node that has just started, on a busy machine


def kept(call: Call, event: CallKept, _given: Given) -> Decision:
    call = with_attempt(call, replace(call.attempts[-1], leg=event.leg_b))
    call = replace(
        call,
        phase=Phase.KEPT,
        invite=replace(call.invite, leg=event.leg_a),
        kept=Kept(at=stamp_of(event), state=event.kept),
    )
    return call, (Append(kind=EntryKind.KEPT, call=call),)


def found(found_kept: Call, event: CallFoundOpen, given: Given) -> Decision:
    """More of a grant that was asked for, and not answered, is asked for again: that is due at once."""
    saved = found_kept.kept
    call = replace(found_kept, phase=Phase.TALKING, kept=None, extending=None)
    if saved is None or not (_is_soon(saved, event) and _is_known(call, given.policy)):
        return ending.found_open(call, event, given)
    adopt = replace(
        recovery.adopt(call, call, given.policy),
        a_state=SavedLegState.ANSWERED,
        b_state=SavedLegState.ANSWERED,
        route=route_command(call, given.policy),
        kept=saved.state,
    )
    deadlines = [_not_at_once(call, deadline, event) for deadline in talk_deadlines(call, given)]
    return call, (adopt, *deadlines, Append(kind=EntryKind.ADOPTED, call=call))


def _not_at_once(call: Call, deadline: ArmDeadline, event: CallFoundOpen) -> ArmDeadline:
    """A grant that was used up meanwhile ends no call before the books were asked: nobody could. Where they
    refuse, it is billed to the grant."""
    if deadline.kind is not DeadlineKind.GRANT or call.final is not None or call.answered is None:
        return deadline
    talked_ms = (event.now_mono_ns - call.answered.mono_ns) // 1_000_000
    return replace(deadline, after_ms=max(deadline.after_ms, talked_ms + BOOKS_ANSWER_MS))


def _is_soon(saved: Kept, event: CallFoundOpen) -> bool:
    silent_ns = event.now_mono_ns - saved.at.mono_ns
    apart_ns = event.now_wall_ns - saved.at.wall_ns - silent_ns
    return 0 <= silent_ns <= SILENT_NS_MAX and abs(apart_ns) <= CLOCKS_APART_NS_MAX


def _is_known(call: Call, policy: Policy) -> bool:
    """Whether the settings have both its sides yet."""
    return call.invite.peer in policy.peers and call.attempts[-1].gateway in policy.gateways
