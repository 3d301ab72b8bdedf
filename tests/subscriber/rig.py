"""A node without SIP: its real journal, outbox and link to a broker. And `sidecar subscribe` as a process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.mqtt import MqttPublisher, MqttReplayDoor, MqttSettings
from sidecar.adapters.sqlite import SqliteStore
from sidecar.demo.children import environment
from sidecar.runtime.outbox import Backoff, OutboxRelay, RelayLimits
from sidecar.runtime.replay import Replayer
from sidecar.wire.topics import status_topic
from tests.adapters.store_calls import BOOT_ID, whole_call
from tests.rig.broker import Mosquitto
from tests.rig.node import until
from tests.subscriber.places import Place

USER = "biller"
NODE = "n1"  # of the records that store_calls makes
WITHIN_S = 120.0


class Node:
    def __init__(self, store: SqliteStore, relay: OutboxRelay, replayer: Replayer) -> None:
        self.store = store
        self.relay = relay
        self.replayer = replayer
        self.count = 0

    async def publish(self, count: int, *, within_s: float = WITHIN_S) -> None:
        """So many more records, until the broker has acknowledged all that there are."""
        self.write(count)
        await self.delivered(within_s)

    def write(self, count: int) -> None:
        for number in range(self.count + 1, self.count + count + 1):
            self.store.submit(whole_call(number)[-1])
        self.count += count

    async def delivered(self, within_s: float = WITHIN_S) -> None:
        async def is_empty() -> bool:
            state = await self.store.outbox.outbox_state()
            return state.head_seq == self.count and not state.depth

        await until(is_empty, within_s)


@asynccontextmanager
async def publishing(folder: Path, broker: Mosquitto, users: Sequence[str] = (USER,)) -> AsyncIterator[Node]:
    store = SqliteStore.open(folder / "data", node=NODE, boot_id=BOOT_ID, clock=SystemClock())
    settings = MqttSettings(
        host=broker.host, port=broker.port, node=NODE, status_topic=status_topic("_", NODE)
    )
    relay = OutboxRelay(
        store.outbox,
        store.outbox,
        MqttPublisher(settings, store.epoch),
        limits=RelayLimits(status_interval_s=0.5, ack_timeout_s=2.0),
        backoff=Backoff(most_s=1.0),
    )
    door = MqttReplayDoor(settings, users)
    replayer = Replayer(
        store.replays, door, lambda: relay.is_busy, store.note_soon, backoff=Backoff(most_s=1.0)
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(relay.run(), name="relay"),
                tasks.create_task(replayer.run(), name="replay"),
            ]
            try:
                yield Node(store, relay, replayer)
            finally:
                for task in running:
                    task.cancel()
    finally:
        await store.close()


class Command:
    """`sidecar subscribe` as a process; what it logs is in `log`."""

    def __init__(self, broker: Sequence[Any], place: Place, log: Path, options: Sequence[str] = ()) -> None:
        host, port = broker[:2]
        self._words = [f"{host}:{port}", *place.options(), *options]
        self.log = log
        self._child: asyncio.subprocess.Process | None = None

    async def start(self, *more: str) -> None:
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sidecar.cli", "subscribe", *self._words, *more),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
            )

    def kill(self) -> None:
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGKILL)

    async def ended(self) -> int:
        assert self._child is not None
        async with asyncio.timeout(WITHIN_S):
            return await self._child.wait()

    async def stop(self) -> int:
        if self._child is not None and self._child.returncode is None:
            self._child.terminate()
        return await self.ended()

    async def says(self, pattern: str, times: int = 1) -> None:
        await until(lambda: len(re.findall(pattern, self.log.read_text())) >= times, WITHIN_S)


@asynccontextmanager
async def subscribing(
    broker: Mosquitto, place: Place, log: Path, options: Sequence[str] = ()
) -> AsyncIterator[Command]:
    command = Command((broker.host, broker.port), place, log, options)
    await command.start()
    try:
        await command.says("connected")
        yield command
    finally:
        await command.stop()


async def holds(place: Place, count: int) -> None:
    """Until records 1 to `count` are there; each once."""
    await until(lambda: len(place.seqs()) >= count, WITHIN_S)
    assert place.seqs() == list(range(1, count + 1))
