"""Finds and ends many calls at once: for an operator, for a rule, or for what may not be called any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sidecar.core.call import Call
from sidecar.core.terms import Detail
from sidecar.runtime.calls import Calls
from sidecar.runtime.turns import CALLS_PER_TURN, in_turns

CALLS_LOOKED_AT_PER_TURN = 1_000
RELEASED_PER_S = 2_500  # live calls that an operator or a rule ends at once: 10,000 of them within 4 s


async def calls_where(calls: Calls, predicate: Callable[[Call], bool]) -> Sequence[Call]:
    """The live calls that it holds of, the oldest first."""
    return [call async for call in in_turns(calls.live(), CALLS_LOOKED_AT_PER_TURN) if predicate(call)]


async def release_where(
    calls: Calls,
    predicate: Callable[[Call], bool],
    detail: Detail,
    rule: str | None = None,
    *,
    operator: str | None = None,
    text: str = "",
) -> int:
    """End the live calls that `predicate` holds of, and say how many, at a pace that their peers are not
    flooded by. What begins meanwhile is not looked at: who forbids something puts that in force before."""
    released, began_ns = 0, calls.clock.mono_ns()
    async for call in in_turns(await calls_where(calls, predicate)):
        released += calls.release(call.call_id, detail, operator, text, rule=rule)
        if released % CALLS_PER_TURN == 0:
            due_ns = began_ns + released * 1_000_000_000 // RELEASED_PER_S
            await asyncio.sleep(max(0, due_ns - calls.clock.mono_ns()) / 1e9)
    return released


async def release_live(calls: Calls, operator: str, text: str) -> None:
    """End all calls that are up, for a drain."""
    await release_where(calls, lambda _: True, Detail.DRAIN, operator=operator, text=text)


async def end_forbidden(calls: Calls) -> int:
    """End the live calls to numbers that may not be called any more."""
    policy = calls.policy

    def rule_of(call: Call) -> str | None:
        if call.is_emergency:  # never ended by a rule
            return None
        return policy.number_rule(call.pricing.number, call.account.name, call.invite.peer)

    def hit_by(rule: str) -> Callable[[Call], bool]:
        return lambda call: rule_of(call) == rule

    forbidden = await calls_where(calls, lambda call: rule_of(call) is not None)
    ended = 0
    for rule in sorted({rule for call in forbidden if (rule := rule_of(call))}):
        ended += await release_where(calls, hit_by(rule), Detail.NUMBER_BLOCKED, rule)
    return ended
