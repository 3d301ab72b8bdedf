"""What Prometheus reads: counts of what was decided, and gauges read from their owners at the moment of the
scrape.

No label ever holds a phone number or an address: labels are words of closed sets, names of gateways and
settings, and of at most a hundred accounts that have calls without a rate. The exposition runs in a thread
of its own (adapters/sockets/pages) and only reads numbers, so a slow or stuck scrape costs the calls nothing.
What there is to read is declared at the top, once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from sidecar.core.alarms import AlarmKind
from sidecar.core.call import Phase
from sidecar.core.cdr import Cdr
from sidecar.core.gateway_health import Health
from sidecar.core.records import is_charged
from sidecar.core.registration import RegistrationState
from sidecar.core.terms import ChargeSide
from sidecar.ports import (
    CertificateStatus,
    ClockStatus,
    FraudCounters,
    GatewayStatus,
    NameStatus,
    OutboxState,
    RelayCounters,
    ReplayCounters,
    TakeoverCounters,
)

# RFC 6076 §4.3 calls it session request delay; 8 and 11 s are E.721's mean and 95 % of an international call.
PDD_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 11, 20)
COMMIT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

M = TypeVar("M", bound=MetricWrapperBase)


class Metric(NamedTuple):
    """One metric. Prometheus shows a counter as `name_total`, a histogram as `name_bucket`, `_sum` and
    `_count`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


