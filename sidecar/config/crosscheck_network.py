"""Who may call, where calls go, and whether the two can meet."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sidecar.config import gateway_probing, places
from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, Where, nearest, quoted
from sidecar.config.settings import ReferPolicy
from sidecar.config.tables import Entry, Tables
from sidecar.config.values import final_codes, is_name
from sidecar.core.policy import Share
from sidecar.core.terms import CallerIdForm, Redirection, TransportName

# Certificate, key and authorities: the file, what is wrong with it, and whether a start would fail.
TlsReader = Callable[[Path, Path, Sequence[Path]], Sequence[tuple[Path, str, bool]]]


def no_tls(_certificate: Path, _key: Path, _authorities: Sequence[Path]) -> Sequence[tuple[Path, str, bool]]:
    return ()


_LISTEN_KEYS = {
    TransportName.UDP: "sip.listen_udp",
    TransportName.TCP: "sip.listen_tcp",
    TransportName.TLS: "sip.listen_tls",
}
# RFC 3261 §21.4.18, §21.4.24, §21.6: the callee was reached, or is known everywhere.
_OF_THE_CALLEE = frozenset({480, 486, *range(600, 700)})


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    _listening(effective, tables, findings)
    _tls(effective, tables, findings)
    _peers(effective, tables, findings)
    _gateways(effective, tables, findings)
    _failover_codes(effective, tables, findings)
    _past_the_bill(effective, tables, findings)
    _routes(tables, findings)
    _timers(effective, tables, findings)


def check_file(effective: Effective, key: str, findings: Findings) -> None:
    path: Path | None = effective.value(key)
    if path is not None and (text := _unreadable(path)):
        findings.error(*effective.at(key), text)


def _unreadable(path: Path) -> str:
    """Why the file cannot be read; empty where it can."""
    try:
        text = "" if path.is_file() else f"there is no file {path}"
        if not text and not os.access(path, os.R_OK):
            text = f"{path} cannot be read by this user"
    except OSError as error:  # a folder that we may not look into, a name that is too long
        text = f"{path} cannot be read: {error.strerror}"
    return text


def _listening(effective: Effective, tables: Tables, findings: Findings) -> None:
    if not effective.settings.sip.listeners():
        findings.error(
            tables.profile,
            "sip.listen_udp",
            "nothing to listen on: give listen_udp, listen_tcp or listen_tls",
        )
    streams = {address for address in effective.settings.sip.listen_tcp if address[1]}
    for host, port in effective.settings.sip.listen_tls:
        if (host, port) in streams:
            findings.error(
                *effective.at("sip.listen_tls"),
                f"{host} port {port} is given for TCP too",
            )
    if effective.settings.metrics.listen in streams:
        findings.error(
            *effective.at("metrics.listen"),
            "is an address of SIP over TCP too",
        )


def _tls(effective: Effective, tables: Tables, findings: Findings) -> None:
    certificate, key = effective.settings.sip.tls_certificate_file, effective.settings.sip.tls_key_file
    listening = bool(effective.settings.sip.listen_tls)
    if listening and (certificate is None or key is None):
        findings.error(
            *effective.at("sip.listen_tls"),
            "needs sip.tls_certificate_file and sip.tls_key_file",
        )
    for file in ("sip.tls_certificate_file", "sip.tls_key_file", "sip.tls_ca_file"):
        check_file(effective, file, findings)
    for entry in (*tables.peers.values(), *tables.gateways.values()):
        path = entry.path("tls_ca_file")
        if path is not None and (text := _unreadable(path)):
            findings.error(*entry.at("tls_ca_file"), text)
    if not listening:
        _never_by_certificate(tables, findings)
    elif effective.settings.sip.tls_ca_file is None:
        _names_unverified(tables, findings)
    _gateways_by_certificate(tables, findings)


def check_tls_content(effective: Effective, tables: Tables, read: TlsReader, findings: Findings) -> None:
    """Of files that are there: what a start would make of them."""
    sip = effective.settings.sip
    certificate, key = sip.tls_certificate_file, sip.tls_key_file
    if not sip.listen_tls or certificate is None or key is None:
        return
    settings = [(certificate, "sip.tls_certificate_file"), (key, "sip.tls_key_file")]
    if sip.tls_ca_file is not None:
        settings.append((sip.tls_ca_file, "sip.tls_ca_file"))
    where = {file: effective.at(name) for file, name in settings}
    authorities = [file for file, _ in settings[2:]]
    for entry in (*tables.peers.values(), *tables.gateways.values()):
        if (path := entry.path("tls_ca_file")) is not None:
            authorities.append(path)
            where.setdefault(path, entry.at("tls_ca_file"))
    for file, text, is_error in read(certificate, key, authorities):
        (findings.error if is_error else findings.warn)(*where[file], text)


def _never_by_certificate(tables: Tables, findings: Findings) -> None:
    asked = [(peer, field) for peer in tables.peers.values() for field in ("tls_names", "tls_ca_file")]
    asked += [(rule, "tls_name") for rule in tables.account_rules]
    for entry, field in asked:
        if entry[field]:
            findings.error(*entry.at(field), "can never match: there is no sip.listen_tls")


def _names_unverified(tables: Tables, findings: Findings) -> None:
    """Where the node has no CA file; one of their own will do."""
    for peer in tables.peers.values():
        if peer["tls_names"] and peer["tls_ca_file"] is None:
            findings.error(
                *peer.at("tls_names"),
                "certificates of peers are verified against sip.tls_ca_file: it is missing",
            )
    blocks = [
        ipaddress.ip_network(block)
        for peer in tables.peers.values()
        if peer["tls_ca_file"] is not None
        for block in peer["addresses"]
    ]
    for gateway in tables.gateways.values():
        if not gateway["tls_names"] or gateway["tls_ca_file"] is not None:
            continue
        host = gateway["host"]
        if host is None:
            continue
        # The addresses of a name are not known here, nor is their group.
        if is_name(host) or not any(ipaddress.ip_address(host) in block for block in blocks):
            findings.error(
                *gateway.at("tls_names"),
                "its certificate is verified only with sip.tls_ca_file",
            )


def _gateways_by_certificate(tables: Tables, findings: Findings) -> None:
    authorities: dict[str, Path] = {}
    for gateway in tables.gateways.values():
        for field in ("tls_names", "tls_ca_file"):
            if gateway[field] and gateway["transport"] is not TransportName.TLS and not _dns_says(gateway):
                findings.error(*gateway.at(field), 'needs transport = "tls"')
        path = gateway.path("tls_ca_file")
        if path is not None and authorities.setdefault(gateway["host"], path) != path:
            findings.error(
                *gateway.at("tls_ca_file"),
                f"another gateway at {gateway['host']} has another: one host has one",
            )


# --- peers --------------------------------------------------------------------------------------------------


def _peers(effective: Effective, tables: Tables, findings: Findings) -> None:
    if not tables.peers:
        findings.error(tables.profile, "peers", "nobody may call: give at least one [peers.NAME]")
    for peer in tables.peers.values():
        addresses = peer["addresses"] or ()
        if "addresses" in peer.given and not addresses:
            findings.error(*peer.at("addresses"), "is empty")
        for text in addresses:
            if ipaddress.ip_network(text).prefixlen == 0:
                findings.warn(*peer.at("addresses"), f"{text}: the whole internet may call")
    _overlaps(tables, findings)


class _Block(NamedTuple):
    """Sorts so that a block comes directly after those that hold it."""

    version: int
    first: int
    prefix_length: int
    place: int  # of the peer in the profile
    network: ipaddress.IPv4Network | ipaddress.IPv6Network


def _overlaps(tables: Tables, findings: Findings) -> None:
    """An address is in one group, unless ports tell two apart: the bridge takes the first group that fits,
    and the call is billed by it. Blocks are nested or apart, so one pass in order meets every overlap."""
    peers = list(tables.peers.values())
    blocks = []
    for place, peer in enumerate(peers):
        for text in peer["addresses"] or ():
            network = ipaddress.ip_network(text)
            first = int(network.network_address)
            blocks.append(_Block(network.version, first, network.prefixlen, place, network))
    seen: set[tuple[int, int]] = set()
    around: list[_Block] = []
    for block in sorted(blocks, key=lambda block: block[:4]):
        while around and not _holds(around[-1], block):
            around.pop()
        for outer in around:
            pair = min(outer.place, block.place), max(outer.place, block.place)
            if pair[0] == pair[1] or pair in seen or not _share_a_port(peers[pair[0]], peers[pair[1]]):
                continue
            seen.add(pair)
            one, other = peers[pair[0]], peers[pair[1]]
            in_one, in_other = (outer, block) if outer.place == pair[0] else (block, outer)
            findings.error(
                *other.at("addresses"),
                f"{in_other.network} overlaps {in_one.network} of {one.written} ({one.where('addresses')}): "
                f"whose call would it be?",
            )
        around.append(block)


def _holds(outer: _Block, inner: _Block) -> bool:
    return outer.version == inner.version and int(outer.network.broadcast_address) >= inner.first


def _share_a_port(one: Entry, other: Entry) -> bool:
    return not one["port"] or not other["port"] or bool(one["port"] == other["port"])


# --- gateways and routes ------------------------------------------------------------------------------------


def _gateways(effective: Effective, tables: Tables, findings: Findings) -> None:
    if not tables.gateways:
        findings.error(tables.profile, "gateways", "calls can go nowhere: give at least one [gateways.NAME]")
    for gateway in tables.gateways.values():
        _credentials(gateway, findings)
        _caller_id(gateway, tables, findings)
        gateway_probing.check(gateway, findings)
        host, port, transport = gateway["host"], gateway["port"], gateway["transport"]
        ours: Sequence[tuple[str, int]] = effective.value(_LISTEN_KEYS[transport])
        if _is_looked_up(gateway):
            _name(gateway, bool(ours), effective, findings)
            continue
        if port is None and "port" not in gateway.given:
            findings.error(gateway.where(), gateway.at("port")[1], "is missing")
        if host is None or port is None:
            continue
        if (host, port) in ours:
            findings.error(*gateway.at("port"), f"{host} port {port} is our own: calls would loop")
        if not ours:
            findings.error(*gateway.at("transport"), f"needs sip.listen_{transport.value}")
        elif not any((":" in address) == (":" in host) for address, _ in ours):
            version = "IPv6" if ":" in host else "IPv4"
            findings.error(
                *gateway.at("host"),
                f"needs an {version} address in sip.listen_{transport.value}",
            )


def _dns_says(gateway: Entry) -> bool:
    """Its transport is DNS's to say."""
    return _is_looked_up(gateway) and "transport" not in gateway.given and gateway["port"] is None


