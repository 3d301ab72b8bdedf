"""Whether the clock of this machine can be believed: is anybody keeping it right, was it set while the node
ran, is it behind what an earlier start has written.

Nothing is billed by it: durations come from the monotonic clock. But what people read does, and in what order
things were is read off it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from sidecar.ports import Clock, ClockStatus

LOOK_EVERY_S = 1.0
STEP_NS = 500_000_000  # a clock that is slewed moves by less than 0.1 s in a second

log = structlog.get_logger("sidecar.clock")


class ClockWatch:
    """`last_known_wall_ns`: of earlier starts. An alarm is a line of the log, where something changes, and
    the status."""

    def __init__(
        self, clock: Clock, is_synchronised: Callable[[], bool | None], last_known_wall_ns: int
    ) -> None:
        self._clock = clock
        self._is_synchronised = is_synchronised
        self._last_known_wall_ns = last_known_wall_ns
        self._offset_ns = clock.wall_ns() - clock.mono_ns()
        self.status = ClockStatus()

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        before, wall_ns = self.status, self._clock.wall_ns()
        offset_ns = wall_ns - self._clock.mono_ns()
        moved_ns, self._offset_ns = offset_ns - self._offset_ns, offset_ns
        has_stepped = abs(moved_ns) >= STEP_NS
        self.status = now = ClockStatus(
            synchronised=self._is_synchronised(),
            steps=before.steps + has_stepped,
            behind_s=round(max(0, self._last_known_wall_ns - wall_ns) / 1e9, 3),
        )
        if has_stepped:
            log.warning("clock_set", by_s=round(moved_ns / 1e9, 3))
        if now.synchronised is False and before.synchronised is not False:
            log.warning("clock_unsynchronised")
        if now.synchronised and before.synchronised is False:
            log.info("clock_synchronised")
        if now.behind_s and not before.behind_s:
            log.warning("clock_behind_journal", by_s=now.behind_s)