ENDED = Metric(
    "sidecar_calls_ended", "counter", "Admitted calls that ended.", ("origin", "reason", "detail", "recorded")
)
ANSWERED = Metric("sidecar_calls_answered", "counter", "Those of them that had been answered.")
ATTEMPTS = Metric(
    "sidecar_gateway_calls",
    "counter",
    "INVITEs to a gateway, each attempt of a call; those beyond the first 1000 gateways are `*` together.",
    ("gateway",),
)
ATTEMPTS_ANSWERED = Metric(
    "sidecar_gateway_calls_answered", "counter", "Those of them that were answered.", ("gateway",)
)
TALK = Metric("sidecar_talk_seconds", "counter", "How long they had talked.")
REFUSED = Metric("sidecar_calls_refused", "counter", "INVITEs refused.", ("detail",))
UNRATED = Metric(
    "sidecar_calls_unrated",
    "counter",
    "Answered calls without a rate, by account (side sell) and by gateway (buy); the first 100 of each.",
    ("side", "party"),
)
SUPPRESSED = Metric(
    "sidecar_suppressed_money",
    "counter",
    "What calls whose CDR was kept back cost or would have cost, by the setting.",
    ("currency", "side", "reason", "setting"),
)
WAIVED_ACCOUNTS_MAX = 100
GATEWAYS_MAX = 1000  # of a node that lives for years, and whose gateways come and go
OTHERS = "*"
WAIVED = Metric(
    "sidecar_waived_money",
    "counter",
    "What accounts would have paid for calls that a recording flag kept back, and that are not charged; "
    f"those beyond the first {WAIVED_ACCOUNTS_MAX} are `{OTHERS}` together.",
    ("account", "currency"),
)
PDD = Metric(
    "sidecar_post_dial_delay_seconds",
    "histogram",
    "INVITE on leg A to the first 18x or 2xx of leg B.",
    buckets=PDD_BUCKETS_S,
)
COMMIT = Metric(
    "sidecar_commit_seconds", "histogram", "Duration of a store commit.", buckets=COMMIT_BUCKETS_S
)
JOURNAL_FAILING = Metric(
    "sidecar_journal_failing",
    "gauge",
    "1 while the journal cannot be written. No new call is taken, but by what the node holds (PostgreSQL).",
)
CALLS_LET_GO = Metric(
    "sidecar_calls_let_go",
    "counter",
    "Calls that were admitted while the database was away: out of a tranche, unbounded (postpaid), free.",
    ("ground",),
)
JOURNAL_FAILURES = Metric(
    "sidecar_journal_failures", "counter", "Times that the journal began to fail; the log says why."
)
JOURNAL_WRONG = Metric(
    "sidecar_journal_wrong",
    "gauge",
    "Findings since the start that the journal is not as it was written; the log says which.",
)
OVERRUN = Metric("sidecar_overrun_ms", "counter", "Talk time beyond the grant, not billed.")
GRANTS = Metric(
    "sidecar_grants_asked",
    "counter",
    "Grants of live calls that were to be extended: `extended`, `refused`, or `failed` where the journal "
    "could not be written.",
    ("answer",),
)
ALARMS = Metric("sidecar_alarms", "counter", "Alarms raised.", ("kind",))
ALARMS_LOST = Metric(
    "sidecar_alarms_lost",
    "counter",
    "Alarms that did not come to the broker, or into the audit table: too many at once.",
    ("where",),
)
BROKEN = Metric(
    "sidecar_broken_promises",
    "counter",
    "Assertions of our own that failed; each released its call as server/fault.",
    ("where",),
)
UNKNOWN = Metric("sidecar_unknown_rows", "counter", "A state or classification table had no row.", ("table",))
CALLS = Metric("sidecar_calls", "gauge", "Calls by phase.", ("phase",))
CONNECTED = Metric("sidecar_broker_connected", "gauge", "1 while there is a link to the broker.")
CONNECTS = Metric("sidecar_broker_connects", "counter", "Links to the broker that came up.")
LINKS_LOST = Metric("sidecar_broker_links_lost", "counter", "Links to the broker that broke.")
LINKS_TAKEN_OVER = Metric(
    "sidecar_broker_links_taken_over", "counter", "Links to the broker that another node of our name took."
)
SENT = Metric("sidecar_outbox_sent", "counter", "PUBLISH packets handed to the link.")
DELIVERED = Metric("sidecar_outbox_delivered", "counter", "Rows that the broker has taken.")
NO_SUBSCRIBER = Metric("sidecar_outbox_no_subscriber", "counter", "Delivered with 0x10: nobody listens.")
RETRIED = Metric("sidecar_outbox_retried", "counter", "Rows refused for now.")
DEAD = Metric("sidecar_outbox_dead", "counter", "Rows moved to the dead letters.")
FAILURES = Metric("sidecar_outbox_failures", "counter", "Reads of the outbox, or writes to it, that failed.")
DEFECTS = Metric("sidecar_outbox_defects", "counter", "Exceptions of our own code in the relay.")
IN_FLIGHT = Metric("sidecar_outbox_in_flight", "gauge", "Rows sent and not acknowledged.")
PUBACK = Metric("sidecar_puback", "counter", "PUBACKs by reason code.", ("code",))
DEPTH = Metric("sidecar_outbox_depth", "gauge", "Rows that wait for the broker.")
DEAD_LETTERS = Metric("sidecar_outbox_dead_letters", "gauge", "Dead letters kept.")
HEAD_SEQ = Metric("sidecar_outbox_head_seq", "gauge", "The last sequence number taken.")
OLDEST_AGE = Metric("sidecar_outbox_oldest_age_seconds", "gauge", "Age of the oldest waiting row.")
BRIDGE = Metric(
    "sidecar_bridge",
    "counter",
    "Counters of the SIP bridge: everything that is dropped, refused, cut or unexpected.",
    ("counter",),
)
HEP_SENT = Metric("sidecar_hep_sent", "counter", "Copies of SIP messages sent to `hep.collector`.")
HEP_DROPPED = Metric(
    "sidecar_hep_dropped", "counter", "Those that it has not: the network took none, or it is away."
)
GATEWAY_UP = Metric(
    "sidecar_gateway_up", "gauge", "0 while it is down: it is tried after all others.", ("gateway",)
)
PROBES = Metric("sidecar_gateway_probes", "counter", "OPTIONS whose answer came, or did not.", ("gateway",))
PROBES_FAILED = Metric(
    "sidecar_gateway_probes_failed", "counter", "Those without a good answer.", ("gateway",)
)
PROBE_TOOK = Metric(
    "sidecar_gateway_probe_seconds", "gauge", "Round trip of the last good probe.", ("gateway",)
)
REGISTERED = Metric("sidecar_gateway_registered", "gauge", "1 while it holds our registration.", ("gateway",))
TLS_END = Metric(
    "sidecar_tls_end_seconds",
    "gauge",
    "When the first certificate of a TLS file that is in force ends, in seconds since 1970.",
    ("setting",),
)
TLS_RENEWALS = Metric("sidecar_tls_renewals", "counter", "Times that changed TLS files came into force.")
TLS_REFUSALS = Metric("sidecar_tls_refusals", "counter", "Times that TLS files were refused.")
SERVERS = Metric(
    "sidecar_gateway_servers",
    "gauge",
    "Of a gateway whose host is a name: the servers that DNS has for it; 0: calls go nowhere there.",
    ("gateway",),
)
LOOKUPS = Metric("sidecar_gateway_lookups", "counter", "Rounds of questions to DNS.", ("gateway",))
LOOKUPS_FAILED = Metric(
    "sidecar_gateway_lookups_failed", "counter", "Those in which an answer did not come.", ("gateway",)
)
CLOCK_SYNCHRONISED = Metric(
    "sidecar_clock_synchronised",
    "gauge",
    "0 while the kernel says that nobody keeps the wall clock right (adjtimex).",
)
CLOCK_STEPS = Metric("sidecar_clock_steps", "counter", "How often the wall clock was set, by 0.5 s or more.")
CLOCK_BEHIND = Metric(
    "sidecar_clock_behind_seconds",
    "gauge",
    "How far the wall clock is behind what the journal holds of an earlier start.",
)
DISK = Metric("sidecar_disk_bytes", "gauge", "Size of the file system that the journal is on.")
DISK_FREE = Metric("sidecar_disk_free_bytes", "gauge", "What of it the node may still write.")
REPLAYS = Metric("sidecar_replays", "counter", "Requests for records again, by command or by a subscriber.")
REPLAYED = Metric("sidecar_replayed_records", "counter", "Records that were published again for them.")
FRAUD_FIRED = Metric("sidecar_fraud_rule_fired", "counter", "How often a fraud rule fired.", ("rule",))
FRAUD_HELD = Metric(
    "sidecar_fraud_rule_held", "gauge", "What it holds: accounts, prefixes, callers, or the node.", ("rule",)
)
FRAUD_FORGOTTEN = Metric(
    "sidecar_fraud_keys_forgotten",
    "counter",
    "Accounts, prefixes or callers that a fraud rule had no room for, or let go for others.",
)
NODE_DEAD = Metric(
    "sidecar_node_dead",
    "gauge",
    "1 while another node on the database has let its lease run out, and its open calls or records wait.",
    ("node",),
)
NODE_TAKEOVERS = Metric(
    "sidecar_node_takeovers", "counter", "How often this node took over the books of another one.", ("node",)
)
NODE_TAKEOVER_CALLS = Metric("sidecar_node_takeover_calls", "counter", "Open calls in them.", ("node",))
NODE_TAKEOVER_S = Metric(
    "sidecar_node_takeover_seconds",
    "gauge",
    "The last time: from its last commit until its books were taken over, and until its calls were ended and "
    "recorded.",
    ("node", "phase"),
)
LOG_LINES_LOST = Metric(
    "sidecar_log_lines_lost",
    "counter",
    "Log lines that nobody will read: their reader, disk or journal took none for too long.",
)
METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def _label(name: str, known: set[str], names_max: int) -> str:
    """The first so many have a series of their own."""
    if len(known) < names_max:
        known.add(name)
    return name if name in known else OTHERS


