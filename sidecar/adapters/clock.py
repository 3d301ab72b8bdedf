"""The two clocks of this machine, as the bridge reads them too (CLOCK_MONOTONIC and UTC)."""

from __future__ import annotations

import time


class SystemClock:
    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()
