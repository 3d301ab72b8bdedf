"""What the settings mean together: names that do not exist, calls that could go nowhere, money lost.

Errors are what cannot work or would bill the wrong party; warnings are what works and is probably not meant.
"""

from __future__ import annotations

import grp
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from sidecar.config import crosscheck_fraud, crosscheck_money, crosscheck_network, crosscheck_rules
from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, quoted
from sidecar.config.settings import DECLARED, LogPlace, StoreEngine, Web
from sidecar.config.tables import Tables

# Settings whose names end so name a file that holds a secret.
SECRETS = ("password_file", "key_file", "dsn_file")
DSN_FILES = ("store.dsn_file", "web.dsn_file")
OF_OTHERS = stat.S_IROTH | stat.S_IWOTH

# What is wrong with a file that holds a connection string, and whether a start would fail.
DsnReader = Callable[[Path], Sequence[tuple[str, bool]]]


def no_dsn(_: Path) -> Sequence[tuple[str, bool]]:
    return ()


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    crosscheck_network.check(effective, tables, findings)
    crosscheck_money.check(effective, tables, findings)
    crosscheck_rules.check(effective, tables, findings)
    crosscheck_fraud.check(effective, tables, findings)
    _store(effective, findings)
    _broker(effective, findings)
    _metrics(effective, findings)
    _control(effective, findings)
    _web(effective, findings)
    _secrets(effective, tables, findings)
    _log(effective, findings)
    _hep(effective, findings)


def _store(effective: Effective, findings: Findings) -> None:
    store = effective.settings.store
    for key in DSN_FILES:
        crosscheck_network.check_file(effective, key, findings)
        if store.engine is StoreEngine.SQLITE and effective.value(key) is not None:
            text = 'is of a PostgreSQL database: set store.engine = "postgresql"'
            findings.error(*effective.at(key), text)
    if store.engine is StoreEngine.SQLITE:
        return
    if store.dsn_file is None:
        where, _ = effective.at("store.engine")
        findings.error(where, "store.dsn_file", "postgresql needs a file with its connection string")
    if store.lease_s < 2 * effective.settings.timers.heartbeat_s:
        text = "is over between two heartbeats: at least twice timers.heartbeat_s"
        findings.error(*effective.at("store.lease_s"), text)


def check_dsn(effective: Effective, read: DsnReader, findings: Findings) -> None:
    """Of files that are there."""
    for key in DSN_FILES:
        if (file := effective.value(key)) is not None:
            for text, is_error in read(file):
                (findings.error if is_error else findings.warn)(*effective.at(key), text)


def _log(effective: Effective, findings: Findings) -> None:
    log = effective.settings.log
    if log.file is not None and log.to is not LogPlace.AUTO:
        findings.error(*effective.at("log.to"), f"{log.to.value}: the log goes to log.file")


def _hep(effective: Effective, findings: Findings) -> None:
    crosscheck_network.check_file(effective, "hep.password_file", findings)
    if effective.settings.hep.collector is None:
        for key in ("hep.password_file", "hep.accounts"):
            if effective.value(key):
                findings.error(*effective.at(key), "there is no hep.collector")


def _broker(effective: Effective, findings: Findings) -> None:
    mqtt = effective.settings.mqtt
    if not mqtt.embedded and not mqtt.host:
        where, _ = effective.at("mqtt.broker")
        findings.error(where, "mqtt.host", "an external broker needs a host")
    if mqtt.embedded:
        for key in (
            "mqtt.host",
            "mqtt.tls",
            "mqtt.ca_file",
            "mqtt.certificate_file",
            "mqtt.key_file",
            "mqtt.username",
            "mqtt.password_file",
        ):
            if effective.is_given(key) and effective.value(key):
                findings.error(
                    *effective.at(key),
                    'is of an external broker: set mqtt.broker = "external"',
                )
        return
    if not mqtt.tls:
        for key in ("mqtt.ca_file", "mqtt.certificate_file", "mqtt.key_file"):
            if effective.is_given(key):
                findings.error(*effective.at(key), "is of TLS: set mqtt.tls = true")
        if mqtt.password_file is not None and not is_loopback(mqtt.host):
            findings.warn(
                *effective.at("mqtt.password_file"),
                "the password and the CDRs go to the broker in the clear: set mqtt.tls = true",
            )
    if (mqtt.certificate_file is None) != (mqtt.key_file is None):
        findings.error(
            effective.at("mqtt.certificate_file" if mqtt.certificate_file else "mqtt.key_file")[0],
            "mqtt.certificate_file",
            "a certificate and its private key go together",
        )
    if mqtt.password_file is not None and not mqtt.username:
        findings.error(*effective.at("mqtt.password_file"), "needs mqtt.username")
    for key in ("mqtt.ca_file", "mqtt.certificate_file", "mqtt.key_file", "mqtt.password_file"):
        crosscheck_network.check_file(effective, key, findings)


def is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _control(effective: Effective, findings: Findings) -> None:
    group = effective.settings.control.group
    if group:
        try:
            grp.getgrnam(group)
        except KeyError:
            findings.error(
                *effective.at("control.group"), f"there is no group {quoted(group)} on this machine"
            )


def _metrics(effective: Effective, findings: Findings) -> None:
    host, _ = effective.settings.metrics.listen
    if not is_loopback(host):
        findings.warn(
            *effective.at("metrics.listen"),
            f"metrics have no password, and {host} is not loopback",
        )


def _web(effective: Effective, findings: Findings) -> None:
    wrong = web_fault(effective.settings.web)
    if wrong is not None:
        key, text = wrong
        findings.error(*effective.at(key), text)
    for key in ("web.certificate_file", "web.key_file"):
        crosscheck_network.check_file(effective, key, findings)


def _secrets(effective: Effective, tables: Tables, findings: Findings) -> None:
    """A group may read them: root:sidecar 0640 is how a service gets a file that it must not change."""
    named = [
        (effective.at(setting.dotted), effective.value(setting.dotted))
        for setting in DECLARED.values()
        if setting.dotted.endswith(SECRETS)
    ]
    named += [
        (gateway.at("password_file"), gateway.path("password_file")) for gateway in tables.gateways.values()
    ]
    for (where, key), path in named:
        try:
            mode = stat.S_IMODE(path.stat().st_mode) if path is not None else 0
        except OSError:
            continue  # told where it is looked for; the journal's key is made at the start
        if mode & OF_OTHERS:
            text = (
                f"{path} holds a secret, and everybody on this machine may have it ({mode:04o}): chmod o= it"
            )
            findings.warn(where, key, text)


def web_fault(web: Web) -> tuple[str, str] | None:
    """Why the page must not be served so: the setting, and what is wrong with it."""
    if (web.certificate_file is None) != (web.key_file is None):
        return "web.certificate_file", "a certificate and its private key go together"
    is_socket = isinstance(web.listen, Path)
    if is_socket and web.proxies:
        return "web.proxies", "have addresses: at a unix socket whoever may open it is the proxy"
    if web.user_header and not web.proxies and not is_socket:
        text = "needs web.proxies, or a unix socket as web.listen: else anybody could say who he is"
        return "web.user_header", text
    is_open = isinstance(web.listen, tuple) and not is_loopback(web.listen[0])
    if is_open and web.certificate_file is None and not web.proxies:
        text = "passwords would go in the clear: give web.certificate_file and web.key_file, or web.proxies"
        return "web.listen", text
    return None
