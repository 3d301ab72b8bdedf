"""The broker as the settings have it, and what it knows of a node before it starts."""

from __future__ import annotations

from sidecar.adapters.mqtt import MqttSettings, MqttStatusReader
from sidecar.adapters.store.store import StoreError
from sidecar.config import Settings
from sidecar.ports import NodeStore, Seen
from sidecar.wire import topics


def mqtt_settings(settings: Settings, tenant: str, node: str, host: str, port: int) -> MqttSettings:
    mqtt = settings.mqtt
    return MqttSettings(
        host=host,
        port=port,
        tenant=tenant,
        node=node,
        status_topic=topics.status_topic(tenant, node),
        username=mqtt.username or None,
        password_file=mqtt.password_file,
        tls=mqtt.tls,
        ca_file=mqtt.ca_file,
        certificate_file=mqtt.certificate_file,
        key_file=mqtt.key_file,
        in_flight_max=mqtt.in_flight_max,
    )


async def seen_by_broker(settings: Settings, tenant: str, node: str) -> Seen | None:
    """What an external broker has of a node. The embedded one is not up before the node is: it is asked as
    soon as the data directory is held, and its broker runs."""
    if settings.mqtt.embedded:
        return None
    return await seen_at(mqtt_settings(settings, tenant, node, *settings.mqtt.address))


async def seen_at(mqtt: MqttSettings) -> Seen | None:
    status = await MqttStatusReader(mqtt).status()
    return None if status is None else Seen(status.epoch, status.head_seq)


async def has_rival(mqtt: MqttSettings) -> bool:
    """The broker has the status, or the will, of another start than ours: another node of our name."""
    status = await MqttStatusReader(mqtt).status()
    return status is not None and status.boot_id not in ("", mqtt.boot_id)


async def refuse_forgotten(store: NodeStore, seen: Seen) -> None:
    """StoreError: the journal is new, and the broker knows of one that this node had."""
    await store.discard()
    raise StoreError(
        "there is no journal, and the broker has the status of one that this node had"
        f" (epoch {seen.epoch}): put it back, restore a backup, or begin anew: `sidecar run --new`"
    )
