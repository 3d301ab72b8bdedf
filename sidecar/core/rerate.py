"""What recorded calls would cost with another deck, strip length or terms, and the revision that says so.

Only a charge's inputs are taken from the record: the number as received, the billable time, when the call
came and when it was answered, and the terms that the record holds. A call on a list of free numbers stays
free; who ended a call, and when, is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from sidecar.core.call import pricing_of
from sidecar.core.callers import caller_of
from sidecar.core.cdr import Cdr, ChargeRecord, message_id
from sidecar.core.explain_call import answered_at, rated_at, received_number, terms_of
from sidecar.core.margin import ExchangeTable
from sidecar.core.numbers import E164, PHONE_CONTEXT, ROUTING_NUMBER, BilledNumber, StripPlan, billed_number
from sidecar.core.rating import RatingTerms
from sidecar.core.records import charge_line, is_charged, margin_of
from sidecar.core.tariff import Deck
from sidecar.core.terms import ChargeSide, RatingStatus, RevisionReason

_NOTHING = Decimal(0)


class Rerated(msgspec.Struct, frozen=True, kw_only=True):
    """One call's line, as it was charged and as it would be."""

    cdr: Cdr
    before: ChargeRecord
    after: ChargeRecord
    account_currency: str | None = None  # None: not known; then the one that it was charged in

    @property
    def billed(self) -> str | None:
        return self.after.billed_number

    @property
    def prefix(self) -> str | None:
        return self.after.prefix

    @property
    def destination(self) -> str | None:
        return self.after.destination

    @property
    def currency(self) -> str | None:
        return self.after.currency

    @property
    def billed_s(self) -> int:
        return self.after.billed_s

    @property
    def total(self) -> Decimal | None:
        """None: no rate."""
        return self.after.total

    @property
    def differs(self) -> bool:
        """In what is paid: the same money by another prefix is no difference."""
        return (self.before.total, self.before.currency) != (self.total, self.currency)

    @property
    def hindrance(self) -> str | None:
        """Why the difference may be shown, but not booked: a deck that does not know the number says nothing
        about its price, and an account is kept in one currency."""
        if self.total is None:
            return "no rate in this deck"
        kept_in = self.account_currency or self.before.currency
        if self.before.side is ChargeSide.SELL and kept_in is not None and self.currency != kept_in:
            return "another currency than the account's"
        return None


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


def rerate(
    cdr: Cdr,
    deck: Deck,
    plan: StripPlan | None,
    terms: RatingTerms | None = None,
    side: ChargeSide = ChargeSide.SELL,
    account_currency: str | None = None,
) -> Rerated | None:
    """One line of a record again; None where nothing was charged that could be priced otherwise.

    Without a plan the number stays as it was billed, so that the deck alone makes the difference. A number
    that a named rule was applied to stays too: such rules have precedence over any strip length; so does a
    routing number. `terms` replaces those of the record.
    """
    line = next((one for one in cdr.charges if one.side is side), None)
    if line is None or cdr.void or not is_charged(cdr.suppressed_by):
        return None
    if line.rating_status is RatingStatus.FREE:
        return None
    if line.rating_status is RatingStatus.NOT_BILLABLE and not line.hold_s:  # else it was within a grace
        return None
    number = _number(cdr, line, plan)
    own = terms or terms_of(line) or RatingTerms(rounding=line.rounding, decimals=line.decimals)
    pricing = pricing_of(number, own, deck, rated_at(cdr, side), caller_of(cdr))
    billable_ms = line.billable_ms
    if billable_ms is None:
        if side is ChargeSide.BUY:
            return None  # a record of an earlier writer does not say how long
        billable_ms = cdr.billable_ms or cdr.hold_s * 1000
    after = charge_line(side, line.party, pricing, billable_ms, answered_at(cdr, side), line.currency)
    return Rerated(cdr=cdr, before=line, after=after, account_currency=account_currency)


def _number(cdr: Cdr, line: ChargeRecord, plan: StripPlan | None) -> BilledNumber:
    received, rule = received_number(cdr, line.side), line.strip_rule or "global"
    if plan is not None and not rule.startswith("rule:") and rule != ROUTING_NUMBER:
        found = billed_number(received, plan)
        return found if found.rule in (E164, PHONE_CONTEXT) else replace(found, rule=rule)
    found = billed_number(received, StripPlan())
    return replace(
        found, billed=line.billed_number, rule=rule, stripped=line.stripped or 0, added=line.added or ""
    )


def revised(
    cdr: Cdr, after: ChargeRecord, exchange: ExchangeTable, operator: str, text: str, at: datetime
) -> Cdr:
    """The next revision of a record, with one line of its charges replaced and all that follows from it."""
    charges = tuple(after if line.side is after.side else line for line in cdr.charges)
    known = cdr.margin.exchange if cdr.margin is not None else None
    margin = margin_of(charges, cdr.invited_at, exchange)
    if known is not None:  # the rate of the day is what it was
        margin = margin_of(charges, cdr.invited_at, ExchangeTable([known])) or margin
    sold = after.side is ChargeSide.SELL
    revision = cdr.revision + 1
    return replace(
        cdr,
        store_epoch="",
        seq=None,
        account_prev_seq=None,
        revision=revision,
        supersedes=cdr.revision,
        revision_reason=RevisionReason.RERATE,
        revised_at=at,
        revised_by=operator,
        revised_text=text,
        message_id=message_id(cdr.call_id, revision),
        callee=replace(cdr.callee, billed=after.billed_number) if sold else cdr.callee,
        hold_s=after.hold_s if sold and after.hold_s is not None else cdr.hold_s,
        billed_s=after.billed_s if sold else cdr.billed_s,
        charges=charges,
        margin=margin,
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
            found[key] = replace(
                known,
                calls=known.calls + 1,
                rated_before=known.rated_before + (before is not None),
                rated_after=known.rated_after + (after is not None),
                before=known.before + (before or _NOTHING),
                after=known.after + (after or _NOTHING),
            )
    return sorted(found.values(), key=lambda one: (-abs(one.difference), one.account, one.destination))
