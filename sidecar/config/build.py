"""`load`: from the sources to the policy and the settings, or to every error at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sidecar.config import crosscheck, crosscheck_network, emergency_numbers, gateway_probing, places
from sidecar.config.crosscheck_fraud import fraud_rule
from sidecar.config.layers import Effective, command_line_layer, environment_layer, file_layer
from sidecar.config.problems import ConfigError, Findings, Problem, Where
from sidecar.config.settings import (
    Billing,
    GatewayCredentials,
    OwnAuthority,
    RecordServerHangUp,
    Settings,
    StoreEngine,
)
from sidecar.config.settings import Timers as TimerSettings
from sidecar.config.source import Document, empty_document, read_document
from sidecar.config.stored import (
    NOTHING_STORED,
    Away,
    Books,
    Stored,
    StoredDocument,
    StoredReader,
    nothing_stored,
    stored_documents,
)
from sidecar.config.tables import DeckReader, Entry, ExchangeReader, Tables, read_tables
from sidecar.config.values import final_codes, is_name
from sidecar.core import caller_id, header_names
from sidecar.core.account_rules import AccountRule, AccountRules
from sidecar.core.account_terms import AccountKind
from sidecar.core.addresses import AddressTable
from sidecar.core.margin import ExchangeTable
from sidecar.core.numbers import StripRule
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.policy import (
    Account,
    Gateway,
    Peer,
    Policy,
    ProxyHangup,
    RecordFlags,
    RouteRule,
    Routes,
    Timers,
    peer_of,
)
from sidecar.core.rating import RatingTerms
from sidecar.core.screening import NumberLists, Screening, pattern_of
from sidecar.core.servers import Lookup, default_port
from sidecar.core.stored import ListedEntry
from sidecar.core.terms import CallerIdForm, ServerReason

NO_EXCHANGE = ExchangeTable()
# Of an account's fields: those that stand beside it.
_SCREENING = (
    "blocked_numbers",
    "allowed_numbers",
    "caller_numbers",
    "hours",
    "max_price_per_min",
    "max_connect_fee",
)
REFUSED_CDR_ALL_PER_S = 200
HEADERS_ALWAYS = ("session-id", "p-charging-vector")  # the CDR has a field for each


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a start is made of. No `config_file`: /etc/sidecar/sidecar.toml if there, else defaults."""

    read_deck: DeckReader
    read_exchange: ExchangeReader
    read_tls: crosscheck_network.TlsReader = crosscheck_network.no_tls
    read_dsn: crosscheck.DsnReader = crosscheck.no_dsn
    read_stored: StoredReader = nothing_stored
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
    listed: tuple[ListedEntry, ...] = ()  # in the order in which they count
    files: tuple[Path, ...] = ()  # that were read, but for TLS
    given_at: Mapping[str, str] = {}  # where each plain setting was given that has not its default


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What the sources say, checked."""

    effective: Effective
    tables: Tables
    profile: str  # its path
    settings: Document


def load(inputs: Inputs) -> Loaded:
    """The policy and the settings of a start; ConfigError with everything that is wrong."""
    findings = Findings()
    read = sources(inputs, findings)
    return Loaded(
        policy=_policy(read.effective, read.tables, inputs),
        settings=_settings(read.effective, read.tables, inputs, read.profile),
        warnings=tuple(findings.warnings),
        listed=_listed(read.tables),
        files=_files(read),
        given_at=read.effective.given_at(),
    )


def _files(read: Sources) -> tuple[Path, ...]:
    documents = [Path(read.profile), *([] if not read.settings.data else [Path(read.settings.source)])]
    exchange, dsn = read.effective.settings.billing.exchange_rates, read.effective.settings.store.dsn_file
    passwords = (entry.path("password_file") for entry in read.tables.gateways.values())
    decks = (deck.path for deck in read.tables.decks.values())
    return (*documents, *filter(None, (exchange, dsn, *passwords)), *decks)


def sources(inputs: Inputs, findings: Findings) -> Sources:
    """ConfigError with everything that is wrong; the warnings are in the findings."""
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
    tables = read_tables(
        settings_document,
        profile,
        inputs.read_deck,
        places.packaged_decks(),
        findings,
        _stored(effective, inputs, findings),
    )
    tables = replace(tables, exchange=_exchange(effective, inputs, findings))
    crosscheck.check(effective, tables, findings)
    findings.raise_if_any()
    crosscheck_network.check_tls_content(effective, tables, inputs.read_tls, findings)
    crosscheck.check_dsn(effective, inputs.read_dsn, findings)
    findings.raise_if_any()
    return Sources(effective=effective, tables=tables, profile=profile.source, settings=settings_document)


def _stored(effective: Effective, inputs: Inputs, findings: Findings) -> Stored:
    books = _books(effective, inputs)
    if books is None:
        return NOTHING_STORED
    read = inputs.read_stored(books)
    if isinstance(read, str):
        if books.dsn_file is not None:  # a start would fail, and no reload may do without them
            text = f"what commands have made is not known: {read}"
            findings.error(*effective.at("store.dsn_file"), text, may_pass=isinstance(read, Away))
        else:
            where = Where(str(books.data_dir))
            findings.warn(where, "", f"what commands have made is not looked at: {read}")
        return NOTHING_STORED
    return stored_documents(read)


def _books(effective: Effective, inputs: Inputs) -> Books | None:
    """None where the settings do not say."""
    store = effective.settings.store
    is_sqlite = store.engine is StoreEngine.SQLITE
    if not is_sqlite and store.dsn_file is None:
        return None
    return Books(
        node=node_name(effective.settings, inputs.host_name),
        data_dir=_data_dir(effective, inputs),
        dsn_file=None if is_sqlite else store.dsn_file,
    )


def _listed(tables: Tables) -> tuple[ListedEntry, ...]:
    entries = (*tables.peers.values(), *tables.gateways.values(), *tables.routes, *tables.account_rules)
    return tuple(
        ListedEntry(
            table=entry.within,
            name=entry.known_by,
            source=str(entry.where()),
            by=entry.document.entry(entry.within, entry.name)
            if isinstance(entry.document, StoredDocument)
            else None,
            fields=entry.raw,
        )
        for entry in entries
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
    where, name = effective.at("sip.profile")
    folder = settings.folder if where.source == settings.source else Path()
    path = places.find_profile(effective.settings.sip.profile, folder, where, name, findings)
    return None if path is None else read_document(path, findings)


def _exchange(effective: Effective, inputs: Inputs, findings: Findings) -> ExchangeTable:
    path = effective.settings.billing.exchange_rates
    read = NO_EXCHANGE if path is None else inputs.read_exchange(path)
    if isinstance(read, ExchangeTable):
        return read
    for problem in read:
        findings.error(*effective.at("billing.exchange_rates"), problem)
    return NO_EXCHANGE


# --- the policy ---------------------------------------------------------------------------------------------


def _policy(effective: Effective, tables: Tables, inputs: Inputs) -> Policy:
    plain = effective.settings
    return Policy(
        tenant=plain.node.tenant,
        node=node_name(plain, inputs.host_name),
        boot_id=inputs.boot_id,
        peers={name: _peer(entry, tables) for name, entry in tables.peers.items()},
        gateways={name: _gateway(entry, plain, tables) for name, entry in tables.gateways.items()},
        routes=Routes(_routes(tables)),
        accounts=PersistentMap(_accounts(tables, plain)),
        account_rules=AccountRules(map(_account_rule, tables.account_rules)),
        account_addresses=AddressTable(
            (block, found.account) for block, found in tables.account_addresses.items()
        ),
        account_required=plain.sip.account_required,
        calls_max=plain.node.calls_max,
        calls_per_s=plain.node.calls_per_s,
        ringing_share_percent=plain.node.ringing_share_percent,
        timers=_timers(plain.timers),
        blocked_numbers=_patterns(plain.sip.blocked_numbers),
        allowed_numbers=_patterns(plain.sip.allowed_numbers),
        emergency_numbers=emergency_numbers.in_force(plain.sip),
        screenings=_screenings(tables),
        pass_503=plain.sip.pass_503,
        redirect=plain.sip.redirect,
        strip_digits=plain.billing.strip_digits,
        strip_rules=tuple(StripRule(**entry.values) for entry in tables.strip_rules),
        fraud_rules=tuple(fraud_rule(entry, plain.billing.currency) for entry in tables.fraud_rules),
        rate_by=plain.billing.rate_by,
        rating=_rating(plain.billing),
        default_currency=plain.billing.currency,
        capture=plain.hep.rule,
        decks={name: named.deck for name, named in tables.decks.items() if named.deck is not None},
        default_deck=tables.default_deck(plain.billing.deck),
        margin_floor=plain.billing.margin_floor,
        exchange=tables.exchange,
        flags=_flags(plain.billing, plain.record_server_hang_up),
        q850_of_sip=effective.q850(),
        slice_s=plain.billing.slice_s,
        extend_guard_ms=plain.billing.extend_guard_ms,
        store_away_s=plain.billing.store_away_s,
        refused_cdr_per_s=plain.sip.refused_cdr_per_s,
        refused_cdr_all_per_s=plain.sip.refused_cdr_all_per_s
        or max(REFUSED_CDR_ALL_PER_S, plain.sip.refused_cdr_per_s),
    )


def node_name(plain: Settings, host_name: str) -> str:
    return plain.node.name or re.sub(r"[^A-Za-z0-9_.-]", "-", host_name)[:64] or "node"


def _peer(entry: Entry, tables: Tables) -> Peer:
    hangups = tuple(ProxyHangup(**hangup.values) for hangup in tables.proxy_hangups[entry.name])
    own = dict(entry.values)
    for name in ("tls_ca_file", "blocked_numbers", "allowed_numbers"):  # of the settings, and of `numbers`
        del own[name]
    return Peer(name=entry.name, proxy_hangups=hangups, numbers=_number_lists(entry), **own)


def _gateway(entry: Entry, plain: Settings, tables: Tables) -> Gateway:
    own: dict[str, Any] = dict(entry.values)
    failover_s = own.pop("no_response_failover_s")
    if failover_s is None:
        failover_s = plain.timers.no_response_failover_s
    progress_s = own.pop("no_progress_failover_s")
    own["no_progress_failover_ms"] = None if progress_s is None else progress_s * 1_000
    codes = own.pop("failover_codes")
    own["failover_codes"] = final_codes(plain.sip.failover_codes if codes is None else codes)
    if is_name(own["host"]):
        transport = own["transport"] if "transport" in entry.given else None
        own["lookup"] = Lookup(name=own["host"], port=own["port"], transport=transport)
        own["port"] = own["port"] or default_port(own["transport"])
    else:
        blocks = ((name, entry.values["addresses"]) for name, entry in tables.peers.items())
        own["peer"] = peer_of(own["host"], blocks)
    own["remove_headers"] = tuple(
        every for name in own["remove_headers"] for every in header_names.with_compact(name)
    )
    del own["password_file"], own["realm"], own["tls_ca_file"]  # of the settings
    own["probe"], own["register"] = gateway_probing.terms(own)
    return Gateway(name=entry.name, no_response_failover_ms=failover_s * 1_000, **own)


def _routes(tables: Tables) -> tuple[RouteRule, ...]:
    if not tables.routes:
        return (RouteRule(prefix="", gateways=tuple(tables.gateways)),)
    return tuple(RouteRule(**entry.values) for entry in tables.routes)


def _account_rule(entry: Entry) -> AccountRule:
    return AccountRule(**{name: value for name, value in entry.values.items() if name != "name"})


def _accounts(tables: Tables, plain: Settings) -> dict[str, Account]:
    made: dict[int, Account] = {}  # by the identity of what they say, which many share
    for entry in tables.accounts.values():
        if id(entry.values) not in made:
            made[id(entry.values)] = _account(entry, plain)
    return {name: replace(made[id(entry.values)], name=name) for name, entry in tables.accounts.items()}


def _account(entry: Entry, plain: Settings) -> Account:
    own: dict[str, Any] = dict(entry.values)
    on_no_rate = own.pop("on_no_rate")
    for name in ("group", *_SCREENING):
        del own[name]
    if own.pop("prepaid"):
        own["kind"] = AccountKind.PREPAID
    own["currency"] = own["currency"] or plain.billing.currency
    carry = None if on_no_rate is None else on_no_rate == "carry"
    return Account(name=entry.name, carry_without_rate=carry, **own)


def _screenings(tables: Tables) -> dict[str, Screening]:
    made: dict[int, Screening] = {}  # by the identity of what they say, which many share
    found = {}
    for entry in tables.accounts.values():
        if id(entry.values) not in made:
            made[id(entry.values)] = _screening(entry)
        if made[id(entry.values)] != Screening():
            found[entry.name] = made[id(entry.values)]
    return found


def _screening(entry: Entry) -> Screening:
    return Screening(
        numbers=_number_lists(entry),
        caller_numbers=_patterns(entry["caller_numbers"]),
        hours=entry["hours"],
        max_price_per_min=entry["max_price_per_min"],
        max_connect_fee=entry["max_connect_fee"],
    )


def _number_lists(entry: Entry) -> NumberLists:
    return NumberLists(
        blocked=_patterns(entry["blocked_numbers"]), allowed=_patterns(entry["allowed_numbers"])
    )


def _patterns(numbers: Iterable[str]) -> frozenset[str]:
    return frozenset(map(pattern_of, numbers))


def _timers(plain: TimerSettings) -> Timers:
    return Timers(
        ring_timeout_ms=plain.ring_timeout_s * 1_000,
        max_duration_ms=plain.max_duration_s * 1_000,
        auth_retry_ms=plain.auth_retry_s * 1_000,
        retry_after_s=plain.retry_after_s,
    )


def _rating(plain: Billing) -> RatingTerms:
    return RatingTerms(
        rounding=plain.rounding,
        decimals=plain.decimals,
        fee_unit=plain.fee_unit,
        hold_time_precision_ms=plain.hold_time_precision_ms,
        free_s=plain.free_s,
    )


def _flags(plain: Billing, by_reason: RecordServerHangUp) -> RecordFlags:
    return RecordFlags(
        record_server_hang_up=plain.record_server_hang_up,
        record_server_hang_up_by_reason={
            ServerReason(reason): flag
            for reason, flag in msgspec.structs.asdict(by_reason).items()
            if flag is not None
        },
        record_fault=plain.record_fault,
        record_zero_hold_time=plain.record_zero_hold_time,
        record_illegal_call=plain.record_illegal_call,
        dead_peer_billing=plain.dead_peer_billing,
        free_numbers=frozenset(plain.free_numbers),
        no_cdr_numbers=frozenset(plain.no_cdr_numbers),
    )


# --- the settings -------------------------------------------------------------------------------------------


def _settings(effective: Effective, tables: Tables, inputs: Inputs, profile: str) -> Settings:
    plain = effective.settings
    return replace(
        plain,
        node=replace(plain.node, data_dir=_data_dir(effective, inputs)),
        profile_path=profile,
        headers=_headers(tables),
        credentials=_credentials(tables),
        tls_authorities=_tls_authorities(tables),
    )


def _data_dir(effective: Effective, inputs: Inputs) -> Path:
    is_system = inputs.config_file is None and _is_there(inputs.system_file)
    if is_system and not effective.is_given("node.data_dir"):
        return places.SYSTEM_DATA_DIR
    return effective.settings.node.data_dir


def _credentials(tables: Tables) -> tuple[GatewayCredentials, ...]:
    return tuple(
        GatewayCredentials(
            gateway=name, username=entry["username"], password_file=password_file, realm=entry["realm"]
        )
        for name, entry in tables.gateways.items()
        if (password_file := entry.path("password_file")) is not None
    )


def _tls_authorities(tables: Tables) -> tuple[OwnAuthority, ...]:
    written = [("peers", peer) for peer in tables.peers.values()]
    written += [("gateways", gateway) for gateway in tables.gateways.values()]
    return tuple(
        OwnAuthority(table=table, name=entry.name, file=file)
        for table, entry in written
        if (file := entry.path("tls_ca_file")) is not None
    )


def _headers(tables: Tables) -> tuple[str, ...]:
    named = [entry["header"] for entry in tables.account_rules if entry["header"] is not None]
    if any(gateway["caller_id"] is not CallerIdForm.PASS for gateway in tables.gateways.values()) or any(
        account["caller_numbers"] for account in tables.accounts.values()
    ):
        named += caller_id.HEADERS_READ
    named += [hangup["header"] for hangups in tables.proxy_hangups.values() for hangup in hangups]
    return tuple(dict.fromkeys((*HEADERS_ALWAYS, *named)))
