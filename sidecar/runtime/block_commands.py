"""Numbers that people block while the node runs: for new calls at once, and calls that are up are ended. They
outlast a restart: the audit table, which holds each of these commands, is what they are made of anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from sidecar.core.audit import Change, Operator
from sidecar.core.screening import pattern_of
from sidecar.ports import AuditFilter, AuditTrail, UnavailableError
from sidecar.runtime.calls import Calls
from sidecar.runtime.releasing import end_forbidden
from sidecar.wire import control_policy as say
from sidecar.wire.control import CommandError, ErrorCode, Method, Nothing
from sidecar.wire.methods import served

BLOCK, UNBLOCK = "policy.block", "policy.unblock"  # what the audit table calls them
BLOCKS_MAX = 10_000
FOLLOW_S = 1.0
_PAGE = 1_000


class _Noted:
    """The patterns that are blocked by command, as the commands so far leave them, of whichever node."""

    def __init__(self, audit: AuditTrail) -> None:
        self._audit = audit
        self._last = {BLOCK: dict[str, int](), UNBLOCK: dict[str, int]()}  # the last entry by pattern
        self._after = dict.fromkeys(self._last, 0)

    async def read(self) -> frozenset[str]:
        """What came since it was read before, too."""
        for action, last in self._last.items():
            noted = AuditFilter(action=action)
            while page := await self._audit.list(self._after[action], _PAGE, noted):
                last.update((one.change.subject, one.entry) for one in page)
                self._after[action] = page[-1].entry
        blocked, unblocked = self._last[BLOCK], self._last[UNBLOCK]
        return frozenset(one for one, entry in blocked.items() if entry > unblocked.get(one, 0))


async def blocks_of(audit: AuditTrail) -> frozenset[str]:
    return await _Noted(audit).read()


class BlockCommands:
    def __init__(self, calls: Calls, audit: AuditTrail) -> None:
        self._calls = calls
        self._audit = audit
        self._changing = asyncio.Lock()  # what is read of them is put in force before the next is noted

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                BLOCK: self.block,
                UNBLOCK: self.unblock,
                "policy.blocks": self.list,
            }
        )

    async def block(self, wanted: say.PolicyBlockParams, operator: Operator) -> say.PolicyBlocked:
        """A number that is blocked already is blocked again: calls that are up may have been let through."""
        pattern, policy = pattern_of(wanted.number), self._calls.policy
        if pattern in policy.emergency_numbers:
            raise CommandError(
                ErrorCode.REFUSED, f"{pattern} is an emergency number: its calls are never refused"
            )
        if len(policy.blocks) >= BLOCKS_MAX and pattern not in policy.blocks:
            raise CommandError(
                ErrorCode.REFUSED, f"{BLOCKS_MAX} numbers are blocked: put more of them in the settings"
            )
        change = Change(operator=operator, action=BLOCK, subject=pattern, text=wanted.text)

        async def noted_and_ended() -> int:
            await self._note(change, frozenset.union, pattern)
            return await end_forbidden(self._calls)

        return say.PolicyBlocked(number=pattern, ended=await asyncio.shield(noted_and_ended()))

    async def unblock(self, wanted: say.PolicyUnblockParams, operator: Operator) -> say.PolicyUnblocked:
        pattern = pattern_of(wanted.number)
        if pattern not in self._calls.policy.blocks:
            text = f"{pattern} is not blocked by command: `sidecar policy blocks` shows what is"
            raise CommandError(ErrorCode.NOT_FOUND, text)
        change = Change(operator=operator, action=UNBLOCK, subject=pattern, text=wanted.text)
        await asyncio.shield(self._note(change, frozenset.difference, pattern))
        return say.PolicyUnblocked(number=pattern)

    async def list(self, _: Nothing, __: Operator) -> say.PolicyBlocks:
        return say.PolicyBlocks(blocks=tuple(sorted(self._calls.policy.blocks)))

    async def _note(
        self, change: Change, make: Callable[[frozenset[str], frozenset[str]], frozenset[str]], pattern: str
    ) -> None:
        async with self._changing:
            await self._audit.write(change)
            self._put_in_force(make(self._calls.policy.blocks, frozenset({pattern})))

    def _put_in_force(self, blocks: frozenset[str]) -> None:
        self._calls.policies.change(lambda policy: policy.with_blocks(blocks))

    async def follow(self) -> None:
        """Where several nodes have one audit table: what is blocked and unblocked on another is so here."""
        noted = _Noted(self._audit)
        while True:
            await asyncio.sleep(FOLLOW_S)
            async with self._changing:
                before = self._calls.policy.blocks
                with suppress(UnavailableError):  # what was read last holds
                    if (blocks := await noted.read()) != before:
                        self._put_in_force(blocks)
            if self._calls.policy.blocks - before:
                await end_forbidden(self._calls)
