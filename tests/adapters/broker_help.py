"""A real Mosquitto for a test, and a subscriber that notes what it gets: no message is waited for by
sleeping."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import msgpack
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sidecar.adapters.broker import BrokerSettings, EmbeddedBroker
from sidecar.adapters.mqtt import MqttSettings

CDR_TOPIC = "sidecar/v1/_/node1/cdr/_/caller"
STATUS_TOPIC = "sidecar/v1/_/node1/status"
WITHIN_S = 20.0


@contextlib.asynccontextmanager
async def running_broker(
    directory: Path, *extra: str, port: int = 0, watched: bool = False
) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(BrokerSettings(directory=directory / "broker", port=port, extra=extra))
    await broker.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(broker.watch(), name="broker") if watched else None
            try:
                yield broker
            finally:
                if watch is not None:
                    watch.cancel()
    finally:
        await broker.stop()


def mqtt_settings(broker: EmbeddedBroker, **changes: object) -> MqttSettings:
    fields: dict[str, object] = {
        "host": broker.host,
        "port": broker.port,
        "node": "node1",
        "status_topic": STATUS_TOPIC,
    }
    return MqttSettings(**(fields | changes))  # type: ignore[arg-type]


class Subscriber:
    """Keeps its session at the broker, so nothing is lost between two connections. `seqs` in order of
    arrival."""

    def __init__(self, host: str, port: int, topic: str = "sidecar/v1/#") -> None:
        self._host, self._port, self._topic = host, port, topic
        self.messages: list[aiomqtt.Message] = []
        self.seqs: list[int] = []  # of CDRs, or of rows whose whole payload is their sequence number
        self.statuses: list[dict[str, object]] = []
        self.connects = 0
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def until(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(holds)

    async def __aenter__(self) -> Subscriber:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._run(), name="subscriber")
        await self.until(lambda: self.connects > 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _run(self) -> None:
        keep = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        keep.SessionExpiryInterval = 3600
        while True:
            try:
                client = aiomqtt.Client(
                    self._host,
                    self._port,
                    identifier="subscriber",
                    protocol=aiomqtt.ProtocolVersion.V5,
                    clean_start=False,
                    properties=keep,
                    timeout=2,
                )
                async with client:
                    await client.subscribe(self._topic, qos=1)
                    await self._note(None)
                    async for message in client.messages:
                        await self._note(message)
            except aiomqtt.MqttError:
                await asyncio.sleep(0.05)

    async def _note(self, message: aiomqtt.Message | None) -> None:
        async with self._news:
            if message is None:
                self.connects += 1
            else:
                self.messages.append(message)
                content = msgpack.unpackb(as_bytes(message), timestamp=0)
                if str(message.topic) == STATUS_TOPIC:
                    self.statuses.append(content)
                elif "/event/" not in str(message.topic):
                    self.seqs.append(content["seq"] if isinstance(content, dict) else content)
            self._news.notify_all()


def as_bytes(message: aiomqtt.Message) -> bytes:
    assert isinstance(message.payload, bytes)
    return message.payload


def payload_of(seq: int) -> bytes:
    return bytes(msgpack.packb(seq))
