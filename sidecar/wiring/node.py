"""Chooses the adapters from the settings and puts one node together.

Read `serve` from top to bottom: it is the order in which things start, and, backwards, in which they end.
"""

from __future__ import annotations

import asyncio
import gc
import grp
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib.metadata import version
from random import SystemRandom

import structlog
from msgspec.structs import replace

from sidecar.adapters.broker import NODE_USER, BrokerSettings, EmbeddedBroker
from sidecar.adapters.clock import SystemClock, is_synchronised
from sidecar.adapters.logs import LineWriter
from sidecar.adapters.logs import ready as log_ready
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.mqtt import MqttPublisher, MqttReplayDoor
from sidecar.adapters.service_manager import ServiceManager
from sidecar.adapters.sockets.control import ControlServer
from sidecar.adapters.sockets.page_process import PageProcess
from sidecar.adapters.sockets.pages import PageServer
from sidecar.adapters.store.bodies import DamagedError
from sidecar.adapters.store.store import FencedError, StoreError
from sidecar.b2bua.certificates import Certificates
from sidecar.b2bua.hook import BridgeHook
from sidecar.config import Inputs, Loaded, load
from sidecar.config.candidate import Candidate
from sidecar.core.fraud_replay import Lift
from sidecar.core.policy import Policy, peer_of
from sidecar.core.records import utc
from sidecar.core.servers import Reach
from sidecar.ports import AuditFilter, NodeStore, OutboxState, UnavailableError
from sidecar.runtime.admin import Admin
from sidecar.runtime.alarms import Alarms
from sidecar.runtime.block_commands import blocks_of
from sidecar.runtime.calls import Calls
from sidecar.runtime.clock_watch import ClockWatch
from sidecar.runtime.deck_commands import put_in_force_at_start
from sidecar.runtime.fraud import LIFT, REBUILT_CALLS_MAX, FraudWatch
from sidecar.runtime.gateways import Gateways
from sidecar.runtime.health import Health
from sidecar.runtime.names import Names
from sidecar.runtime.outbox import OutboxRelay, RelayLimits
from sidecar.runtime.releasing import release_where
from sidecar.runtime.reload import Reloading
from sidecar.runtime.replay import Replayer
from sidecar.runtime.service import Service
from sidecar.runtime.subscribers import Subscribers
from sidecar.runtime.takeover import Takeovers
from sidecar.wire import topics
from sidecar.wire.control import SOCKET_NAME
from sidecar.wire.control_node import ACCEPTING, NodeStatus
from sidecar.wiring.accounts import with_stored_accounts
from sidecar.wiring.bridge import bridge_settings, tls_settings
from sidecar.wiring.broker import has_rival, mqtt_settings, refuse_forgotten, seen_at, seen_by_broker
from sidecar.wiring.decks import Decks, keep_decks
from sidecar.wiring.journal import opener
from sidecar.wiring.notices import (
    accounts_suspended,
    books_salvaged,
    defect,
    fault,
    health_pages,
    journal_failing,
    journal_opened,
    journal_wrong,
    reopen_log,
)
from sidecar.wiring.reload import Reader, SetBeside, beside, reading_of, reading_or_errors, resolver
from sidecar.wiring.takeover import carrying

DISTRIBUTION = "sip-billing-sidecar"
STATE_READ_S_MAX = 2.0  # whether a database that does not answer is away is not known at once
_ENDING = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger("sidecar")