class Metrics:
    """A Meter (see ports), and the page that shows it."""

    def __init__(self, *, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self.registry = registry = CollectorRegistry()
        self._waived_accounts, self._gateways = set[str](), set[str]()
        labelled = (
            ENDED,
            REFUSED,
            UNRATED,
            SUPPRESSED,
            WAIVED,
            BROKEN,
            UNKNOWN,
            ALARMS,
            ALARMS_LOST,
            GRANTS,
            ATTEMPTS,
            ATTEMPTS_ANSWERED,
        )
        (
            self._ended,
            self._refused,
            self._unrated,
            self._suppressed,
            self._waived,
            self._broken,
            self._unknown,
            self._alarms,
            self._alarms_lost,
            self._grants,
            self._attempts,
            self._attempts_answered,
        ) = (_Children(Counter(one.name, one.meaning, one.labels, registry=registry)) for one in labelled)
        self._pdd, self._commit = (
            Histogram(one.name, one.meaning, buckets=one.buckets, registry=registry) for one in (PDD, COMMIT)
        )
        self._answered, self._talk, self._overrun = (
            Counter(one.name, one.meaning, registry=registry) for one in (ANSWERED, TALK, OVERRUN)
        )
        self._journal_failing = Gauge(JOURNAL_FAILING.name, JOURNAL_FAILING.meaning, registry=registry)
        self._journal_wrong = Gauge(JOURNAL_WRONG.name, JOURNAL_WRONG.meaning, registry=registry)
        self._journal_failures = Counter(JOURNAL_FAILURES.name, JOURNAL_FAILURES.meaning, registry=registry)
        # Plain numbers, read at the scrape: they change six times a call, and a gauge locks for each.
        self._phases = dict.fromkeys(Phase, 0)
        calls = Gauge(CALLS.name, CALLS.meaning, CALLS.labels, registry=registry)
        for phase in Phase:
            calls.labels(phase.value).set_function(partial(self._phases.__getitem__, phase))

    # --- the Meter ------------------------------------------------------------------------------------------

    def call_ended(self, cdr: Cdr) -> None:
        reason = cdr.server_reason.value if cdr.server_reason is not None else "none"
        recorded = "yes" if cdr.recorded else "no"
        self._ended.of(cdr.hangup_origin.value, reason, cdr.detail.value, recorded).inc()
        if cdr.answered_at is not None:
            self._answered.inc()
            self._talk.inc(cdr.talk_ms / 1000)
        gateways = [_label(one.gateway, self._gateways, GATEWAYS_MAX) for one in cdr.attempts]
        for gateway in gateways:
            self._attempts.of(gateway).inc()
        if cdr.b_answered_at is not None and gateways:
            self._attempts_answered.of(gateways[-1]).inc()
        if cdr.pdd_ms is not None:
            self._pdd.observe(cdr.pdd_ms / 1000)
        if cdr.overrun_ms > 0:
            self._overrun.inc(cdr.overrun_ms)
        if cdr.suppressed_by is not None:
            for charge in cdr.charges:
                if charge.total is not None and charge.total > 0:
                    labels = (charge.currency or "none", charge.side.value, reason, cdr.suppressed_by)
                    self._suppressed.of(*labels).inc(float(charge.total))
                    if charge.side is ChargeSide.SELL and not is_charged(cdr.suppressed_by):
                        account = _label(cdr.account, self._waived_accounts, WAIVED_ACCOUNTS_MAX)
                        self._waived.of(account, charge.currency or "none").inc(float(charge.total))

    def call_refused(self, detail: str, count: int = 1) -> None:
        self._refused.of(str(detail)).inc(count)

    def call_unrated(self, side: ChargeSide, party: str) -> None:
        self._unrated.of(side.value, party).inc()

    def phase_changed(self, before: Phase | None, after: Phase | None) -> None:
        if before is after:
            return
        if before is not None:
            self._phases[before] -= 1
        if after is not None:
            self._phases[after] += 1

    def grant_answered(self, answer: str) -> None:
        self._grants.of(answer).inc()

    def alarm_raised(self, kind: AlarmKind) -> None:
        self._alarms.of(kind.value).inc()

    def alarm_lost(self, where: str) -> None:
        self._alarms_lost.of(where).inc()

    def commit_took(self, seconds: float) -> None:
        self._commit.observe(seconds)

    def journal_failing(self, *, begins: bool) -> None:
        """It begins to fail, or writes again."""
        self._journal_failing.set(begins)
        if begins:
            self._journal_failures.inc()

    def journal_wrong(self, findings: int) -> None:
        """So many more."""
        self._journal_wrong.inc(findings)

    def promise_broken(self, where: str) -> None:
        self._broken.of(where).inc()

    def row_unknown(self, table: str) -> None:
        self._unknown.of(table).inc()

    # --- read at the scrape ---------------------------------------------------------------------------------

    def collect_outbox(self, counters: RelayCounters, state: Callable[[], OutboxState | None]) -> None:
        self.registry.register(_OutboxCollector(counters, state, self._wall_ns))

    def collect_replays(self, counters: ReplayCounters) -> None:
        self.registry.register(_ReplayCollector(counters))

    def collect_bridge(self, stats: Callable[[], Mapping[str, int]]) -> None:
        """`stats` is called from the exposition's thread."""
        self.registry.register(_BridgeCollector(stats))

    def collect_gateways(self, statuses: Callable[[], Sequence[GatewayStatus]]) -> None:
        """`statuses` is called from the exposition's thread."""
        self.registry.register(_GatewayCollector(statuses))

    def collect_clock(self, status: Callable[[], ClockStatus]) -> None:
        """`status` is called from the exposition's thread."""
        self.registry.register(_ClockCollector(status))

    def collect_certificates(self, status: Callable[[], CertificateStatus]) -> None:
        """`status` is called from the exposition's thread."""
        self.registry.register(_CertificateCollector(status))

    def collect_names(self, statuses: Callable[[], Sequence[NameStatus]]) -> None:
        """`statuses` is called from the exposition's thread."""
        self.registry.register(_NameCollector(statuses))

    def collect_disk(self, folder: Path) -> None:
        self.registry.register(_DiskCollector(folder))

    def collect_log(self, lines_lost: Callable[[], int]) -> None:
        """`lines_lost` is called from the exposition's thread."""
        self.registry.register(_LogCollector(lines_lost))

    def collect_fraud(self, counters: Callable[[], FraudCounters]) -> None:
        """`counters` is called from the exposition's thread."""
        self.registry.register(_FraudCollector(counters))

    def collect_let_go(self, calls: Callable[[], Mapping[str, int]]) -> None:
        """By ground; `calls` is called from the exposition's thread."""
        self.registry.register(_LetGoCollector(calls))

    def collect_takeovers(self, counters: TakeoverCounters) -> None:
        self.registry.register(_TakeoverCollector(counters))

    # --- the page -------------------------------------------------------------------------------------------

    def page(self, query: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body of /metrics. Safe to call in any thread."""
        encode, content_type = choose_encoder(accept)
        names = parse_qs(query).get("name[]")  # as Prometheus's own libraries have it
        registry = self.registry.restricted_registry(names) if names else self.registry
        return HTTPStatus.OK, content_type, encode(registry)


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

    def describe(self) -> Iterable[Family]:
        return []  # nothing is read while registering

    def collect(self) -> Iterator[Family]:
        counters = self._counters
        yield _value(CONNECTED, int(counters.connected))
        yield _value(CONNECTS, counters.connects)
        yield _value(LINKS_LOST, counters.links_lost)
        yield _value(LINKS_TAKEN_OVER, counters.links_taken_over)
        yield _value(SENT, counters.sent)
        yield _value(DELIVERED, counters.delivered)
        yield _value(NO_SUBSCRIBER, counters.no_subscriber)
        yield _value(RETRIED, counters.retried)
        yield _value(DEAD, counters.dead)
        yield _value(FAILURES, counters.outbox_failures)
        yield _value(DEFECTS, counters.defects)
        yield _value(IN_FLIGHT, counters.in_flight)
        codes = sorted(counters.codes.copy().items())
        yield _by_label(PUBACK, ((f"0x{code:02x}", count) for code, count in codes))
        state = self._state()
        if state is not None:
            yield _value(DEPTH, state.depth)
            yield _value(DEAD_LETTERS, state.dead)
            yield _value(HEAD_SEQ, state.head_seq)
            age_s = (self._wall_ns() - state.oldest_wall_ns) / 1e9 if state.oldest_wall_ns else 0.0
            yield _value(OLDEST_AGE, max(0.0, age_s))


class _ReplayCollector(Collector):
    def __init__(self, counters: ReplayCounters) -> None:
        self._counters = counters

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        yield _value(REPLAYS, self._counters.requests)
        yield _value(REPLAYED, self._counters.records)


class _BridgeCollector(Collector):
    def __init__(self, stats: Callable[[], Mapping[str, int]]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        stats = dict(self._stats())
        yield _value(HEP_SENT, stats.pop("hep_sent", 0))
        yield _value(HEP_DROPPED, stats.pop("hep_dropped", 0))
        yield _by_label(BRIDGE, stats.items())


class _ClockCollector(Collector):
    def __init__(self, status: Callable[[], ClockStatus]) -> None:
        self._status = status

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        status = self._status()
        if status.synchronised is not None:
            yield _value(CLOCK_SYNCHRONISED, int(status.synchronised))
        yield _value(CLOCK_STEPS, status.steps)
        yield _value(CLOCK_BEHIND, status.behind_s)


class _GatewayCollector(Collector):
    """Gateways that are neither probed nor registered at have no line."""

    def __init__(self, statuses: Callable[[], Sequence[GatewayStatus]]) -> None:
        self._statuses = statuses

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        statuses = self._statuses()
        probed = [one for one in statuses if one.is_probed]
        yield _by_label(GATEWAY_UP, ((one.gateway, one.health is not Health.DOWN) for one in statuses))
        yield _by_label(PROBES, ((one.gateway, one.probes) for one in probed))
        yield _by_label(PROBES_FAILED, ((one.gateway, one.probes_failed) for one in probed))
        took = ((one.gateway, one.probe_ms / 1000) for one in statuses if one.probe_ms is not None)
        yield _by_label(PROBE_TOOK, took)
        yield _by_label(
            REGISTERED,
            (
                (one.gateway, one.registration is RegistrationState.REGISTERED)
                for one in statuses
                if one.registration is not None
            ),
        )


class _DiskCollector(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return  # what it was does not stand for what it is
        yield _value(DISK, found.f_blocks * found.f_frsize)
        yield _value(DISK_FREE, found.f_bavail * found.f_frsize)


class _CertificateCollector(Collector):
    def __init__(self, status: Callable[[], CertificateStatus]) -> None:
        self._status = status

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        status = self._status()
        yield _by_label(TLS_END, status.ends_at.items())
        yield _value(TLS_RENEWALS, status.renewals)
        yield _value(TLS_REFUSALS, status.refusals)


class _NameCollector(Collector):
    """Gateways whose host is an address have no line."""

    def __init__(self, statuses: Callable[[], Sequence[NameStatus]]) -> None:
        self._statuses = statuses

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        statuses = self._statuses()
        yield _by_label(SERVERS, ((one.gateway, len(one.servers)) for one in statuses))
        yield _by_label(LOOKUPS, ((one.gateway, one.rounds) for one in statuses))
        yield _by_label(LOOKUPS_FAILED, ((one.gateway, one.rounds_failed) for one in statuses))


class _LogCollector(Collector):
    def __init__(self, lines_lost: Callable[[], int]) -> None:
        self._lines_lost = lines_lost

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        yield _value(LOG_LINES_LOST, self._lines_lost())


class _FraudCollector(Collector):
    def __init__(self, counters: Callable[[], FraudCounters]) -> None:
        self._counters = counters

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        counters = self._counters()
        yield _by_label(FRAUD_FIRED, counters.fired.items())
        yield _by_label(FRAUD_HELD, counters.held.items())
        yield _value(FRAUD_FORGOTTEN, counters.forgotten)


class _LetGoCollector(Collector):
    def __init__(self, calls: Callable[[], Mapping[str, int]]) -> None:
        self._calls = calls

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        yield _by_label(CALLS_LET_GO, self._calls().items())


class _TakeoverCollector(Collector):
    def __init__(self, counters: TakeoverCounters) -> None:
        self._counters = counters

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        counters = self._counters
        yield _by_label(NODE_DEAD, counters.dead.copy().items())
        yield _by_label(NODE_TAKEOVERS, counters.taken_over.copy().items())
        yield _by_label(NODE_TAKEOVER_CALLS, counters.calls.copy().items())
        took = _family(NODE_TAKEOVER_S)
        for phase, seconds in (("books", counters.books_s), ("calls", counters.calls_s)):
            for node, value in seconds.copy().items():
                took.add_metric((node, phase), value)
        yield took


def _family(metric: Metric) -> GaugeMetricFamily | CounterMetricFamily:
    kind = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
    return kind(metric.name, metric.meaning, labels=metric.labels)


def _value(metric: Metric, value: float) -> Family:
    family = _family(metric)
    family.add_metric((), value)
    return family


def _by_label(metric: Metric, values: Iterable[tuple[str, float]]) -> Family:
    family = _family(metric)
    for label, value in values:
        family.add_metric((label,), value)
    return family
