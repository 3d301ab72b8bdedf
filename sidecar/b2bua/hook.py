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
import mmap
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pjsua2

from sidecar.b2bua import _bridge
from sidecar.b2bua.boundary import events_of
from sidecar.core import hangup
from sidecar.core.commands import AskGateway, Release, SetServers, Snapshot, WireCommand
from sidecar.core.events import Event
from sidecar.core.terms import Detail, HangupOrigin, LivenessCheck, TransportName

# The kernel sends a SYN again after one second, and gives the connection up two seconds later. Else it would
# try for two minutes; a large request for UDP goes by UDP then, and a peer of TCP or TLS is unreachable.
TCP_CONNECT_TRIES = 1
NO_AUTHORITY = -1  # the node's is 0; see native/peer_table.hpp
START_BYTES = 128 << 20  # what it takes up, and what has to be left to take calls; see native/memory.cpp
TLS_HANDSHAKE_MS_MAX = 10_000  # pjsip would wait for ever, and a connection is not counted before


class HookError(Exception):
    """The SIP side could not start; the message names the address and says why."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    transport: TransportName
    host: str  # a literal address of this machine
    port: int  # 0: any free one
    advertised: str = ""  # the host that Via and Contact name, where it is not `host` (NAT)


class PeerGroup(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    cidrs: tuple[str, ...]
    port: int = 0  # 0: any
    tls_names: tuple[str, ...] = ()  # of which the peer's verified certificate must hold one; empty: any peer
    tls_ca: str = ""  # file of its own authority; without it that of the node is asked for, over TLS
    requests_per_s: int = 0  # of one address, outside of calls; 0: no limit
    liveness: LivenessCheck = LivenessCheck.ANY
    shared_dialogs: bool = False  # each of its addresses may speak in the calls of all
    finds_nat: bool = True
    asserts_identity: bool = False  # in the trust domain (RFC 3325)


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    certificate: str
    private_key: str
    ca: str = ""  # whose certificates are trusted, and then asked of everybody


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway's challenges are answered with."""

    gateway: str
    username: str
    password: str
    realm: str = ""  # the only one that they are for; empty: any

    def __repr__(self) -> str:
        return f"Credentials({self.gateway})"  # settings may be printed, passwords never


class BridgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    listeners: tuple[Listener, ...]
    peers: tuple[PeerGroup, ...]  # the first group that holds an address is its group
    # Declared, with their bounds and defaults, in config.settings.
    unlisted_source: str  # `drop` or `reject`
    pai_outside: str  # `keep` or `remove`: assertions without Privacy, to those outside the trust domain
    refer: str  # `refuse` or `pass`: REFER, and INVITEs with Replaces or Join
    unlisted_refused_per_s: int  # INVITEs of one source; the rest is dropped
    calls_max: int
    emergency_places: int  # beside them, for emergency calls alone
    events_max: int
    answer_hold_ms_max: int
    admission_wait_ms_max: int
    retry_after_s: int
    t1_ms: int  # RFC 3261 §17.1.1.1; T2, T4 and 64*T1 follow it
    options_interval_ms: int  # in-dialog OPTIONS for each leg; 0: none
    # The bridge's own.
    # A caller whose call is on disk gets its 100 then, else after so long (RFC 3261 §8.2.6.1: 200 ms). One
    # that has none repeats its INVITE, also at the next start of a node that was killed meanwhile.
    trying_ms: int = 100
    patience_ms: int = 8  # how long events that nobody waits for may wait for others
    batch_interval_ms: int = 6  # between two batches at most, where the one before was large
    wanted_headers: tuple[str, ...] = ()  # reported with INVITE, CANCEL, BYE and final failures
    product: str = ""  # User-Agent and Server; empty: neither is sent
    tls: TlsFiles | None = None
    # A gateway's host, and what its certificate may bear instead; for all that are reached over TLS.
    gateway_tls_names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    gateway_tls_cas: tuple[
        tuple[str, str], ...
    ] = ()  # by host: its own authority, else that of its peer group
    carried_urns: tuple[str, ...] = ()  # lower case; to all other URNs, and schemes: 416
    emergency_users: frozenset[str] = frozenset()  # of Request-URIs, exactly; urn:service:sos besides
    credentials: tuple[Credentials, ...] = ()  # none for a gateway: its challenges go to the caller


