"""`load`: from the sources to the policy and the settings, or to every error at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sidecar.config import billing_keys, crosscheck, gateway_watch, keys, places
from sidecar.config.entries import Entry
from sidecar.config.key import BrokerKind
from sidecar.config.layers import Effective, command_line_layer, environment_layer, file_layer
from sidecar.config.problems import ConfigError, Findings, Problem
from sidecar.config.settings import Bridge, GatewayCredentials, Listen, Mqtt, Settings, TlsFiles
from sidecar.config.source import Document, empty_document, read_document
from sidecar.config.tables import DeckReader, ExchangeReader, Tables, read_tables
from sidecar.config.values import final_codes
from sidecar.core import caller_id, header_names
from sidecar.core.margin import ExchangeTable
from sidecar.core.numbers import StripRule
from sidecar.core.policy import (
    Account,
    AccountRule,
    Gateway,
    Peer,
    Policy,
    ProxyHangup,
    RecordFlags,
    RouteRule,
    Timers,
)
from sidecar.core.rating import RatingTerms
from sidecar.core.terms import CallerIdForm, TransportName

NO_EXCHANGE = ExchangeTable()
HEADERS_ALWAYS = ("session-id", "p-charging-vector")  # the CDR has a field for each


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a start is made of. No `config_file`: /etc/sidecar/sidecar.toml if there, else defaults."""

    read_deck: DeckReader
    read_exchange: ExchangeReader
    host_name: str
    boot_id: str = ""
    command_line: Mapping[str, object] = {}
    environ: Mapping[str, str] = {}
    config_file: Path | None = None
    system_file: Path = places.SYSTEM_SETTINGS


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    policy: Policy
    settings: Settings
    warnings: tuple[Problem, ...]


def load(inputs: Inputs) -> Loaded:
    """The policy and the settings of a start; ConfigError with everything that is wrong."""
    findings = Findings()
    settings_document = _settings_document(inputs, findings)
    given = [
        command_line_layer(inputs.command_line, findings),
        environment_layer(inputs.environ, findings),
        file_layer(settings_document, findings),
    ]
    profile = _profile_document(Effective(given), settings_document, findings)
    if profile is None:
        raise ConfigError(findings.errors, findings.warnings)
    effective = Effective([*given, file_layer(profile, findings, is_profile=True)])
    tables = read_tables(settings_document, profile, inputs.read_deck, places.packaged_decks(), findings)
    tables = msgspec.structs.replace(tables, exchange=_exchange(effective, inputs, findings))
    crosscheck.check(effective, tables, findings)
    findings.raise_if_any()
    return Loaded(
        policy=_policy(effective, tables, inputs),
        settings=_settings(effective, tables, inputs, profile.source),
        warnings=tuple(findings.warnings),
    )


def _settings_document(inputs: Inputs, findings: Findings) -> Document:
    path = inputs.config_file
    if path is None and _is_there(inputs.system_file):
        path = inputs.system_file
    if path is None:
        return empty_document()
    return read_document(path, findings) or empty_document()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that this user may not look into: reading it will say so
        return True


def _profile_document(effective: Effective, settings: Document, findings: Findings) -> Document | None:
    where = effective.where(keys.PROFILE)
    folder = settings.folder if where.source == settings.source else Path()
    path = places.find_profile(effective[keys.PROFILE], folder, where, effective.name(keys.PROFILE), findings)
    return None if path is None else read_document(path, findings)


def _exchange(effective: Effective, inputs: Inputs, findings: Findings) -> ExchangeTable:
    path = effective[billing_keys.EXCHANGE_RATES]
    read = NO_EXCHANGE if path is None else inputs.read_exchange(path)
    if isinstance(read, ExchangeTable):
        return read
    for problem in read:
        where = effective.where(billing_keys.EXCHANGE_RATES)
        findings.error(where, effective.name(billing_keys.EXCHANGE_RATES), problem)
    return NO_EXCHANGE


# --- the policy ---------------------------------------------------------------------------------------------