async def serve(given: Inputs, loaded: Loaded, writer: LineWriter, *, begin_anew: bool = False) -> bool:
    """Run a node until SIGTERM or SIGINT, or a planned restart: true where it is to be run again, at once, by
    the program that is installed then. `loaded` is what was `given`. Errors at the start are raised before
    any call is taken. `begin_anew`: with an empty journal, though there was one."""
    settings = loaded.settings
    loop = asyncio.get_running_loop()
    clock, metrics = SystemClock(), Metrics()
    manager = ServiceManager(os.environ)
    writer.attach(loop)
    for warning in loaded.warnings:
        log.warning("setting", text=str(warning))
    if os.geteuid() == 0:
        log.warning("runs_as_root", text="a user of its own is enough: sidecar reference installation")
    reload_asked, stop_asked = asyncio.Event(), asyncio.Event()
    control_gid = grp.getgrnam(settings.control.group).gr_gid if settings.control.group else None
    async with AsyncExitStack() as stack:
        is_restart = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # by the node before
        if is_restart:
            loop.add_signal_handler(signal.SIGTERM, stop_asked.set)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        loop.add_signal_handler(signal.SIGHUP, reload_asked.set)  # before its start is over, too
        stack.callback(loop.remove_signal_handler, signal.SIGHUP)
        loop.add_signal_handler(signal.SIGUSR1, partial(reopen_log, writer))
        stack.callback(loop.remove_signal_handler, signal.SIGUSR1)
        opened = opener(
            settings,
            loaded.policy,
            clock,
            passed_by=control_gid,
            begin_anew=begin_anew,
            at_end=stack.callback,
        )
        # Calls wait in a restart, and the file is the one that was closed just now.
        is_seen = not (begin_anew or is_restart) and (
            not settings.mqtt.embedded or (settings.node.data_dir / "broker").exists()
        )
        seen = await seen_by_broker(settings, loaded.policy.tenant, loaded.policy.node) if is_seen else None
        store = opened(seen=seen)
        stack.push_async_callback(store.close)
        journal_opened(metrics, store)
        if store.salvage is not None:
            loaded = load(given)  # what commands have made may be readable only now

        tenant, node = loaded.policy.tenant, loaded.policy.node
        broker_host, broker_port = settings.mqtt.address
        broker: EmbeddedBroker | None = None
        if settings.mqtt.embedded:
            broker = EmbeddedBroker(
                BrokerSettings(
                    directory=settings.node.data_dir / "broker",
                    host=broker_host,
                    port=broker_port,
                    acl=topics.broker_acl(tenant, node, NODE_USER, settings.mqtt.asking_users),
                    users=settings.mqtt.asking_users,
                )
            )
            await broker.start()
            stack.push_async_callback(broker.stop)
            broker_port = broker.port
        mqtt = replace(
            mqtt_settings(settings, tenant, node, broker_host, broker_port), boot_id=loaded.policy.boot_id
        )
        if broker is not None:
            mqtt = replace(
                mqtt,
                client_id=broker.client_id(),
                username=NODE_USER,
                password_file=broker.password_file(NODE_USER),
            )
            seen = await seen_at(mqtt) if is_seen else None
        if seen is not None and store.is_new:
            await refuse_forgotten(store, seen)
        if seen is not None and broker is not None and await store.contradicts(seen):
            await store.close()
            store = opened(seen=seen)
            stack.push_async_callback(store.close)
            journal_opened(metrics, store)

        store.on_commit(lambda _steps, took_ns: metrics.commit_took(took_ns / 1e9))
        store.on_failure(lambda before, now: journal_failing(metrics, before, now, store.refusing))
        store.on_defect(lambda call_id, error: defect(metrics, call_id, error))
        decks = Decks(settings.node.data_dir / "decks")
        await asyncio.to_thread(keep_decks, decks, loaded.policy.decks, utc(clock.wall_ns()))
        policy = await put_in_force_at_start(
            (await with_stored_accounts(loaded.policy, store)).with_blocks(await blocks_of(store.audit)),
            loaded.policy,
            decks,
            store.audit,
            utc(clock.wall_ns()),
        )
        policy = replace(policy, settings_revision=await store.stored.settings_revision())

        publisher = MqttPublisher(mqtt, store.epoch)
        publisher.check()
        relay = OutboxRelay(
            store.outbox,
            store.outbox,
            publisher,
            limits=RelayLimits(status_interval_s=settings.mqtt.status_interval_s),
            has_rival=partial(has_rival, mqtt),
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
        if store.salvage is not None:
            alarms.raise_alarm(books_salvaged(policy.node, store.salvage, utc(clock.wall_ns())))
        door = MqttReplayDoor(mqtt, settings.mqtt.asking_users)
        subscribers = Subscribers(clock)
        replayer = Replayer(
            store.replays, door, lambda: relay.is_busy, store.note_soon, reported=subscribers.take
        )

        hook = BridgeHook(bridge_settings(settings, policy))
        certificates = Certificates(hook, tls_settings(settings), settings.sip.tls_check_interval_s)
        fraud = FraudWatch(
            policy.fraud_rules,
            clock=clock,
            raise_alarm=alarms.raise_alarm,
            last_known_wall_ns=store.last_known_wall_ns,
        )
        await _rebuild(fraud, store)
        calls = Calls(
            policy=policy,
            control=hook,
            store=store,
            clock=clock,
            meter=metrics,
            on_fault=fault,
            last_known_wall_ns=store.last_known_wall_ns,
            fraud=fraud,
        )
        calls.load.suspended_accounts.update(one.account for one in await store.suspense.suspended())
        if calls.load.suspended_accounts:
            accounts_suspended(calls.load.suspended_accounts)
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
            resolver=resolver(settings),
            door=hook,
            peer_of=lambda address: _peer_of(calls.policy, address),
            clock=clock,
            meter=metrics,
            chance=SystemRandom().random,
        )
        takeovers = None
        if store.nodes is not None:
            takeovers = Takeovers(
                own=policy.node,
                nodes=store.nodes,
                lease_s=settings.store.lease_s,
                hook=hook,
                clock=clock,
                carry=partial(
                    carrying,
                    of=calls,
                    mqtt=mqtt,
                    clock=clock,
                    metrics=metrics,
                    raise_alarm=alarms.raise_alarm,
                ),
                calls=calls,
                may_take=lambda: not (store.failing or calls.is_stopping),
                raise_alarm=alarms.raise_alarm,
            )
            metrics.collect_takeovers(takeovers.counters)
        service = Service(
            calls=calls,
            gateways=gateways,
            hook=hook,
            store=store,
            relay=relay,
            clock=clock,
            heartbeat_ms=settings.timers.heartbeat_s * 1_000,
            snapshot_interval_s=settings.timers.snapshot_interval_s,
            drain_s=lambda: beside(reloading.in_force).settings.node.drain_s,
            tell_stopping=manager.stopping,
            watchers=[
                ("names", names.run),
                ("clock", clock_watch.run),
                ("replay", replayer.run),
                ("alarms", alarms.run),
                ("fraud rules", partial(fraud.run, partial(release_where, calls))),
                ("certificates", certificates.watch),
                ("journal check", partial(store.keep_checking, partial(journal_wrong, metrics))),
                *([("broker", broker.watch)] if broker is not None else []),
                ("watchdog", partial(manager.watch, hook.pulse)),
                *([("nodes", takeovers.run)] if takeovers is not None else []),
            ],
            of_own=takeovers.of_own if takeovers is not None else list,
        )
        if store.nodes is not None:
            store.nodes.on_fenced(service.fence)

        page: PageProcess | None = None
        if settings.web.listen is not None:
            page = PageProcess(
                settings.web.listen,
                control_gid,
                given.command_line,
                given.config_file,
                is_tls=settings.web.certificate_file is not None,
            )
            stack.callback(page.close)
            service.beside("page", page.run)

        metrics.collect_outbox(relay.counters, lambda: relay.state)
        metrics.collect_replays(replayer.counters)
        metrics.collect_bridge(hook.stats)
        metrics.collect_gateways(gateways.statuses)
        metrics.collect_disk(settings.node.data_dir)
        metrics.collect_clock(lambda: clock_watch.status)
        metrics.collect_certificates(certificates.status)
        metrics.collect_names(names.statuses)
        metrics.collect_let_go(lambda: store.let_go)
        metrics.collect_fraud(lambda: fraud.counters)
        metrics.collect_log(lambda: writer.lost)
        health = Health(
            service.pulse,
            clock,
            state=lambda: calls.state,
            is_failing=lambda: store.refusing,
            is_stopping=service.stopping.is_set,
        )
        pages = PageServer({"/metrics": metrics.page, **health_pages(health)})
        metrics_port = pages.start(*settings.metrics.listen)
        stack.callback(pages.close)
        metrics_place = f"{settings.metrics.listen[0]}:{metrics_port}"
        broker_place = f"{broker_host}:{broker_port}"
        passwords = (
            {user: str(broker.password_file(user).absolute()) for user in broker.readers} if broker else {}
        )
        started_at = utc(clock.wall_ns())

        async def last_state() -> OutboxState:
            """As last read where the store fails: that it does is what the status is asked about."""
            if relay.state is None:
                return await store.outbox.outbox_state()
            with suppress(TimeoutError, UnavailableError):
                if not store.failing:
                    async with asyncio.timeout(STATE_READ_S_MAX):
                        return await store.outbox.outbox_state()
            return relay.state

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
                calls_let_go=sum(store.let_go.values()),
                calls=calls.load.calls,
                calls_max=calls.policy.calls_max,
                settings_revision=calls.policy.settings_revision,
                profile=beside(reloading.in_force).settings.profile_path,
                data_dir=str(settings.node.data_dir),
                sip=tuple(hook.addresses),
                metrics=metrics_place,
                broker=broker_place,
                broker_connected=relay.counters.connected,
                broker_taken_over=relay.counters.links_taken_over,
                broker_passwords=passwords,
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

        reloading = Reloading(
            calls,
            store.stored,
            Reader(given, loaded).read,
            reading_of(loaded),
            SetBeside(hook, certificates, gateways, names, calls, decks),
            manager.reloading,
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
            reloading=reloading,
            replayer=replayer,
            replays=store.replays,
            stored=store.stored,
            candidate=Candidate(given, reading_or_errors),
            users=store.users,
            subscribers=subscribers,
            restart=service.restart,
            would_start=partial(wrong_with_a_start, given),
            reopen_log=partial(reopen_log, writer),
            neighbours=store.neighbours,
            version=version(DISTRIBUTION),
        )
        service.beside("decks", admin.decks.watch)
        await admin.neighbourhood.begin()
        service.beside("neighbours", admin.neighbourhood.run)
        if store.neighbours is not None:
            service.beside("blocks", admin.blocks.follow)
        service.beside("reload", partial(admin.reload_when, reload_asked))
        socket_path = settings.node.data_dir.absolute() / SOCKET_NAME
        control = ControlServer(socket_path, admin.methods(), group=control_gid)
        await stack.enter_async_context(control.serving())
        for number in _ENDING:
            loop.add_signal_handler(number, service.stop)
        if stop_asked.is_set():
            service.stop()

        def ready() -> None:
            log_ready(
                writer,
                sip=tuple(hook.addresses),
                metrics=metrics_place,
                broker=broker_place,
                socket=str(socket_path),
                page=page.place if page is not None else None,
                data_dir=str(settings.node.data_dir.absolute()),
                node=policy.node,
                engine=hook.engine,
                version=version(DISTRIBUTION),
                pid=os.getpid(),
            )
            if takeovers is not None:
                takeovers.started.set()
            manager.ready(f"calls at {', '.join(hook.addresses)}")

        gc.collect()
        gc.freeze()  # what the start has made stays: no collection among the calls needs to walk it again
        await service.run(ready, manager.restarting)
        if service.is_fenced:
            raise FencedError(f"node {node}: another one has taken over its books")
        if service.restarts:
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until the next one looks
    if service.restarts:
        os.environ.update(manager.variables)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)  # until the next one listens to it: it would be killed
        if service.stop_is_for_next:
            signal.raise_signal(signal.SIGTERM)
    return service.restarts