_PJ_TRANSPORT: Mapping[TransportName, int] = {
    TransportName.UDP: pjsua2.PJSIP_TRANSPORT_UDP,
    TransportName.TCP: pjsua2.PJSIP_TRANSPORT_TCP,
    TransportName.TLS: pjsua2.PJSIP_TRANSPORT_TLS,
}


class BridgeHook:
    """`on_events`, then `start`; one per process, because pjsip is."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._deliver: Callable[[Sequence[Event]], None] | None = None
        self._endpoint: Any = None
        self._bridge: _bridge.Bridge | None = None
        self._tls: _bridge.TlsInForce | None = None
        self._tls_ends: Mapping[str, int] = {}
        self._addresses: tuple[str, ...] = ()
        self._unreadable = 0
        self._servers: dict[str, SetServers] = {}

    @property
    def engine(self) -> str:
        """The pjproject that runs, and the build that the bridge was compiled against."""
        return f"pjproject {_bridge.pj_version()} ({_bridge.PJ_BUILD})"

    @property
    def tls_files(self) -> tuple[str, ...]:
        """Those that `read_tls` reads; none where it listens on no TLS."""
        tls = self._settings.tls
        if tls is None or all(one.transport is not TransportName.TLS for one in self._settings.listeners):
            return ()
        return (tls.certificate, tls.private_key, *filter(None, self._authorities))

    @property
    def tls_ends(self) -> Mapping[str, int]:
        """When the first certificate of each file that is in force ends, in seconds since 1970."""
        return self._tls_ends

    def read_tls(self) -> _bridge.TlsCredentials | None:
        """None: it listens on no TLS. Reads files, in any thread; HookError names the one that will not
        do."""
        if self._settings.tls is None or not self.tls_files:
            return None
        try:
            return _bridge.TlsCredentials(
                self._settings.tls.certificate, self._settings.tls.private_key, self._authorities
            )
        except ValueError as error:
            raise HookError(str(error)) from None

    def renew_tls(self, credentials: _bridge.TlsCredentials) -> None:
        """For each handshake from now on; connections that stand go on."""
        if self._bridge is not None:
            self._bridge.renew_tls(credentials)
            self._tls_ends = dict(credentials.ends())

    @property
    def _authorities(self) -> list[str]:
        """Files; the first is the node's, empty where it has none."""
        settings = self._settings
        own = [*(group.tls_ca for group in settings.peers), *(ca for _, ca in settings.gateway_tls_cas)]
        return [settings.tls.ca if settings.tls else "", *dict.fromkeys(filter(None, own))]

    @property
    def _verifies_all(self) -> bool:
        return bool(self._authorities[0])

    def _authority(self, own: str) -> int:
        if own:
            return self._authorities.index(own, 1)
        return 0 if self._verifies_all else NO_AUTHORITY

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, as `udp:127.0.0.1:5080`; known once it has started."""
        return self._addresses

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
        try:
            mmap.mmap(-1, START_BYTES).close()
        except OSError:
            more = f"{START_BYTES >> 20} MB more"
            raise HookError(f"too little memory to start: {more} cannot be had (ulimit -v?)") from None
        if (credentials := self.read_tls()) is not None:
            self._tls = _bridge.TlsInForce(credentials)
            self._tls_ends = dict(credentials.ends())
        _bridge.silence()
        endpoint = pjsua2.Endpoint()
        endpoint.libCreate()
        self._endpoint = endpoint
        endpoint.libInit(_endpoint_config())
        endpoint.audDevManager().setNoDev()
        addresses = []
        advertised = dict.fromkeys(TransportName, "")
        for listener in self._settings.listeners:
            host, port = self._listen(endpoint, listener)
            addresses.append(f"{listener.transport.value}:{host}:{port}")
            if not advertised[listener.transport]:
                advertised[listener.transport] = f"{listener.advertised or host}:{port}"
        endpoint.libStart()
        self._bridge = _bridge.Bridge(self._native_settings(list(advertised.values())))
        self._bridge.start()
        self._bridge.post(list(self._servers.values()))
        self.send(first)
        self._bridge.hear()
        self._addresses = tuple(addresses)

    def _listen(self, endpoint: Any, listener: Listener) -> tuple[str, int]:
        config = pjsua2.TransportConfig()
        config.boundAddress = listener.host
        config.publicAddress = listener.advertised
        config.port = listener.port
        if listener.transport is not TransportName.UDP:
            tries = pjsua2.SockOpt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, TCP_CONNECT_TRIES)
            config.sockOptParams.sockOpts.append(tries)
        if listener.transport is TransportName.TLS and self._tls is not None:
            config.tlsConfig.certFile = self._tls.certificate_file()
            config.tlsConfig.privKeyFile = self._tls.key_file()
            config.tlsConfig.CaListFile = self._tls.authorities_file()
            config.tlsConfig.msecTimeout = TLS_HANDSHAKE_MS_MAX
            config.tlsConfig.proto = pjsua2.PJ_SSL_SOCK_PROTO_TLS1_2 | pjsua2.PJ_SSL_SOCK_PROTO_TLS1_3
            config.tlsConfig.requireClientCert = self._verifies_all
            # The bridge does it, at once: pjsip knows one authority for all, and no other name than the host.
            config.tlsConfig.verifyClient = config.tlsConfig.verifyServer = False
        kind = _PJ_TRANSPORT[listener.transport]
        if ":" in listener.host:
            kind |= pjsua2.PJSIP_TRANSPORT_IPV6
        try:
            number = endpoint.transportCreate(kind, config)
        except pjsua2.Error as error:
            where = f"{listener.transport.value} {listener.host}:{listener.port}"
            raise HookError(f"cannot listen on {where}: {error.reason}") from None
        local = endpoint.transportGetInfo(number).localAddress
        host, _, port = local.rpartition(":")
        return host, int(port)

    def _native_settings(self, advertised: list[str]) -> dict[str, object]:
        settings = self._settings
        return {
            "advertised": advertised,
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
            "carried_urns": list(settings.carried_urns),
            "q850_causes": {
                detail.value: row.q850_cause
                for (origin, detail), row in hangup.TABLE.items()
                if origin is HangupOrigin.SERVER
            },
            "credentials": [
                (one.gateway, one.username, one.password, one.realm) for one in settings.credentials
            ],
            "tls": self._tls,
            "verify_tls": self._verifies_all,
            "gateway_tls": [
                *((host, list(names), NO_AUTHORITY) for host, names in settings.gateway_tls_names),
                *((host, [], self._authority(ca)) for host, ca in settings.gateway_tls_cas),
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
                    self._authority(group.tls_ca),
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
        """Never blocks. In force for every message after it, also where it is said before the start."""
        self._servers[servers.gateway] = servers
        if self._bridge is not None:
            self._bridge.post([servers])

    def set_accepting(self, detail: str) -> None:
        """An empty detail accepts calls; `drain` or `journal` refuses new ones with it."""
        if self._bridge is not None:
            self._bridge.set_accepting(detail)

    def stats(self) -> dict[str, int]:
        if self._bridge is None:
            return {}
        return {**self._bridge.stats(), "unreadable_events": self._unreadable}

    def held_calls(self) -> int:
        return self.stats().get("live_calls", 0)

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
