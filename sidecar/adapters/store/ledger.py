"""Accounts, balances and the ledger within one transaction, as core/books asks for them: what the engine
says, and over it what this transaction has posted so far.

A ledger lives as long as its transaction, which holds what it read of a balance locked: that cannot change
under it, and none is kept beyond it, so several nodes may share a store. Rows are collected, and written at
the end by the engine, many to a statement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from sys import intern
from uuid import UUID

import msgspec

from sidecar.adapters.store.bodies import storable
from sidecar.adapters.store.reading import Asks
from sidecar.core.account_books import AccountPosting, Booked
from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, Charged, Movement, MovementKind
from sidecar.core.books_check import plain

MOVED = (  # the columns of `rows`
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
)
TERMS = "SELECT name, currency, prepaid, terms FROM accounts"


class BaseLedger(ABC):
    def __init__(self, boot: int, wall_ns: int) -> None:
        self._boot = boot
        self._wall_ns = wall_ns
        self._balances: dict[tuple[str, str], Decimal] = {}
        self._moved: set[tuple[str, str]] = set()
        self._charged: dict[int, dict[tuple[str, str], Decimal]] = {}  # by UUID.int
        # What this transaction has charged to calls, and reserved for them or for those to come.
        self.charged_here: dict[tuple[str, str], Decimal] = {}
        self.held_here: dict[tuple[str, str], Decimal] = {}
        self._here = {
            MovementKind.CHARGE: self.charged_here,
            MovementKind.RESERVE: self.held_here,
            MovementKind.RELEASE: self.held_here,
            MovementKind.TRANCHE: self.held_here,
        }
        self._accounts: dict[str, AccountTerms | None] = {}  # as they stand in this transaction
        self._opened: list[AccountTerms] = []  # in it
        self._references: dict[tuple[str, str], Booked] = {}  # booked in it
        self._changed: set[str] = set()  # accounts whose terms were
        self._rows: list[tuple[object, ...]] = []

    # --- what the engine has --------------------------------------------------------------------------------

    @abstractmethod
    def _read_balance(self, account: str, currency: str) -> Decimal: ...
    @abstractmethod
    def _read_charged(self, call_id: UUID) -> dict[tuple[str, str], Decimal]: ...
    @abstractmethod
    def _read_account(self, name: str) -> AccountTerms | None: ...
    @abstractmethod
    def _read_booked(self, account: str, reference: str) -> Booked | None: ...

    # --- and over it what was posted ------------------------------------------------------------------------

    def balance(self, account: str, currency: str) -> Decimal:
        key = (account, currency)
        found = self._balances.get(key)
        if found is None:
            found = self._balances[key] = self._read_balance(account, currency)
        return found

    def charged(self, call_id: UUID, *, fresh: bool) -> Charged:
        """`fresh`: surely nothing."""
        found = self._charged.get(call_id.int)
        if found is None:
            found = self._charged[call_id.int] = {} if fresh else self._read_charged(call_id)
        return {key: amount for key, amount in found.items() if amount}

    def account(self, name: str) -> AccountTerms | None:
        if name not in self._accounts:
            self._accounts[name] = self._read_account(name)
        return self._accounts[name]

    def booked(self, account: str, reference: str) -> Booked | None:
        return self._references.get((account, reference)) or self._read_booked(account, reference)

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

    def _made(self) -> list[TermsRow]:
        """Accounts that were opened, as they stand now."""
        return list({one.name: row_of(self._accounts[one.name] or one) for one in self._opened}.values())

    def _retermed(self) -> list[TermsRow]:
        """Others whose terms were changed."""
        names = sorted(self._changed - {one.name for one in self._opened})
        found = [self._accounts[name] for name in names]
        return [row_of(one) for one in found if one is not None]


# --- terms as rows ------------------------------------------------------------------------------------------

_JSON = msgspec.json.Encoder(order="sorted")
TermsRow = tuple[str, str, int, str | None]


def row_of(terms: AccountTerms) -> TermsRow:
    """Name, currency, whether it is prepaid, and the rest as JSON."""
    rest = msgspec.to_builtins(terms)
    del rest["name"], rest["currency"]
    if terms.prepaid:
        del rest["kind"]
    return terms.name, terms.currency, int(terms.prepaid), _JSON.encode(rest).decode() if rest else None


def terms_of(row: TermsRow) -> AccountTerms:
    name, currency, prepaid, rest = row
    said = msgspec.json.decode(rest) if rest else {}
    if prepaid:
        said["kind"] = AccountKind.PREPAID
    return msgspec.convert({**said, "name": name, "currency": intern(currency)}, AccountTerms, strict=False)


def stored_terms(connection: Asks, name: str | None = None) -> Sequence[AccountTerms]:
    """Of the one of that name, or of all."""
    rows = connection.execute(f"{TERMS} WHERE CAST(?1 AS TEXT) IS NULL OR name = ?1 ORDER BY name", (name,))
    return tuple(map(terms_of, rows))
