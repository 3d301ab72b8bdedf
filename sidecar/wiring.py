"""Chooses the adapters from the settings and puts one node together: the only module that sees runtime and
adapters.

Read `serve` from top to bottom: it is the order in which things start, and, backwards, in which they end.
"""

from __future__ import annotations

import asyncio
import gc
import grp
import json
import os
import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from random import SystemRandom
from typing import Any
from uuid import UUID

import apsw
import structlog
from msgspec.structs import asdict, replace

from sidecar.adapters.broker import NODE_USER, BrokerSettings, EmbeddedBroker
from sidecar.adapters.clock import SystemClock, is_synchronised
from sidecar.adapters.control import ControlServer
from sidecar.adapters.deck_files import (
    DeckRefusedError,
    canonical_chunks,
    read_deck,
    read_exchange_rates,
)
from sidecar.adapters.deck_files.built import load_built
from sidecar.adapters.deck_store import DeckStore, DeckStoreError
from sidecar.adapters.logs import LineWriter
from sidecar.adapters.logs import ready as log_ready
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.mqtt import MqttPublisher, MqttReplayDoor, MqttSettings, MqttStatusReader
from sidecar.adapters.resolver import DnsResolver
from sidecar.adapters.sqlite import Salvage, Seen, SqliteStore, StoreError
from sidecar.adapters.sqlite.rows import DamagedError
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.b2bua.certificates import Certificates, tls_faults
from sidecar.b2bua.hook import (
    BridgeHook,
    BridgeSettings,
    Credentials,
    HookError,
    Listener,
    PeerGroup,
    TlsFiles,
)
from sidecar.config import ConfigError, Inputs, Loaded, Settings, load
from sidecar.config.crosscheck_network import no_tls
from sidecar.config.problems import Problem, Where
from sidecar.config.settings import GatewayCredentials
from sidecar.core.account_books import different
from sidecar.core.audit import NODE, Change
from sidecar.core.deck_check import check_deck
from sidecar.core.fraud_replay import Lift
from sidecar.core.margin import ExchangeTable
from sidecar.core.policy import Account, Policy, peer_of
from sidecar.core.records import utc
from sidecar.core.servers import Reach
from sidecar.core.tariff import Deck
from sidecar.core.terms import NatCheck, TransportName
from sidecar.ports import AuditFilter, OutboxState
from sidecar.runtime.admin import ACCEPTING, Admin, Reread
from sidecar.runtime.alarms import Alarms
from sidecar.runtime.block_commands import blocks_of
from sidecar.runtime.calls import Calls
from sidecar.runtime.clock_watch import ClockWatch
from sidecar.runtime.deck_commands import put_in_force_at_start
from sidecar.runtime.fraud import LIFT, REBUILT_CALLS_MAX, FraudWatch
from sidecar.runtime.gateways import Gateways
from sidecar.runtime.names import Names
from sidecar.runtime.outbox import OutboxRelay, RelayLimits
from sidecar.runtime.replay import Replayer
from sidecar.runtime.service import Service
from sidecar.wire import topics
from sidecar.wire.control import SOCKET_NAME, NodeStatus

DISTRIBUTION = "sip-billing-sidecar"

log = structlog.get_logger("sidecar")


def inputs(
    command_line: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None
) -> Inputs:
    """What a start is made of on this machine; the boot id is new each time. Each deck is read once."""
    return Inputs(
        read_deck=cache(deck_or_errors),
        read_exchange=exchange_or_errors,
        read_tls=tls_faults,
        host_name=socket.gethostname(),
        boot_id=secrets.token_hex(8),
        command_line=command_line,
        environ=environ,
        config_file=config_file,
    )


def deck_or_errors(path: Path) -> Deck | Sequence[str]:
    try:
        return read_deck(path)
    except DeckRefusedError as refused:
        return [str(error) for error in refused.errors]


def exchange_or_errors(path: Path) -> ExchangeTable | Sequence[str]:
    try:
        return read_exchange_rates(path)
    except DeckRefusedError as refused:
        return [str(error) for error in refused.errors]


def reread(given: Inputs) -> Reread | Sequence[str]:
    """What `given` would start with now, but for decks, which are put in force by name."""
    try:
        loaded = load(replace(given, read_tls=no_tls))  # of these `Certificates` takes care
    except ConfigError as error:
        return str(error).splitlines()
    return Reread(policy=loaded.policy, warnings=[str(warning) for warning in loaded.warnings])


