"""What /healthz and /readyz say, by what is known of the two threads."""

from __future__ import annotations

import pytest

from sidecar.runtime.health import Health, Liveness, Pulse, Readiness

S = 1_000_000_000
NOW_NS = 1_000 * S


class At:
    def mono_ns(self) -> int:
        return NOW_NS

    def wall_ns(self) -> int:
        return NOW_NS


def health(
    loop_s: float, sip_s: float, *, state: str = "", failing: bool = False, stopping: bool = False
) -> Health:
    """`loop_s`, `sip_s`: how long ago each was heard of."""
    pulse = Pulse()
    pulse.loop_ns, pulse.sip_ns = NOW_NS - int(loop_s * S), NOW_NS - int(sip_s * S)
    return Health(
        pulse,
        At(),
        state=lambda: state,
        is_failing=lambda: failing,
        is_stopping=lambda: stopping,
    )


@pytest.mark.parametrize(
    ("loop_s", "sip_s", "alive"),
    [(0, 0, True), (10, 10, True), (10.1, 0, False), (0, 10.1, False)],
)
def test_a_thread_that_does_not_go_on_is_not_alive(loop_s: float, sip_s: float, alive: bool) -> None:
    asked = health(loop_s, sip_s)
    assert asked.liveness() == Liveness(alive=alive, loop_age_s=loop_s, sip_age_s=sip_s)
    assert asked.readiness() == Readiness(ready=alive, why_not=() if alive else ("not_alive",))


def test_a_node_that_starts_is_alive_and_not_ready() -> None:
    asked = health(NOW_NS / S, NOW_NS / S)
    assert asked.liveness() == Liveness(alive=True, loop_age_s=None, sip_age_s=None)
    assert asked.readiness().why_not == ("starting",)


@pytest.mark.parametrize(
    ("given", "why_not"),
    [
        ({"state": "drain"}, ("drain",)),
        ({"state": "journal", "failing": True}, ("journal",)),
        ({"failing": True}, ("journal",)),
        ({"stopping": True, "state": "drain"}, ("stopping", "drain")),
    ],
)
def test_a_node_that_takes_no_calls_is_not_ready_though_it_lives(
    given: dict[str, object], why_not: tuple[str, ...]
) -> None:
    asked = health(0, 0, **given)  # type: ignore[arg-type]
    assert asked.liveness().alive
    assert asked.readiness() == Readiness(ready=False, why_not=why_not)


def test_a_beat_finds_the_sip_thread_alive_only_where_it_went_on() -> None:
    pulse = Pulse()
    for now_ns, wakes in ((1, 0), (2, 7), (3, 7)):
        pulse.beat(now_ns, wakes)
    assert (pulse.loop_ns, pulse.sip_ns) == (3, 2)
