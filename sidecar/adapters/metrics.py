"""What Prometheus reads: counts of what was decided, and gauges read from their owners at the moment of the
scrape.

No label ever holds a phone number, an account or an address: labels are words of closed sets, and names of
gateways where a setting is named. The exposition runs in a thread of its own and only reads numbers, so a
slow or stuck scrape costs the calls nothing.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from threading import Thread
from typing import Generic, TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from sidecar.core.call import Phase
from sidecar.core.cdr import Cdr
from sidecar.core.gateway_health import Health
from sidecar.core.registration import RegistrationState
from sidecar.ports import GatewayStatus, OutboxState, RelayCounters

# RFC 6076 §4.3 calls it session request delay; 8 and 11 s are E.721's mean and 95 % of an international call.
PDD_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 11, 20)
COMMIT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

M = TypeVar("M", bound=MetricWrapperBase)


class MetricsError(Exception):
    """The exposition could not be started; the text says what to do."""


class Metrics:
    """A Meter (see ports), and the page that shows it."""

    def __init__(self, *, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self.registry = registry = CollectorRegistry()
        self._ended = _Children(
            Counter(
                "sidecar_calls_ended",
                "Admitted calls that ended.",
                ["origin", "reason", "detail", "recorded"],
                registry=registry,
            )
        )
        self._refused = _Children(
            Counter("sidecar_calls_refused", "INVITEs refused.", ["detail"], registry=registry)
        )
        self._suppressed = _Children(
            Counter(
                "sidecar_suppressed_money",
                "What calls whose CDR was kept back cost or would have cost, by the setting.",
                ["currency", "side", "reason", "setting"],
                registry=registry,
            )
        )
        self._pdd = Histogram(
            "sidecar_post_dial_delay_seconds",
            "INVITE on leg A to the first 18x or 2xx of leg B.",
            buckets=PDD_BUCKETS_S,
            registry=registry,
        )
        self._commit = Histogram(
            "sidecar_commit_seconds",
            "Duration of a store commit.",
            buckets=COMMIT_BUCKETS_S,
            registry=registry,
        )
        self._overrun = Counter(
            "sidecar_overrun_ms", "Talk time beyond the grant, not billed.", registry=registry
        )
        self._broken = _Children(
            Counter(
                "sidecar_broken_promises",
                "Assertions of our own that failed; each released its call as server/fault.",
                ["where"],
                registry=registry,
            )
        )
        self._unknown = _Children(
            Counter(
                "sidecar_unknown_rows",
                "A state or classification table had no row.",
                ["table"],
                registry=registry,
            )
        )
        # Plain numbers, read at the scrape: they change six times a call, and a gauge locks for each.
        self._phases = dict.fromkeys(Phase, 0)
        calls = Gauge("sidecar_calls", "Calls by phase.", ["phase"], registry=registry)
        for phase in Phase:
            calls.labels(phase.value).set_function(partial(self._phases.__getitem__, phase))
        self._server: tuple[WSGIServer, Thread] | None = None

    # --- the Meter ------------------------------------------------------------------------------------------

    def call_ended(self, cdr: Cdr) -> None:
        reason = cdr.server_reason.value if cdr.server_reason is not None else "none"
        recorded = "yes" if cdr.recorded else "no"
        self._ended.of(cdr.hangup_origin.value, reason, cdr.detail.value, recorded).inc()
        if cdr.pdd_ms is not None:
            self._pdd.observe(cdr.pdd_ms / 1000)
        if cdr.overrun_ms > 0:
            self._overrun.inc(cdr.overrun_ms)
        if cdr.suppressed_by is not None:
            for charge in cdr.charges:
                if charge.total is not None and charge.total > 0:
                    labels = (charge.currency or "none", charge.side.value, reason, cdr.suppressed_by)
                    self._suppressed.of(*labels).inc(float(charge.total))

    def call_refused(self, detail: str, count: int = 1) -> None:
        self._refused.of(str(detail)).inc(count)

    def phase_changed(self, before: Phase | None, after: Phase | None) -> None:
        if before is after:
            return
        if before is not None:
            self._phases[before] -= 1
        if after is not None:
            self._phases[after] += 1

    def commit_took(self, seconds: float) -> None:
        self._commit.observe(seconds)

    def promise_broken(self, where: str) -> None:
        self._broken.of(where).inc()

    def row_unknown(self, table: str) -> None:
        self._unknown.of(table).inc()

    # --- read at the scrape ---------------------------------------------------------------------------------

    def watch_outbox(self, counters: RelayCounters, state: Callable[[], OutboxState | None]) -> None:
        self.registry.register(_OutboxCollector(counters, state, self._wall_ns))

    def watch_bridge(self, stats: Callable[[], Mapping[str, int]]) -> None:
        """`stats` is called from the exposition's thread."""
        self.registry.register(_BridgeCollector(stats))

    def watch_gateways(self, statuses: Callable[[], Sequence[GatewayStatus]]) -> None:
        """`statuses` is called from the exposition's thread."""
        self.registry.register(_GatewayCollector(statuses))

    # --- the page -------------------------------------------------------------------------------------------

    def serve(self, host: str = "127.0.0.1", port: int = 9494) -> int:
        """Expose on http://host:port/metrics; port 0 takes a free one. Returns the port. Raises
        MetricsError."""
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                advice = "is in use: end what listens there, or choose another port (0 takes a free one)"
            else:
                advice = f"cannot be listened on: {error.strerror or error}"
            raise MetricsError(f"metrics.listen {host}:{port} {advice}") from None
        self._server = (server, thread)
        return int(server.server_port)

    def close(self) -> None:
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            server.server_close()
            thread.join()