async def serve(given: Inputs, loaded: Loaded, writer: LineWriter, *, begin_anew: bool = False) -> None:
    """Run a node until SIGTERM or SIGINT. `loaded` is what was `given`. Errors at the start are raised before
    any call is taken. `begin_anew`: with an empty journal, though there was one."""
    settings = loaded.settings
    loop = asyncio.get_running_loop()
    clock, metrics = SystemClock(), Metrics()
    writer.attach(loop)
    for warning in loaded.warnings:
        log.warning("setting", text=str(warning))
    control_gid = grp.getgrnam(settings.control.group).gr_gid if settings.control.group else None
    async with AsyncExitStack() as stack:
        store = SqliteStore.open(
            settings.node.data_dir,
            seen=None
            if begin_anew
            else await seen_by_broker(settings, loaded.policy.tenant, loaded.policy.node),
            node=loaded.policy.node,
            boot_id=loaded.policy.boot_id,
            clock=clock,
            passed_by=control_gid,
            key_file=settings.node.journal_key_file,
            begin_anew=begin_anew,
        )
        stack.push_async_callback(store.close)
        if store.salvage is not None:
            _journal_salvaged(store.salvage)
        if store.loss is not None:
            log.error("journal_lost_commits", epoch=store.epoch, **asdict(store.loss))
        _journal_wrong(metrics, store.wrong)
        if store.tightened:
            loose = {path: f"{mode:04o}" for path, mode in store.tightened.items()}
            log.warning("data_dir_tightened", count=len(loose), modes_before=dict(islice(loose.items(), 20)))
        if store.migrated is not None:
            log.warning("journal_migrated", **asdict(store.migrated))
        store.on_commit(lambda _steps, took_ns: metrics.commit_took(took_ns / 1e9))
        store.on_failure(lambda before, now: _journal_failing(metrics, before, now))
        store.on_defect(lambda call_id, error: _defect(metrics, call_id, error))
        decks = Decks(settings.node.data_dir / "decks")
        await asyncio.to_thread(_keep_decks, decks, loaded.policy.decks, utc(clock.wall_ns()))
        policy = await put_in_force_at_start(
            (await with_stored_accounts(loaded.policy, store)).with_blocks(await blocks_of(store.audit)),
            loaded.policy,
            decks,
            store.audit,
            utc(clock.wall_ns()),
        )

        broker_host, broker_port = settings.mqtt.address
        broker_is_new = settings.mqtt.embedded and not (settings.node.data_dir / "broker").exists()
        broker: EmbeddedBroker | None = None
        if settings.mqtt.embedded:
            broker = EmbeddedBroker(
                BrokerSettings(
                    directory=settings.node.data_dir / "broker",
                    host=broker_host,
                    port=broker_port,
                    acl=topics.broker_acl(policy.tenant, policy.node),
                    users=settings.mqtt.asking_users,
                )
            )
            await broker.start()
            stack.push_async_callback(broker.stop)
            broker_port = broker.port
        mqtt = _mqtt_settings(settings, policy.tenant, policy.node, broker_host, broker_port)
        if broker is not None:
            mqtt = replace(mqtt, username=NODE_USER, password_file=broker.password_file(NODE_USER))
        if store.is_new and not begin_anew and not broker_is_new:
            await _refuse_forgotten(store, mqtt)
        publisher = MqttPublisher(mqtt, store.epoch)
        publisher.check()
        relay = OutboxRelay(
            store.outbox,
            store.outbox,
            publisher,
            limits=RelayLimits(status_interval_s=settings.mqtt.status_interval_s),
        )
        alarms = Alarms(
            tenant=policy.tenant,
            node=policy.node,
            boot_id=policy.boot_id,
            publisher=MqttPublisher(mqtt, None, "event"),
            note=store.note_soon,
            clock=clock,
            meter=metrics,
        )
        store.on_low_balance(alarms.raise_alarm)
        door = MqttReplayDoor(mqtt, settings.mqtt.asking_users)
        replayer = Replayer(store.replays, door, lambda: relay.is_busy, store.note_soon)

        hook = BridgeHook(bridge_settings(settings, policy))
        certificates = Certificates(hook, tls_settings(settings), settings.sip.tls_check_interval_s)
        fraud = FraudWatch(
            policy.fraud_rules,
            clock=clock,
            raise_alarm=alarms.raise_alarm,
            last_known_wall_ns=store.last_known_wall_ns,
        )
        await _rebuild(fraud, store, settings.node.data_dir)
        calls = Calls(
            policy=policy,
            control=hook,
            store=store,
            clock=clock,
            meter=metrics,
            on_fault=_fault,
            last_known_wall_ns=store.last_known_wall_ns,
            fraud=fraud,
        )
        calls.load.suspended_accounts.update(one.account for one in await store.suspense.suspended())
        if calls.load.suspended_accounts:
            _accounts_suspended(calls.load.suspended_accounts)
        clock_watch = ClockWatch(clock, is_synchronised, store.last_known_wall_ns)
        gateways = Gateways(
            gateways=policy.gateways,
            load=calls.load,
            door=hook,
            clock=clock,
            meter=metrics,
            boot_id=policy.boot_id,
            chance=SystemRandom().random,
        )
        names = Names(
            gateways=policy.gateways,
            reach=Reach.of(settings.sip.listeners()),
            load=calls.load,
            resolver=DnsResolver(
                settings.dns.servers,
                timeout_s=settings.dns.timeout_s,
                lifetime_s=settings.dns.lifetime_s,
            ),
            door=hook,
            peer_of=partial(_peer_of, policy),
            clock=clock,
            meter=metrics,
            chance=SystemRandom().random,
        )
        service = Service(
            calls=calls,
            gateways=gateways,
            hook=hook,
            store=store,
            relay=relay,
            clock=clock,
            heartbeat_ms=settings.timers.heartbeat_s * 1_000,
            snapshot_interval_s=settings.timers.snapshot_interval_s,
            watchers=[
                ("names", names.run),
                ("clock", clock_watch.run),
                ("replay", replayer.run),
                ("alarms", alarms.run),
                ("fraud rules", partial(fraud.run, calls.release_where)),
                ("certificates", certificates.watch),
                ("journal check", partial(store.keep_checking, partial(_journal_wrong, metrics))),
                *([("broker", broker.watch)] if broker is not None else []),
            ],
        )

        metrics.collect_outbox(relay.counters, lambda: relay.state)
        metrics.collect_replays(replayer.counters)
        metrics.collect_bridge(hook.stats)
        metrics.collect_gateways(gateways.statuses)
        metrics.collect_clock(lambda: clock_watch.status)
        metrics.collect_certificates(certificates.status)
        metrics.collect_names(names.statuses)
        metrics.collect_fraud(lambda: fraud.counters)
        metrics_port = metrics.serve(*settings.metrics.listen)
        stack.callback(metrics.close)
        metrics_place = f"{settings.metrics.listen[0]}:{metrics_port}"
        broker_place = f"{broker_host}:{broker_port}"
        started_at = utc(clock.wall_ns())

        async def last_state() -> OutboxState:
            try:
                return await store.outbox.outbox_state()
            except apsw.Error:
                if not store.failing or relay.state is None:
                    raise
                return relay.state  # as last read: a disk that fails is what the status is asked about

        async def status() -> NodeStatus:
            state, tls = await last_state(), certificates.status()
            oldest_s = (clock.wall_ns() - state.oldest_wall_ns) / 1e9 if state.oldest_wall_ns else 0.0
            return NodeStatus(
                tenant=policy.tenant,
                node=policy.node,
                boot_id=policy.boot_id,
                store_epoch=store.epoch,
                version=version(DISTRIBUTION),
                engine=hook.engine,
                started_at=started_at,
                state=calls.state or ACCEPTING,
                journal_failure=store.failure,
                calls=calls.load.calls,
                calls_max=policy.calls_max,
                profile=settings.profile_path,
                data_dir=str(settings.node.data_dir),
                sip=tuple(hook.addresses),
                metrics=metrics_place,
                broker=broker_place,
                broker_connected=relay.counters.connected,
                outbox_head_seq=state.head_seq,
                outbox_depth=state.depth,
                outbox_oldest_s=round(oldest_s, 3),
                dead_letters=state.dead,
                clock_synchronised=clock_watch.status.synchronised,
                clock_steps=clock_watch.status.steps,
                clock_behind_s=clock_watch.status.behind_s,
                tls_files={name: utc(end_s * 1_000_000_000) for name, end_s in tls.ends_at.items()},
                tls_refused=tls.refused,
            )

        admin = Admin(
            calls=calls,
            accounts=store.accounts,
            audit=store.audit,
            suspense=store.suspense,
            retention=store.retention,
            records=store.records,
            revisions=store.revisions,
            clock=clock,
            status=status,
            dead_letters=store.outbox,
            read_again=relay.read_again,
            gateways=gateways.statuses,
            names=names.statuses,
            decks=lambda name: decks.in_force(name, utc(clock.wall_ns())),
            deck_book=decks,
            deck_settings=loaded.policy.decks,
            settings=lambda: reread(given),
            replayer=replayer,
            replays=store.replays,
            renew_certificates=certificates.renew,
        )
        service.beside("decks", admin.decks.watch)
        socket_path = settings.node.data_dir.absolute() / SOCKET_NAME
        control = ControlServer(socket_path, admin.methods(), group=control_gid)
        await stack.enter_async_context(control.serving())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, service.stopping.set)
            stack.callback(loop.remove_signal_handler, number)

        def ready() -> None:
            log_ready(
                writer,
                sip=tuple(hook.addresses),
                metrics=metrics_place,
                broker=broker_place,
                socket=str(socket_path),
                data_dir=str(settings.node.data_dir.absolute()),
                node=policy.node,
                engine=hook.engine,
                version=version(DISTRIBUTION),
                pid=os.getpid(),
            )

        gc.collect()
        gc.freeze()  # what the start has made stays: no collection among the calls needs to walk it again
        await service.run(ready)