def _is_looked_up(gateway: Entry) -> bool:
    return gateway["host"] is not None and is_name(gateway["host"])


def _name(gateway: Entry, listening: bool, effective: Effective, findings: Findings) -> None:
    if ("transport" in gateway.given or gateway["port"] is not None) and not listening:
        findings.error(*gateway.at("transport"), f"needs sip.listen_{gateway['transport'].value}")
    if not effective.settings.dns.servers and not _has_resolver(places.RESOLV_CONF):
        text = (
            f"is a name and needs a resolver: {places.RESOLV_CONF} names none, and dns.servers is not given"
        )
        findings.warn(*gateway.at("host"), text)


def _has_resolver(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split()[:1] == ["nameserver"] for line in lines)


def _past_the_bill(effective: Effective, tables: Tables, findings: Findings) -> None:
    redirected = "callers are sent where a 3xx says: those calls may go past the bill"
    if effective.settings.sip.redirect is Redirection.PASS:
        findings.warn(*effective.at("sip.redirect"), redirected)
    for gateway in tables.gateways.values():
        if gateway["redirect"] is Redirection.PASS:
            findings.warn(*gateway.at("redirect"), redirected)
    if effective.settings.sip.refer is ReferPolicy.PASS:
        findings.warn(
            *effective.at("sip.refer"),
            "parties are sent where a REFER says: those calls may go past the bill",
        )