async def wrong_with_a_start(given: Inputs) -> Sequence[str]:
    """What `sidecar check` says that would keep the program that is installed now from starting with what
    this one was given."""
    words = [f"--set={name}={value}" for name, value in given.command_line.items()]
    if given.config_file is not None:
        words.append(f"--config={given.config_file}")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar.cli", "check", "--json", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode == 0:
        return ()
    try:
        return list(json.loads(said)["errors"])
    except (ValueError, KeyError, TypeError):
        last = complaint.decode(errors="backslashreplace").strip().splitlines()[-1:]
        return last or [f"`sidecar check` ended with {child.returncode}"]


def _peer_of(policy: Policy, address: str) -> str:
    return peer_of(address, ((peer.name, peer.addresses) for peer in policy.peers.values()))


async def _rebuild(fraud: FraudWatch, store: NodeStore) -> None:
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
        with store.by_invite(since, REBUILT_CALLS_MAX) as calls:
            return fraud.rebuild(calls, lifts)

    try:
        found = await asyncio.to_thread(count)
    except (StoreError, DamagedError) as error:
        log.error("fraud_windows_not_rebuilt", error=str(error), advice="rules count from now on")
        return
    log.info("fraud_windows_rebuilt", calls=found, since=since, complete=found < REBUILT_CALLS_MAX)