def _peer_of(policy: Policy, address: str) -> str:
    return peer_of(address, ((peer.name, peer.addresses) for peer in policy.peers.values()))


def bridge_settings(settings: Settings, policy: Policy) -> BridgeSettings:
    sip = settings.sip
    certificate, key, ca = sip.tls_certificate_file, sip.tls_key_file, sip.tls_ca_file
    own_cas = {(own.table, own.name): str(own.file) for own in settings.tls_authorities}
    return BridgeSettings(
        **bridge_limits(settings),
        listeners=tuple(
            Listener(transport=transport, host=host, port=port) for transport, (host, port) in sip.listeners()
        ),
        peers=tuple(
            PeerGroup(
                name=peer.name,
                cidrs=peer.addresses,
                port=peer.port,
                tls_names=peer.tls_names,
                tls_ca=own_cas.get(("peers", peer.name), ""),
                requests_per_s=peer.requests_per_s,
                liveness=peer.liveness,
                shared_dialogs=peer.shares_dialogs,
                finds_nat=peer.nat is NatCheck.AUTO,
                asserts_identity=peer.asserts_identity,
            )
            for peer in policy.peers.values()
        ),
        options_interval_ms=settings.timers.options_interval_s * 1_000,
        wanted_headers=settings.headers,
        carried_urns=policy.routes.urns,
        emergency_users=policy.emergency_numbers,
        credentials=tuple(map(_credentials, settings.credentials)),
        gateway_tls_names=tuple(
            (gateway.host, gateway.tls_names)
            for gateway in policy.gateways.values()
            if gateway.transport is TransportName.TLS or gateway.lookup is not None
        ),
        gateway_tls_cas=tuple(
            (policy.gateways[name].host, file)
            for (table, name), file in own_cas.items()
            if table == "gateways"
        ),
        tls=TlsFiles(certificate=str(certificate), private_key=str(key), ca=str(ca) if ca else "")
        if certificate is not None and key is not None
        else None,
    )


