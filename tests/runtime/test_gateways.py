"""The watch over gateways: what leaves when, and what routing, people and the log get to know. The test plays
the bridge."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from sidecar.adapters.metrics import Metrics
from sidecar.core.commands import AskGateway
from sidecar.core.events import RequestEnded
from sidecar.core.gateway_health import Health, ProbeTerms
from sidecar.core.policy import Gateway, Load
from sidecar.core.registration import RegisterTerms, RegistrationState
from sidecar.core.servers import Lookup, Server
from sidecar.core.terms import RouteFailure, TransportName
from sidecar.ports import GatewayStatus
from sidecar.runtime.gateways import LOST_MS, OPEN_MAX, REGISTER_TIMEOUT_MS, Gateways
from tests.policies import declared_gateway
from tests.runtime.node_help import WALL_NS, StoppedClock

PROBE = ProbeTerms(interval_ms=10_000, timeout_ms=4_000, down_after=2, up_after=1)
PROBED = declared_gateway(
    name="probed",
    host="192.0.2.1",
    port=5060,
    probe=PROBE,
)
REGISTER = RegisterTerms(identity="sip:us@carrier", target="sip:carrier", contact_user="us", expires_s=100)
WANTS_US = declared_gateway(name="wants-us", host="2001:db8::1", port=5070, register=REGISTER)
PLAIN = declared_gateway(name="plain", host="192.0.2.3", port=5060)


class Watch:
    """The watch, the bridge, and the clock."""

    def __init__(self, *gateways: Gateway, chance: float = 0.0) -> None:
        self.clock = StoppedClock()
        self.load = Load()
        self.metrics = Metrics()
        self.asked: list[AskGateway] = []
        self.fault: Exception | None = None
        self.gateways = Gateways(
            gateways={gateway.name: gateway for gateway in gateways},
            load=self.load,
            door=self,
            clock=self.clock,
            meter=self.metrics,
            boot_id="boot7",
            chance=lambda: chance,
        )

    def ask(self, requests: Sequence[AskGateway]) -> None:
        if self.fault is not None:
            raise self.fault
        self.asked += requests

    def later(self, seconds: float) -> list[AskGateway]:
        """What leaves when so much time has passed."""
        self.clock.pass_ms(int(seconds * 1000))
        self.gateways.tick()
        return self.taken()

    def taken(self) -> list[AskGateway]:
        asked, self.asked = self.asked, []
        return asked

    def answer(self, ask: AskGateway, code: int, *, took_ms: int = 0, **seconds: int) -> None:
        sent_ns = self.clock.mono_ns()
        self.clock.pass_ms(took_ms)
        cause = RouteFailure.FINAL_RESPONSE if code else RouteFailure.NO_RESPONSE
        ended = RequestEnded(
            mono_ns=self.clock.mono_ns(),
            wall_ns=self.clock.wall_ns(),
            request_id=ask.request_id,
            cause=cause,
            sip_code=code,
            sent_mono_ns=sent_ns,
            **seconds,
        )
        self.gateways.on_events([ended])

    def probe(self, *codes: int) -> None:
        """So many probes, each with its answer."""
        for code in codes:
            [ask] = self.later(20)
            self.answer(ask, code)

    @property
    def status(self) -> GatewayStatus:
        [status] = self.gateways.statuses()
        return status


# --- probes -------------------------------------------------------------------------------------------------


def test_a_probe_leaves_at_its_time_and_one_at_a_time() -> None:
    watch = Watch(PROBED)
    [ask] = watch.later(0)
    assert (ask.gateway, ask.host, ask.port, ask.target) == (
        "probed",
        "192.0.2.1",
        5060,
        "sip:192.0.2.1:5060",
    )
    assert (ask.timeout_ms, ask.expires_s, ask.identity) == (4_000, None, "")
    assert watch.later(8) == []
    watch.answer(ask, 200)
    assert watch.later(0.5) == []
    [second] = watch.later(1)
    assert second.request_id != ask.request_id


def test_a_gateway_that_stops_answering_is_down_and_comes_back() -> None:
    watch = Watch(PROBED, PLAIN)
    watch.probe(200)
    assert watch.load.gateways_down == set()
    with capture_logs() as lines:
        watch.probe(0)
        assert watch.load.gateways_down == set()
        watch.probe(503)
        assert watch.load.gateways_down == {"probed"}
        watch.probe(0, 408)
        watch.probe(404)
        assert watch.load.gateways_down == set()
        watch.probe(200)
    assert [(line["event"], line["log_level"], line["gateway"], line["why"]) for line in lines] == [
        ("gateway_down", "warning", "probed", "OPTIONS: 503"),
        ("gateway_up", "info", "probed", "OPTIONS: 404"),
    ]


def test_the_status_says_what_the_probes_said() -> None:
    watch = Watch(PROBED)
    assert (watch.status.health, watch.status.since_wall_ns, watch.status.probes) == (Health.UNKNOWN, None, 0)
    [ask] = watch.later(0)
    watch.answer(ask, 200, took_ms=25)
    status = watch.status
    assert (status.health, status.answer, status.probe_ms) == (Health.UP, "200", 25.0)
    assert status.since_wall_ns == WALL_NS + 25_000_000
    watch.probe(0)
    assert (watch.status.answer, watch.status.probe_ms) == ("no_response", 25.0)
    assert (watch.status.probes, watch.status.probes_failed) == (2, 1)
    assert watch.status.since_wall_ns == status.since_wall_ns


def test_a_probe_whose_end_is_never_told_has_failed() -> None:
    watch = Watch(PROBED)
    watch.probe(0)
    for ask in watch.later(20):
        assert watch.later((ask.timeout_ms + LOST_MS) / 1000 - 0.001) == []
        watch.later(1)
        assert watch.load.gateways_down == {"probed"}
        watch.answer(ask, 200)  # too late: nobody waits for it
    assert watch.load.gateways_down == {"probed"}


def test_gateways_that_nobody_watches_are_left_alone() -> None:
    watch = Watch(PLAIN)
    assert watch.later(100) == []
    assert watch.gateways.statuses() == []


def test_of_another_policy_what_differs_is_begun_anew_and_the_rest_goes_on() -> None:
    watch = Watch(PROBED, WANTS_US)
    for ask in watch.later(0):
        watch.answer(ask, 503 if ask.gateway == "probed" else 200, granted_s=100)
    watch.probe(503)
    assert watch.load.gateways_down == {"probed"}
    elsewhere = replace(WANTS_US, host="2001:db8::2")
    watch.gateways.take_over({"probed": replace(PROBED, calls_max=3), "wants-us": elsewhere})
    [gone] = watch.taken()
    assert (gone.host, gone.expires_s, gone.call_id) == ("2001:db8::1", 0, "boot7-wants-us")
    assert watch.load.gateways_down == {"probed"}, "what is not about its watch changes nothing there"
    [register] = [ask for ask in watch.later(0) if ask.gateway == "wants-us"]
    assert (register.host, register.call_id) == ("2001:db8::2", "boot7-wants-us-1")
    watch.answer(gone, 200)
    watch.answer(register, 200, granted_s=100)
    assert "wants-us" not in watch.load.gateways_down
    watch.gateways.take_over({})
    assert watch.load.gateways_down == set()
    assert [(ask.host, ask.expires_s) for ask in watch.taken()] == [("2001:db8::2", 0)]
    assert watch.gateways.statuses() == []


def test_only_so_many_requests_are_under_way() -> None:
    many = [
        declared_gateway(
            name=f"g{i}",
            host="192.0.2.1",
            port=5060,
            probe=PROBE,
        )
        for i in range(OPEN_MAX + 7)
    ]
    watch = Watch(*many)
    asked = watch.later(0)
    assert len(asked) == OPEN_MAX
    for ask in asked[:10]:
        watch.answer(ask, 200)
    assert {ask.gateway for ask in watch.later(0)} == {f"g{OPEN_MAX + i}" for i in range(7)}


def test_probes_of_many_gateways_do_not_leave_together() -> None:
    chances = itertools.cycle([0.1, 0.6, 0.9])
    many = {name: declared_gateway(name=name, host="192.0.2.1", port=1, probe=PROBED.probe) for name in "abc"}
    watch = Watch()
    gateways = Gateways(
        gateways=many,
        load=watch.load,
        door=watch,
        clock=watch.clock,
        meter=watch.metrics,
        boot_id="",
        chance=lambda: next(chances),
    )
    seen = []
    for _ in range(20):
        watch.clock.pass_ms(100)
        gateways.tick()
        seen.append("".join(ask.gateway for ask in watch.taken()))
    assert [one for one in seen if one] == ["a", "b", "c"]


# --- registrations ------------------------------------------------------------------------------------------


def test_a_registration_is_made_refreshed_and_taken_back() -> None:
    watch = Watch(WANTS_US)
    [first] = watch.later(0)
    assert (first.host, first.port) == ("2001:db8::1", 5070)
    assert (first.target, first.identity, first.contact_user) == ("sip:carrier", "sip:us@carrier", "us")
    assert (first.call_id, first.expires_s, first.timeout_ms) == ("boot7-wants-us", 100, REGISTER_TIMEOUT_MS)
    with capture_logs() as lines:
        watch.answer(first, 200, granted_s=50)
    assert [(line["event"], line.get("state")) for line in lines] == [
        ("gateway_registration", "registered"),
        ("gateway_up", None),
    ]
    status = watch.status
    assert (status.health, status.registration) == (Health.UP, RegistrationState.REGISTERED)
    assert (status.registered_until_wall_ns, status.register_answer) == (WALL_NS + 50_000_000_000, "200")
    assert watch.later(39.9) == []
    [refresh] = watch.later(0.1)
    assert (refresh.call_id, refresh.expires_s) == (first.call_id, 100)
    assert refresh.cseq > first.cseq + 2
    watch.answer(refresh, 200)
    watch.gateways.leave()
    [last] = watch.taken()
    assert (last.expires_s, last.call_id) == (0, first.call_id)
    assert last.cseq > refresh.cseq
    assert watch.gateways.is_leaving()
    watch.answer(last, 200)
    assert not watch.gateways.is_leaving()
    assert watch.later(10_000) == []


def test_423_is_answered_at_once_with_what_it_asks_for() -> None:
    watch = Watch(WANTS_US)
    [first] = watch.later(0)
    watch.answer(first, 423, min_expires_s=1_800)
    [again] = watch.taken()
    assert (again.expires_s, again.call_id) == (1_800, first.call_id)
    assert watch.load.gateways_down == set()


def test_a_gateway_that_does_not_take_our_registration_is_down() -> None:
    watch = Watch(WANTS_US)
    [ask] = watch.later(0)
    with capture_logs() as lines:
        watch.answer(ask, 403)
    assert watch.load.gateways_down == {"wants-us"}
    assert [(line["event"], line["log_level"], line["why"]) for line in lines] == [
        ("gateway_registration", "warning", "REGISTER: 403"),
        ("gateway_down", "warning", "REGISTER: 403"),
    ]
    assert watch.later(4.9) == []
    [again] = watch.later(0.1)
    watch.answer(again, 200)
    assert watch.load.gateways_down == set()


def test_a_binding_that_runs_out_takes_the_gateway_down() -> None:
    watch = Watch(WANTS_US)
    [ask] = watch.later(0)
    watch.answer(ask, 200)
    [refresh] = watch.later(80)
    assert watch.later(19) == []
    assert watch.load.gateways_down == set()
    with capture_logs() as lines:
        watch.later(1)
    assert watch.load.gateways_down == {"wants-us"}
    assert {line["why"] for line in lines} == {"REGISTER: expired"}
    watch.answer(refresh, 200)
    assert watch.load.gateways_down == set()


def test_a_register_under_way_at_the_end_is_answered_before_it_is_taken_back() -> None:
    watch = Watch(WANTS_US)
    [ask] = watch.later(0)
    watch.gateways.leave()
    assert watch.taken() == []
    watch.answer(ask, 200)
    [last] = watch.taken()
    assert last.expires_s == 0
    watch.answer(last, 0)
    assert not watch.gateways.is_leaving()


def test_no_probe_leaves_while_the_node_stops() -> None:
    watch = Watch(PROBED, WANTS_US)
    watch.gateways.leave()
    assert watch.later(100) == []
    assert not watch.gateways.is_leaving()


def test_a_probe_comes_from_whom_the_gateway_knows() -> None:
    both = declared_gateway(name="both", host="192.0.2.1", port=5060, probe=PROBED.probe, register=REGISTER)
    watch = Watch(both)
    register, probe = watch.later(0)
    assert (register.expires_s, probe.expires_s) == (100, None)
    assert probe.identity == register.identity
    watch.answer(register, 403)
    watch.answer(probe, 200)
    assert watch.load.gateways_down == {"both"}  # it is there, but does not know us


# --- faults -------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_ends_one_watch_and_leaves_its_gateway_in_use() -> None:
    other = declared_gateway(
        name="other",
        host="192.0.2.2",
        port=5060,
        probe=replace(PROBE, interval_ms=60_000),
    )
    watch = Watch(PROBED, other)
    first, second = watch.later(0)
    watch.answer(second, 200)
    watch.answer(first, 0)
    [first] = watch.later(20)
    watch.answer(first, 0)
    assert watch.load.gateways_down == {"probed"}
    watch.fault = RuntimeError("broken")
    with capture_logs() as lines:
        assert watch.later(20) == []
    assert [line["event"] for line in lines] == ["gateway_watch_broken"]
    assert watch.load.gateways_down == set()
    assert watch.metrics.registry.get_sample_value(
        "sidecar_broken_promises_total", {"where": "gateways"}
    ) == pytest.approx(1)
    watch.fault = None
    assert [ask.gateway for ask in watch.later(60)] == ["other"]


def test_an_answer_to_nothing_is_ignored() -> None:
    watch = Watch(PROBED)
    [ask] = watch.later(0)
    watch.answer(ask, 200)
    watch.answer(ask, 503)
    assert watch.status.probes == 1


# --- a gateway whose host is a name -------------------------------------------------------------------------

NAMED = replace(PROBED, name="named", host="gw.test", lookup=Lookup(name="gw.test"))
FIRST, SECOND = (
    Server(host=f"192.0.2.{n}", port=5060 + n, transport=TransportName.UDP, priority=n) for n in (1, 2)
)


def test_each_server_of_a_name_is_probed_and_one_that_is_up_is_enough() -> None:
    watch = Watch(NAMED)
    assert watch.later(0) == []  # nothing is known of it yet
    watch.load.servers["named"] = (FIRST, SECOND)
    asks = {ask.host: ask for ask in watch.later(0)}
    assert {(ask.host, ask.port, ask.target) for ask in asks.values()} == {
        ("192.0.2.1", 5061, "sip:gw.test"),
        ("192.0.2.2", 5062, "sip:gw.test"),
    }
    for _ in range(PROBE.down_after):
        watch.answer(asks["192.0.2.1"], 0)
        watch.answer(asks["192.0.2.2"], 200)
        asks = {ask.host: ask for ask in watch.later(20)}
    assert watch.load.servers_down == {("named", FIRST.at)}
    assert watch.status.health is Health.UP
    assert watch.status.servers == {FIRST.at: Health.DOWN, SECOND.at: Health.UP}
    for _ in range(PROBE.down_after):
        watch.answer(asks["192.0.2.2"], 503)
        watch.answer(asks["192.0.2.1"], 0)
        asks = {ask.host: ask for ask in watch.later(20)}
    assert (watch.status.health, watch.load.gateways_down) == (Health.DOWN, {"named"})


def test_a_server_that_the_name_has_no_more_is_forgotten_and_its_answer_with_it() -> None:
    watch = Watch(NAMED)
    watch.load.servers["named"] = (FIRST,)
    for _ in range(PROBE.down_after):
        [ask] = watch.later(20)
        watch.answer(ask, 0)
    assert watch.load.servers_down == {("named", FIRST.at)}
    [late] = watch.later(20)
    watch.load.servers["named"] = (SECOND,)
    [ask] = watch.later(20)
    assert (ask.host, watch.load.servers_down) == ("192.0.2.2", set())
    watch.answer(late, 0)
    assert watch.load.servers_down == set()
    watch.answer(ask, 200)
    assert (watch.status.health, list(watch.status.servers)) == (Health.UP, [SECOND.at])


def test_a_registration_goes_to_the_next_server_after_a_failure() -> None:
    watch = Watch(replace(WANTS_US, name="named", host="gw.test", lookup=Lookup(name="gw.test")))
    assert watch.later(5) == []  # there is nobody to ask
    watch.load.servers["named"] = (FIRST, SECOND)
    hosts = []
    for _ in range(3):
        [ask] = watch.later(600)
        hosts.append(ask.host)
        watch.answer(ask, 503)
    assert hosts == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
