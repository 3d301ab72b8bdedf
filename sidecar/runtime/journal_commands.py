"""What people decide about the journal itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sidecar.core.audit import Change, Operator
from sidecar.core.rating import amount_text
from sidecar.core.suspense import Suspended, SuspenseDecision
from sidecar.ports import Accounts, Suspense
from sidecar.runtime.calls import Calls
from sidecar.wire import control as say
from sidecar.wire.control import CommandError, ErrorCode, Method


class JournalCommands:
    def __init__(self, calls: Calls, suspense: Suspense, accounts: Accounts) -> None:
        self._calls = calls
        self._suspense = suspense
        self._accounts = accounts

    def methods(self) -> Mapping[str, Method]:
        return {
            "journal.book": Method(say.JournalClearParams, self.book),
            "journal.release": Method(say.JournalClearParams, self.release),
        }

    async def book(self, wanted: say.JournalClearParams, operator: Operator) -> say.JournalCleared:
        return await self._clear(wanted, SuspenseDecision.BOOK, operator)

    async def release(self, wanted: say.JournalClearParams, operator: Operator) -> say.JournalCleared:
        return await self._clear(wanted, SuspenseDecision.RELEASE, operator)

    async def _clear(
        self, wanted: say.JournalClearParams, decision: SuspenseDecision, operator: Operator
    ) -> say.JournalCleared:
        name = wanted.account
        if not await self._accounts.stored(name):
            raise CommandError(ErrorCode.NOT_FOUND, f"there is no account {name}: `sidecar journal open`")
        action = f"journal.{decision.value}"
        change = Change(operator=operator, action=action, subject=name, text=wanted.text)

        async def clear() -> tuple[Sequence[Suspended], int]:
            cleared = await self._suspense.clear(name, wanted.entries, decision, change)
            left = len(await self._suspense.suspended(name))
            if not left:
                self._calls.load.suspended_accounts.discard(name)
            return cleared, left

        # In the store and for the next call, whatever becomes of who asked.
        cleared, left = await asyncio.shield(clear())
        return say.JournalCleared(
            account=name,
            cleared=tuple(map(_shown, cleared)),
            left=left,
            balances=tuple(
                say.Balance(currency=money.currency, amount=amount_text(money.amount))
                for money in await self._accounts.balance(name)
            ),
        )


def _shown(one: Suspended) -> say.SuspenseShown:
    return say.SuspenseShown(
        entry=one.entry,
        currency=one.currency,
        amount=amount_text(one.amount),
        call_id=None if one.call_id is None else str(one.call_id),
    )
