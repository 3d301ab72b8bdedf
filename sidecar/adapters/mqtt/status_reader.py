"""What the broker still has of this node: the retained status, or the will in its place."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiomqtt
import msgspec
import paho.mqtt.client as paho
from msgspec.structs import replace

from sidecar.adapters.mqtt.publisher import MqttPublisher, MqttSettings
from sidecar.ports import LinkError
from sidecar.wire.status import Status

CONNECT_S_MAX = 2.0
RETAINED_S_MAX = 0.5  # after the SUBACK; brokers send what they retain at once (MQTT 5 §3.3.1.3)


class MqttStatusReader(MqttPublisher):
    """A client of its own, without a will: reading must change nothing."""

    def __init__(self, settings: MqttSettings) -> None:
        super().__init__(replace(settings, client_id=f"{settings.identifier}-status"), epoch="")
        self._will = None

    async def status(self) -> Status | None:
        """Of the journal that was published from last: where the will has taken its place, the epoch alone.
        None: the broker knows of none, or does not answer in time: a node starts without its broker."""
        with suppress(LinkError, TimeoutError, aiomqtt.MqttError, msgspec.MsgspecError):
            payload = await self._retained()
            if payload:
                return msgspec.msgpack.decode(payload, type=Status)
        return None

    async def _retained(self) -> bytes:
        found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(message: paho.MQTTMessage) -> None:
            if not found.done():
                found.set_result(bytes(message.payload))

        async with asyncio.timeout(CONNECT_S_MAX) as bound, self.connected() as client:
            client.on_published(take)
            await client.subscribe(self._settings.status_topic, qos=1)
            bound.reschedule(asyncio.get_running_loop().time() + RETAINED_S_MAX)
            return await found
