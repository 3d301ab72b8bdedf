"""What a salvage left open (core/suspense), and the decision about it: the Suspense port, and its part of a
transaction."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from sidecar.adapters.store.ledger import BaseLedger
from sidecar.adapters.store.reading import Asks, Reader, Write
from sidecar.core.audit import Change
from sidecar.core.books import suspense_reference
from sidecar.core.suspense import Suspended, SuspenseDecision, cleared, noted, suspect, unexplained

if TYPE_CHECKING:
    from sidecar.adapters.store.batch import BaseBatch

_OPEN = (
    "SELECT entry, account, currency, amount, booked_wall_ns, call_id FROM ledger AS held"
    " WHERE kind = 'suspense' AND reference IS NULL AND (CAST(?1 AS TEXT) IS NULL OR account = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM ledger AS done WHERE done.account = held.account"
    " AND done.reference = 'suspense:' || held.entry) ORDER BY entry"
)


class StoredSuspense:
    def __init__(self, reader: Reader, write: Write) -> None:
        self._reader = reader
        self._write = write

    async def suspended(self, account: str | None = None) -> Sequence[Suspended]:
        return await self._reader.ask(lambda connection: suspended(connection, account))

    async def clear(
        self, account: str, entries: Sequence[int], decision: SuspenseDecision, change: Change
    ) -> Sequence[Suspended]:
        def clear(batch: BaseBatch) -> Sequence[Suspended]:
            found = [one for one in batch.suspense.open_of(account) if not entries or one.entry in entries]
            if found:
                batch.audit(batch.suspense.clear(found, decision, change))
            return found

        return await self._write(clear)


class Suspense:
    """Within one transaction."""

    def __init__(self, connection: Asks, ledger: BaseLedger) -> None:
        self._connection = connection
        self._ledger = ledger

    def open_of(self, account: str) -> list[Suspended]:
        found = suspended(self._connection, account)
        for one in found:
            self._ledger.balance(account, one.currency)  # held from here on: nobody decides beside us
        return [one for one in found if self._ledger.booked(account, suspense_reference(one.entry)) is None]

    def suspect(self, account: str, currency: str) -> None:
        """Its balance is not known to be right, and nothing is known of what it may lack."""
        self._ledger.book([suspect(account, currency, self._ledger)])

    def clear(self, found: Sequence[Suspended], decision: SuspenseDecision, change: Change) -> Change:
        """What is to be noted of it."""
        movements = cleared(found, decision, self._ledger)
        change = noted(found, movements, self._ledger, change)
        self._ledger.book(movements)
        return change


def suspended(connection: Asks, account: str | None = None) -> list[Suspended]:
    """All that is open; of one account, or of all."""
    return unexplained(
        Suspended(
            entry=entry,
            account=name,
            currency=currency,
            amount=Decimal(amount),
            booked_wall_ns=booked_wall_ns,
            call_id=UUID(bytes=call_id) if call_id is not None else None,
        )
        for entry, name, currency, amount, booked_wall_ns, call_id in connection.execute(_OPEN, (account,))
    )
