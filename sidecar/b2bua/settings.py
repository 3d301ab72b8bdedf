"""What the bridge is set to: at its start, and as a whole again while calls run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from sidecar.core.terms import LivenessCheck, TransportName

# Of BridgeSettings: what the threads and queues are made with.
_FIXED = ("patience_ms", "batch_interval_ms")


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


class Collector(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets copies of messages, by HEP."""

    host: str  # a literal address
    port: int
    capture_id: int
    key: str = ""

    def __repr__(self) -> str:
        return f"Collector({self.host}, {self.port}, {self.capture_id})"  # never the key


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
    tells_stray_byes: bool = False  # those of no call that is known here
    product: str = ""  # User-Agent and Server; empty: neither is sent
    tls: TlsFiles | None = None
    # A gateway's host, and what its certificate may bear instead; for all that are reached over TLS.
    gateway_tls_names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    gateway_tls_cas: tuple[
        tuple[str, str], ...
    ] = ()  # by host: its own authority, else that of its peer group
    carried_urns: tuple[str, ...] = ()  # lower case; to all other URNs, and schemes: 416
    emergency_users: frozenset[str] = frozenset()  # of Request-URIs, exactly; urn:service:sos besides
    collector: Collector | None = None  # of those calls that Capture commands name
    credentials: tuple[Credentials, ...] = ()  # none for a gateway: its challenges go to the caller


def listens_on_tls(settings: BridgeSettings) -> bool:
    return settings.tls is not None and any(one.transport is TransportName.TLS for one in settings.listeners)


def authorities(settings: BridgeSettings, known: Sequence[str] = ()) -> list[str]:
    """Files, by the number that connections and dialogs know each by: 0 is the node's, empty where it has
    none. `known`: those of the settings before, whose numbers stay; empty in the place of one that is
    gone."""
    named = [*(group.tls_ca for group in settings.peers), *(ca for _, ca in settings.gateway_tls_cas)]
    named = [*dict.fromkeys(filter(None, named))]
    kept = [file if file in named else "" for file in known[1:]]
    return [settings.tls.ca if settings.tls else "", *kept, *(file for file in named if file not in kept)]


def needs_restart(old: BridgeSettings, new: BridgeSettings) -> list[str]:
    """Which fields of `old` cannot become those of `new` while the bridge runs, in their order.

    `listeners`: one is gone, or its address, port or advertised host is another; `tls`: a TLS listener is
    there and asks for certificates, or for none, by what was set at its start. Everything else can change."""
    found = [name for name in _FIXED if getattr(old, name) != getattr(new, name)]
    if Counter(old.listeners) - Counter(new.listeners):
        found.append("listeners")
    if listens_on_tls(old) and (new.tls is None or _asks(old) != _asks(new)):
        found.append("tls")
    return found


def _asks(settings: BridgeSettings) -> tuple[bool, bool]:
    """For a certificate: everybody, anybody."""
    files = authorities(settings)
    return bool(files[0]), any(files)
