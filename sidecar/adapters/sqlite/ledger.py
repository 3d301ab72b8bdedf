"""Accounts, balances and the ledger within one transaction, as core/books asks for them and as it has them
written.

A `Ledger` lives as long as its transaction, which holds the write lock from the start: a balance that was
read in it cannot change under it, and none is kept beyond it, so several nodes may share a store. Rows are
collected and written at the end by `flush`, many to a statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.chain import Draft
from sidecar.adapters.sqlite.rows import Table
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, AccountPosting, AccountTerms, Charged, Movement, MovementKind
from sidecar.core.books_check import plain

LEDGER = Table(
    "ledger",
    (
        "entry",
        "boot",
        "account",
        "currency",
        "kind",
        "amount",
        "balance",
        "call_id",
        "revision",
        "reference",
        "booked_wall_ns",
    ),
)
BALANCES = Table("balances", ("account", "currency", "boot", "amount"), replace=True)
ACCOUNTS = Table("accounts", ("name", "currency", "prepaid", "boot", "created_wall_ns"))


class Ledger:
    def __init__(self, connection: apsw.Connection, boot: int, wall_ns: int, chain: Draft) -> None:
        self._chain = chain
        self._connection = connection
        self._boot = boot
        self._wall_ns = wall_ns
        self._balances: dict[tuple[str, str], Decimal] = {}
        self._stored: dict[tuple[str, str], str] = {}  # as the rows of the file have them
        self._moved: set[tuple[str, str]] = set()
        self._charged: dict[int, dict[tuple[str, str], Decimal]] = {}  # by UUID.int
        self._accounts: dict[str, AccountTerms] = {}  # made in this transaction
        self._references: set[tuple[str, str]] = set()  # booked in it
        self._rows: list[tuple[object, ...]] = []

    def balance(self, account: str, currency: str) -> Decimal:
        key = (account, currency)
        found = self._balances.get(key)
        if found is None:
            row = self._connection.execute(
                "SELECT amount FROM balances WHERE account = ? AND currency = ?", key
            ).fetchone()
            if row:
                self._stored[key] = row[0]
            found = self._balances[key] = Decimal(row[0]) if row else ZERO
        return found

    def charged(self, call_id: UUID, *, fresh: bool) -> Charged:
        """`fresh`: surely nothing."""
        found = self._charged.get(call_id.int)
        if found is None:
            found = self._charged[call_id.int] = {} if fresh else self._read_charged(call_id)
        return {key: amount for key, amount in found.items() if amount}

    def account(self, name: str) -> AccountTerms | None:
        row = self._connection.execute(
            "SELECT currency, prepaid FROM accounts WHERE name = ?", (name,)
        ).fetchone()
        return AccountTerms(name, row[0], bool(row[1])) if row else self._accounts.get(name)

    def is_booked(self, account: str, reference: str) -> bool:
        key = (account, reference)
        sql = (
            "SELECT 1 FROM ledger WHERE account = ?1 AND reference = ?2"
            " UNION ALL SELECT 1 FROM kept_references WHERE account = ?1 AND reference = ?2"
        )
        return key in self._references or self._connection.execute(sql, key).fetchone() is not None

    def book(self, movements: Sequence[Movement]) -> None:
        """Movements that core/books decided on, in view of this ledger."""
        for movement in movements:
            key = (movement.account, movement.currency)
            self._balances[key] = movement.balance
            self._moved.add(key)
            call_id = movement.call_id
            if call_id is not None and movement.kind is MovementKind.CHARGE:
                charged = self._charged[call_id.int]
                charged[key] = EXACT.subtract(charged.get(key, ZERO), movement.amount)
            if movement.reference is not None:
                self._references.add((movement.account, movement.reference))
            self._rows.append(
                (
                    self._boot,
                    movement.account,
                    movement.currency,
                    movement.kind.value,
                    plain(movement.amount),
                    plain(movement.balance),
                    call_id.bytes if call_id is not None else None,
                    movement.revision,
                    movement.reference,
                    self._wall_ns,
                )
            )

    def book_account(self, posting: AccountPosting) -> None:
        opened = posting.opened
        if opened is not None:
            self._accounts[opened.name] = opened
            self.balance(opened.name, opened.currency)  # seen before anything moves it
            self._moved.add((opened.name, opened.currency))
        self.book(posting.movements)

    def flush(self) -> Sequence[tuple[object, ...]]:
        """Returns the movements, for the chain."""
        boot, wall_ns, chain = self._boot, self._wall_ns, self._chain
        made = [(one.name, one.currency, int(one.prepaid), boot, wall_ns) for one in self._accounts.values()]
        ACCOUNTS.write(self._connection, made)
        for name, currency, prepaid, *_ in made:
            chain.put("accounts", (name, currency, prepaid))
        rows = [(entry, *row) for entry, row in enumerate(self._rows, chain.next_ledger)]
        LEDGER.write(self._connection, rows)
        moved = [(*key, plain(self._balances[key])) for key in sorted(self._moved)]
        for account, currency, amount in moved:
            if (stored := self._stored.get((account, currency))) is not None:
                chain.take("balances", (account, currency, stored))
            chain.put("balances", (account, currency, amount))
        BALANCES.write(self._connection, [(a, c, boot, amount) for a, c, amount in moved])
        return rows

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
