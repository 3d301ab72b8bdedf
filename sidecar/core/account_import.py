"""Accounts of another system, as a file brings them: terms and opening balances, checked whole before one is
made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from sidecar.core.account_terms import AMOUNTS, AccountKind, AccountTerms, check_terms
from sidecar.core.amounts import EXACT, parse_amount
from sidecar.core.books import ZERO

ROWS_MAX = 20_000
OPENING = "opening balance"  # the reference of a movement that has none of its own, and why it is booked
MEANINGS = {
    "name": "1-64 characters without blanks.",
    "currency": "ISO 4217.",
    "kind": "`prepaid`, `postpaid` or `free`.",
    "balance": "The opening balance; it may be negative. Empty: 0.",
    "reference": f"Of its movement; empty: `{OPENING}`.",
    "credit_limit": "How far the balance may go below 0.",
    "valid_from": "ISO 8601 with an offset.",
    "valid_to": "Likewise.",
    "zone": "Empty: UTC.",
    "day_limit": "What its calls may cost in a day.",
    "month_limit": "In a month.",
    "low_balance": "An alarm below it.",
}
COLUMNS = tuple(MEANINGS)
REQUIRED = ("name", "currency", "kind")


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    terms: AccountTerms
    balance: Decimal = ZERO
    reference: str = OPENING


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What two sides compare: how many accounts, and the opening balances of each currency."""

    count: int
    sums: Mapping[str, Decimal]


def totals_of(rows: Iterable[Imported]) -> Totals:
    count, sums = 0, dict[str, Decimal]()
    for row in rows:
        count += 1
        sums[row.terms.currency] = EXACT.add(sums.get(row.terms.currency, ZERO), row.balance)
    return Totals(count=count, sums=sums)


def differences(found: Totals, count: int | None, sums: Mapping[str, Decimal]) -> list[str]:
    """Where the control totals that were given, if any, are not those of the rows."""
    said = []
    if count is not None and count != found.count:
        said.append(f"{found.count} accounts, {count} were to come")
    for currency in sorted(sums.keys() | (found.sums.keys() if sums else ())):
        there, wanted = found.sums.get(currency, ZERO), sums.get(currency, ZERO)
        if there != wanted:
            said.append(f"{there:f} {currency} in all, {wanted:f} were to come")
    return said


def read_rows(rows: Sequence[Mapping[str, str]]) -> tuple[list[Imported], list[str]]:
    """The rows below the header, and every error with its row, as a spreadsheet counts, and its column."""
    found: list[Imported] = []
    errors: list[str] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        wrong = len(errors)
        cells = {name: text for name in COLUMNS if (text := row.get(name, "").strip())}
        errors += [f"row {number}, {name}: is empty" for name in REQUIRED if name not in cells]
        values: dict[str, object] = {}
        for name, text in cells.items():
            try:
                values[name] = _value(name, text)
            except ValueError as error:
                errors.append(f"row {number}, {name}: {error}")
        first = seen.setdefault(cells.get("name", ""), number)
        if first != number:
            errors.append(f"row {number}, name: {cells.get('name')} is in row {first} too")
        if len(errors) > wrong:
            continue
        own = {name: values.pop(name) for name in ("balance", "reference") if name in values}
        try:
            terms = AccountTerms(**values)  # type: ignore[arg-type]
            check_terms(terms)
        except ValueError as error:
            errors.append(f"row {number}: {error}")
            continue
        found.append(Imported(terms=terms, **own))  # type: ignore[arg-type]
    return found, errors


def _value(name: str, text: str) -> object:
    if name == "kind":
        if text not in set(AccountKind):
            raise ValueError(f"{text!r} is not one of {', '.join(AccountKind)}")
        return AccountKind(text)
    if name in AMOUNTS:
        return parse_amount(text)
    if name == "balance":
        amount = parse_amount(text.removeprefix("-"))
        return EXACT.minus(amount) if text.startswith("-") else amount
    if name in ("valid_from", "valid_to"):
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(f"{text!r} has no offset from UTC")
        return at
    longest = {"name": 64, "reference": 100}.get(name, 64)
    if len(text) > longest or not text.isprintable() or (name == "name" and " " in text):
        raise ValueError(f"{text!r} is not up to {longest} printable characters")
    return text
