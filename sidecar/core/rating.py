"""What a call costs: one function, `charge`, and its inverse, `affordable_s`, which asks it.

The order of steps:

    billable_ms -> hold_s -> grace -> minus free seconds -> increments -> connect fee and minimum
                -> ONE rounding (net) -> tax = net x tax_rate, exact -> total = net + tax

Everything before the rounding is a sum of integers over one common denominator. A Decimal per step would be
wrong in the last digit now and then: 1/3 has no decimal form, and rounding three thirds gives 0.9999.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import lcm

import msgspec
from msgspec.structs import force_setattr

from sidecar.core.amounts import EXACT, amount_of_e12, plain_amount
from sidecar.core.steps import RateStep
from sidecar.core.tariff import Rate
from sidecar.core.terms import RatingStatus, Rounding

DECIMALS_MAX = 9
HOLD_S_MAX = 86_400 * 366
TAX_RATE_MAX = Decimal(10)
SCALES_MAX = 4096
E12 = 10**12

_ZERO = Decimal(0)
_RATED = RatingStatus.RATED  # a global is found sooner than a member of an enum
_multiply = EXACT.multiply


class RatingTerms(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, gc=False, omit_defaults=True):
    """How amounts are made, whatever the rate. The defaults are the product's.

    `fee_unit`: the smallest unit of a charge (default 10^-decimals). `hold_time_precision_ms`: from this many
    milliseconds above a whole second on, a second more is billed (VOS3000
    SERVER_BILLING_HOLD_TIME_PRECISION). `free_s`: the first seconds of each call, not billed.
    `minimum_charge`: least net of a call of which anything is billed. `tax_rate`: 0.19 is 19 %. The last
    two come from the account for sell and from the gateway for buy.
    """

    rounding: Rounding = Rounding.HALF_UP
    decimals: int = 6
    fee_unit: Decimal | None = None
    hold_time_precision_ms: int = 50
    free_s: int = 0
    minimum_charge: Decimal = Decimal(0)
    tax_rate: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        force_setattr(self, "rounding", Rounding(self.rounding))
        if not 0 <= self.decimals <= DECIMALS_MAX:
            raise ValueError(f"decimals {self.decimals} is not within 0-{DECIMALS_MAX}")
        if self.fee_unit is not None:
            force_setattr(self, "fee_unit", plain_amount("fee_unit", self.fee_unit))
            if not self.fee_unit:
                raise ValueError("fee_unit is 0")
        if not 0 <= self.hold_time_precision_ms <= 999:
            raise ValueError(f"hold_time_precision_ms {self.hold_time_precision_ms} is not within 0-999")
        if not 0 <= self.free_s <= HOLD_S_MAX:
            raise ValueError(f"free_s {self.free_s} is not within 0-{HOLD_S_MAX}")
        force_setattr(self, "minimum_charge", plain_amount("minimum_charge", self.minimum_charge))
        force_setattr(self, "tax_rate", plain_amount("tax_rate", self.tax_rate))
        if self.tax_rate > TAX_RATE_MAX:
            raise ValueError(f"tax_rate {self.tax_rate} is above {TAX_RATE_MAX}: 0.19 is 19 %")


class Segment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`seconds` billed seconds, from second `start_s` of the billed time on, in whole increments at one
    price.
    """

    start_s: int
    seconds: int
    increment_s: int
    price_e12: int
    per_s: int

    @property
    def price(self) -> Decimal:
        return amount_of_e12(self.price_e12)

    @property
    def amount(self) -> Fraction:
        """The exact, unrounded amount."""
        return Fraction(self.price_e12 * self.seconds, E12 * self.per_s)


