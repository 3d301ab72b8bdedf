"""What calls of an account were charged of late, and what they hold: for spending limits and low balances.

The ledger is only added to, so a sum over its beginning stays right, whoever writes behind it: it is kept in
memory, and a transaction adds the lines that came since. The first question of a month looks at that month.
"""

from __future__ import annotations

from decimal import Decimal

import apsw

from sidecar.adapters.sqlite.known import Known
from sidecar.adapters.sqlite.ledger import Ledger
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO

SUMS_MAX = 100_000

_LINES = (
    "SELECT amount FROM ledger WHERE account = ? AND currency = ? AND kind IN (?, ?)"
    " AND booked_wall_ns >= ? AND entry > ?"
)
_CHARGES, _RESERVATIONS = ("charge", "charge"), ("reserve", "release")


class Spending:
    """Within one transaction. `head`: the last line of the ledger before it."""

    def __init__(self, connection: apsw.Connection, known: Known, ledger: Ledger, head: int) -> None:
        self._connection = connection
        self._known = known
        self._ledger = ledger
        self._head = head

    def charged_since(self, account: str, currency: str, since_ns: int) -> Decimal:
        before = self._sum((account, currency, since_ns), _CHARGES)
        return EXACT.add(before, self._ledger.charged_here.get((account, currency), ZERO))

    def held(self, account: str, currency: str) -> Decimal:
        key = (account, currency, 0)
        if key not in self._known.sums:
            amount = ZERO
            for slot in self._known.open.values():
                reserved = slot.open_call.reserved
                if slot.open_call.account == account and reserved and reserved.currency == currency:
                    amount = EXACT.add(amount, reserved.amount)
            self._keep(key, amount)
        before = self._sum(key, _RESERVATIONS)
        return EXACT.add(before, self._ledger.held_here.get((account, currency), ZERO))

    def _sum(self, key: tuple[str, str, int], kinds: tuple[str, str]) -> Decimal:
        """With the sign turned: what was taken."""
        amount, entry = self._known.sums.get(key, (ZERO, 0))
        if entry < self._head:
            account, currency, since_ns = key
            for (line,) in self._connection.execute(_LINES, (account, currency, *kinds, since_ns, entry)):
                amount = EXACT.subtract(amount, Decimal(line))
            self._keep(key, amount)
        return amount

    def _keep(self, key: tuple[str, str, int], amount: Decimal) -> None:
        if len(self._known.sums) >= SUMS_MAX:
            self._known.sums.clear()
        self._known.sums[key] = (amount, self._head)
