"""What calls of an account were charged, and hold (see store/spending), in the file."""

from __future__ import annotations

from decimal import Decimal

import apsw

from sidecar.adapters.sqlite.ledger import Ledger
from sidecar.adapters.store import spending
from sidecar.adapters.store.known import Known, Taken
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO


class Spending(spending.Spending):
    """`head`: the last line of the ledger before this transaction."""

    def __init__(self, connection: apsw.Connection, known: Known, ledger: Ledger, head: int) -> None:
        super().__init__(known, ledger)
        self._connection = connection
        self._head = head

    def _taken(self, account: str, currency: str, kinds: str, since_ns: int, entry: int) -> Taken:
        amount = ZERO
        if entry < self._head:
            for (line,) in self._connection.execute(
                f"SELECT amount FROM ledger WHERE account = ? AND currency = ? AND {kinds}"  # noqa: S608
                " AND booked_wall_ns >= ? AND entry > ?",
                (account, currency, since_ns, entry),
            ):
                amount = EXACT.subtract(amount, Decimal(line))
        return Taken(amount, self._head)

    def _held(self, account: str, currency: str) -> Taken:
        amount = ZERO
        for slot in self._known.open.values():
            reserved = slot.open_call.reserved
            if slot.open_call.account == account and reserved and reserved.currency == currency:
                amount = EXACT.add(amount, reserved.amount)
        return Taken(amount, self._head)
