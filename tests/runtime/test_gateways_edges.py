"""The watch over gateways at its edges: how long each request may take, when it leaves by chance, and how it
is addressed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from sidecar.core.events import RequestEnded
from sidecar.core.gateway_health import Health
from sidecar.core.registration import RegistrationState
from sidecar.core.terms import RouteFailure, TransportName
from tests.policies import declared_gateway
from tests.runtime.node_help import WALL_NS
from tests.runtime.test_gateways import PROBE, PROBED, REGISTER, WANTS_US, Watch

BOTH = declared_gateway(name="both", host="192.0.2.1", port=5060, probe=PROBE, register=REGISTER)


def test_requests_go_to_the_gateways_own_address_over_its_own_transport() -> None:
    far = replace(BOTH, host="2001:db8::7", port=5071, transport=TransportName.TCP)
    watch = Watch(far)
    register, probe = watch.later(0)
    for ask in (register, probe):
        assert (ask.host, ask.port, ask.transport) == ("2001:db8::7", 5071, TransportName.TCP)
    assert probe.target == "sip:[2001:db8::7]:5071"
    assert register.target == "sip:carrier"


def test_a_register_has_32_seconds_and_the_last_one_two() -> None:
    watch = Watch(WANTS_US)
    [first] = watch.later(0)
    assert first.timeout_ms == 32_000
    watch.answer(first, 200)
    watch.gateways.leave()
    [last] = watch.taken()
    assert last.timeout_ms == 2_000
    assert watch.later(6.999) == []
    assert watch.gateways.is_leaving()
    watch.later(0.001)  # five seconds after its time nobody will answer it
    assert not watch.gateways.is_leaving()


def test_a_request_is_lost_five_seconds_after_its_time_and_not_before() -> None:
    watch = Watch(PROBED)
    watch.probe(0)
    assert len(watch.later(20)) == 1
    watch.later(8.999)
    assert (watch.status.probes, watch.load.gateways_down) == (1, set())
    watch.later(0.001)
    assert (watch.status.probes, watch.load.gateways_down) == (2, {"probed"})
    assert watch.status.answer == "no_response"


def test_a_register_that_nobody_answers_has_failed() -> None:
    watch = Watch(WANTS_US)
    [_] = watch.later(0)
    watch.later(36.999)
    assert watch.load.gateways_down == set()
    watch.later(0.001)
    assert watch.load.gateways_down == {"wants-us"}
    assert (watch.status.registration, watch.status.register_answer) == (
        RegistrationState.FAILED,
        "no_response",
    )


def test_a_gateway_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    watch = Watch(WANTS_US)
    [ask] = watch.later(0)
    watch.answer(ask, 503, retry_after_s=60)
    assert watch.later(59.999) == []
    assert len(watch.later(0.001)) == 1


def test_chance_spreads_the_first_register_and_those_that_follow() -> None:
    watch = Watch(WANTS_US, chance=0.5)
    assert watch.later(0.999) == []
    [register] = watch.later(0.001)
    watch.answer(register, 200)
    assert watch.later(84.999) == []  # 80 to 90 s of the 100 for which it is bound
    assert len(watch.later(0.001)) == 1


def test_chance_spreads_the_first_probe_and_those_that_follow() -> None:
    watch = Watch(PROBED, chance=0.9)
    assert watch.later(1.799) == []
    [probe] = watch.later(0.001)
    watch.answer(probe, 200)
    assert watch.later(10.799) == []
    assert len(watch.later(0.001)) == 1


def test_the_status_of_a_gateway_before_anything_was_heard() -> None:
    statuses = {status.gateway: status for status in Watch(PROBED, WANTS_US, BOTH).gateways.statuses()}
    assert {
        name: (status.is_probed, status.registration, status.health) for name, status in statuses.items()
    } == {
        "probed": (True, None, Health.UNKNOWN),
        "wants-us": (False, RegistrationState.UNREGISTERED, Health.UNKNOWN),
        "both": (True, RegistrationState.UNREGISTERED, Health.UNKNOWN),
    }


def test_a_gateway_of_which_nothing_is_known_yet_is_called() -> None:
    watch = Watch(BOTH)
    _, probe = watch.later(0)
    watch.answer(probe, 200)  # its registration is still to come
    assert (watch.status.health, watch.load.gateways_down) == (Health.UNKNOWN, set())


def test_the_end_of_a_binding_is_told_by_the_wall_clock_and_only_while_there_is_one() -> None:
    watch = Watch(WANTS_US)
    watch.clock.pass_ms(3_000)
    [ask] = watch.later(0)
    with capture_logs() as lines:
        watch.answer(ask, 200, took_ms=500)
    assert watch.status.registered_until_wall_ns == WALL_NS + 103_500_000_000
    assert [line["log_level"] for line in lines] == ["info", "info"]
    [refresh] = watch.later(80)
    watch.answer(refresh, 403)
    status = watch.status
    assert (status.registered_until_wall_ns, status.since_wall_ns) == (None, WALL_NS + 83_500_000_000)


def test_a_node_that_does_not_stop_is_not_leaving() -> None:
    watch = Watch(WANTS_US)
    [ask] = watch.later(0)
    assert not watch.gateways.is_leaving()
    watch.answer(ask, 200)
    assert not watch.gateways.is_leaving()


def test_no_probe_follows_once_the_node_stops() -> None:
    watch = Watch(BOTH)
    register, probe = watch.later(0)
    watch.answer(register, 200)
    watch.answer(probe, 200)
    watch.gateways.leave()
    [last] = watch.taken()
    assert last.expires_s == 0
    assert watch.later(1) == []
    watch.answer(last, 200)
    assert watch.later(100) == []


def test_an_answer_that_comes_after_its_watch_has_ended_says_nothing() -> None:
    watch = Watch(BOTH)
    register, probe = watch.later(0)
    watch.fault = RuntimeError("broken")
    watch.answer(register, 423, min_expires_s=1_800)  # is asked again at once, which breaks
    assert watch.gateways.statuses() == []
    watch.fault = None
    for _ in range(2):
        watch.answer(probe, 0)
    assert watch.load.gateways_down == set()
    assert watch.metrics.registry.get_sample_value(
        "sidecar_broken_promises_total", {"where": "gateways"}
    ) == pytest.approx(1)


def test_an_answer_that_breaks_ends_its_watch_and_no_other_event() -> None:
    watch = Watch(WANTS_US, PROBED)
    register, probe = watch.later(0)
    watch.fault = RuntimeError("broken")
    stamps = {"mono_ns": watch.clock.mono_ns(), "wall_ns": watch.clock.wall_ns()}
    too_brief, good = (
        RequestEnded(
            request_id=ask.request_id,
            cause=RouteFailure.FINAL_RESPONSE,
            sip_code=code,
            min_expires_s=1_800,
            **stamps,
        )
        for ask, code in ((register, 423), (probe, 200))
    )
    watch.gateways.on_events([too_brief, good])
    assert [(status.gateway, status.health) for status in watch.gateways.statuses()] == [
        ("probed", Health.UP)
    ]


def test_five_hundred_requests_are_under_way_at_one_time() -> None:
    watch = Watch(*(replace(PROBED, name=f"g{number}") for number in range(501)))
    assert len(watch.later(0)) == 500
