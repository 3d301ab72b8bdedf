"""The settings as the bridge takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from sidecar.b2bua.hook import HookError
from sidecar.b2bua.settings import (
    BridgeSettings,
    Collector,
    Credentials,
    Listener,
    PeerGroup,
    TlsFiles,
)
from sidecar.config import Settings
from sidecar.config.settings import GatewayCredentials, Hep, StoreEngine
from sidecar.core.policy import Policy
from sidecar.core.terms import NatCheck, TransportName


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
        tells_stray_byes=settings.store.engine is StoreEngine.POSTGRESQL,
        options_interval_ms=settings.timers.options_interval_s * 1_000,
        wanted_headers=settings.headers,
        carried_urns=policy.routes.urns,
        emergency_users=policy.emergency_numbers,
        collector=_collector(settings.hep),
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
    password = _first_line(of.password_file, f"gateways.{of.gateway}.password_file")
    return Credentials(gateway=of.gateway, username=of.username, password=password, realm=of.realm)


def _first_line(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise HookError(f"{setting}: {path} is not UTF-8") from None


def _collector(hep: Hep) -> Collector | None:
    if hep.collector is None:
        return None
    host, port = hep.collector
    file = hep.password_file
    key = "" if file is None else _first_line(file, "hep.password_file")
    return Collector(host=host, port=port, capture_id=hep.capture_id, key=key)
