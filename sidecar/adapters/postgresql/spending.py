"""What calls of an account were charged, and hold (see store/spending), on all nodes."""

from __future__ import annotations

from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store import spending
from sidecar.adapters.store.known import Known, Taken
from sidecar.adapters.store.ledger import BaseLedger


class Spending(spending.Spending):
    """Who books holds the balance, so lines of one account and currency are numbered as they come to be."""

    def __init__(self, server: Server, known: Known, ledger: BaseLedger) -> None:
        super().__init__(known, ledger)
        self._server = server

    def _taken(self, account: str, currency: str, kinds: str, since_ns: int, entry: int) -> Taken:
        self._ledger.balance(account, currency)
        ((amount, last),) = self._server.run(
            "SELECT coalesce(-sum(amount), 0), coalesce(max(entry), 0) FROM ledger"  # noqa: S608
            f" WHERE account = ? AND currency = ? AND {kinds} AND booked_wall_ns >= ? AND entry > ?",
            (account, currency, since_ns, entry),
        )
        return Taken(amount, last)

    def _held(self, account: str, currency: str) -> Taken:
        self._ledger.balance(account, currency)
        ((amount, last),) = self._server.run(
            "SELECT coalesce(sum(reserved), 0) + (SELECT coalesce(sum(amount), 0) FROM tranches"
            " WHERE account = ?1 AND currency = ?2),"
            " (SELECT coalesce(max(entry), 0) FROM ledger WHERE account = ?1 AND currency = ?2)"
            " FROM open_calls WHERE account = ?1 AND currency = ?2",
            (account, currency),
        )
        return Taken(amount, last)