def tls_settings(settings: Settings) -> dict[str, str]:
    """Which setting names a TLS file."""
    sip = settings.sip
    named = {str(own.file): own.setting for own in settings.tls_authorities}
    for name in ("tls_ca_file", "tls_key_file", "tls_certificate_file"):
        if (file := getattr(sip, name)) is not None:
            named[str(file)] = f"sip.{name}"
    return named


def bridge_limits(settings: Settings) -> dict[str, Any]:
    """The settings that the bridge takes as they are, under their own names."""
    sections = (settings.node, settings.sip, settings.timers)
    given = {name: value for section in sections for name, value in asdict(section).items()}
    return {name: value for name, value in given.items() if name in BridgeSettings.__struct_fields__}


def _credentials(of: GatewayCredentials) -> Credentials:
    """With the password, which is read at the start and is in no log and no record."""
    try:
        password = of.password_file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise HookError(f"gateways.{of.gateway}.password_file: {of.password_file} is not UTF-8") from None
    return Credentials(gateway=of.gateway, username=of.username, password=password, realm=of.realm)


class Decks(DeckStore):
    """The stored decks, ready for use: the DeckBook port."""

    def load(self, revision: str) -> Deck | Sequence[str]:
        try:
            return load_built(self.path(revision), self.built_path(revision), revision)
        except DeckStoreError as error:
            return [str(error)]

    def in_force(self, name: str, at: datetime) -> Deck | Sequence[str]:
        """The revision that a command put in force under this name."""
        try:
            return self.load(self.find(name, at))
        except DeckStoreError as error:
            return [str(error)]


