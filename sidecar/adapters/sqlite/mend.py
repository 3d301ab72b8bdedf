"""The books of a salvaged file: what its missing ledger rows came to, told by the rows around them.

- Each ledger row says the balance after it. Where rows between two others are gone, their sum is known, and
  one row of kind `suspense` stands for it; the last balance is the one in the table of balances.
- A call that has its record, or is still open, and misses a movement of its own gets that movement again,
  beside a `suspense` row of the opposite amount: the balance had it all along.
- A reservation whose call is gone without a record is released, and the sum is in suspense: what the call
  cost nobody knows.
- Where rows at the end may be gone and the balance cannot be read, and where a row is wrong itself, a
  `suspense` row of 0 says that the balance is not known to be right.
So no balance is other than the damaged file had it until a person decides (core/suspense). A charge whose
record is gone stays, and is named by `ledger_check`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.check import wrong_charges, wrong_reservations
from sidecar.adapters.sqlite.rows import Table
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, MovementKind
from sidecar.core.books_check import plain

_Key = tuple[str, str]  # account, currency
# An entry that is None becomes the next one.
_ENTRIES = Table(
    "ledger",
    ("entry", "boot", "account", "currency", "kind", "amount", "balance", "call_id", "booked_wall_ns"),
)


class Mender:
    """Works inside the transaction of its caller."""

    def __init__(self, target: apsw.Connection, wall_ns: int, *, is_proven: bool = False) -> None:
        """`is_proven`: the ledger is as it was written; what differs from it is wrong, not the ledger."""
        self._is_proven = is_proven
        self._target = target
        self._wall_ns = wall_ns
        self._boot = target.execute("SELECT coalesce(max(boot), 0) FROM boots").get
        self._balances: dict[_Key, Decimal] = defaultdict(lambda: ZERO)
        self._wrong_at: dict[_Key, int] = {}  # an entry that does not fit the ones around it
        self._said: list[str] = []

    def mend(self, kept_balances: Mapping[_Key, Decimal], *, may_lack_end: bool = False) -> list[str]:
        """Returns what was done, for people. `may_lack_end`: rows of the ledger could not be read, so of an
        account without a balance nobody knows how it ended."""
        self._fill_gaps()
        for key, balance in kept_balances.items():
            if lost := EXACT.subtract(balance, self._balances[key]):
                self._book(key, MovementKind.SUSPENSE, lost)
                self._said.append(f"{key[0]}: movements of {plain(lost)} {key[1]} at the end")
        for key, entry in self._wrong_at.items():
            self._suspect(key, f"entry {entry} is wrong")
        for key in sorted(self._all_keys() - kept_balances.keys()) if may_lack_end else ():
            self._suspect(key, "its end may be missing")
        self._mend_reservations()
        self._mend_charges()
        for (account, currency), amount in self._balances.items():
            self._target.execute(
                "INSERT INTO balances (account, currency, boot, amount) VALUES (?, ?, ?, ?)",
                (account, currency, self._boot, plain(amount)),
            )
        self._target.execute(
            "INSERT OR IGNORE INTO balances (account, currency, boot, amount)"
            " SELECT name, currency, boot, '0' FROM accounts"
        )
        return self._said

    def _fill_gaps(self) -> None:
        rows: list[tuple[int, str, str, str, str]] = list(
            self._target.execute(
                "SELECT entry, account, currency, amount, balance FROM ledger ORDER BY entry"
            )
        )
        taken = {row[0] for row in rows}
        for entry, account, currency, amount, balance in rows:
            key = (account, currency)
            before = EXACT.subtract(Decimal(balance), Decimal(amount))
            lost = EXACT.subtract(before, self._balances[key])
            self._balances[key] = Decimal(balance)
            if not lost:
                continue
            free = next((number for number in range(entry - 1, 0, -1) if number not in taken), None)
            if free is None:
                # No row is missing before it, so the row itself is wrong: `ledger_check` names it.
                self._wrong_at[key] = entry
                continue
            taken.add(free)
            self._write(key, MovementKind.SUSPENSE, lost, before, None, free)
            self._said.append(f"{account}: movements of {plain(lost)} {currency} before entry {entry}")

    def _mend_reservations(self) -> None:
        for (call_id, account, currency), (held, booked) in wrong_reservations(self._target).items():
            if self._is_proven and self._is_open(call_id):
                self._target.execute(
                    "UPDATE open_calls SET currency = ?, reserved = ? WHERE call_id = ?",
                    (currency, plain(booked), call_id),
                )
                self._said.append(f"{account}: call {UUID(bytes=call_id)} holds {plain(booked)} {currency}")
                continue
            key, difference = (account, currency), EXACT.subtract(booked, held)
            kind = MovementKind.RELEASE if difference > 0 else MovementKind.RESERVE
            if self._is_lost(call_id):
                self._restore(key, kind, difference, call_id, ", which is lost")
            else:
                self._restore(key, kind, difference, call_id)

    def _mend_charges(self) -> None:
        for call_id, (owed, posted) in wrong_charges(self._target, []).items():
            if owed is None:
                continue
            for key in sorted(owed.keys() | posted.keys()):
                difference = EXACT.subtract(posted.get(key, ZERO), owed.get(key, ZERO))
                if difference:
                    self._restore(key, MovementKind.CHARGE, difference, call_id)

    def _is_open(self, call_id: bytes) -> bool:
        sql = "SELECT EXISTS (SELECT 1 FROM open_calls WHERE call_id = ?)"
        return bool(self._target.execute(sql, (call_id,)).get)

    def _is_lost(self, call_id: bytes) -> bool:
        """Neither open nor recorded nor charged: nothing but its reservation is left of it."""
        return not self._target.execute(
            "SELECT EXISTS (SELECT 1 FROM open_calls WHERE call_id = ?1)"
            " OR EXISTS (SELECT 1 FROM cdrs WHERE call_id = ?1)"
            " OR EXISTS (SELECT 1 FROM suppressed WHERE call_id = ?1)"
            " OR EXISTS (SELECT 1 FROM ledger WHERE call_id = ?1 AND kind = 'charge')",
            (call_id,),
        ).get

    def _restore(
        self, key: _Key, kind: MovementKind, amount: Decimal, call_id: bytes, more: str = ""
    ) -> None:
        self._book(key, kind, amount, call_id)
        self._book(key, MovementKind.SUSPENSE, -amount, call_id)
        call = f"call {UUID(bytes=call_id)}{more}"
        self._said.append(f"{key[0]}: {kind.value} of {plain(amount)} {key[1]}, {call}")

    def _all_keys(self) -> set[_Key]:
        return self._balances.keys() | set(self._target.execute("SELECT name, currency FROM accounts"))

    def _suspect(self, key: _Key, why: str) -> None:
        self._book(key, MovementKind.SUSPENSE, ZERO)
        self._said.append(f"{key[0]}: the balance in {key[1]} is not known to be right: {why}")

    def _book(self, key: _Key, kind: MovementKind, amount: Decimal, call_id: bytes | None = None) -> None:
        balance = self._balances[key] = EXACT.add(self._balances[key], amount)
        self._write(key, kind, amount, balance, call_id, None)

    def _write(
        self,
        key: _Key,
        kind: MovementKind,
        amount: Decimal,
        balance: Decimal,
        call_id: bytes | None,
        entry: int | None,
    ) -> None:
        row = (entry, self._boot, *key, kind.value, plain(amount), plain(balance), call_id, self._wall_ns)
        _ENTRIES.write(self._target, [row])
