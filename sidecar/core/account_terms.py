"""On what terms an account pays: what the books must know of it, in the transaction that spends its money.

Terms are in the store, whether the settings or a command made the account: where both have the name, the
settings hold, but for `disabled_by_command`, which only a command changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from sidecar.core.amounts import check_currency, plain_amount
from sidecar.core.terms import Word
from sidecar.core.windows import check_zone, day_start, month_start

AMOUNTS = ("credit_limit", "day_limit", "month_limit", "low_balance")  # the terms that are one
SPENDING_LIMIT = "spending_limit"  # the rule that ends or refuses a call, as records name it

_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AccountKind(Word):
    """Prepaid: as far as the balance goes. Postpaid: as far as its limit goes, if it has one. Free: nothing
    is charged."""

    PREPAID = "prepaid"
    POSTPAID = "postpaid"
    FREE = "free"


class AccountTerms(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """`credit_limit` is how far the balance may go below 0: of a prepaid account its overdraft (None: 0), of
    a postpaid one its limit (None: there is none). Its life is half-open: from `valid_from` up to
    `valid_to`."""

    name: str
    currency: str
    kind: AccountKind = AccountKind.POSTPAID
    credit_limit: Decimal | None = None
    enabled: bool = True
    disabled_by_command: bool = False
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    zone: str = "UTC"
    day_limit: Decimal | None = None  # what its calls may cost in a day of its zone
    month_limit: Decimal | None = None
    low_balance: Decimal | None = None  # below which it is told that little is left

    def __post_init__(self) -> None:
        limits = (self.credit_limit, self.day_limit, self.month_limit)
        if self.kind is AccountKind.FREE and limits != (None, None, None):
            raise ValueError("a free account has no limit: nothing is charged to it")
        for at in (self.valid_from, self.valid_to):
            if at is not None and at.tzinfo is None:
                raise ValueError(f"{at.isoformat()} has no offset")
        if self.valid_from is not None and self.valid_to is not None and self.valid_from >= self.valid_to:
            raise ValueError("valid_to is not after valid_from")

    @property
    def prepaid(self) -> bool:
        return self.kind is AccountKind.PREPAID

    @property
    def floor(self) -> Decimal | None:
        """The balance below which nothing is spent; None: there is none."""
        if self.credit_limit is None:
            return Decimal(0) if self.prepaid else None
        return -self.credit_limit

    @property
    def is_bounded(self) -> bool:
        """Whether its calls reserve what they may cost before they cost it."""
        return self.floor is not None or self.day_limit is not None or self.month_limit is not None

    def spending_limits(self, wall_ns: int) -> Iterator[tuple[Decimal, int]]:
        """Each with the moment from which it counts, in ns: charges booked since then, and what calls hold,
        are within it."""
        at = _EPOCH + timedelta(microseconds=wall_ns // 1_000)
        for limit, begin in ((self.day_limit, day_start), (self.month_limit, month_start)):
            if limit is not None:
                yield limit, (begin(at, self.zone) - _EPOCH) // _US * 1_000

    def is_open_at(self, wall_ns: int) -> bool:
        """Whether it may have calls then."""
        if not self.enabled or self.disabled_by_command:
            return False
        if self.valid_from is None and self.valid_to is None:
            return True
        at = _EPOCH + timedelta(microseconds=wall_ns // 1_000)
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_to is None or at < self.valid_to
        )


def check_terms(terms: AccountTerms) -> None:
    """What a person may have got wrong beside what cannot be built; ValueError for people."""
    check_currency(terms.currency)
    check_zone(terms.zone)
    for name in AMOUNTS:
        if (amount := getattr(terms, name)) is not None:
            plain_amount(name, amount)
