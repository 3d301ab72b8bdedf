"""Credit in slices (RFC 8506 §5: a quota is asked for, extended before it is used up, and the last is final).

What a call reserves is cumulative: the whole call up to the end of its grant, priced by `charge`, so that its
charge is within what it holds wherever it ends. An extension reserves the difference, inside one transaction,
against what is left of the balance: calls in parallel share it, and none of them overspends.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec.structs import replace

from sidecar.core.amounts import AMOUNT_LARGEST, EXACT
from sidecar.core.rating import RatingTerms, affordable_s, charge
from sidecar.core.steps import dearest_steps
from sidecar.core.tariff import Rate
from sidecar.core.terms import Money

GUARD_MS_MAX = 5_000


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`granted_s` seconds may be talked in all; `reserved` is their total, so no end of the call within them
    overspends. `final`: the balance affords no more.
    """

    granted_s: int
    reserved: Money
    final: bool = False


def grant(available: Decimal, rate: Rate, terms: RatingTerms, total_s: int) -> Grant | None:
    """The first slice: `total_s` seconds, or as many as `available` (free of reservations, in the rate's
    currency) pays; None means no_credit.

    Never more than the rate's own maximum. A free call needs no debt. When the call will be answered is not
    known, so the windows of a rate count with their dearest price: whatever the clock says then, the charge
    stays within the reservation.
    """
    granted = _affordable(available, rate, terms, total_s)
    return granted if granted.granted_s else None


def extend(available: Decimal, held: Grant, rate: Rate, terms: RatingTerms, total_s: int) -> Grant:
    """What a call that holds a grant has after it asked for `total_s` seconds in all: `held` itself, as the
    final one, where `available` pays none beyond it."""
    granted = _affordable(EXACT.add(available, held.reserved.amount), rate, terms, total_s)
    if granted.granted_s > held.granted_s:
        return granted
    return replace(held, final=held.granted_s < total_s)


def _affordable(budget: Decimal, rate: Rate, terms: RatingTerms, total_s: int) -> Grant:
    if any(step.alternatives for step in rate.steps):  # else it costs the same at all times
        steps, fee = dearest_steps(rate.steps)
        rate = replace(rate, steps=steps, connect_fee=min(EXACT.add(rate.connect_fee, fee), AMOUNT_LARGEST))
    longest_s = total_s if rate.max_duration_s is None else min(total_s, rate.max_duration_s)
    granted_s = affordable_s(budget, rate, terms, longest_s)
    reserved = Money(charge(rate, granted_s, terms).total, rate.currency)
    return Grant(granted_s=granted_s, reserved=reserved, final=granted_s < total_s)


# --- when to ask --------------------------------------------------------------------------------------------


def guard_ms(least_ms: int, slowest_ms: int) -> int:
    """How long before the end of a grant its extension is asked for: twice what the store has taken at the
    worst of late (`forgotten_ms`), so that one slow commit ends no call."""
    return min(max(least_ms, 2 * slowest_ms), max(least_ms, GUARD_MS_MAX))


def forgotten_ms(slowest_ms: int) -> int:
    """What is left of that a heartbeat later: half of it after some 45."""
    return slowest_ms - -(-slowest_ms // 64)