def wrong_decks(loaded: Loaded, now: datetime) -> tuple[Problem, ...]:
    """What is wrong with the decks that commands have put in force: a start would refuse them."""
    decks = Decks(loaded.settings.node.data_dir / "decks")
    found: list[Problem] = []
    for name, one in decks.active(now).items():
        deck = decks.load(one.revision)
        wrong = check_deck(loaded.policy, name, deck).errors if isinstance(deck, Deck) else deck
        where = Where(str(loaded.settings.node.data_dir / "decks" / "active.json"))
        found += [Problem(where=where, key=f"decks.{name}", text=text) for text in wrong]
    return tuple(found)


def _keep_decks(decks: Decks, of_settings: Mapping[str, Deck], now: datetime) -> None:
    """What the settings name is kept like what was imported: records name revisions, and a deck that is put
    in its place is compared with it. A disk that does not take it is no reason not to start."""
    try:
        for name, deck in of_settings.items():
            decks.put(
                deck.revision,
                canonical_chunks(deck),
                rates=len(deck),
                source=f"settings: decks.{name}",
                at=now,
            )
        decks.forget_built(now)
        if of_settings:
            decks.keep_settings({name: deck.revision for name, deck in of_settings.items()})
    except OSError as error:
        log.warning("decks_not_kept", text=str(error))


async def with_stored_accounts(policy: Policy, store: SqliteStore) -> Policy:
    """Accounts of the settings are known to the ledger, and accounts made by command are known to the
    policy; where both name one, the settings hold."""
    stored = {known.name: known for known in await store.accounts.stored()}
    wanted = [(account.terms, stored.get(name)) for name, account in policy.accounts.items()]
    await store.accounts.take_over(
        [
            (terms, _by_the_settings(terms.name) if known else None)
            for terms, known in wanted
            if terms != known
        ],
        suspect=store.salvage is not None and store.salvage.may_lack_accounts,
    )
    for known in stored.values():
        if known.disabled_by_command and known.name in policy.accounts:
            account = policy.accounts[known.name]
            policy = policy.with_terms(replace(account.terms, disabled_by_command=True))
    return policy.with_stored(
        (Account(**asdict(known)) for known in stored.values() if known.name not in policy.accounts),
        await store.accounts.addresses(),
    )


