"""An MQTT subscriber as any billing system could write it: aiomqtt, msgpack and nothing of ours.

It shares no code with the publisher on purpose: what it can read, others can.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt
import msgpack
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TOPIC = "sidecar/v1/+/+/cdr/#"
SESSION_S = 3600

Record = dict[str, Any]


class Subscriber:
    """Collects CDRs from the broker until the link ends. `first` holds each message id once; what came again
    is counted."""

    def __init__(self, host: str, port: int, username: str | None, password: str | None) -> None:
        self._host = host
        self._port = port
        self._username = username
        self._password = password
        self.first: dict[str, Record] = {}
        self.again = 0
        self.subscribed = asyncio.Event()
        self._news = asyncio.Event()

    async def run(self) -> None:
        # What is published while nobody listens is kept for a session that outlives its connection.
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = SESSION_S
        client = aiomqtt.Client(
            self._host,
            self._port,
            username=self._username,
            password=self._password,
            identifier="sidecar-demo",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=kept,
        )
        try:
            async with client:
                await client.subscribe(TOPIC, qos=1)
                self.subscribed.set()
                async for message in client.messages:
                    self._take(message.payload)
        except aiomqtt.MqttError:
            if not self.subscribed.is_set():
                raise
            # The embedded broker ended together with the daemon: there is nothing more to come.

    async def until(self, count: int) -> None:
        """Until `count` different records are here."""
        while len(self.first) < count:
            self._news.clear()
            await self._news.wait()

    def _take(self, payload: Any) -> None:
        record: Record = msgpack.unpackb(payload, timestamp=3)  # 3: timestamps as aware datetimes
        if record["message_id"] in self.first:
            self.again += 1
        else:
            self.first[record["message_id"]] = record
        self._news.set()
