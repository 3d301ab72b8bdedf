"""Accounts, balances and the ledger of the file within one transaction (see store/ledger)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.chain import Draft
from sidecar.adapters.sqlite.changing import trimmed
from sidecar.adapters.sqlite.rows import Table
from sidecar.adapters.store.ledger import MOVED, TERMS, BaseLedger, terms_of
from sidecar.core.account_books import Booked
from sidecar.core.account_terms import AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, MovementKind
from sidecar.core.books_check import plain
from sidecar.core.chain import Row

LEDGER = Table("ledger", ("entry", *MOVED))
BALANCES = Table("balances", ("account", "currency", "boot", "amount"), replace=True)
ACCOUNTS = Table("accounts", ("name", "currency", "prepaid", "terms", "boot", "created_wall_ns"))


class Ledger(BaseLedger):
    def __init__(self, connection: apsw.Connection, boot: int, wall_ns: int, chain: Draft) -> None:
        super().__init__(boot, wall_ns)
        self._chain = chain
        self._connection = connection
        self._stored: dict[tuple[str, str], tuple[int, str]] = {}  # boot and amount, as the file has them

    def _read_balance(self, account: str, currency: str) -> Decimal:
        key = (account, currency)
        row = self._connection.execute(
            "SELECT boot, amount FROM balances WHERE account = ? AND currency = ?", key
        ).fetchone()
        if row:
            self._stored[key] = row
        return Decimal(row[1]) if row else ZERO

    def _read_account(self, name: str) -> AccountTerms | None:
        row = self._connection.execute(f"{TERMS} WHERE name = ?", (name,)).fetchone()
        return terms_of(row) if row else None

    def _read_booked(self, account: str, reference: str) -> Booked | None:
        sql = (
            "SELECT kind, amount FROM ledger WHERE account = ?1 AND reference = ?2"
            " UNION ALL SELECT kind, amount FROM kept_references WHERE account = ?1 AND reference = ?2"
        )
        row = self._connection.execute(sql, (account, reference)).fetchone()
        if row is None:
            return None
        kind, amount = row
        return Booked(kind and MovementKind(kind), amount and Decimal(amount))

    def flush(self) -> Sequence[Row]:
        """Returns the movements, for the chain."""
        boot, chain = self._boot, self._chain
        self._write_accounts()
        rows = [(entry, *row) for entry, row in enumerate(self._rows, chain.next_ledger)]
        LEDGER.write(self._connection, rows)
        moved = [(*key, boot, plain(self._balances[key])) for key in sorted(self._moved)]
        for row in moved:
            if (stored := self._stored.get(row[:2])) is not None:
                chain.take("balances", (*row[:2], *stored))
            chain.put("balances", row)
        BALANCES.write(self._connection, moved)
        return [trimmed(row) for row in rows]

    def _write_accounts(self) -> None:
        boot, wall_ns = self._boot, self._wall_ns
        ACCOUNTS.write(self._connection, [(*row, boot, wall_ns) for row in self._made()])
        for name, currency, prepaid, terms in self._retermed():
            self._connection.execute(
                "UPDATE accounts SET currency = ?, prepaid = ?, terms = ? WHERE name = ?",
                (currency, prepaid, terms, name),
            )

    def _read_charged(self, call_id: UUID) -> dict[tuple[str, str], Decimal]:
        rows = self._connection.execute(
            "SELECT account, currency, amount FROM ledger WHERE call_id = ? AND kind = 'charge'",
            (call_id.bytes,),
        )
        sums: dict[tuple[str, str], Decimal] = {}
        for account, currency, amount in rows:
            key = (account, currency)
            sums[key] = EXACT.subtract(sums.get(key, ZERO), Decimal(amount))
        return sums
