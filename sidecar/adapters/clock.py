"""The two clocks of this machine, as the bridge reads them too (CLOCK_MONOTONIC and UTC), and whether the
kernel believes that the second is right."""

from __future__ import annotations

import ctypes
import time

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES_MAX = 512  # struct timex has 208 on 64-bit machines; its first word says what to change: nothing


class SystemClock:
    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


def is_synchronised() -> bool | None:
    """None where the kernel does not say (a sandbox may forbid the call)."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES_MAX))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