def _credentials(gateway: Entry, findings: Findings) -> None:
    path = gateway.path("password_file")
    if path is not None and (text := _unreadable(path)):
        findings.error(*gateway.at("password_file"), text)
    for field, other in (("username", "password_file"), ("password_file", "username"), ("realm", "username")):
        if gateway[field] and not gateway[other]:
            findings.error(*gateway.at(field), f"needs {other} beside it")


def _failover_codes(effective: Effective, tables: Tables, findings: Findings) -> None:
    key = "sip.failover_codes"
    _callee_codes(*effective.at(key), effective.settings.sip.failover_codes, findings)
    for gateway in tables.gateways.values():
        field = "failover_codes"
        _callee_codes(*gateway.at(field), gateway[field] or (), findings)


def _callee_codes(where: Where, key: str, words: Sequence[str], findings: Findings) -> None:
    for word in words:
        if final_codes([word]) & _OF_THE_CALLEE:
            findings.warn(
                where,
                key,
                f"{word}: so the callee answers (480, 486, 6xx), not the gateway: the next one rings whoever "
                f"has just refused the call",
            )


def _caller_id(gateway: Entry, tables: Tables, findings: Findings) -> None:
    asserts = gateway["caller_id"] in (CallerIdForm.PAI, CallerIdForm.RPID)
    if asserts and not any(peer["asserts_identity"] for peer in tables.peers.values()):
        findings.warn(
            *gateway.at("caller_id"),
            "nothing is asserted of anyone: no peer has asserts_identity = true",
        )


