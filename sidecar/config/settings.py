"""What the runtime is told beside the policy: places, addresses, bounds. Built by `load`, checked whole."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sidecar.config.key import LogLevel, ReferPolicy, UnlistedSource
from sidecar.core.terms import TransportName


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """One SIP transport of ours. Port 0: any free one, named in the `ready` line."""

    transport: TransportName
    host: str
    port: int


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    certificate: Path
    key: Path
    ca: Path | None = None


class Mqtt(msgspec.Struct, frozen=True, kw_only=True):
    """`embedded`: host and port are where our own broker is to listen, port 0 being any free one."""

    embedded: bool
    host: str
    port: int
    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    in_flight_max: int = 100
    status_interval_s: int = 10


class GatewayCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway's challenges are answered with. The password stays in its file until the start."""

    gateway: str
    username: str
    password_file: Path
    realm: str = ""  # the only one that gets it; empty: any


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """What the native module is told at its start."""

    calls_max: int
    events_max: int
    answer_hold_ms_max: int
    admission_wait_ms_max: int
    t1_ms: int
    options_interval_s: int
    retry_after_s: int
    unlisted_source: UnlistedSource
    refer: ReferPolicy
    unlisted_refused_per_s: int
    # Those an InviteReceived, CancelReceived or ByeReceived is to carry, in lower case.
    headers: tuple[str, ...]
    credentials: tuple[GatewayCredentials, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: Path
    profile: str  # its path
    listen: tuple[Listen, ...]
    tls: TlsFiles | None
    bridge: Bridge
    mqtt: Mqtt
    metrics_host: str
    metrics_port: int
    log_level: LogLevel
    heartbeat_ms: int
    snapshot_interval_s: int
