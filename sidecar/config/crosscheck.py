"""What the settings mean together: names that do not exist, calls that could go nowhere, money lost.

Errors are what cannot work or would bill the wrong party; warnings are what works and is probably not meant.
"""

from __future__ import annotations

from sidecar.config import crosscheck_money, crosscheck_network, entries, keys
from sidecar.config.key import BrokerKind
from sidecar.config.layers import Effective
from sidecar.config.problems import Findings
from sidecar.config.tables import Tables

default_deck = crosscheck_money.default_deck


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    crosscheck_network.check(effective, tables, findings)
    crosscheck_money.check(effective, tables, findings)
    _broker(effective, findings)
    _metrics(effective, findings)
    _not_yet_in_force(effective, tables, findings)


def _not_yet_in_force(effective: Effective, tables: Tables, findings: Findings) -> None:
    """A setting that is accepted and does nothing must say so: somebody relies on it."""
    for key in keys.KEYS:
        if key.not_yet and effective.is_given(key):
            text = f"is accepted, but not yet in force: {key.not_yet}"
            findings.warn(effective.where(key), effective.name(key), text)
    for peer in tables.peers.values():
        for field in entries.PEERS.fields.values():
            if field.not_yet and field.name in peer.given:
                text = f"is accepted, but not yet in force: {field.not_yet}"
                findings.warn(peer.where(field.name), peer.key(field.name), text)


def _broker(effective: Effective, findings: Findings) -> None:
    external = effective[keys.BROKER] is BrokerKind.EXTERNAL
    if external and not effective[keys.MQTT_HOST]:
        findings.error(effective.where(keys.BROKER), keys.MQTT_HOST.dotted, "an external broker needs a host")
    if not external:
        for key in (
            keys.MQTT_HOST,
            keys.MQTT_TLS,
            keys.MQTT_CA,
            keys.MQTT_CERTIFICATE,
            keys.MQTT_KEY,
            keys.MQTT_USERNAME,
            keys.MQTT_PASSWORD,
        ):
            if effective.is_given(key) and effective[key]:
                findings.error(
                    effective.where(key),
                    effective.name(key),
                    'is of an external broker: set mqtt.broker = "external"',
                )
        return
    if not effective[keys.MQTT_TLS]:
        for key in (keys.MQTT_CA, keys.MQTT_CERTIFICATE, keys.MQTT_KEY):
            if effective.is_given(key):
                findings.error(effective.where(key), effective.name(key), "is of TLS: set mqtt.tls = true")
        if effective[keys.MQTT_PASSWORD] is not None and not is_loopback(effective[keys.MQTT_HOST]):
            findings.warn(
                effective.where(keys.MQTT_PASSWORD),
                effective.name(keys.MQTT_PASSWORD),
                "the password and the CDRs go to the broker in the clear: set mqtt.tls = true",
            )
    if (effective[keys.MQTT_CERTIFICATE] is None) != (effective[keys.MQTT_KEY] is None):
        findings.error(
            effective.where(keys.MQTT_CERTIFICATE if effective[keys.MQTT_CERTIFICATE] else keys.MQTT_KEY),
            keys.MQTT_CERTIFICATE.dotted,
            "a certificate and its private key go together",
        )
    if effective[keys.MQTT_PASSWORD] is not None and not effective[keys.MQTT_USERNAME]:
        findings.error(
            effective.where(keys.MQTT_PASSWORD), effective.name(keys.MQTT_PASSWORD), "needs mqtt.username"
        )
    for key in (keys.MQTT_CA, keys.MQTT_CERTIFICATE, keys.MQTT_KEY, keys.MQTT_PASSWORD):
        crosscheck_network.check_file(effective, key, findings)


def is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _metrics(effective: Effective, findings: Findings) -> None:
    host, _ = effective[keys.METRICS_LISTEN]
    if not is_loopback(host):
        findings.warn(
            effective.where(keys.METRICS_LISTEN),
            effective.name(keys.METRICS_LISTEN),
            f"metrics have no password, and {host} is not loopback",
        )