class _Children(Generic[M]):
    """The children of a labelled metric, looked up by their label values without building them each time."""

    def __init__(self, parent: M) -> None:
        self._parent = parent
        self._children: dict[tuple[str, ...], M] = {}  # label values are of closed sets, so this is bounded

    def of(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._parent.labels(*labels)
        return child


class _OutboxCollector(Collector):
    def __init__(
        self, counters: RelayCounters, state: Callable[[], OutboxState | None], wall_ns: Callable[[], int]
    ) -> None:
        self._counters = counters
        self._state = state
        self._wall_ns = wall_ns

    def describe(self) -> Iterable[Metric]:
        return []  # nothing is read while registering

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield _gauge(
            "sidecar_broker_connected", "1 while there is a link to the broker.", int(counters.connected)
        )
        yield _counter("sidecar_broker_connects", "Links to the broker that came up.", counters.connects)
        yield _counter("sidecar_broker_links_lost", "Links to the broker that broke.", counters.links_lost)
        yield _counter("sidecar_outbox_sent", "PUBLISH packets handed to the link.", counters.sent)
        yield _counter("sidecar_outbox_delivered", "Rows that the broker has taken.", counters.delivered)
        yield _counter(
            "sidecar_outbox_no_subscriber", "Delivered with 0x10: nobody listens.", counters.no_subscriber
        )
        yield _counter("sidecar_outbox_retried", "Rows refused for now.", counters.retried)
        yield _counter("sidecar_outbox_dead", "Rows moved to the dead letters.", counters.dead)
        yield _counter(
            "sidecar_outbox_failures",
            "Reads of the outbox, or writes to it, that failed.",
            counters.outbox_failures,
        )
        yield _counter("sidecar_outbox_defects", "Exceptions of our own code in the relay.", counters.defects)
        yield _gauge("sidecar_outbox_in_flight", "Rows sent and not acknowledged.", counters.in_flight)
        codes = CounterMetricFamily("sidecar_puback", "PUBACKs by reason code.", labels=["code"])
        for code, count in sorted(counters.codes.copy().items()):
            codes.add_metric([f"0x{code:02x}"], count)
        yield codes
        state = self._state()
        if state is not None:
            yield _gauge("sidecar_outbox_depth", "Rows that wait for the broker.", state.depth)
            yield _gauge("sidecar_outbox_dead_letters", "Dead letters kept.", state.dead)
            yield _gauge("sidecar_outbox_head_seq", "The last sequence number taken.", state.head_seq)
            age_s = (self._wall_ns() - state.oldest_wall_ns) / 1e9 if state.oldest_wall_ns else 0.0
            yield _gauge(
                "sidecar_outbox_oldest_age_seconds", "Age of the oldest waiting row.", max(0.0, age_s)
            )


class _BridgeCollector(Collector):
    def __init__(self, stats: Callable[[], Mapping[str, int]]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("sidecar_bridge", "Counters of the SIP bridge.", labels=["counter"])
        for name, count in self._stats().items():
            family.add_metric([name], count)
        yield family


class _GatewayCollector(Collector):
    """Gateways that are neither probed nor registered at have no line."""

    def __init__(self, statuses: Callable[[], Sequence[GatewayStatus]]) -> None:
        self._statuses = statuses

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        up = _of_gateways(GaugeMetricFamily, "up", "0 while it is down: it is tried after all others.")
        probes = _of_gateways(CounterMetricFamily, "probes", "OPTIONS whose answer came, or did not.")
        failed = _of_gateways(CounterMetricFamily, "probes_failed", "Those without a good answer.")
        took = _of_gateways(GaugeMetricFamily, "probe_seconds", "Round trip of the last good probe.")
        registered = _of_gateways(GaugeMetricFamily, "registered", "1 while it holds our registration.")
        for status in self._statuses():
            name = [status.gateway]
            up.add_metric(name, status.health is not Health.DOWN)
            if status.is_probed:
                probes.add_metric(name, status.probes)
                failed.add_metric(name, status.probes_failed)
            if status.probe_ms is not None:
                took.add_metric(name, status.probe_ms / 1000)
            if status.registration is not None:
                registered.add_metric(name, status.registration is RegistrationState.REGISTERED)
        yield from (up, probes, failed, took, registered)


F = TypeVar("F", GaugeMetricFamily, CounterMetricFamily)


def _of_gateways(kind: type[F], name: str, text: str) -> F:
    return kind(f"sidecar_gateway_{name}", text, labels=["gateway"])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
