"""What the first page shows of the past: minutes, hours and days that are kept of the records
(adapters/sqlite/kept_sums), so it outlives every start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from sidecar.adapters.sqlite.kept_sums import KeptSums
from sidecar.core.sums import Minute
from sidecar.web.figures import ENDS

DAY_S = 86_400


class Range(NamedTuple):
    """`span_s`: of the sums that are read; `step_s`: of a point of a chart; `row_s`: of a row shown."""

    length_s: int
    span_s: int
    step_s: int
    row_s: int
    step: str  # in words


RANGES: Mapping[str, Range] = {
    "hour": Range(3_600, 60, 60, 300, "a minute"),
    "day": Range(DAY_S, 60, 300, 3_600, "5 minutes"),
    "week": Range(7 * DAY_S, 3_600, 3_600, DAY_S, "an hour"),
    "month": Range(30 * DAY_S, 3_600, 14_400, DAY_S, "4 hours"),
    "year": Range(364 * DAY_S, DAY_S, DAY_S, 28 * DAY_S, "a day"),
}


class Step(msgspec.Struct, kw_only=True):
    """From `at` on; None where nothing was counted of it."""

    at: datetime
    counted: Minute

    @property
    def answered_share(self) -> float | None:
        return _ratio(self.counted.answered, self.counted.calls)

    @property
    def mean_talk_s(self) -> float | None:
        return _ratio(self.counted.talk_ms / 1_000, self.counted.answered)

    @property
    def mean_pdd_ms(self) -> float | None:
        return _ratio(self.counted.pdd_ms, self.counted.pdds)


def rows(sums: KeptSums, wanted: Range, now_s: float) -> list[Step]:
    """The latest first."""
    found = _steps(sums, wanted, wanted.row_s, now_s)
    return [
        Step(at=datetime.fromtimestamp(at_s, UTC), counted=one) for at_s, one in sorted(found.items())[::-1]
    ]


def series(sums: KeptSums, wanted: Range, now_s: float) -> dict[str, object]:
    """Points of the charts, each named by its beginning: what ended in it, and by ENDS."""
    found = _steps(sums, wanted, wanted.step_s, now_s)
    points = [found[at_s] for at_s in sorted(found)]
    return {
        "step_s": wanted.step_s,
        "at_s": sorted(found),
        "ended": [one.calls for one in points],
        "answered": [one.answered for one in points],
        "pdd_ms": [None if not one.pdds else one.pdd_ms / one.pdds for one in points],
        **{name: [one.ends.get(name, 0) for one in points] for name in ENDS},
    }


def _steps(sums: KeptSums, wanted: Range, step_s: int, now_s: float) -> dict[int, Minute]:
    """All of the range, also those without a call."""
    align_s = max(wanted.span_s, min(step_s, DAY_S))
    end_s = int(now_s // align_s + 1) * align_s
    begin_s = end_s - wanted.length_s
    steps = {at_s: Minute() for at_s in range(begin_s, end_s, step_s)}
    for at_s, minute in sums.minutes(wanted.span_s, begin_s, end_s):
        steps[at_s - (at_s - begin_s) % step_s].add(minute)
    return steps


def _ratio(value: float, of: float) -> float | None:
    return value / of if of else None
