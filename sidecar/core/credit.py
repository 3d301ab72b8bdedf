"""Prepaid in its plain form: the whole affordable time is reserved at the INVITE, the rest returned at the
end.
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


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`granted_s` seconds may be talked; `reserved` is their total, so no end of the call within them
    overspends.
    """

    granted_s: int
    reserved: Money


def grant(balance: Decimal, rate: Rate, terms: RatingTerms, max_duration_s: int) -> Grant | None:
    """The longest call that `balance` (free of reservations, in the rate's currency) pays; None means
    no_credit.

    At most `max_duration_s` and the rate's own maximum. A free call needs a balance of 0 at least. When the
    call will be answered is not known, so the windows of a rate count with their dearest price: whatever
    the clock says then, the charge stays within the reservation.
    """
    steps, fee = dearest_steps(rate.steps)
    rate = replace(rate, steps=steps, connect_fee=min(EXACT.add(rate.connect_fee, fee), AMOUNT_LARGEST))
    longest_s = max_duration_s if rate.max_duration_s is None else min(max_duration_s, rate.max_duration_s)
    granted_s = affordable_s(balance, rate, terms, longest_s)
    if granted_s == 0:
        return None
    return Grant(granted_s=granted_s, reserved=Money(charge(rate, granted_s, terms).total, rate.currency))
