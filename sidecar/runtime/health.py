"""Whether the node lives, and whether it takes calls: what its /healthz and /readyz say.

It is asked from another thread than the one that it is about, so all that it reads is a number or a word.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sidecar.ports import Clock

AGE_S_MAX = 10.0  # of a beat; they come every `timers.heartbeat_s`


class Pulse:
    """When each of the two threads that calls depend on last showed that it goes on, by the monotonic clock
    in ns; 0: not yet."""

    def __init__(self) -> None:
        self.loop_ns = 0
        self.sip_ns = 0
        self._wakes = 0

    def beat(self, now_ns: int, wakes: int) -> None:
        """In the event loop. `wakes`: of the SIP thread, another number where it went on."""
        self.loop_ns = now_ns
        if wakes != self._wakes:
            self._wakes, self.sip_ns = wakes, now_ns


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    alive: bool
    loop_age_s: float | None  # since the event loop's last beat; null: it is starting
    sip_age_s: float | None  # since the beat that last found the SIP thread gone on


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    ready: bool
    why_not: tuple[str, ...]  # starting, stopping, not_alive, drain, journal


class Health:
    """`state`: as of the calls, empty where new ones are taken. `is_failing`: the journal."""

    def __init__(
        self,
        pulse: Pulse,
        clock: Clock,
        *,
        state: Callable[[], str],
        is_failing: Callable[[], bool],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._pulse = pulse
        self._clock = clock
        self._state = state
        self._is_failing = is_failing
        self._is_stopping = is_stopping

    def liveness(self) -> Liveness:
        now_ns = self._clock.mono_ns()
        loop_age_s, sip_age_s = (
            round((now_ns - at_ns) / 1e9, 3) if at_ns else None
            for at_ns in (self._pulse.loop_ns, self._pulse.sip_ns)
        )
        return Liveness(
            alive=max(loop_age_s or 0.0, sip_age_s or 0.0) <= AGE_S_MAX,
            loop_age_s=loop_age_s,
            sip_age_s=sip_age_s,
        )

    def readiness(self) -> Readiness:
        alive = self.liveness()
        found = {
            "starting": alive.loop_age_s is None,
            "stopping": self._is_stopping(),
            "not_alive": not alive.alive,
            "journal": self._is_failing(),
            self._state(): bool(self._state()),
        }
        why_not = tuple(word for word, holds in found.items() if holds)
        return Readiness(ready=not why_not, why_not=why_not)
