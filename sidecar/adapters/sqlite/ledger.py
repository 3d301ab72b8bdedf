"""Balances and the ledger within one transaction: every movement is a row, and a balance is the sum of its
rows.

A `Books` lives as long as its transaction, which holds the write lock from the start: a balance that was read
in it cannot change under it, and none is kept beyond it, so several nodes may share a store. Rows are
collected and written at the end by `flush`, many to a statement.

    opening (0) + top-ups - charges - reservations = balance, exactly
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import StrEnum
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.rows import Table
from sidecar.core.commands import Reserve
from sidecar.core.credit import Grant, grant
from sidecar.core.terms import Money

ZERO = Decimal(0)
# Sums are exact or they raise: sixty digits hold any balance, and a result that would be rounded is a defect.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])

LEDGER = Table(
    "ledger",
    (
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

Charged = dict[tuple[str, str], Decimal]  # (account, currency) -> what a call was charged there so far


class Kind(StrEnum):
    TOP_UP = "top_up"
    RESERVE = "reserve"
    RELEASE = "release"
    CHARGE = "charge"
    LOST = "lost"  # stands for movements that a damaged file no longer holds, see `salvage`


class Books:
    def __init__(self, connection: apsw.Connection, boot: int, wall_ns: int) -> None:
        self._connection = connection
        self._boot = boot
        self._wall_ns = wall_ns
        self._balances: dict[tuple[str, str], Decimal] = {}
        self._moved: set[tuple[str, str]] = set()
        self._charged: dict[int, Charged] = {}  # by UUID.int
        self._rows: list[tuple[object, ...]] = []

    def balance(self, account: str, currency: str) -> Decimal:
        key = (account, currency)
        found = self._balances.get(key)
        if found is None:
            row = self._connection.execute(
                "SELECT amount FROM balances WHERE account = ? AND currency = ?", key
            ).fetchone()
            found = self._balances[key] = Decimal(row[0]) if row else ZERO
        return found

    def reserve(self, command: Reserve) -> Grant | None:
        """Take what the balance affords; None, and no movement, where that is not one second."""
        rate = command.rate
        balance = self.balance(command.account, rate.currency)
        found = grant(balance, rate, command.terms, command.max_duration_s, command.at)
        if found is not None:
            self._move(
                command.account, Kind.RESERVE, -found.reserved.amount, rate.currency, command.call_id, None
            )
        return found

    def release(self, account: str, reserved: Money, call_id: UUID) -> None:
        """Give a reservation back. The caller forgets it in the same transaction: it is given back once."""
        self._move(account, Kind.RELEASE, reserved.amount, reserved.currency, call_id, None)

    def charge(self, account: str, total: Money | None, call_id: UUID, revision: int, *, fresh: bool) -> None:
        """Post the difference between `total` and what the call was charged before. `fresh`: surely
        nothing."""
        before = self._charged.get(call_id.int)
        if before is None:
            before = {} if fresh else self._read_charged(call_id)
        after: Charged = {} if total is None else {(account, total.currency): total.amount}
        for key in sorted(before.keys() | after.keys()):
            difference = EXACT.subtract(after.get(key, ZERO), before.get(key, ZERO))
            if difference:
                self._move(key[0], Kind.CHARGE, -difference, key[1], call_id, revision)
        self._charged[call_id.int] = after

    def top_up(self, account: str, amount: Money, reference: str) -> Money:
        """The balance after it; a reference that was booked before moves nothing."""
        booked = self._connection.execute(
            "SELECT amount, currency FROM ledger WHERE account = ? AND reference = ?", (account, reference)
        ).fetchone()
        if booked is None and not any(row[1] == account and row[8] == reference for row in self._rows):
            self._move(account, Kind.TOP_UP, amount.amount, amount.currency, None, None, reference)
        return Money(self.balance(account, amount.currency), amount.currency)

    def open_balance(self, account: str, currency: str) -> None:
        """Make the balance visible before anything moved it."""
        self.balance(account, currency)
        self._moved.add((account, currency))

    def flush(self) -> None:
        LEDGER.write(self._connection, self._rows)
        BALANCES.write(
            self._connection,
            [(a, c, self._boot, plain(self._balances[a, c])) for a, c in sorted(self._moved)],
        )

    def _move(
        self,
        account: str,
        kind: Kind,
        amount: Decimal,
        currency: str,
        call_id: UUID | None,
        revision: int | None,
        reference: str | None = None,
    ) -> None:
        if not amount:
            return
        key = (account, currency)
        balance = self._balances[key] = EXACT.add(self.balance(account, currency), amount)
        self._moved.add(key)
        self._rows.append(
            (
                self._boot,
                account,
                currency,
                kind.value,
                plain(amount),
                plain(balance),
                call_id.bytes if call_id else None,
                revision,
                reference,
                self._wall_ns,
            )
        )

    def _read_charged(self, call_id: UUID) -> Charged:
        rows = self._connection.execute(
            "SELECT account, currency, amount FROM ledger WHERE call_id = ? AND kind = 'charge'",
            (call_id.bytes,),
        )
        sums: Charged = {}
        for account, currency, amount in rows:
            key = (account, currency)
            sums[key] = EXACT.subtract(sums.get(key, ZERO), Decimal(amount))
        return {key: amount for key, amount in sums.items() if amount}


def plain(amount: Decimal) -> str:
    """Digits without an exponent, every decimal kept."""
    return format(amount, "f")