def _routes(tables: Tables, findings: Findings) -> None:
    seen: dict[str, Entry] = {}
    reached: set[str] = set()
    unread = False  # one has a wrong list of gateways, which is an error already: who is reached is not known
    for route in tables.routes:
        if "gateways" in route.given and route["gateways"] == ():
            findings.error(*route.at("gateways"), "is empty")
        unread |= route["gateways"] is None
        names = [name for one in route["gateways"] or () for name in _names(one)]
        for name in dict.fromkeys(names):
            reached.add(name)
            if names.count(name) > 1:
                findings.error(*route.at("gateways"), f"{quoted(name)} is given twice")
            if name not in tables.gateways:
                findings.error(
                    *route.at("gateways"),
                    f"there is no gateway {quoted(name)}",
                    nearest(name, tables.gateways),
                )
        prefix = route["prefix"]
        if prefix is not None and seen.setdefault(prefix, route) is not route:
            findings.error(
                *route.at("prefix"),
                f"{quoted(prefix)} is the prefix of {seen[prefix].written} too, "
                f"{seen[prefix].where('prefix')}",
            )
    if tables.routes and all(route.is_stored for route in tables.routes):
        text = "the files have no route, by which every call would go to every gateway: these alone hold"
        findings.warn(tables.routes[0].where(), "routes", text)
    if tables.routes and not unread:
        for gateway in tables.gateways.values():
            if gateway.name not in reached:
                findings.warn(*gateway.at(), "no route leads to it")
        if tables.gateways and not reached & set(tables.gateways):
            findings.error(tables.routes[0].where(), "routes", "no gateway is reached by any route")


def _names(one: str | tuple[Share, ...]) -> tuple[str, ...]:
    return (one,) if isinstance(one, str) else tuple(share.gateway for share in one)


def _timers(effective: Effective, tables: Tables, findings: Findings) -> None:
    ring_s = effective.settings.timers.ring_timeout_s
    for gateway in tables.gateways.values():
        own = gateway["no_response_failover_s"]
        failover_s = effective.settings.timers.no_response_failover_s if own is None else own
        if failover_s >= ring_s and len(tables.gateways) > 1:
            findings.warn(
                gateway.where("no_response_failover_s"),
                gateway.written,
                f"waits {failover_s} s for a first response, but the call ends after {ring_s} s "
                f"(timers.ring_timeout_s): the next gateway is never tried",
            )
        progress_s = gateway["no_progress_failover_s"]
        if progress_s is not None and progress_s >= ring_s:
            field = "no_progress_failover_s"
            findings.warn(
                *gateway.at(field),
                f"{progress_s} s are never reached: the call ends after {ring_s} s (timers.ring_timeout_s)",
            )