class Charge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The price of one call on one side, with all that explains it.

    `status` is `rated`, or `not_billable` for a zero-duration call and one within the grace of its rate,
    whose amounts are all 0. `connect_fee` is the fee that was charged. Exact: connect_fee + sum of the
    segments, at least the minimum of the rate or else of `terms`, rounded once, is `net`.
    """

    status: RatingStatus
    hold_s: int
    billed_s: int
    connect_fee: Decimal
    net: Decimal
    tax: Decimal
    total: Decimal
    currency: str
    segments: tuple[Segment, ...]
    terms: RatingTerms

    @property
    def rounding(self) -> Rounding:
        return self.terms.rounding

    @property
    def decimals(self) -> int:
        return self.terms.decimals


def hold_seconds(billable_ms: int, precision_ms: int) -> int:
    """Whole seconds of a billable time: at precision 50, 21.049 s gives 21 and 21.050 s gives 22."""
    whole_s, part_ms = divmod(billable_ms, 1000)
    return whole_s + 1 if part_ms > 0 and part_ms >= precision_ms else whole_s


def charge(rate: Rate, hold_s: int, terms: RatingTerms, at: datetime | None = None) -> Charge:
    """What `hold_s` seconds cost. Never decreases as `hold_s` grows.

    `at` is the instant at which the billed side answered (aware): steps with time-of-day windows need it,
    others ignore it. Free seconds are the first of the call. ValueError for a `hold_s` outside
    0-HOLD_S_MAX, and for a blocked rate, which has no price.
    """
    if rate.blocked:
        raise ValueError(f"the rate of {rate.prefix} is blocked: it has no price")
    if not 0 <= hold_s <= HOLD_S_MAX:
        raise ValueError(f"hold_s {hold_s} is not within 0-{HOLD_S_MAX}")
    scale = _scale(terms)
    free_s = free_seconds(rate, terms)
    chargeable_s = hold_s - free_s
    if chargeable_s <= 0 or hold_s <= rate.grace_s:
        return _nothing(rate, hold_s, terms, scale)
    segments, billed_s, amount, per_s = _increments(rate.steps, chargeable_s, at, free_s)
    if rate.connect_fee:
        amount += int(EXACT.scaleb(rate.connect_fee, 12)) * per_s
    if rate.minimum_charge is None:
        minimum_e12 = scale.minimum_e12
    else:
        minimum_e12 = int(EXACT.scaleb(rate.minimum_charge, 12))
    net = _rounded(amount, per_s, minimum_e12, scale)
    tax, total = _ZERO, net
    if scale.taxed:
        tax = EXACT.multiply(net, terms.tax_rate)
        total = EXACT.add(net, tax)
    return Charge(
        status=_RATED,
        hold_s=hold_s,
        billed_s=billed_s,
        connect_fee=rate.connect_fee,
        net=net,
        tax=tax,
        total=total,
        currency=rate.currency,
        segments=segments,
        terms=terms,
    )


def free_seconds(rate: Rate, terms: RatingTerms) -> int:
    """The first seconds that are not billed: those included in the rate, or else of the terms."""
    return terms.free_s if rate.included_s is None else rate.included_s


def affordable_s(
    balance: Decimal, rate: Rate, terms: RatingTerms, max_s: int, at: datetime | None = None
) -> int:
    """The largest whole n <= max_s with total(charge(n)) <= balance; 0 if not even one second can be paid.

    The answer is found by asking `charge`, which never decreases. A grant of n seconds is enforced as a
    deadline of n * 1000 ms after the answer, and n * 1000 ms bills exactly n seconds. (Up to
    `hold_time_precision_ms` - 1 further milliseconds would still bill n; they are not granted, so that no
    lateness of a timer can cost a second.)
    """
    low, high = 0, max(0, min(max_s, HOLD_S_MAX))
    if charge(rate, high, terms, at).total <= balance:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        if charge(rate, middle, terms, at).total <= balance:
            low = middle
        else:
            high = middle
    return low


def net_of(exact: Fraction, terms: RatingTerms) -> Decimal:
    """The net of an exact amount: the minimum and the one rounding, as `charge` does it."""
    units = exact * E12
    scale = _scale(terms)
    return _rounded(units.numerator, units.denominator, scale.minimum_e12, scale)


def amount_text(amount: Decimal) -> str:
    """Plain notation with all decimals: str() writes a zero of nine decimals as 0E-9."""
    return f"{amount:f}"


def _nothing(rate: Rate, hold_s: int, terms: RatingTerms, scale: _Scale) -> Charge:
    return Charge(
        status=RatingStatus.RATED if hold_s > rate.grace_s else RatingStatus.NOT_BILLABLE,
        hold_s=hold_s,
        billed_s=0,
        connect_fee=_ZERO,
        net=scale.zero,
        tax=_ZERO,
        total=scale.zero,
        currency=rate.currency,
        segments=(),
        terms=terms,
    )


def _increments(
    steps: tuple[RateStep, ...], chargeable_s: int, at: datetime | None, free_s: int
) -> tuple[tuple[Segment, ...], int, int, int]:
    """(segments, billed_s, amount, per_s) of `chargeable_s` > 0 seconds: they cost amount / per_s, in 10^-12.

    Each step is billed whole up to the next, which starts on a multiple of its increment; the last one
    reached is billed in begun increments.
    """
    segments: tuple[Segment, ...] = ()
    billed_s, amount, per_s, end_s = 0, 0, 1, chargeable_s
    for step in reversed(steps):
        start_s, increment_s, price_e12 = step.start_s, step.increment_s, step.price_e12
        if start_s >= end_s:
            continue
        if step.alternatives:
            return _windowed_increments(steps, chargeable_s, at, free_s)
        seconds = -((start_s - end_s) // increment_s) * increment_s
        segment = Segment(
            start_s=start_s, seconds=seconds, increment_s=increment_s, price_e12=price_e12, per_s=step.per_s
        )
        if not segments:
            segments, billed_s, amount, per_s = (segment,), start_s + seconds, price_e12 * seconds, step.per_s
        else:
            common = per_s if step.per_s == per_s else lcm(per_s, step.per_s)
            amount = amount * (common // per_s) + price_e12 * seconds * (common // step.per_s)
            segments, per_s = (segment, *segments), common
        end_s = start_s
    return segments, billed_s, amount, per_s


def _windowed_increments(
    steps: tuple[RateStep, ...], chargeable_s: int, at: datetime | None, free_s: int
) -> tuple[tuple[Segment, ...], int, int, int]:
    """As `_increments`, where the price depends on the time: the time at which an increment begins.

    An increment that began is billed whole at its price, past the end of its window or step if need be.
    """
    if at is None or at.utcoffset() is None:
        raise ValueError("a rate with time windows needs the time of the answer, with its zone")
    begins_at = at + timedelta(seconds=free_s)
    segments: list[Segment] = []
    billed_s, reached, last = 0, 0, (-1, -1, -1, -1)
    while billed_s < chargeable_s:
        while reached + 1 < len(steps) and steps[reached + 1].start_s <= billed_s:
            reached += 1
        step, now = steps[reached], begins_at + timedelta(seconds=billed_s)
        price = step.price_at(now)
        until_s = min(chargeable_s, steps[reached + 1].start_s if reached + 1 < len(steps) else chargeable_s)
        for one in step.alternatives:
            # The first whole second of the call at or after the change: a second is priced as it begins.
            until_s = min(until_s, -((begins_at - one.window.next_change(now)) // timedelta(seconds=1)))
        seconds = -((billed_s - until_s) // price.increment_s) * price.increment_s
        kind = (reached, price.increment_s, price.price_e12, price.per_s)
        if kind == last:
            before = segments.pop()
            segments.append(msgspec.structs.replace(before, seconds=before.seconds + seconds))
        else:
            segments.append(
                Segment(
                    start_s=billed_s,
                    seconds=seconds,
                    increment_s=price.increment_s,
                    price_e12=price.price_e12,
                    per_s=price.per_s,
                )
            )
        billed_s, last = billed_s + seconds, kind
    per_s = lcm(*[one.per_s for one in segments])
    amount = sum(one.price_e12 * one.seconds * (per_s // one.per_s) for one in segments)
    return tuple(segments), billed_s, amount, per_s


class _Scale(msgspec.Struct, frozen=True, kw_only=True):
    """What the rounding needs of the terms, as integers of 10^-12."""

    rounding: Rounding
    half_up: bool
    unit: Decimal
    unit_e12: int
    minimum_e12: int
    zero: Decimal
    taxed: bool


@lru_cache(maxsize=SCALES_MAX)  # a pure memo: a node has a few terms and millions of charges
def _scale(terms: RatingTerms) -> _Scale:
    unit = terms.fee_unit if terms.fee_unit is not None else Decimal((0, (1,), -terms.decimals))
    return _Scale(
        rounding=terms.rounding,
        half_up=terms.rounding is Rounding.HALF_UP,
        unit=unit,
        unit_e12=int(EXACT.scaleb(unit, 12)),
        minimum_e12=int(EXACT.scaleb(terms.minimum_charge, 12)),
        zero=unit * 0,
        taxed=bool(terms.tax_rate),
    )


def _rounded(amount: int, per_s: int, minimum_e12: int, scale: _Scale) -> Decimal:
    """The one rounding: `amount` / `per_s` (10^-12), at least the minimum, to a multiple of the unit."""
    unit = scale.unit_e12 * per_s
    if minimum_e12:
        amount = max(amount, minimum_e12 * per_s)
    rounding = scale.rounding
    if scale.half_up:
        units = (amount + amount + unit) // (unit + unit)
    elif rounding is Rounding.UP:
        units = -(-amount // unit)
    else:
        units, rest = divmod(amount, unit)
        if rounding is Rounding.HALF_EVEN and (2 * rest > unit or (2 * rest == unit and units % 2 == 1)):
            units += 1
    return _multiply(scale.unit, units)
