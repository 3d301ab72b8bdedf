"""What people decide about the journal itself: sums in suspense, and old calls that are archived."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sidecar.core.audit import Change, Operator, told
from sidecar.core.chain import Link
from sidecar.core.rating import amount_text
from sidecar.core.suspense import Suspended, SuspenseDecision
from sidecar.ports import Accounts, Retention, RetentionError, Suspense
from sidecar.runtime.calls import Calls
from sidecar.wire import control_journal as say
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.control_accounts import Balance
from sidecar.wire.methods import served


class JournalCommands:
    def __init__(self, calls: Calls, suspense: Suspense, accounts: Accounts, retention: Retention) -> None:
        self._retention = retention
        self._calls = calls
        self._suspense = suspense
        self._accounts = accounts

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "journal.book": self.book,
                "journal.release": self.release,
                "retention.archive": self.remove_archived,
                "retention.erase": self.erase,
            }
        )

    async def remove_archived(
        self, wanted: say.RetentionRemoveParams, operator: Operator
    ) -> say.RetentionRemoved:
        if wanted.until.utcoffset() is None:
            raise CommandError(ErrorCode.INVALID_PARAMS, "until has no offset from UTC")
        link = Link(wanted.commit, bytes.fromhex(wanted.hash))
        after = {
            "archive": wanted.archive,
            "until_commit": f"{wanted.commit}:{wanted.hash}",
            "records": wanted.records,
        }
        change = Change(
            operator=operator,
            action="retention.archive",
            subject=wanted.folder,
            after=told(after),
            text=wanted.text,
        )
        try:
            done = await self._retention.remove_some(link, wanted.until, wanted.archive, change)
        except RetentionError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return say.RetentionRemoved(done=done)

    async def erase(self, wanted: say.RetentionEraseParams, operator: Operator) -> say.RetentionErased:
        change = Change(operator=operator, action="retention.erase", subject="", text=wanted.text)
        try:
            done = await self._retention.erase_some(wanted.number, wanted.after, change)
        except RetentionError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return say.RetentionErased(
            pseudonym=done.pseudonym,
            records=done.records,
            waiting=done.waiting,
            open_calls=done.open_calls,
            after=done.after,
        )

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
                Balance(currency=money.currency, amount=amount_text(money.amount))
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
