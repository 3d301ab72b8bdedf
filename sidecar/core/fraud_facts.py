"""What fraud rules look at of a call: the same of one that is up and of its record."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from sidecar.core.account_terms import SPENDING_LIMIT
from sidecar.core.call import Call, Pricing
from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.fraud_rules import NANO, Facts
from sidecar.core.rating import charge
from sidecar.core.records import utc
from sidecar.core.terms import ChargeSide, Detail, Disposition

_BY_BOOKS = frozenset({Detail.NO_CREDIT, Detail.ACCOUNT_DISABLED, Detail.LEDGER_UNREACHABLE})
_GONE = frozenset({Detail.DEAD_PEER, Detail.NO_ACK})
_MINUTE_S = 60
_EPOCH = utc(0)
_MS = timedelta(milliseconds=1)


class Price(msgspec.Struct, frozen=True, gc=False):
    """What a minute of a call comes to, for as long as it is up and its charge is not known."""

    nano_per_min: int = 0  # billionths
    currency: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a call that was not refused."""

    answered: bool
    talk_ms: int
    billable_ms: int
    nano: int  # that the account pays, in billionths
    currency: str
    unbilled_end: bool


def facts_of_call(call: Call) -> Facts:
    pricing, invite = call.pricing, call.invite
    return Facts(
        call_id=call.call_id,
        account=call.account.name,
        caller=invite.from_user,
        number=pricing.number.billed or invite.request_user.removeprefix("+"),
        prefix=None if pricing.rate is None else pricing.rate.prefix,
        emergency=call.is_emergency,
        invited_at=utc(invite.wall_ns),
    )


def facts_of_record(cdr: Cdr) -> Facts:
    sold = _sold(cdr)
    return Facts(
        call_id=cdr.call_id,
        account=cdr.account,
        caller=cdr.caller.received,
        number=cdr.callee.billed or cdr.callee.received.removeprefix("+"),
        prefix=None if sold is None else sold.prefix,
        emergency=cdr.emergency,
        invited_at=cdr.invited_at,
    )


def price_of_call(pricing: Pricing, at: datetime) -> Price:
    """By its first minute that is charged."""
    if pricing.rate is None or pricing.free:
        return Price()
    cost = charge(pricing.rate, _MINUTE_S + pricing.terms.free_s, pricing.terms, at)
    return Price(_nano(cost.total), cost.currency)


def price_of_record(cdr: Cdr) -> Price:
    """By what it came to in the end."""
    sold = _sold(cdr)
    if sold is None or not sold.total or sold.currency is None or not cdr.talk_ms:
        return Price()
    return Price(_nano(sold.total) * 60_000 // cdr.talk_ms, sold.currency)


def outcome_of(cdr: Cdr) -> Outcome:
    sold = _sold(cdr)
    return Outcome(
        answered=cdr.answered_at is not None,
        talk_ms=cdr.talk_ms,
        billable_ms=cdr.billable_ms,
        nano=_nano(sold.total) if sold is not None and sold.total is not None else 0,
        currency=(sold.currency if sold is not None else None) or "",
        unbilled_end=cdr.answered_at is not None and cdr.detail in _GONE and cdr.hold_s == 0,
    )


def was_refused(cdr: Cdr) -> bool:
    """Before it was let through. What the books refuse had been: rules know of it already."""
    by_books = cdr.detail in _BY_BOOKS or cdr.rule == SPENDING_LIMIT
    return cdr.disposition is Disposition.REFUSED_AGGREGATE or (
        cdr.disposition is Disposition.REFUSED and not by_books
    )


def _sold(cdr: Cdr) -> ChargeRecord | None:
    return next((line for line in cdr.charges if line.side is ChargeSide.SELL), None)


def _nano(amount: Decimal) -> int:
    return int(amount * NANO)
