"""The books in memory: what `core/books` asks of a store, answered from nothing but what was posted."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from decimal import Decimal
from uuid import UUID

from sidecar.core.account_books import AccountPosting, Booked, book, open_account, set_terms
from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.audit import Change
from sidecar.core.books import (
    PASSING,
    Charged,
    Movement,
    MovementKind,
    OpenCall,
    Outcome,
    Posting,
    Record,
    forget,
    post,
    revise,
)
from sidecar.core.books_check import (
    CallLine,
    Line,
    Owed,
    wrong_balances,
    wrong_charges,
    wrong_reservations,
    wrong_tranches,
)
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Append, StoreCommand
from sidecar.core.records import sell_total
from sidecar.core.terms import Money

WALL_NS = 1_772_366_400_000_000_000  # 2026-03-01T12:00:00Z


class MemoryBooks:
    """A View and an AccountView. Sums are made anew for each question: no balance is kept anywhere."""

    def __init__(self) -> None:
        self.calls_elsewhere: int | None = None  # None: there is one node alone
        self.node = "n1"  # whose view it is
        self.tranches: dict[tuple[str, str, str], Decimal] = {}  # by node, account and currency
        self.ledger: list[Movement] = []
        self.records: list[Record] = []
        self.open: dict[UUID, OpenCall] = {}
        self.entries: dict[UUID, Append] = {}
        self.accounts: dict[str, AccountTerms] = {}
        self.outcomes: list[Outcome] = []
        self.now_ns = WALL_NS

    def saved(self) -> MemoryBooks:
        """As it stands now, to go back to after a crash."""
        found = copy(self)
        for name in ("ledger", "records", "outcomes"):
            setattr(found, name, list(getattr(self, name)))
        for name in ("open", "entries", "accounts", "tranches"):
            setattr(found, name, dict(getattr(self, name)))
        return found

    # --- the views ------------------------------------------------------------------------------------------

    def balance(self, account: str, currency: str) -> Decimal:
        return sum(
            (line.amount for line in self.ledger if (line.account, line.currency) == (account, currency)),
            Decimal(0),
        )

    def open_call(self, call_id: UUID) -> OpenCall | None:
        return self.open.get(call_id)

    def charged(self, call_id: UUID) -> Charged:
        sums: dict[tuple[str, str], Decimal] = {}
        for line in self.ledger:
            if line.call_id == call_id and line.kind is MovementKind.CHARGE:
                key = (line.account, line.currency)
                sums[key] = sums.get(key, Decimal(0)) - line.amount
        return {key: amount for key, amount in sums.items() if amount}

    def recorded(self, call_id: UUID) -> int | None:
        assert call_id not in self.open, "asked of a call that is open"
        return max((one.cdr.revision for one in self.records if one.cdr.call_id == call_id), default=None)

    def head_seq(self) -> int:
        return max((one.seq for one in self.records if one.seq is not None), default=0)

    def account_seq(self, account: str) -> int | None:
        return max(
            (one.seq for one in self.records if one.seq is not None and one.cdr.account == account),
            default=None,
        )

    def account(self, name: str) -> AccountTerms | None:
        return self.accounts.get(name)

    def booked(self, account: str, reference: str) -> Booked | None:
        return next(
            (
                Booked(line.kind, line.amount)
                for line in self.ledger
                if (line.account, line.reference) == (account, reference)
            ),
            None,
        )

    def charged_since(self, account: str, currency: str, since_ns: int) -> Decimal:
        del since_ns  # it is always the same day here
        return self._taken(account, currency, MovementKind.CHARGE)

    def calls_up(self, account: str, currency: str) -> int | None:
        del account, currency
        return self.calls_elsewhere

    def held(self, account: str, currency: str) -> Decimal:
        return self._taken(account, currency, *PASSING)

    def tranche(self, account: str, currency: str) -> Decimal:
        return self.tranches.get((self.node, account, currency), Decimal(0))

    def _taken(self, account: str, currency: str, *kinds: MovementKind) -> Decimal:
        return -sum(
            (
                line.amount
                for line in self.ledger
                if (line.account, line.currency) == (account, currency) and line.kind in kinds
            ),
            Decimal(0),
        )

    def wall_ns(self) -> int:
        return self.now_ns

    # --- what is written ------------------------------------------------------------------------------------

    def post(self, step: Sequence[StoreCommand]) -> Posting:
        return self._take(post(step, self))

    def forget(self, call_id: UUID) -> Posting:
        return self._take(forget(call_id, self))

    def revise(self, cdr: Cdr) -> Posting | None:
        posting = revise(cdr, self)
        return self._take(posting) if posting is not None else None

    def open_account(self, name: str, currency: str = "EUR", *, prepaid: bool = True) -> str:
        kind = AccountKind.PREPAID if prepaid else AccountKind.POSTPAID
        return self._take_account(open_account(AccountTerms(name=name, currency=currency, kind=kind), self))

    def set_terms(self, terms: AccountTerms, change: Change | None = None) -> str:
        return self._take_account(set_terms(terms, self, change))

    def top_up(self, name: str, amount: Money, reference: str) -> str:
        return self.book(MovementKind.TOP_UP, name, amount, reference)

    def book(
        self, kind: MovementKind, name: str, amount: Money, reference: str, change: Change | None = None
    ) -> str:
        return self._take_account(book(kind, name, amount, reference, self, change))

    def take(self, movements: Sequence[Movement]) -> None:
        self.ledger += movements
        for one in movements:
            if one.kind is MovementKind.TRANCHE:
                held = self.tranche(one.account, one.currency)
                self.tranches[self.node, one.account, one.currency] = held - one.amount

    def _take(self, posting: Posting) -> Posting:
        self.take(posting.movements)
        if posting.record is not None:
            self.records.append(posting.record)
        if posting.open_call is None:
            self.open.pop(posting.call_id, None)
            self.entries.pop(posting.call_id, None)
            assert posting.entry is None
        else:
            self.open[posting.call_id] = posting.open_call
            if posting.entry is not None:
                self.entries[posting.call_id] = posting.entry
        if posting.outcome is not None:
            self.outcomes.append(posting.outcome)
        return posting

    def _take_account(self, posting: AccountPosting | str) -> str:
        if isinstance(posting, str):
            return posting
        for terms in (posting.opened, posting.changed):
            if terms is not None:
                self.accounts[terms.name] = terms
        self.ledger += posting.movements
        return ""

    # --- the proof ------------------------------------------------------------------------------------------

    def faults(self) -> list[object]:
        """Everything that does not add up, by the check that an operator's store is asked with."""
        lines = [
            Line(number, line.account, line.currency, line.amount, line.balance)
            for number, line in enumerate(self.ledger)
        ]
        balances = {
            (line.account, line.currency): self.balance(line.account, line.currency) for line in self.ledger
        }
        held = [
            CallLine(call_id.bytes, call.account, call.reserved.currency, call.reserved.amount)
            for call_id, call in self.open.items()
            if call.reserved is not None
        ]
        owed = [
            Owed(
                one.cdr.call_id.bytes,
                one.cdr.revision,
                one.cdr.account,
                None if one.cdr.void else sell_total(one.cdr),
            )
            for one in self.records
        ]
        lines_of_tranches = [
            (line.account, line.currency, line.amount)
            for line in self.ledger
            if line.kind is MovementKind.TRANCHE
        ]
        reservations = self._call_lines(MovementKind.RESERVE, MovementKind.RELEASE)
        return [
            *wrong_balances(lines, balances),
            *wrong_tranches([(*key[1:], amount) for key, amount in self.tranches.items()], lines_of_tranches),
            *wrong_reservations(held, reservations).items(),
            *wrong_charges(owed, self._call_lines(MovementKind.CHARGE)).items(),
        ]

    def _call_lines(self, *kinds: MovementKind) -> list[CallLine]:
        return [
            CallLine(line.call_id.bytes, line.account, line.currency, line.amount)
            for line in self.ledger
            if line.kind in kinds and line.call_id is not None
        ]
