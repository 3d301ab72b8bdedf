"""Tranches (escrow): money of an account that one node holds, for the time when the books cannot be asked.

While they can, calls reserve from the balance, exactly, and a tranche lies beside it: of accounts that have
reserved of late, for so many seconds of that (`store.tranche_s`), and never more than a part of what there
is, so that all nodes together hold a quarter at most. A call that would be refused for credit gets it back
first. What becomes of it when the books are away is in core/away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from decimal import ROUND_DOWN, Context, Decimal
from typing import NamedTuple

from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, Draft, Movement, MovementKind, View, available

SHARE = 4  # what is available over this, and over the nodes that live, is the most that one holds
WINDOW_S = 60
_CHANGE = 4  # less than the part of it that this says is no change: each is a line of the ledger
_STEP = Decimal("0.000001")
_ROUNDED = Context(prec=100, rounding=ROUND_DOWN)

Key = tuple[str, str]  # account, currency


class Reserved(NamedTuple):
    """By calls of one account: what, and how many times."""

    amount: Decimal = ZERO
    times: int = 0


class Burned(NamedTuple):
    """In the last minute, and by one reservation, about."""

    amount: Decimal
    usual: Decimal


class Burn:
    """What calls have reserved of late on this node: over the last minute, where what came in the minute
    before counts by how much of it the last minute still holds."""

    def __init__(self, now_s: float) -> None:
        self._begun_s = now_s
        self._now: dict[Key, Reserved] = {}
        self._before: dict[Key, Reserved] = {}

    def add(self, reserved: Mapping[Key, Reserved]) -> None:
        for key, (amount, times) in reserved.items():
            known = self._now.get(key, Reserved())
            self._now[key] = Reserved(EXACT.add(known.amount, amount), known.times + times)

    def turn(self, now_s: float) -> Set[Key]:
        """Whoever has reserved of late."""
        over = int((now_s - self._begun_s) // WINDOW_S)
        if over > 0:
            self._before, self._now = (self._now if over == 1 else {}), {}
            self._begun_s += over * WINDOW_S
        return self._now.keys() | self._before.keys()

    def of(self, key: Key, now_s: float) -> Burned:
        now, before = self._now.get(key, Reserved()), self._before.get(key, Reserved())
        left_s = max(0, WINDOW_S - int(now_s - self._begun_s))
        left = _ROUNDED.divide(before.amount * left_s, WINDOW_S)
        times = now.times + before.times
        usual = _ROUNDED.divide(now.amount + before.amount, times) if times else ZERO
        return Burned(EXACT.add(now.amount, left), usual)


def wish(burned: Burned, tranche_s: int) -> Decimal:
    """What a node would hold of an account that has enough: one reservation at least, where there was one."""
    if burned.amount <= 0 or not tranche_s:
        return ZERO
    return max(burned.usual, _ROUNDED.divide(burned.amount * tranche_s, WINDOW_S))


def wanted(burned: Burned, tranche_s: int, there: Decimal, nodes: int) -> Decimal:
    """What it should hold of one of which `there` is available with what it holds, where so many nodes live;
    nothing, if that is less than one reservation."""
    want = min(wish(burned, tranche_s), _ROUNDED.divide(there, SHARE * max(1, nodes)))
    return ZERO if want < burned.usual else max(ZERO, _ROUNDED.quantize(want, _STEP))


def is_worthwhile(held: Decimal, want: Decimal) -> bool:
    """Whether the difference is worth two lines of the ledger, here and back."""
    if not want or not held:
        return want != held
    return _CHANGE * abs(want - held) > held


def resize(key: Key, burned: Burned, tranche_s: int, nodes: int, view: View) -> Sequence[Movement]:
    """Take, or give back, so that the node holds what it should, about."""
    held, there, draft = view.tranche(*key), available(*key, view).amount, Draft(view)
    want = ZERO if there is None else wanted(burned, tranche_s, EXACT.add(there, held), nodes)
    if is_worthwhile(held, want):
        draft.move(MovementKind.TRANCHE, *key, EXACT.subtract(held, want))
    return draft.movements


def give_back(key: Key, held: Decimal, view: View) -> Sequence[Movement]:
    """All of a tranche, of whichever node."""
    draft = Draft(view)
    draft.move(MovementKind.TRANCHE, *key, held)
    return draft.movements
