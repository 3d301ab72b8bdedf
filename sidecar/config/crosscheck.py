"""What the settings mean together: names that do not exist, calls that could go nowhere, money lost.

Errors are what cannot work or would bill the wrong party; warnings are what works and is probably not meant.
"""

from __future__ import annotations

import grp

from sidecar.config import crosscheck_fraud, crosscheck_money, crosscheck_network, crosscheck_rules
from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, quoted
from sidecar.config.tables import Tables


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    crosscheck_network.check(effective, tables, findings)
    crosscheck_money.check(effective, tables, findings)
    crosscheck_rules.check(effective, tables, findings)
    crosscheck_fraud.check(effective, tables, findings)
    _broker(effective, findings)
    _metrics(effective, findings)
    _control(effective, findings)


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
