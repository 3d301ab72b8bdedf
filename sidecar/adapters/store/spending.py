"""What calls of an account were charged of late, and what they hold: for spending limits and low balances.

The ledger is only added to, so a sum over its beginning stays right, whoever writes behind it: it is kept in
memory, and a transaction adds the lines that came since. The first question of a month looks at that month.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal

from sidecar.adapters.store.known import Known, Taken
from sidecar.adapters.store.ledger import BaseLedger
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO

SUMS_MAX = 100_000
CHARGES, RESERVATIONS = "kind = 'charge'", "kind IN ('reserve', 'release', 'tranche')"


class Spending(ABC):
    """Within one transaction."""

    def __init__(self, known: Known, ledger: BaseLedger) -> None:
        self._known = known
        self._ledger = ledger

    @abstractmethod
    def _taken(self, account: str, currency: str, kinds: str, since_ns: int, entry: int) -> Taken:
        """By the lines behind that entry, as they stood before this transaction; nobody books beside us."""

    @abstractmethod
    def _held(self, account: str, currency: str) -> Taken:
        """By open calls and tranches, before this transaction."""

    def charged_since(self, account: str, currency: str, since_ns: int) -> Decimal:
        before = self._sum((account, currency, since_ns), CHARGES)
        return EXACT.add(before, self._ledger.charged_here.get((account, currency), ZERO))

    def held(self, account: str, currency: str) -> Decimal:
        key = (account, currency, 0)
        if key not in self._known.sums:
            self._keep(key, self._held(account, currency))
        before = self._sum(key, RESERVATIONS)
        return EXACT.add(before, self._ledger.held_here.get((account, currency), ZERO))

    def _sum(self, key: tuple[str, str, int], kinds: str) -> Decimal:
        account, currency, since_ns = key
        before = self._known.sums.get(key, Taken(ZERO, 0))
        more = self._taken(account, currency, kinds, since_ns, before.entry)
        if more.entry <= before.entry:
            return before.amount
        amount = EXACT.add(before.amount, more.amount)
        self._keep(key, Taken(amount, more.entry))
        return amount

    def _keep(self, key: tuple[str, str, int], taken: Taken) -> None:
        if len(self._known.sums) >= SUMS_MAX:
            self._known.sums.clear()
        self._known.sums[key] = taken