def _policy(effective: Effective, tables: Tables, inputs: Inputs) -> Policy:
    return Policy(
        tenant=effective[keys.TENANT],
        node=effective[keys.NODE_NAME] or _node_name(inputs.host_name),
        boot_id=inputs.boot_id,
        peers={name: _peer(entry, tables) for name, entry in tables.peers.items()},
        gateways={name: _gateway(entry, effective, tables) for name, entry in tables.gateways.items()},
        routes=_routes(tables),
        accounts={name: _account(entry, effective) for name, entry in tables.accounts.items()},
        account_rules=tuple(AccountRule(**entry.values) for entry in tables.account_rules),
        account_required=effective[keys.ACCOUNT_REQUIRED],
        calls_max=effective[keys.CALLS_MAX],
        timers=_timers(effective),
        blocked_numbers=frozenset(effective[keys.BLOCKED_NUMBERS]),
        pass_503=effective[keys.PASS_503],
        redirect=effective[keys.REDIRECT],
        strip_digits=effective[billing_keys.STRIP_DIGITS],
        strip_rules=tuple(StripRule(**entry.values) for entry in tables.strip_rules),
        rating=_rating(effective),
        default_currency=effective[billing_keys.CURRENCY],
        decks={name: named.deck for name, named in tables.decks.items() if named.deck is not None},
        default_deck=crosscheck.default_deck(effective, tables),
        margin_floor=effective[billing_keys.MARGIN_FLOOR],
        exchange=tables.exchange,
        flags=_flags(effective),
        q850_of_sip=effective.q850(),
        prevent_overdraft_advance_min=effective[billing_keys.PREVENT_OVERDRAFT_ADVANCE],
        refused_cdr_per_s=effective[keys.REFUSED_CDR_PER_S],
    )


def _node_name(host_name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", host_name)[:64] or "node"


def _peer(entry: Entry, tables: Tables) -> Peer:
    hangups = tuple(ProxyHangup(**hangup.values) for hangup in tables.proxy_hangups[entry.name])
    return Peer(name=entry.name, proxy_hangups=hangups, **entry.values)


def _gateway(entry: Entry, effective: Effective, tables: Tables) -> Gateway:
    own: dict[str, Any] = dict(entry.values)
    failover_s = own.pop("no_response_failover_s")
    if failover_s is None:
        failover_s = effective[keys.NO_RESPONSE_FAILOVER]
    progress_s = own.pop("no_progress_failover_s")
    own["no_progress_failover_ms"] = None if progress_s is None else progress_s * 1_000
    codes = own.pop("failover_codes")
    own["failover_codes"] = final_codes(effective[keys.FAILOVER_CODES] if codes is None else codes)
    own["peer"] = _peer_of(ipaddress.ip_address(own["host"]), tables)
    own["remove_headers"] = tuple(
        every for name in own["remove_headers"] for every in header_names.with_compact(name)
    )
    del own["password_file"], own["realm"]  # of the settings
    own["probe"], own["register"] = gateway_watch.terms(own)
    return Gateway(name=entry.name, no_response_failover_ms=failover_s * 1_000, **own)


def _peer_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address, tables: Tables) -> str:
    """The peer group that the address is in; groups do not overlap. Empty: in none."""
    for name, entry in tables.peers.items():
        if any(address in ipaddress.ip_network(block) for block in entry.values["addresses"]):
            return name
    return ""


def _routes(tables: Tables) -> tuple[RouteRule, ...]:
    if not tables.routes:
        return (RouteRule(prefix="", gateways=tuple(tables.gateways)),)
    return tuple(RouteRule(**entry.values) for entry in tables.routes)


def _account(entry: Entry, effective: Effective) -> Account:
    own: dict[str, Any] = dict(entry.values)
    on_no_rate = own.pop("on_no_rate")
    del own["group"]
    own["currency"] = own["currency"] or effective[billing_keys.CURRENCY]
    carry = None if on_no_rate is None else on_no_rate == "carry"
    return Account(name=entry.name, carry_without_rate=carry, **own)


def _timers(effective: Effective) -> Timers:
    return Timers(
        ring_timeout_ms=effective[keys.RING_TIMEOUT] * 1_000,
        max_duration_ms=effective[keys.MAX_DURATION] * 1_000,
        auth_retry_ms=effective[keys.AUTH_RETRY] * 1_000,
        answer_hold_ms_max=effective[keys.ANSWER_HOLD_MAX],
        heartbeat_ms=effective[keys.HEARTBEAT] * 1_000,
        retry_after_s=effective[keys.RETRY_AFTER],
    )


def _rating(effective: Effective) -> RatingTerms:
    return RatingTerms(
        rounding=effective[billing_keys.ROUNDING],
        decimals=effective[billing_keys.DECIMALS],
        fee_unit=effective[billing_keys.FEE_UNIT],
        hold_time_precision_ms=effective[billing_keys.HOLD_TIME_PRECISION],
        free_s=effective[billing_keys.FREE_TIME],
    )


