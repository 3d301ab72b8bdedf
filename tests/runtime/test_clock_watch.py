from __future__ import annotations

from structlog.testing import capture_logs

from sidecar.ports import ClockStatus
from sidecar.runtime.clock_watch import ClockWatch

NOW_NS = 1_790_000_000_000_000_000
HOUR_NS = 3_600_000_000_000


class MovedClock:
    def __init__(self) -> None:
        self.mono, self.set_by = 5_000_000_000, 0

    def mono_ns(self) -> int:
        return self.mono

    def wall_ns(self) -> int:
        return NOW_NS + self.mono + self.set_by


def test_a_step_either_way_is_counted_and_told_once_and_a_slewed_clock_is_none() -> None:
    clock = MovedClock()
    watch = ClockWatch(clock, lambda: True, 0)
    with capture_logs() as lines:
        for set_by in (0, 99_000_000, HOUR_NS, HOUR_NS, 0):
            clock.mono += 1_000_000_000
            clock.set_by = set_by
            watch.look()
    assert [(line["event"], line["by_s"]) for line in lines] == [
        ("clock_set", 3599.901),
        ("clock_set", -3600.0),
    ]
    assert watch.status == ClockStatus(synchronised=True, steps=2)


def test_a_clock_that_nobody_keeps_right_is_told_when_that_begins_and_when_it_ends() -> None:
    said = iter([False, False, True, None, False])
    watch = ClockWatch(MovedClock(), lambda: next(said), 0)
    seen = []
    with capture_logs() as lines:
        for _ in range(5):
            watch.look()
            seen.append(watch.status.synchronised)
    assert seen == [False, False, True, None, False]
    told = [line["event"] for line in lines]
    assert told == ["clock_unsynchronised", "clock_synchronised", "clock_unsynchronised"]


def test_a_clock_behind_what_an_earlier_start_has_written_is_told_until_it_is_past_that() -> None:
    clock = MovedClock()
    watch = ClockWatch(clock, lambda: True, clock.wall_ns() + 2_000_000_000)
    behind = []
    with capture_logs() as lines:
        for _ in range(4):
            watch.look()
            behind.append(watch.status.behind_s)
            clock.mono += 1_000_000_000
    assert behind == [2.0, 1.0, 0.0, 0.0]
    assert [(line["event"], line["by_s"]) for line in lines] == [("clock_behind_journal", 2.0)]
