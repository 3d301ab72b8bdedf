"""What a damaged journal no longer tells of an account, until a person decides.

A salvage writes movements of kind `suspense` where the balance moved and no movement says why: so the sums
hold, and nothing is booked that nobody decided. While those of an account come to something its balance is
not known to be right: as a prepaid one it carries no call (server/resource ledger_unreachable); postpaid ones
go on.

A decision adds the opposite movement, whose reference names the one that it clears, so it is made once:
- `book`: the balance was right; the sum stays in it, as a movement of kind `lost`;
- `release`: the sum goes out of the balance, as if what is missing had never been.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from sidecar.core.amounts import EXACT
from sidecar.core.audit import Change, told
from sidecar.core.books import ZERO, Balances, Movement, MovementKind, suspense_reference
from sidecar.core.books_check import plain
from sidecar.core.terms import Word


class SuspenseDecision(Word):
    BOOK = "book"
    RELEASE = "release"


class Suspended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the ledger that nobody has decided about yet. `amount`: what the balance has of it; 0 where
    even that is not known."""

    entry: int
    account: str
    currency: str
    amount: Decimal
    booked_wall_ns: int
    call_id: UUID | None = None  # where it is known whose movement is missing


def unexplained(found: Iterable[Suspended]) -> list[Suspended]:
    """Without those of an account that come to nothing: what is missing in its ledger is what its calls were
    found to lack."""
    of: dict[tuple[str, str], list[Suspended]] = {}
    for one in found:
        of.setdefault((one.account, one.currency), []).append(one)
    return [one for some in of.values() if not _is_explained(some) for one in some]


def _is_explained(some: Sequence[Suspended]) -> bool:
    total = ZERO
    for one in some:
        total = EXACT.add(total, one.amount)
    return not total and all(one.amount for one in some)


def suspect(account: str, currency: str, view: Balances) -> Movement:
    """A movement of 0 that says that the balance is not known to be right."""
    return Movement(
        kind=MovementKind.SUSPENSE,
        account=account,
        currency=currency,
        amount=ZERO,
        balance=view.balance(account, currency),
    )


def cleared(found: Sequence[Suspended], decision: SuspenseDecision, view: Balances) -> list[Movement]:
    """The movements that clear these."""
    balances: dict[tuple[str, str], Decimal] = {}
    movements = []
    for one in found:
        key = (one.account, one.currency)
        steps: list[tuple[MovementKind, Decimal, str | None]] = [
            (MovementKind.SUSPENSE, -one.amount, suspense_reference(one.entry))
        ]
        if decision is SuspenseDecision.BOOK and one.amount:
            steps.append((MovementKind.LOST, one.amount, None))
        for kind, amount, reference in steps:
            balance = EXACT.add(balances.get(key, view.balance(*key)), amount)
            balances[key] = balance
            movements.append(
                Movement(
                    kind=kind,
                    account=one.account,
                    currency=one.currency,
                    amount=amount,
                    balance=balance,
                    call_id=one.call_id,
                    reference=reference,
                )
            )
    return movements


def noted(
    found: Sequence[Suspended], movements: Sequence[Movement], view: Balances, change: Change
) -> Change:
    """With what was open, and the balances before and after `movements`, which are not booked yet."""
    before = {one.currency: plain(view.balance(one.account, one.currency)) for one in found}
    after = {one.currency: plain(one.balance) for one in movements}
    opened = {str(one.entry): f"{plain(one.amount)} {one.currency}" for one in found}
    return replace(
        change,
        before=told({"balances": before, "suspense": opened}),
        after=told({"balances": after}),
    )