def _flags(effective: Effective) -> RecordFlags:
    by_reason = {reason: effective[key] for reason, key in billing_keys.RECORD_BY_REASON.items()}
    return RecordFlags(
        record_server_hang_up=effective[billing_keys.RECORD_SERVER_HANG_UP],
        record_server_hang_up_by_reason={
            reason: flag for reason, flag in by_reason.items() if flag is not None
        },
        record_fault=effective[billing_keys.RECORD_FAULT],
        record_zero_hold_time=effective[billing_keys.RECORD_ZERO_HOLD_TIME],
        record_illegal_call=effective[billing_keys.RECORD_ILLEGAL_CALL],
        free_numbers=frozenset(effective[billing_keys.FREE_NUMBERS]),
        no_cdr_numbers=frozenset(effective[billing_keys.NO_CDR_NUMBERS]),
    )


# --- the settings -------------------------------------------------------------------------------------------


def _settings(effective: Effective, tables: Tables, inputs: Inputs, profile: str) -> Settings:
    metrics_host, metrics_port = effective[keys.METRICS_LISTEN]
    return Settings(
        data_dir=_data_dir(effective, inputs),
        profile=profile,
        listen=tuple(
            Listen(transport=transport, host=host, port=port)
            for transport, key in (
                (TransportName.UDP, keys.LISTEN_UDP),
                (TransportName.TCP, keys.LISTEN_TCP),
                (TransportName.TLS, keys.LISTEN_TLS),
            )
            for host, port in effective[key]
        ),
        tls=_tls(effective),
        bridge=Bridge(
            calls_max=effective[keys.CALLS_MAX],
            events_max=effective[keys.EVENTS_MAX],
            answer_hold_ms_max=effective[keys.ANSWER_HOLD_MAX],
            admission_wait_ms_max=effective[keys.ADMISSION_WAIT_MAX],
            t1_ms=effective[keys.T1],
            options_interval_s=effective[keys.OPTIONS_INTERVAL],
            retry_after_s=effective[keys.RETRY_AFTER],
            unlisted_source=effective[keys.UNLISTED_SOURCE],
            refer=effective[keys.REFER],
            unlisted_refused_per_s=effective[keys.UNLISTED_REFUSED_PER_S],
            headers=_headers(tables),
            credentials=_credentials(tables),
        ),
        mqtt=_mqtt(effective),
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        log_level=effective[keys.LOG_LEVEL],
        heartbeat_ms=effective[keys.HEARTBEAT] * 1_000,
        snapshot_interval_s=effective[keys.SNAPSHOT_INTERVAL],
    )


def _data_dir(effective: Effective, inputs: Inputs) -> Path:
    is_system = inputs.config_file is None and _is_there(inputs.system_file)
    if is_system and not effective.is_given(keys.DATA_DIR):
        return places.SYSTEM_DATA_DIR
    return effective[keys.DATA_DIR]


def _tls(effective: Effective) -> TlsFiles | None:
    certificate, key = effective[keys.TLS_CERTIFICATE], effective[keys.TLS_KEY]
    if certificate is None or key is None:
        return None
    return TlsFiles(certificate=certificate, key=key, ca=effective[keys.TLS_CA])


def _credentials(tables: Tables) -> tuple[GatewayCredentials, ...]:
    return tuple(
        GatewayCredentials(
            gateway=name, username=entry["username"], password_file=password_file, realm=entry["realm"]
        )
        for name, entry in tables.gateways.items()
        if (password_file := entry.path("password_file")) is not None
    )


def _headers(tables: Tables) -> tuple[str, ...]:
    named = [entry["header"] for entry in tables.account_rules if entry["header"] is not None]
    if any(gateway["caller_id"] is not CallerIdForm.PASS for gateway in tables.gateways.values()):
        named += caller_id.HEADERS_READ
    named += [hangup["header"] for hangups in tables.proxy_hangups.values() for hangup in hangups]
    return tuple(dict.fromkeys((*HEADERS_ALWAYS, *named)))


def _mqtt(effective: Effective) -> Mqtt:
    embedded = effective[keys.BROKER] is BrokerKind.EMBEDDED
    tls = effective[keys.MQTT_TLS]
    return Mqtt(
        embedded=embedded,
        host="127.0.0.1" if embedded else effective[keys.MQTT_HOST],
        port=effective[keys.MQTT_PORT] or (0 if embedded else 8883 if tls else 1883),
        tls=tls,
        ca_file=effective[keys.MQTT_CA],
        certificate_file=effective[keys.MQTT_CERTIFICATE],
        key_file=effective[keys.MQTT_KEY],
        username=effective[keys.MQTT_USERNAME],
        password_file=effective[keys.MQTT_PASSWORD],
        in_flight_max=effective[keys.MQTT_IN_FLIGHT],
        status_interval_s=effective[keys.MQTT_STATUS_INTERVAL],
    )
