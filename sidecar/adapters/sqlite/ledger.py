"""Accounts, balances and the ledger within one transaction, as core/books asks for them and as it has them
written.

A `Ledger` lives as long as its transaction, which holds the write lock from the start: a balance that was
read in it cannot change under it, and none is kept beyond it, so several nodes may share a store. Rows are
collected and written at the end by `flush`, many to a statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from sys import intern
from uuid import UUID

import apsw
import msgspec

from sidecar.adapters.sqlite.chain import Draft, trimmed
from sidecar.adapters.sqlite.rows import Table, storable
from sidecar.core.account_books import AccountPosting, Booked
from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, Charged, Movement, MovementKind
from sidecar.core.books_check import plain
from sidecar.core.chain import Row

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
        "operator",
        "text",
    ),
)
BALANCES = Table("balances", ("account", "currency", "boot", "amount"), replace=True)
ACCOUNTS = Table("accounts", ("name", "currency", "prepaid", "terms", "boot", "created_wall_ns"))
_TERMS = "SELECT name, currency, prepaid, terms FROM accounts"


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
        # What this transaction has charged to calls, and reserved for them.
        self.charged_here: dict[tuple[str, str], Decimal] = {}
        self.held_here: dict[tuple[str, str], Decimal] = {}
        self._here = {
            MovementKind.CHARGE: self.charged_here,
            MovementKind.RESERVE: self.held_here,
            MovementKind.RELEASE: self.held_here,
        }
        self._accounts: dict[str, AccountTerms | None] = {}  # as they stand in this transaction
        self._opened: list[AccountTerms] = []  # in it
        self._references: dict[tuple[str, str], Booked] = {}  # booked in it
        self._changed: set[str] = set()  # accounts whose terms were
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
        if name not in self._accounts:
            row = self._connection.execute(f"{_TERMS} WHERE name = ?", (name,)).fetchone()
            self._accounts[name] = terms_of(row) if row else None
        return self._accounts[name]

    def booked(self, account: str, reference: str) -> Booked | None:
        key = (account, reference)
        if key in self._references:
            return self._references[key]
        sql = (
            "SELECT kind, amount FROM ledger WHERE account = ?1 AND reference = ?2"
            " UNION ALL SELECT kind, amount FROM kept_references WHERE account = ?1 AND reference = ?2"
        )
        row = self._connection.execute(sql, key).fetchone()
        if row is None:
            return None
        kind, amount = row
        return Booked(kind and MovementKind(kind), amount and Decimal(amount))

    def book(self, movements: Sequence[Movement]) -> None:
        """Movements that core/books decided on, in view of this ledger."""
        for movement in movements:
            key = (movement.account, movement.currency)
            self._balances[key] = movement.balance
            self._moved.add(key)
            if (here := self._here.get(movement.kind)) is not None:
                here[key] = EXACT.subtract(here.get(key, ZERO), movement.amount)
            call_id = movement.call_id
            if call_id is not None and movement.kind is MovementKind.CHARGE:
                charged = self._charged[call_id.int]
                charged[key] = EXACT.subtract(charged.get(key, ZERO), movement.amount)
            if movement.reference is not None:
                key = (movement.account, movement.reference)
                self._references[key] = Booked(movement.kind, movement.amount)
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
                    storable(movement.operator),
                    storable(movement.text),
                )
            )

    def book_account(self, posting: AccountPosting) -> None:
        if (opened := posting.opened) is not None:
            self._accounts[opened.name] = opened
            self._opened.append(opened)
            self.balance(opened.name, opened.currency)  # seen before anything moves it
            self._moved.add((opened.name, opened.currency))
        if (changed := posting.changed) is not None:
            self._accounts[changed.name] = changed
            self._changed.add(changed.name)
        self.book(posting.movements)

    def flush(self) -> Sequence[Row]:
        """Returns the movements, for the chain."""
        boot, chain = self._boot, self._chain
        self._write_accounts()
        rows = [(entry, *row) for entry, row in enumerate(self._rows, chain.next_ledger)]
        LEDGER.write(self._connection, rows)
        moved = [(*key, plain(self._balances[key])) for key in sorted(self._moved)]
        for account, currency, amount in moved:
            if (stored := self._stored.get((account, currency))) is not None:
                chain.take("balances", (account, currency, stored))
            chain.put("balances", (account, currency, amount))
        BALANCES.write(self._connection, [(a, c, boot, amount) for a, c, amount in moved])
        return [trimmed(row) for row in rows]

    def _write_accounts(self) -> None:
        boot, wall_ns, chain = self._boot, self._wall_ns, self._chain
        made = {one.name: _row(self._accounts[one.name] or one) for one in self._opened}
        ACCOUNTS.write(self._connection, [(*row, boot, wall_ns) for row in made.values()])
        for row in made.values():
            chain.put("accounts", row)
        for name in sorted(self._changed - made.keys()):
            for before in self._connection.execute(f"{_TERMS} WHERE name = ?", (name,)):
                chain.take("accounts", before)
            changed = self._accounts[name]
            if changed is None:
                raise AssertionError(f"account {name} was changed, and is not there")
            _, currency, prepaid, terms = row = _row(changed)
            chain.put("accounts", row)
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


# --- terms as rows ------------------------------------------------------------------------------------------

_JSON = msgspec.json.Encoder(order="sorted")
_Row = tuple[str, str, int, str | None]


def _row(terms: AccountTerms) -> _Row:
    """Name, currency, whether it is prepaid, and the rest as JSON."""
    rest = msgspec.to_builtins(terms)
    del rest["name"], rest["currency"]
    if terms.prepaid:
        del rest["kind"]
    return terms.name, terms.currency, int(terms.prepaid), _JSON.encode(rest).decode() if rest else None


def terms_of(row: _Row) -> AccountTerms:
    name, currency, prepaid, rest = row
    said = msgspec.json.decode(rest) if rest else {}
    if prepaid:
        said["kind"] = AccountKind.PREPAID
    return msgspec.convert({**said, "name": name, "currency": intern(currency)}, AccountTerms, strict=False)


def stored_terms(connection: apsw.Connection, name: str | None = None) -> Sequence[AccountTerms]:
    """Of the one of that name, or of all."""
    rows = connection.execute(f"{_TERMS} WHERE ?1 IS NULL OR name = ?1 ORDER BY name", (name,))
    return tuple(map(terms_of, rows))
