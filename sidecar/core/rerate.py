"""What recorded calls would be sold for with another deck, strip length or terms. Nothing is written.

Only a charge's inputs are taken from the record: the number as received, the held seconds, when the call
came and when it was answered. A call on a list of free numbers stays free.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.numbers import StripPlan, billed_number
from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Deck
from sidecar.core.terms import ChargeSide, RatingStatus

_NOTHING = Decimal(0)


class Rerated(msgspec.Struct, frozen=True, kw_only=True):
    """One call, as it was sold and as it would be. A total of None: no rate."""

    cdr: Cdr
    before: ChargeRecord
    billed: str | None
    prefix: str | None
    destination: str | None
    currency: str | None
    billed_s: int
    total: Decimal | None

    @property
    def differs(self) -> bool:
        """In what is paid: the same money by another prefix is no difference."""
        return (self.before.total, self.before.currency) != (self.total, self.currency)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one account, destination, gateway and currency, before and after. `before` and `after` sum
    what is rated in this currency; `rated_*` count the calls that are.
    """

    account: str
    destination: str
    gateway: str
    currency: str
    calls: int = 0
    rated_before: int = 0
    rated_after: int = 0
    before: Decimal = _NOTHING
    after: Decimal = _NOTHING

    @property
    def difference(self) -> Decimal:
        return self.after - self.before


def rerate(cdr: Cdr, deck: Deck, plan: StripPlan | None, terms: RatingTerms) -> Rerated | None:
    """The sale of one record again; None where nothing was sold that could be priced otherwise.

    Without a plan the number stays as it was billed, so that the deck alone makes the difference.
    """
    line = next((one for one in cdr.charges if one.side is ChargeSide.SELL), None)
    if line is None or cdr.void or line.rating_status in (RatingStatus.FREE, RatingStatus.NOT_BILLABLE):
        return None
    billed = line.billed_number if plan is None else billed_number(cdr.callee.received, plan).billed
    rate = None if billed is None else deck.match(billed, cdr.invited_at)
    cost = None if rate is None else charge(rate, cdr.hold_s, terms, cdr.answered_at)
    return Rerated(
        cdr=cdr,
        before=line,
        billed=billed,
        prefix=rate.prefix if rate else None,
        destination=rate.destination if rate else None,
        currency=rate.currency if rate else line.currency,
        billed_s=cost.billed_s if cost else 0,
        total=cost.total if cost else None,
    )


def changes(calls: Iterable[Rerated]) -> list[Change]:
    """The calls that differ, summed up; the greatest difference first. Currencies are never summed
    together.
    """
    found: dict[tuple[str, str, str, str], Change] = {}
    for one in calls:
        if not one.differs:
            continue
        place = (one.cdr.account, one.destination or one.before.destination or "", one.cdr.gateway or "")
        old, new = one.before.currency or "", one.currency or ""
        for currency in dict.fromkeys((old, new)):
            key = (*place, currency)
            known = found.get(key) or Change(
                account=place[0], destination=place[1], gateway=place[2], currency=currency
            )
            before = one.before.total if currency == old else None
            after = one.total if currency == new else None
            found[key] = msgspec.structs.replace(
                known,
                calls=known.calls + 1,
                rated_before=known.rated_before + (before is not None),
                rated_after=known.rated_after + (after is not None),
                before=known.before + (before or _NOTHING),
                after=known.after + (after or _NOTHING),
            )
    return sorted(found.values(), key=lambda one: (-abs(one.difference), one.account, one.destination))
