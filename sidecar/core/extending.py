"""The grant of a call that is up, from one slice to the next: asked for before it is used up, enforced by the
bridge, and never ended for credit where it is the books that do not answer.

    EXTEND ──> Extend ──GrantExtended, more──> the next EXTEND, and GRANT at the new end
                  │  ───GrantExtended, none──> GRANT stays where it is: server/credit grant_used_up
                  │  ───StepFailed───────────> asked again
                  └─────nothing until GRANT──> server/resource ledger_unreachable

A grant that is less than a slice is extended like any other: there may have been a top-up meanwhile, or other
calls have given back what they held.
"""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core.admit import Decision
from sidecar.core.call import Call, Phase, stamp_of
from sidecar.core.commands import Extend
from sidecar.core.deadlines import extend_deadline, max_duration, slice_until, talk_deadlines
from sidecar.core.events import DeadlineReached, GrantExtended, StepFailed
from sidecar.core.policy import Given
from sidecar.core.terms import Detail

ASK_AGAIN_MS = 200
ASK_AGAIN_AWAY_MS = 2_000  # beyond the grant, for `store_away_s`: then many calls may be asking


def due(call: Call, event: DeadlineReached, given: Given) -> Decision:
    """The grant will soon be used up."""
    rate, policy = call.pricing.rate, given.policy
    if call.phase is not Phase.TALKING or call.granted_s is None or call.final is not None or rate is None:
        return call, ()
    answered_ns = event.mono_ns if call.answered is None else call.answered.mono_ns
    begun_s = max(call.granted_s, (event.mono_ns - answered_ns) // 1_000_000_000)  # later over a restart
    ask = Extend(
        call_id=call.call_id,
        account=call.account.name,
        rate=rate,
        terms=call.pricing.terms,
        total_s=max(call.granted_s, slice_until(begun_s, policy, max_duration(call, policy)[0])),
    )
    return replace(call, extending=call.extending or stamp_of(event)), (ask,)


def extended(call: Call, event: GrantExtended, given: Given) -> Decision:
    is_refused = event.final and event.granted_s <= (call.granted_s or 0)
    call = replace(
        call,
        granted_s=event.granted_s,
        reserved=event.reserved,
        bounded_by=event.rule,
        extending=None,
        final=stamp_of(event) if is_refused else None,
    )
    return call, talk_deadlines(call, given)


def extension_failed(call: Call, event: StepFailed, _given: Given) -> Decision:
    """The journal fails: what is left of the grant, and `store_away_s`, is the time that it has to come
    back."""
    if call.extending is None or call.answered is None or call.granted_s is None:
        return call, ()
    talked_ms = (event.mono_ns - call.answered.mono_ns) // 1_000_000
    again_ms = ASK_AGAIN_MS if talked_ms < call.granted_s * 1000 else ASK_AGAIN_AWAY_MS
    return call, (extend_deadline(call, talked_ms + again_ms),)


def cause_of_end(call: Call, event: DeadlineReached) -> Detail:
    """Of a call that GRANT has ended: credit, or a rule, only where the books had said so by then."""
    if call.final is None or call.final.mono_ns > event.mono_ns:
        return Detail.LEDGER_UNREACHABLE
    return Detail.GRANT_USED_UP if call.bounded_by is None else Detail.RULE
