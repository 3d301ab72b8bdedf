"""What a second of a call is priced at: the steps of a rate, and their text.

0:0.2/60/60;60:0.1/60/1
    from second 0 on 0.2 per 60 s in increments of 60 s, from second 60 on 0.1 per 60 s by the second

0:0.3/60/60@Mo-Fr 08:00-18:00 Europe/Berlin|0.2/60/60
    the same second may have several prices: the first whose window holds, else the one without a window
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import msgspec

from sidecar.core.amounts import (
    AMOUNT_E12_MAX,
    AMOUNT_MAX,
    EXACT,
    amount_e12,
    amount_of_e12,
    check_seconds,
    parse_amount,
    parse_integer,
)
from sidecar.core.windows import Window, format_window, parse_window

STEPS_MAX = 64
ALTERNATIVES_MAX = 16

_STEP = re.compile(r"(?:(?P<start>[^:/]*):)?(?P<price>[^:/]*)/(?P<per>[^:/]*)/(?P<increment>[^:/]*)")


class WindowPrice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The price of a step while `window` holds."""

    window: Window
    price_e12: int
    per_s: int
    increment_s: int

    def __post_init__(self) -> None:
        _check_price(self)

    @property
    def price(self) -> Decimal:
        return amount_of_e12(self.price_e12)


class RateStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From second `start_s` of the call on: `price` per `per_s` seconds, counted in whole increments.

    The price is kept as a whole number of 10^-12 of the currency unit, which is what `charge` reckons with.
    `alternatives` have precedence over it, the first whose window holds when an increment begins.
    """

    start_s: int
    price_e12: int
    per_s: int
    increment_s: int
    alternatives: tuple[WindowPrice, ...] = ()

    @classmethod
    def of(cls, start_s: int, price: Decimal, per_s: int, increment_s: int) -> RateStep:
        return cls(
            start_s=start_s, price_e12=amount_e12("price", price), per_s=per_s, increment_s=increment_s
        )

    def __post_init__(self) -> None:
        check_seconds("start_s", self.start_s, 0)
        _check_price(self)
        if len(self.alternatives) > ALTERNATIVES_MAX:
            raise ValueError(f"{len(self.alternatives)} windows: at most {ALTERNATIVES_MAX} in one step")

    @property
    def price(self) -> Decimal:
        return amount_of_e12(self.price_e12)

    def prices(self) -> Iterator[WindowPrice | RateStep]:
        """The alternatives and then the price without a window."""
        yield from self.alternatives
        yield self

    def price_at(self, at: datetime) -> WindowPrice | RateStep:
        """The price of an increment that begins at `at` (aware)."""
        return next((one for one in self.alternatives if one.window.holds_at(at)), self)


def parse_steps(text: str) -> tuple[RateStep, ...]:
    """The steps of a text as above. ValueError says which step is wrong and why."""
    steps = []
    for number, part in enumerate(text.split(";"), 1):
        try:
            steps.append(_parse_step(part.strip()))
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None
    check_steps(tuple(steps))
    return tuple(steps)


def format_steps(steps: tuple[RateStep, ...]) -> str:
    """The text that `parse_steps` reads back to equal steps."""
    return ";".join(f"{step.start_s}:{'|'.join(map(_format_price, step.prices()))}" for step in steps)


def per_minute_steps(price_per_minute: Decimal, initial_s: int, increment_s: int) -> tuple[RateStep, ...]:
    """Steps of the usual notation "60/6": at least `initial_s` seconds, then increments of `increment_s`."""
    first = RateStep.of(0, price_per_minute, 60, initial_s)
    if initial_s == increment_s:
        return (first,)
    return (first, RateStep.of(initial_s, price_per_minute, 60, increment_s))


def per_minute(steps: tuple[RateStep, ...]) -> tuple[int, int, int] | None:
    """(price_e12, initial_s, increment_s) of steps that `per_minute_steps` could have made, else None."""
    if not 1 <= len(steps) <= 2:
        return None
    first, last = steps[0], steps[-1]
    if first.price_e12 != last.price_e12 or first.per_s != 60 or last.per_s != 60:
        return None
    if first.alternatives or last.alternatives:
        return None
    if len(steps) == 2 and last.start_s != first.increment_s:
        return None
    return first.price_e12, first.increment_s, last.increment_s


def dearest_steps(steps: tuple[RateStep, ...]) -> tuple[tuple[RateStep, ...], Decimal]:
    """(steps without windows, fee on top) that at no time of the week cost less than `steps` do.

    Where all increments of a step are equal, the dearest price bounds the others. Where they differ, an
    increment may run past the window or the step that it began in, by less than the longest increment: so
    many seconds at the dearest price are the fee, and the rest is counted by the second.
    """
    bounds, fee = [], Fraction(0)
    for step in steps:
        dearest = max(step.prices(), key=lambda one: Fraction(one.price_e12, one.per_s))
        increments = {one.increment_s for one in step.prices()}
        if len(increments) > 1:
            fee += Fraction(dearest.price_e12, dearest.per_s) * (max(increments) - 1)
        bounds.append(
            RateStep(
                start_s=step.start_s,
                price_e12=dearest.price_e12,
                per_s=dearest.per_s,
                increment_s=step.increment_s if len(increments) == 1 else 1,
            )
        )
    return tuple(bounds), EXACT.scaleb(Decimal(-(-fee.numerator // fee.denominator)), -12)


def check_steps(steps: tuple[RateStep, ...]) -> None:
    if not 1 <= len(steps) <= STEPS_MAX:
        raise ValueError(f"{len(steps)} steps: 1-{STEPS_MAX} are allowed")
    if steps[0].start_s != 0:
        raise ValueError(f"gap: the first step starts at {steps[0].start_s} s, not at 0")
    for number, (before, step) in enumerate(pairwise(steps), 2):
        if step.start_s <= before.start_s:
            raise ValueError(
                f"overlap: step {number} starts at {step.start_s} s, not after {before.start_s} s"
            )
        for one in before.prices():
            if (step.start_s - before.start_s) % one.increment_s:
                raise ValueError(
                    f"step {number} starts at {step.start_s} s, not a whole number of "
                    f"{one.increment_s} s increments after {before.start_s} s"
                )


def _parse_step(text: str) -> RateStep:
    start: str | None = None
    plain: re.Match[str] | None = None
    windows = []
    for number, part in enumerate(text.split("|")):
        price, at, window = part.strip().partition("@")
        found = _STEP.fullmatch(price.strip())
        if not found or (found["start"] is None and number == 0):
            raise ValueError(f"{part!r} is not start_s:price/per_s/increment_s")
        if number == 0:
            start = found["start"]
        elif found["start"] not in (None, start):
            raise ValueError(f"{part!r} starts elsewhere than the first price of the step")
        if at:
            windows.append((parse_window(window.strip()), found))
        elif plain is not None:
            raise ValueError("two prices without a window")
        else:
            plain = found
    if plain is None or start is None:
        raise ValueError("no price without a window, for the times that no window covers")
    return RateStep(
        start_s=parse_integer(start),
        price_e12=amount_e12("price", parse_amount(plain["price"])),
        per_s=parse_integer(plain["per"]),
        increment_s=parse_integer(plain["increment"]),
        alternatives=tuple(
            WindowPrice(
                window=window,
                price_e12=amount_e12("price", parse_amount(found["price"])),
                per_s=parse_integer(found["per"]),
                increment_s=parse_integer(found["increment"]),
            )
            for window, found in windows
        ),
    )


def _format_price(one: WindowPrice | RateStep) -> str:
    text = f"{one.price:f}/{one.per_s}/{one.increment_s}"
    return f"{text}@{format_window(one.window)}" if isinstance(one, WindowPrice) else text


def _check_price(one: WindowPrice | RateStep) -> None:
    if not 0 <= one.price_e12 < AMOUNT_E12_MAX:
        raise ValueError(f"price {one.price_e12} e-12 is not within 0-{AMOUNT_MAX:f}")
    check_seconds("per_s", one.per_s, 1)
    check_seconds("increment_s", one.increment_s, 1)