def accounts_beside(loaded: Loaded) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Where the settings and the journal both have an account: what a start would refuse, and what it would
    change, because the settings hold."""
    errors, warnings = list[Problem](), list[Problem]()
    where = Where(loaded.settings.profile_path)
    try:
        with Snapshot(loaded.settings.node.data_dir) as journal:
            stored = {known.name: known for known in journal.accounts()}
    except StoreError:
        return (), ()  # there is none yet, or it is of another version
    for name, account in loaded.policy.accounts.items():
        known = stored.get(name)
        if known is None:
            continue
        wanted = replace(account.terms, disabled_by_command=known.disabled_by_command)
        key = f"accounts.{name}"
        if wanted.currency != known.currency:
            text = f"is kept in {known.currency} in the journal, and cannot change to {wanted.currency}"
            errors.append(Problem(where=where, key=key, text=text))
        elif said := different(wanted, known):
            others = ", ".join(f"{term} {text}" for term, text in said.items())
            text = f"the journal has it with other terms ({others}): the settings hold from the next start on"
            warnings.append(Problem(where=where, key=key, text=text))
        if known.disabled_by_command:
            text = "is disabled by command, whatever is said here: `sidecar account enable`"
            warnings.append(Problem(where=where, key=key, text=text))
    return tuple(errors), tuple(warnings)


def _by_the_settings(account: str) -> Change:
    return Change(operator=NODE, action="account.set", subject=account, text="as the settings have it")


def _mqtt_settings(settings: Settings, tenant: str, node: str, host: str, port: int) -> MqttSettings:
    mqtt = settings.mqtt
    return MqttSettings(
        host=host,
        port=port,
        tenant=tenant,
        node=node,
        status_topic=topics.status_topic(tenant, node),
        username=mqtt.username or None,
        password_file=mqtt.password_file,
        tls=mqtt.tls,
        ca_file=mqtt.ca_file,
        certificate_file=mqtt.certificate_file,
        key_file=mqtt.key_file,
        in_flight_max=mqtt.in_flight_max,
    )


async def seen_by_broker(settings: Settings, tenant: str, node: str) -> Seen | None:
    """What an external broker has of a node. The embedded one is not up before the node is, and what it keeps
    lies beside the journal, as does the file that says how far that had come."""
    if settings.mqtt.embedded:
        return None
    status = await MqttStatusReader(_mqtt_settings(settings, tenant, node, *settings.mqtt.address)).status()
    return None if status is None else Seen(status.epoch, status.head_seq)


async def _refuse_forgotten(store: SqliteStore, mqtt: MqttSettings) -> None:
    """StoreError where the journal is new, and the broker knows of one that this node had."""
    status = await MqttStatusReader(mqtt).status()
    if status is None:
        return
    await store.discard()
    raise StoreError(
        "there is no journal, and the broker has the status of one that this node had"
        f" (epoch {status.epoch}): put it back, restore a backup, or begin anew: `sidecar run --new`"
    )


async def _rebuild(fraud: FraudWatch, store: SqliteStore, data_dir: Path) -> None:
    """What fraud rules had counted before this start, from the journal; a bounded part of it."""
    if not (look_back_s := fraud.look_back_s()):
        return
    since = utc((fraud.now_ms() - look_back_s * 1_000) * 1_000_000)
    noted = await store.audit.list(entries_max=1_000, wanted=AuditFilter(action=LIFT))
    lifts = [
        Lift(
            at_ms=entry.at_wall_ns // 1_000_000,
            rule=entry.change.subject,
            key=json.loads(entry.change.before or "{}").get("key", ""),
        )
        for entry in noted
    ]

    def count() -> int:
        with Snapshot(data_dir) as journal:
            return fraud.rebuild(journal.by_invite(since, calls_max=REBUILT_CALLS_MAX), lifts)

    try:
        found = await asyncio.to_thread(count)
    except (StoreError, DamagedError) as error:
        log.error("fraud_windows_not_rebuilt", error=str(error), advice="rules count from now on")
        return
    log.info("fraud_windows_rebuilt", calls=found, since=since, complete=found < REBUILT_CALLS_MAX)


def _fault(call_id: UUID, error: Exception) -> None:
    log.error("promise_broken", call_id=str(call_id), exc_info=error)


def _journal_salvaged(salvage: Salvage) -> None:
    """The lists are in the report, whole; here is the first of each."""
    said = asdict(salvage)
    counts = {f"{name}_count": len(said[name]) for name in ("not_as_written", "mended", "wrong")}
    said.update({name: said[name][:5] for name in ("not_as_written", "mended", "wrong")})
    log.error("journal_salvaged", **said, **counts)


def _accounts_suspended(names: set[str]) -> None:
    log.error(
        "accounts_suspended",
        count=len(names),
        accounts=sorted(names)[:20],
        advice="prepaid ones get 503 ledger_unreachable: `sidecar journal open` says what is to be decided",
    )


def _journal_wrong(metrics: Metrics, found: Sequence[str]) -> None:
    metrics.journal_wrong(len(found))
    for text in found:
        advice = "`sidecar journal verify` and `sidecar journal check` say what does not hold"
        log.error("journal_not_as_written", text=text, advice=advice)


def _journal_failing(metrics: Metrics, before: str, now: str) -> None:
    if bool(before) != bool(now):
        metrics.journal_failing(begins=bool(now))
    if now:
        log.error("journal_failing", cause=now, advice="no new call is taken; ends are kept until it writes")
    else:
        log.warning("journal_writes_again", cause_before=before)


def _defect(metrics: Metrics, call_id: UUID | None, error: BaseException) -> None:
    metrics.promise_broken("store")
    log.error("step_dropped", call_id=str(call_id), exc_info=error)
