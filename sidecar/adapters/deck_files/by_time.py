"""One price from several rows: peak and off-peak, and the steps of a call."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from sidecar.core.amounts import amount_e12
from sidecar.core.steps import RateStep, WindowPrice, check_steps
from sidecar.core.windows import DAY_MINUTES, Window, parse_window

WEEK_MINUTES = 7 * DAY_MINUTES


class Part(NamedTuple):
    """What one row says. `window` as windows are written; empty: at the other times."""

    row: int
    start_s: int
    window: str
    price: Decimal
    initial_s: int
    increment_s: int


def steps_of(parts: Sequence[Part]) -> tuple[RateStep, ...]:
    """The steps of the rows of one prefix and period. ValueError where they contradict or leave a time
    out.
    """
    steps: list[RateStep] = []
    for start_s, some in groupby(sorted(parts, key=lambda one: one.start_s), key=lambda one: one.start_s):
        at_once = list(some)
        initials = {one.initial_s for one in at_once}
        if all(one.initial_s == one.increment_s for one in at_once):
            steps.append(_step(start_s, [(one, one.increment_s) for one in at_once]))
        elif len(initials) == 1:
            (initial_s,) = initials
            steps.append(_step(start_s, [(one, initial_s) for one in at_once]))
            steps.append(_step(start_s + initial_s, [(one, one.increment_s) for one in at_once]))
        else:
            raise ValueError(f"rows {_rows(at_once)} differ in their first increment")
    check_steps(tuple(steps))
    return tuple(steps)


def _step(start_s: int, parts: list[tuple[Part, int]]) -> RateStep:
    plain = [one for one in parts if not one[0].window]
    windows = [(parse_window(one.window), one, increment_s) for one, increment_s in parts if one.window]
    if len(plain) > 1:
        raise ValueError(f"rows {_rows([one for one, _ in plain])} hold at the same times")
    taken: dict[int, Part] = {}
    for window, one, _ in windows:
        for minute in _minutes(window):
            if (other := taken.setdefault(minute, one)) is not one:
                raise ValueError(f"rows {_rows([other, one])} hold at the same times")
    if not plain:
        if len(taken) < WEEK_MINUTES:
            raise ValueError("some times of the week have no price")
        _, base, increment_s = windows.pop()
        plain = [(base, increment_s)]
    (base, increment_s) = plain[0]
    return RateStep(
        start_s=start_s,
        price_e12=amount_e12("price", base.price),
        per_s=60,
        increment_s=increment_s,
        alternatives=tuple(
            WindowPrice(
                window=window, price_e12=amount_e12("price", one.price), per_s=60, increment_s=increment
            )
            for window, one, increment in windows
        ),
    )


def _minutes(window: Window) -> list[int]:
    end = window.end_minute + (0 if window.end_minute > window.start_minute else DAY_MINUTES)
    return [
        (day * DAY_MINUTES + minute) % WEEK_MINUTES
        for day in range(7)
        if window.days >> day & 1
        for minute in range(window.start_minute, end)
    ]


def _rows(parts: list[Part]) -> str:
    return " and ".join(str(one.row) for one in parts)
