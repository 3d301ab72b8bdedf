"""What people do to accounts, in the books: make one, change its terms, book a movement on it.

Each is worked out against an `AccountView` of the store's transaction, and is either a posting to be written
or a text that says why not. A movement has a reference and is booked once: the same one again moves nothing,
and with another amount it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from sidecar.core.account_import import OPENING, Imported
from sidecar.core.account_terms import AccountTerms
from sidecar.core.alarms import LowBalance
from sidecar.core.audit import Change, told
from sidecar.core.books import SUSPENSE_REFERENCE, Draft, MoneyView, Movement, MovementKind
from sidecar.core.terms import Money

REFUSALS_SHOWN = 10  # of an import


class Booked(NamedTuple):
    """What a reference was booked for. An amount that is gone with an archived movement is None."""

    kind: MovementKind | None
    amount: Decimal | None


class AccountView(MoneyView, Protocol):
    """What a store must be able to tell of its accounts, as they stand in its transaction."""

    def account(self, name: str) -> AccountTerms | None: ...
    def booked(self, account: str, reference: str) -> Booked | None:
        """What a person has booked on the account under this reference."""


class AccountPosting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    opened: AccountTerms | None = None  # a new account, whose balance of 0 is to be seen at once
    changed: AccountTerms | None = None  # the terms of a known one, in the place of those before
    movements: Sequence[Movement] = ()
    change: Change | None = None  # to be noted
    low_balances: Sequence[LowBalance] = ()


def open_account(
    wanted: AccountTerms, view: AccountView, change: Change | None = None
) -> AccountPosting | str:
    """May be repeated on the same terms; a text for people where the account exists on others. `change` is
    noted where the account is new."""
    found = view.account(wanted.name)
    if found is None:
        return AccountPosting(opened=wanted, change=_noted(change, None, wanted))
    if found == wanted:
        return AccountPosting()
    others = ", ".join(f"{name} {said}" for name, said in different(wanted, found).items())
    return f"account {wanted.name}: exists with other terms ({others})"


def set_terms(wanted: AccountTerms, view: AccountView, change: Change | None = None) -> AccountPosting | str:
    """The account on these terms, whatever it had; a new one where there is none. Its currency is that of its
    balance and stays."""
    found = view.account(wanted.name)
    if found is None:
        return AccountPosting(opened=wanted, change=_noted(change, None, wanted))
    if found.currency != wanted.currency:
        return f"account {wanted.name}: is kept in {found.currency}, and cannot change to {wanted.currency}"
    if found == wanted:
        return AccountPosting()
    return AccountPosting(changed=wanted, change=_noted(change, found, wanted))


def book(
    kind: MovementKind,
    name: str,
    amount: Money,
    reference: str,
    view: AccountView,
    change: Change | None = None,
) -> AccountPosting | str:
    """A movement by a person: a top-up or a credit note adds, an adjustment may take away, for a reason
    (`change.text`). `change` is noted where something moves, with the balance before and after it."""
    figure = amount.amount
    if not reference or not figure.is_finite() or not figure:
        return f"account {name}: a movement needs a reference and an amount other than 0"
    if figure < 0 and kind is not MovementKind.ADJUST:
        return f"account {name}: {kind.value} of {figure}: what takes away is an adjustment"
    if kind is not MovementKind.TOP_UP and (change is None or not change.text):
        return f"account {name}: {kind.value} needs a reason"
    if reference.startswith(SUSPENSE_REFERENCE):
        return f"account {name}: a reference does not begin with {SUSPENSE_REFERENCE}"
    found = view.account(name)
    if found is None:
        return f"account {name}: not known; create it first"
    if found.currency != amount.currency:
        return f"account {name}: is kept in {found.currency}, not {amount.currency}"
    if (before := view.booked(name, reference)) is not None:
        same = before.kind in (None, kind) and before.amount in (None, figure)
        return AccountPosting() if same else _booked_otherwise(name, reference, before)
    draft = Draft(view)
    draft.move(
        kind,
        name,
        amount.currency,
        figure,
        reference=reference,
        operator=None if change is None else change.operator.name,
        text=None if change is None else change.text or None,
    )
    if change is not None:
        balances = (
            {"balance": f"{balance:f}", "currency": amount.currency}
            for balance in (view.balance(name, amount.currency), draft.movements[0].balance)
        )
        before_it, after_it = balances
        change = replace(change, before=told(before_it), after=told({**after_it, "reference": reference}))
    return AccountPosting(
        movements=draft.movements, change=change, low_balances=draft.low_balances(view.account)
    )


def bring(rows: Sequence[Imported], view: AccountView, change: Change) -> list[AccountPosting] | str:
    """Accounts of another system with their opening balances: all of it, or a text that says why nothing. The
    rows are of different accounts, so each is judged as if it were alone."""
    postings: list[AccountPosting] = []
    refusals: list[str] = []
    for row in rows:
        terms, amount = row.terms, Money(row.balance, row.terms.currency)
        posting = open_account(terms, view)
        if isinstance(posting, str):
            refusals.append(posting)
            continue
        if amount.amount:
            noted = replace(change, text=change.text or OPENING)
            here = _WithAccount(view, terms)
            booked = book(MovementKind.ADJUST, terms.name, amount, row.reference, here, noted)
            if isinstance(booked, str):
                refusals.append(booked)
                continue
            posting = replace(posting, movements=booked.movements, low_balances=booked.low_balances)
        postings.append(posting)
    if refusals:
        more = f"; and {len(refusals) - REFUSALS_SHOWN} more" if len(refusals) > REFUSALS_SHOWN else ""
        return "; ".join(refusals[:REFUSALS_SHOWN]) + more
    return postings


class _WithAccount:
    """A view in which an account is known that is about to be made."""

    def __init__(self, view: AccountView, terms: AccountTerms) -> None:
        self._terms = terms
        self.booked, self.balance, self.held, self.wall_ns = (
            view.booked,
            view.balance,
            view.held,
            view.wall_ns,
        )

    def account(self, name: str) -> AccountTerms | None:
        return self._terms if name == self._terms.name else None


def different(terms: AccountTerms, other: AccountTerms) -> dict[str, str | None]:
    """What `other` says where the two differ, as texts."""
    return {
        name: text(value)
        for name in AccountTerms.__struct_fields__
        if (value := getattr(other, name)) != getattr(terms, name)
    }


def text(term: object) -> str | None:
    """One term as people write it."""
    if term is None or isinstance(term, str):
        return term if term is None else str(term)
    if isinstance(term, bool):
        return "yes" if term else "no"
    return f"{term:f}" if isinstance(term, Decimal) else str(term)


def _booked_otherwise(name: str, reference: str, before: Booked) -> str:
    was = " ".join(filter(None, (before.kind, None if before.amount is None else f"{before.amount:f}")))
    return f"account {name}: reference {reference!r} is booked already, as {was}"


def _noted(change: Change | None, before: AccountTerms | None, after: AccountTerms) -> Change | None:
    if change is None:
        return None
    if before is None:
        plain = AccountTerms(name=after.name, currency=after.currency)
        of = ["currency", "kind", *different(plain, after)]
    else:
        of = [*different(before, after)]
    return replace(change, before=None if before is None else _said(before, of), after=_said(after, of))


def _said(terms: AccountTerms, names: Sequence[str]) -> str:
    return told({name: msgspec.to_builtins(getattr(terms, name)) for name in names})
