"""The hook: pjsua2 opens the endpoint and its transports, the native module bridges the calls, and this
module starts, feeds and ends both. Nothing else but `boundary` imports either.

Threads: pjsua runs one worker (`threadCnt=1`), in which everything SIP happens, off the GIL: a stall of
Python delays no message. This side only drains batches of events, when the event loop finds the bridge's
file descriptor readable, and posts batches of commands. Everything here belongs to the thread that
called `start`, which pjsua registers with pj; pj objects are dropped in `stop`, in that thread, and are part
of no reference cycle (a collector that destroys one in an unregistered thread hangs for ever).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import pjsua2

from sidecar.b2bua import _bridge
from sidecar.b2bua.boundary import events_of
from sidecar.b2bua.settings import BridgeSettings, Listener, authorities, listens_on_tls, needs_restart
from sidecar.core import hangup
from sidecar.core.commands import AskGateway, Release, SetServers, Snapshot, WireCommand
from sidecar.core.events import Event
from sidecar.core.terms import Detail, HangupOrigin, TransportName

# The kernel sends a SYN again after one second, and gives the connection up two seconds later. Else it would
# try for two minutes; a large request for UDP goes by UDP then, and a peer of TCP or TLS is unreachable.
TCP_CONNECT_TRIES = 1
NO_AUTHORITY = -1  # the node's is 0; see native/peer_table.hpp
TLS_HANDSHAKE_MS_MAX = 10_000  # pjsip would wait for ever, and a connection is not counted before


class HookError(Exception):
    """The SIP side could not start, or not take other settings; the message names the address or file and
    says why."""


_PJ_TRANSPORT: Mapping[TransportName, int] = {
    TransportName.UDP: pjsua2.PJSIP_TRANSPORT_UDP,
    TransportName.TCP: pjsua2.PJSIP_TRANSPORT_TCP,
    TransportName.TLS: pjsua2.PJSIP_TRANSPORT_TLS,
}


class _Listening(msgspec.Struct, frozen=True, kw_only=True):
    listener: Listener
    number: int  # pjsua's
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.listener.transport.value}:{self.host}:{self.port}"

    @property
    def advertised(self) -> str:
        return f"{self.listener.advertised or self.host}:{self.port}"


class BridgeHook:
    """`on_events`, then `start`; one per process, because pjsip is."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._deliver: Callable[[Sequence[Event]], None] | None = None
        self._endpoint: Any = None
        self._bridge: _bridge.Bridge | None = None
        self._tls: _bridge.TlsInForce | None = None
        self._tls_ends: Mapping[str, int] = {}
        self._authorities = authorities(settings)
        self._listening: list[_Listening] = []
        self._spare: list[_Listening] = []  # none is closed while it runs: for who wants one next
        self._unreadable = 0
        self._servers: dict[str, SetServers] = {}

    @property
    def engine(self) -> str:
        """The pjproject that runs, and the build that the bridge was compiled against."""
        return f"pjproject {_bridge.pj_version()}, build {_bridge.PJ_BUILD} of {_bridge.PJ_BUILT}"

    @property
    def tls_files(self) -> tuple[str, ...]:
        """Those that `read_tls` reads; none where it listens on no TLS."""
        tls = self._settings.tls
        if tls is None or not listens_on_tls(self._settings):
            return ()
        return (tls.certificate, tls.private_key, *filter(None, self._authorities))

    @property
    def tls_ends(self) -> Mapping[str, int]:
        """When the first certificate of each file that is in force ends, in seconds since 1970."""
        return self._tls_ends

    def read_tls(self) -> _bridge.TlsCredentials | None:
        """None: it listens on no TLS. Reads files, in any thread; HookError names the one that will not
        do."""
        return _read_tls(self._settings, self._authorities)

    def renew_tls(self, credentials: _bridge.TlsCredentials) -> None:
        """For each handshake from now on; connections that stand go on."""
        if self._bridge is not None:
            self._bridge.renew_tls(credentials)
            self._tls_ends = dict(credentials.ends())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, as `udp:127.0.0.1:5080`; known once it has started."""
        return tuple(one.address for one in self._listening)

    @property
    def heard_at(self) -> tuple[str, ...]:
        """The same as others reach it."""
        return tuple(f"{one.listener.transport.value}:{one.advertised}" for one in self._listening)

    def on_events(self, deliver: Callable[[Sequence[Event]], None]) -> None:
        self._deliver = deliver

    async def start(self, first: Sequence[WireCommand | Snapshot] = ()) -> None:
        """`first` is carried out before anything is heard: who speaks in a call of an earlier boot is not
        told that there is none."""
        try:
            self._start(first)
        except BaseException:
            await self.stop()
            raise
        assert self._bridge is not None
        asyncio.get_running_loop().add_reader(self._bridge.event_fd(), self._drain)

    def _start(self, first: Sequence[WireCommand | Snapshot]) -> None:
        if (credentials := self.read_tls()) is not None:
            self._tls = _bridge.TlsInForce(credentials)
            self._tls_ends = dict(credentials.ends())
        _bridge.silence()
        endpoint = pjsua2.Endpoint()
        endpoint.libCreate()
        self._endpoint = endpoint
        endpoint.libInit(_endpoint_config())
        endpoint.audDevManager().setNoDev()
        for listener in self._settings.listeners:
            self._listening.append(self._listen(listener, self._settings, self._tls))
        endpoint.libStart()
        self._bridge = _bridge.Bridge(
            self._native(self._settings, self._tls, self._authorities, self._listening)
        )
        self._bridge.start()
        self._bridge.post(list(self._servers.values()))
        self.send(first)
        self._bridge.hear()

    def reconfigure(self, settings: BridgeSettings) -> None:
        """Puts `settings` in force, all of them between two messages: whatever begins after that has the new
        ones, whatever was begun before goes on with the old ones, and nothing has both. So a dialog
        whose peer or gateway is gone is heard until it ends, its repeats, CANCEL and late BYE too.
        Commands that are sent after this find the new ones in force.

        Never waits for the native thread; it opens listeners that are new and reads TLS files that are
        (some ms). HookError where one cannot be opened or read, or where `needs_restart` names a field:
        everything is as it was then. Gateways that are names: `set_servers`, also for those that are gone."""
        files, tls, credentials = self._prepared(settings)
        listening = self._with_new_listeners(settings, tls)
        native = self._native(settings, tls, files, listening)
        assert self._bridge is not None
        self._bridge.reconfigure(native, credentials if self._tls is not None else None)
        if credentials is not None:
            self._tls_ends = dict(credentials.ends())
        self._settings, self._authorities, self._tls, self._listening = settings, files, tls, listening

    def check(self, settings: BridgeSettings) -> None:
        """HookError where `reconfigure` would raise it now. Nothing is changed, and no listener opened."""
        self._prepared(settings)
        _try_to_bind(self._missing(settings))

    def _prepared(
        self, settings: BridgeSettings
    ) -> tuple[list[str], _bridge.TlsInForce | None, _bridge.TlsCredentials | None]:
        if self._bridge is None:
            raise HookError("does not run")
        if fixed := needs_restart(self._settings, settings):
            raise HookError(f"cannot change while it runs: {', '.join(fixed)}")
        files = authorities(settings, self._authorities)
        renews = (settings.tls, files) != (self._settings.tls, self._authorities)
        credentials = _read_tls(settings, files) if renews or self._tls is None else None
        tls = self._tls
        if tls is None and credentials is not None:
            tls = _bridge.TlsInForce(credentials)
        try:
            _bridge.check_settings(self._native(settings, tls, files, self._listening))
        except ValueError as error:  # a block that is none
            raise HookError(str(error)) from None
        return files, tls, credentials

    def _missing(self, settings: BridgeSettings) -> list[Listener]:
        missing = list(settings.listeners)
        for known in (*self._listening, *self._spare):
            if known.listener in missing:
                missing.remove(known.listener)
        return missing

    def _with_new_listeners(
        self, settings: BridgeSettings, tls: _bridge.TlsInForce | None
    ) -> list[_Listening]:
        """In the order of the settings, whose first of each transport is in Contacts."""
        missing = self._missing(settings)
        _try_to_bind(missing)
        for one in missing:
            self._spare.append(self._listen(one, settings, tls))
        left = [*self._listening, *self._spare]
        listening = list[_Listening]()
        for wanted in settings.listeners:
            found = next(one for one in left if one.listener == wanted)
            left.remove(found)
            listening.append(found)
        self._spare = left
        return listening

    def _listen(
        self, listener: Listener, settings: BridgeSettings, tls: _bridge.TlsInForce | None
    ) -> _Listening:
        config = pjsua2.TransportConfig()
        config.boundAddress = listener.host
        config.publicAddress = listener.advertised
        config.port = listener.port
        if listener.transport is not TransportName.UDP:
            tries = pjsua2.SockOpt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, TCP_CONNECT_TRIES)
            config.sockOptParams.sockOpts.append(tries)
        if listener.transport is TransportName.TLS and tls is not None:
            config.tlsConfig.certFile = tls.certificate_file()
            config.tlsConfig.privKeyFile = tls.key_file()
            config.tlsConfig.CaListFile = tls.authorities_file()
            config.tlsConfig.msecTimeout = TLS_HANDSHAKE_MS_MAX
            config.tlsConfig.proto = pjsua2.PJ_SSL_SOCK_PROTO_TLS1_2 | pjsua2.PJ_SSL_SOCK_PROTO_TLS1_3
            config.tlsConfig.requireClientCert = bool(settings.tls and settings.tls.ca)
            # The bridge does it, at once: pjsip knows one authority for all, and no other name than the host.
            config.tlsConfig.verifyClient = config.tlsConfig.verifyServer = False
        kind = _PJ_TRANSPORT[listener.transport]
        if ":" in listener.host:
            kind |= pjsua2.PJSIP_TRANSPORT_IPV6
        try:
            number = self._endpoint.transportCreate(kind, config)
        except pjsua2.Error as error:
            where = f"{listener.transport.value} {listener.host}:{listener.port}"
            raise HookError(f"cannot listen on {where}: {error.reason}") from None
        local = self._endpoint.transportGetInfo(number).localAddress
        host, _, port = local.rpartition(":")
        return _Listening(listener=listener, number=number, host=host, port=int(port))

    def _native(
        self,
        settings: BridgeSettings,
        tls: _bridge.TlsInForce | None,
        files: Sequence[str],
        listening: Sequence[_Listening],
    ) -> dict[str, object]:
        def authority(own: str) -> int:
            if own:
                return files.index(own, 1)
            return 0 if files[0] else NO_AUTHORITY

        first = {one.listener.transport: one.advertised for one in reversed(listening)}
        return {
            "advertised": [first.get(transport, "") for transport in TransportName],
            "calls_max": settings.calls_max,
            "emergency_places": settings.emergency_places,
            "emergency_users": sorted(settings.emergency_users),
            "events_max": settings.events_max,
            "patience_ms": settings.patience_ms,
            "batch_interval_ms": settings.batch_interval_ms,
            "trying_ms": settings.trying_ms,
            "answer_hold_ms_max": settings.answer_hold_ms_max,
            "admission_wait_ms_max": settings.admission_wait_ms_max,
            "retry_after_s": settings.retry_after_s,
            "t1_ms": settings.t1_ms,
            "options_interval_ms": settings.options_interval_ms,
            "pass_refer": settings.refer == "pass",
            "keep_assertions_outside": settings.pai_outside == "keep",
            "refuse_unlisted": settings.unlisted_source == "reject",
            "unlisted_refused_per_s": settings.unlisted_refused_per_s,
            "wanted_headers": [name.lower() for name in settings.wanted_headers],
            "product": settings.product,
            "tells_stray_byes": settings.tells_stray_byes,
            "carried_urns": list(settings.carried_urns),
            "q850_causes": {
                detail.value: row.q850_cause
                for (origin, detail), row in hangup.TABLE.items()
                if origin is HangupOrigin.SERVER
            },
            "credentials": [
                (one.gateway, one.username, one.password, one.realm) for one in settings.credentials
            ],
            "collector": ("", 0, 0, "")
            if (to := settings.collector) is None
            else (to.host, to.port, to.capture_id, to.key),
            "tls": tls,
            "verify_tls": bool(files[0]),
            "gateway_tls": [
                *((host, list(names), NO_AUTHORITY) for host, names in settings.gateway_tls_names),
                *((host, [], authority(ca)) for host, ca in settings.gateway_tls_cas),
            ],
            "peers": [
                (
                    group.name,
                    list(group.cidrs),
                    group.port,
                    list(group.tls_names),
                    group.requests_per_s,
                    group.liveness.value,
                    group.shared_dialogs,
                    group.finds_nat,
                    group.asserts_identity,
                    authority(group.tls_ca),
                )
                for group in settings.peers
            ],
        }

    def _drain(self) -> None:
        if self._bridge is None or not (batch := self._bridge.drain()):
            return
        events, unreadable = events_of(batch)
        self._unreadable += len(unreadable)
        # The core does not know what became of such a call: its legs are let go, and the watchdog ends it.
        self.send([_given_up(bridge_id) for bridge_id in unreadable if bridge_id is not None])
        if self._deliver is not None:
            self._deliver(events)

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None:
        """Never blocks. Commands for a call that is gone are ignored and counted."""
        if self._bridge is not None and commands:
            self._bridge.post(commands)

    def ask(self, requests: Sequence[AskGateway]) -> None:
        """Never blocks. RequestEnded follows for each while the hook runs."""
        if self._bridge is not None and requests:
            self._bridge.post(requests)

    def set_servers(self, servers: SetServers) -> None:
        """Never blocks. In force for every message after it, also where it is said before the start. Without
        a host name: that gateway is gone, or its host is an address now."""
        if servers.host_name:
            self._servers[servers.gateway] = servers
        else:
            self._servers.pop(servers.gateway, None)
        if self._bridge is not None:
            self._bridge.post([servers])

    def set_accepting(self, detail: str) -> None:
        """An empty detail accepts calls; `drain` or `journal` refuses new ones with it."""
        if self._bridge is not None:
            self._bridge.set_accepting(detail)

    def keep(self) -> None:
        """Never blocks. CallKept follows for each call that nothing is open of."""
        if self._bridge is not None:
            self._bridge.keep()

    def stats(self) -> dict[str, int]:
        if self._bridge is None:
            return {}
        return {**self._bridge.stats(), "unreadable_events": self._unreadable}

    def held_calls(self) -> int:
        return self.stats().get("live_calls", 0)

    def pulse(self) -> int:
        """Another number every 100 ms, as long as the SIP thread does its work."""
        return self.stats().get("wakes", 0)

    def is_short_of_memory(self) -> bool:
        """New calls are refused for it, as node_full."""
        return bool(self.stats().get("memory_short"))

    async def stop(self) -> None:
        """Nothing is sent to any peer: whoever stops a node has released its calls before."""
        if self._bridge is not None:
            asyncio.get_running_loop().remove_reader(self._bridge.event_fd())
            self._bridge.stop()
            self._drain()
        if self._endpoint is not None:
            self._endpoint.libDestroy(pjsua2.PJSUA_DESTROY_NO_NETWORK)
            self._endpoint = None
        self._bridge = None  # last: until the endpoint is gone its worker may be in the bridge's code


def _try_to_bind(listeners: Sequence[Listener]) -> None:
    """All or none, before pjsua opens the first of them for good."""
    with ExitStack() as stack:
        for one in listeners:
            family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
            kind = socket.SOCK_DGRAM if one.transport is TransportName.UDP else socket.SOCK_STREAM
            trial = stack.enter_context(socket.socket(family, kind))
            if kind == socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((one.host, one.port))
                if kind == socket.SOCK_STREAM:
                    trial.listen()
            except OSError as error:
                where = f"{one.transport.value} {one.host}:{one.port}"
                raise HookError(f"cannot listen on {where}: {error.strerror}") from None


def _read_tls(settings: BridgeSettings, files: Sequence[str]) -> _bridge.TlsCredentials | None:
    if settings.tls is None or not listens_on_tls(settings):
        return None
    try:
        return _bridge.TlsCredentials(settings.tls.certificate, settings.tls.private_key, list(files))
    except ValueError as error:
        raise HookError(str(error)) from None


def _given_up(bridge_id: int) -> Release:
    row = hangup.TABLE[HangupOrigin.SERVER, Detail.INTERNAL_ERROR]
    return Release(
        bridge_id=bridge_id,
        sip_code=row.sip_code,
        q850_cause=row.q850_cause,
        text=Detail.INTERNAL_ERROR.value,
    )


def _endpoint_config() -> Any:
    config = pjsua2.EpConfig()
    config.uaConfig.threadCnt = 1
    config.uaConfig.maxCalls = 4  # its call layer carries none, and a slot costs 12.5 kB
    config.medConfig.threadCnt = 0
    config.medConfig.hasIoqueue = False
    config.medConfig.clockRate = 8000
    config.logConfig.level = 0  # its lines hold bytes from the network, unescaped
    config.logConfig.consoleLevel = 0
    return config
