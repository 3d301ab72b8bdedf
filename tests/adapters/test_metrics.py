"""The metrics as Prometheus reads them: over HTTP, as text."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from decimal import Decimal

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from sidecar.adapters.metrics import WAIVED_ACCOUNTS_MAX, Metrics
from sidecar.adapters.sockets.listening import ListenError
from sidecar.adapters.sockets.pages import PageServer
from sidecar.core.call import Phase
from sidecar.core.cdr import Cdr
from sidecar.core.gateway_health import Health
from sidecar.core.records import NO_CDR, cdr_of
from sidecar.core.registration import RegistrationState
from sidecar.core.servers import Server
from sidecar.core.terms import Detail, HangupOrigin, TransportName
from sidecar.ports import CertificateStatus, GatewayStatus, NameStatus, OutboxState, RelayCounters
from tests.adapters.store_calls import NO_SERVER_RECORDS, POLICY, admitted, answered, ended

WALL_NS = 1_790_000_000_000_000_000
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Page:
    def __init__(self) -> None:
        self.metrics = Metrics(wall_ns=lambda: WALL_NS)
        self.server = PageServer({"/metrics": self.metrics.page})
        self.port = self.server.start("127.0.0.1", 0)

    @property
    def text(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            return str(response.read().decode())

    def value(self, name: str, **labels: str) -> float | None:
        samples: Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }
        return samples.get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.server.close()


def caller_hung_up() -> Cdr:
    return cdr_of(ended(answered(admitted(), after_ms=3_000)), POLICY)


def credit_used_up() -> Cdr:
    """Kept back by SERVER_BILLING_RECORD_SERVER_HANG_UP = 0."""
    call = ended(answered(admitted()), detail=Detail.GRANT_USED_UP, origin=HangupOrigin.SERVER)
    return cdr_of(call, NO_SERVER_RECORDS)


def test_calls_are_counted_by_who_ended_them_and_why(page: Page) -> None:
    page.metrics.call_ended(caller_hung_up())
    page.metrics.call_ended(caller_hung_up())
    page.metrics.call_ended(credit_used_up())
    ended_total = "sidecar_calls_ended_total"
    assert page.value(ended_total, origin="caller", reason="none", detail="bye", recorded="yes") == 2
    assert (
        page.value(ended_total, origin="server", reason="credit", detail="grant_used_up", recorded="no") == 1
    )


def test_calls_move_through_the_phases(page: Page) -> None:
    metrics = page.metrics
    for phase in Phase:
        assert page.value("sidecar_calls", phase=phase.value) == 0
    metrics.phase_changed(None, Phase.ADMITTING)
    metrics.phase_changed(None, Phase.ADMITTING)
    metrics.phase_changed(Phase.ADMITTING, Phase.ROUTING)
    metrics.phase_changed(Phase.ROUTING, Phase.ROUTING)
    assert page.value("sidecar_calls", phase="admitting") == 1
    assert page.value("sidecar_calls", phase="routing") == 1
    metrics.phase_changed(Phase.ROUTING, None)
    assert page.value("sidecar_calls", phase="routing") == 0


def test_the_post_dial_delay_and_the_overrun_come_from_the_record(page: Page) -> None:
    cdr = caller_hung_up()
    assert cdr.pdd_ms == 1_500
    page.metrics.call_ended(replace(cdr, overrun_ms=250))
    assert page.value("sidecar_post_dial_delay_seconds_bucket", le="1.0") == 0
    assert page.value("sidecar_post_dial_delay_seconds_bucket", le="2.0") == 1
    assert page.value("sidecar_overrun_ms_total") == 250


def test_grants_are_counted_by_what_came_of_asking_for_more(page: Page) -> None:
    for answer, times in (("extended", 3), ("refused", 1), ("failed", 2)):
        for _ in range(times):
            page.metrics.grant_answered(answer)
        assert page.value("sidecar_grants_asked_total", answer=answer) == times


def test_suppressed_money_is_told_by_currency_and_by_what_kept_it_back(page: Page) -> None:
    cdr = credit_used_up()
    total = cdr.charges[0].total
    assert total is not None
    assert total > Decimal(0)
    page.metrics.call_ended(cdr)
    assert page.value(
        "sidecar_suppressed_money_total",
        currency="EUR",
        side="sell",
        reason="credit",
        setting="SERVER_BILLING_RECORD_SERVER_HANG_UP",
    ) == pytest.approx(float(total))


def test_what_is_not_charged_is_told_by_account_and_of_a_bounded_number_of_them(page: Page) -> None:
    cdr = credit_used_up()
    for number in range(WAIVED_ACCOUNTS_MAX + 3):
        page.metrics.call_ended(replace(cdr, account=f"a{number}"))
    charged = replace(cdr, account="a0", suppressed_by=NO_CDR)
    page.metrics.call_ended(charged)
    total = float(cdr.charges[0].total or 0)
    for account, calls in (("a0", 1), (f"a{WAIVED_ACCOUNTS_MAX - 1}", 1), ("*", 3)):
        waived = page.value("sidecar_waived_money_total", account=account, currency="EUR")
        assert waived == pytest.approx(calls * total), account


def test_each_attempt_is_counted_for_its_gateway_and_the_answer_for_the_last(page: Page) -> None:
    cdr = credit_used_up()
    (attempt, *_) = cdr.attempts
    first = replace(attempt, gateway="cheap")
    page.metrics.call_ended(replace(cdr, attempts=(first, first, replace(attempt, gateway="dear"))))
    page.metrics.call_ended(replace(cdr, attempts=(first,), b_answered_at=None))
    assert page.value("sidecar_gateway_calls_total", gateway="cheap") == 3
    assert page.value("sidecar_gateway_calls_total", gateway="dear") == 1
    assert page.value("sidecar_gateway_calls_answered_total", gateway="dear") == 1
    assert not page.value("sidecar_gateway_calls_answered_total", gateway="cheap")


def test_refusals_commits_and_defects_are_counted(page: Page) -> None:
    page.metrics.call_refused(Detail.NUMBER_BLOCKED)
    page.metrics.call_refused(Detail.NUMBER_BLOCKED, 41)
    page.metrics.commit_took(0.003)
    page.metrics.promise_broken("decide")
    page.metrics.row_unknown("hangup")
    assert page.value("sidecar_calls_refused_total", detail="number_blocked") == 42
    assert page.value("sidecar_commit_seconds_bucket", le="0.005") == 1
    assert page.value("sidecar_commit_seconds_bucket", le="0.002") == 0
    assert page.value("sidecar_broken_promises_total", where="decide") == 1
    assert page.value("sidecar_unknown_rows_total", table="hangup") == 1


def test_the_outbox_is_read_when_it_is_asked_for(page: Page) -> None:
    counters, states = RelayCounters(), [OutboxState(epoch="e")]
    page.metrics.collect_outbox(counters, lambda: states[-1])
    assert page.value("sidecar_broker_connected") == 0
    assert page.value("sidecar_outbox_oldest_age_seconds") == 0
    counters.connected = True
    counters.codes[0x00] = 7
    counters.codes[0x87] = 1
    states.append(
        OutboxState(epoch="e", head_seq=9, depth=3, oldest_wall_ns=WALL_NS - 90_000_000_000, dead=1)
    )
    assert page.value("sidecar_broker_connected") == 1
    assert page.value("sidecar_puback_total", code="0x00") == 7
    assert page.value("sidecar_puback_total", code="0x87") == 1
    assert page.value("sidecar_outbox_depth") == 3
    assert page.value("sidecar_outbox_oldest_age_seconds") == 90
    assert page.value("sidecar_outbox_dead_letters") == 1
    assert page.value("sidecar_outbox_head_seq") == 9


def test_before_the_first_look_at_the_store_there_is_no_depth_to_show(page: Page) -> None:
    page.metrics.collect_outbox(RelayCounters(), lambda: None)
    assert page.value("sidecar_broker_connected") == 0
    assert page.value("sidecar_outbox_depth") is None


def test_the_counters_of_the_bridge_are_shown_by_name(page: Page) -> None:
    page.metrics.collect_bridge(lambda: {"invites": 3, "dropped_unlisted": 8})
    assert page.value("sidecar_bridge_total", counter="invites") == 3
    assert page.value("sidecar_bridge_total", counter="dropped_unlisted") == 8


def test_gateways_that_are_watched_have_a_line_each(page: Page) -> None:
    watched = [
        GatewayStatus(gateway="new", is_probed=True),
        GatewayStatus(
            gateway="lost", health=Health.DOWN, is_probed=True, probe_ms=12.5, probes=9, probes_failed=3
        ),
        GatewayStatus(gateway="ours", health=Health.UP, registration=RegistrationState.REGISTERED),
        GatewayStatus(gateway="theirs", health=Health.DOWN, registration=RegistrationState.FAILED),
    ]
    page.metrics.collect_gateways(lambda: watched)
    for name, up in {"new": 1, "lost": 0, "ours": 1, "theirs": 0}.items():
        assert page.value("sidecar_gateway_up", gateway=name) == up
    assert page.value("sidecar_gateway_probes_total", gateway="lost") == 9
    assert page.value("sidecar_gateway_probes_failed_total", gateway="lost") == 3
    assert page.value("sidecar_gateway_probe_seconds", gateway="lost") == 0.0125
    assert page.value("sidecar_gateway_probe_seconds", gateway="new") is None
    assert page.value("sidecar_gateway_registered", gateway="ours") == 1
    assert page.value("sidecar_gateway_registered", gateway="theirs") == 0
    assert page.value("sidecar_gateway_registered", gateway="lost") is None


def test_it_is_shown_when_a_certificate_ends(page: Page) -> None:
    ends_at = {"sip.tls_certificate_file": 1_800_000_000, "peers.a.tls_ca_file": 1_900_000_000}
    status = CertificateStatus(ends_at=ends_at, renewals=2, refusals=1)
    page.metrics.collect_certificates(lambda: status)
    for setting, end_s in ends_at.items():
        assert page.value("sidecar_tls_end_seconds", setting=setting) == end_s
    assert page.value("sidecar_tls_renewals_total") == 2
    assert page.value("sidecar_tls_refusals_total") == 1


def test_no_number_or_address_is_shown_and_accounts_by_one_metric_alone(page: Page) -> None:
    page.metrics.call_ended(caller_hung_up())
    page.metrics.call_ended(credit_used_up())
    lines = page.text.splitlines()
    text = "\n".join(line for line in lines if not line.startswith("sidecar_waived_money"))
    for secret in ("4915112345678", "4930123456", "acme", "198.51.100"):
        assert secret not in text


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ListenError, match=rf"metrics\.listen 127\.0\.0\.1:{port} is in use.*another port"
        ):
            PageServer({}).start("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:9494"):
        PageServer({}).start("192.0.2.1", 9494)


def test_closing_frees_the_port_and_ends_the_thread() -> None:
    threads = threading.active_count()
    server = PageServer({})
    port = server.start("127.0.0.1", 0)
    server.close()
    server.close()
    assert threading.active_count() == threads
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_names_show_their_servers_and_what_was_asked(page: Page) -> None:
    server = Server(host="192.0.2.1", port=5060, transport=TransportName.UDP)
    names = (
        NameStatus(gateway="a", name="a.test", servers=(server,), rounds=5, rounds_failed=2),
        NameStatus(gateway="b", name="b.test"),
    )
    page.metrics.collect_names(lambda: names)
    labels = {"gateway": "a"}
    assert page.value("sidecar_gateway_servers", **labels) == 1
    assert page.value("sidecar_gateway_servers", gateway="b") == 0
    assert page.value("sidecar_gateway_lookups_total", **labels) == 5
    assert page.value("sidecar_gateway_lookups_failed_total", **labels) == 2
