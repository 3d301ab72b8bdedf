"""From a record to what the doctor looks at: for each charge, whose strip length it was, the number before
and after it, and what the number was rated by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from sidecar.core.callers import caller_of
from sidecar.core.cdr import Cdr
from sidecar.core.numbers import E164, PHONE_CONTEXT, ROUTING_NUMBER, normalise
from sidecar.core.tariff import SURCHARGE
from sidecar.core.terms import ChargeSide, Disposition, RatingStatus

_MS = timedelta(milliseconds=1)
NUMBER_MAX = 40  # digits; whatever is longer is no number, and is not looked at
UNSTRIPPED = (E164, PHONE_CONTEXT, ROUTING_NUMBER)  # no strip length was asked
RULE = "rule:"


class Observed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One charge. `number` is the normalised number before the strip, `billed` the one that was looked up,
    `other` the one that the call's other side was billed on. `sender` is the peer (sell) or the gateway
    (buy)."""

    call_id: UUID
    side: ChargeSide
    sender: str
    account: str
    rule: str
    number: str
    billed: str | None
    other: str | None = None
    caller: str | None = None
    rated_caller: str = SURCHARGE
    prefix: str | None = None
    deck_revision: str | None = None
    free: bool = False
    carried_unrated: bool = False  # it has seconds to bill, and no price
    billable_ms: int = 0
    at: datetime
    answered_at: datetime | None = None

    @property
    def stripped(self) -> int | None:
        """How many digits were taken off; None where the record cannot show it: nothing was left to bill, or
        a country code was added."""
        if self.billed is None or not self.number.endswith(self.billed):
            return None
        return len(self.number) - len(self.billed)

    def is_keyed(self, need: int) -> bool:
        """Whether the deck itself has the digits that were left in front (`0044`): then they are meant."""
        left = need - (self.stripped or 0)
        return left > 0 and len(self.prefix or "") > left


def observed_of(cdr: Cdr) -> Iterator[Observed]:
    """The charges of one record. A count of refusals (`refused_aggregate`) is no call and has none."""
    if cdr.disposition is Disposition.REFUSED_AGGREGATE or cdr.void:
        return
    billed = {line.side: line.billed_number for line in cdr.charges}
    for line in cdr.charges:
        sold = line.side is ChargeSide.SELL
        user = cdr.callee.received if sold else cdr.callee.sent
        number = normalise(user) if user is not None else ""
        if not number or len(number) > NUMBER_MAX:
            continue
        bought_ms = (cdr.ended_at - cdr.b_answered_at) // _MS if cdr.b_answered_at else 0
        yield Observed(
            call_id=cdr.call_id,
            side=line.side,
            sender=cdr.peer if sold else line.party,
            account=cdr.account,
            rule=line.strip_rule or "global",
            number=number,
            billed=line.billed_number,
            other=billed.get(ChargeSide.BUY if sold else ChargeSide.SELL),
            caller=cdr.caller.billed,
            rated_caller=caller_of(cdr).looked_up,
            prefix=line.prefix,
            deck_revision=line.deck_revision,
            free=line.rating_status is RatingStatus.FREE,
            carried_unrated=line.rating_status is RatingStatus.NO_RATE,
            billable_ms=cdr.billable_ms if sold else bought_ms,
            at=cdr.invited_at,
            answered_at=cdr.answered_at if sold else cdr.b_answered_at,
        )
