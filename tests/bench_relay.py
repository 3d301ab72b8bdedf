"""What the relay carries: `python -m tests.bench_relay [--rows N] [--bytes N] [--dir PATH]`.

Drains a backlog from memory and from the SQLite store into the embedded Mosquitto, beside a bare aiomqtt loop
with as many messages in flight, in the same run; then the way of single rows: commit to PUBACK, commit to
subscriber.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import msgpack

from sidecar.adapters.broker import EmbeddedBroker
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.logs import configure
from sidecar.adapters.memory import MemoryOutbox
from sidecar.adapters.mqtt import MqttPublisher
from sidecar.adapters.sqlite import SqliteStore
from sidecar.ports import Outbox, OutboxStatus
from sidecar.runtime.outbox import OutboxRelay
from tests.adapters.broker_help import CDR_TOPIC, Subscriber, mqtt_settings, running_broker
from tests.adapters.store_calls import BOOT_ID, whole_call

DRAIN_S_MAX = 300.0
SINGLE_ROWS = 300
SHARE_MIN = (
    0.7  # of a bare aiomqtt loop: a backlog that drains slower is not noticed by calls, but by billers
)


@contextlib.asynccontextmanager
async def relaying(
    outbox: Outbox, status: OutboxStatus, broker: EmbeddedBroker
) -> AsyncIterator[OutboxRelay]:
    relay = OutboxRelay(outbox, status, MqttPublisher(mqtt_settings(broker), "bench"))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(relay.run(), name="relay")
        try:
            yield relay
        finally:
            task.cancel()


async def drain(name: str, rows: int, outbox: Outbox, status: OutboxStatus, broker: EmbeddedBroker) -> float:
    begun = time.perf_counter(), time.process_time()
    async with relaying(outbox, status, broker) as relay:
        assert await relay.drained(DRAIN_S_MAX)
    return told(name, rows, *begun)


async def bare(rows: int, payload: bytes, broker: EmbeddedBroker) -> float:
    numbers = iter(range(rows))
    client = aiomqtt.Client(
        broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=100
    )
    client.pending_calls_threshold = rows

    async def publish() -> None:
        for _ in numbers:
            await client.publish(CDR_TOPIC, payload, qos=1)

    async with client:
        begun = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for number in range(100):
                tasks.create_task(publish(), name=f"publish-{number}")
        return told("bare aiomqtt", rows, *begun)


def told(name: str, rows: int, began_s: float, cpu_began_s: float) -> float:
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    print(f"{name:24} {rows / took_s:8.0f} rows/s  {cpu_s / rows * 1e6:6.1f} µs CPU/row")
    return rows / took_s


async def single_rows(store: SqliteStore, broker: EmbeddedBroker, first: int) -> None:
    """Submit one call's end, wait for its CDR at a subscriber, and so on: no load."""
    at_puback_ms: list[float] = []
    at_subscriber_ms: list[float] = []
    committed_s = 0.0

    def committed() -> None:
        nonlocal committed_s
        committed_s = time.perf_counter()
        relay._rows_added()

    def on_puback(seq: int, code: int) -> None:
        at_puback_ms.append((time.perf_counter() - committed_s) * 1e3)
        OutboxRelay._on_puback(relay, seq, code)

    async with (
        Subscriber(broker.host, broker.port) as subscriber,
        relaying(store.outbox, store.outbox, broker) as relay,
    ):
        await relay.drained(DRAIN_S_MAX)
        store.outbox.on_rows(committed)
        relay._on_puback = on_puback  # type: ignore[method-assign]
        for number in range(first, first + SINGLE_ROWS):
            seen = len(subscriber.seqs)
            store.submit(whole_call(number)[-1])
            await subscriber.until(lambda seen=seen: len(subscriber.seqs) > seen)  # type: ignore[misc]
            at_subscriber_ms.append((time.perf_counter() - committed_s) * 1e3)
    for name, values in (("commit to PUBACK", at_puback_ms), ("commit to subscriber", at_subscriber_ms)):
        values.sort()
        p50, p99 = values[len(values) // 2], values[len(values) * 99 // 100]
        print(f"{name:24} p50 {p50:.2f} ms  p99 {p99:.2f} ms")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=2_000)
    parser.add_argument("--dir", type=Path, default=Path())
    arguments = parser.parse_args()
    configure("warning")
    directory = Path(tempfile.mkdtemp(prefix="bench-relay-", dir=arguments.dir))
    payload = bytes(msgpack.packb(os.urandom(arguments.bytes)))
    try:
        async with running_broker(directory) as broker:
            await measure(directory, arguments.rows, payload, broker)
    finally:
        shutil.rmtree(directory)


async def measure(directory: Path, rows: int, payload: bytes, broker: EmbeddedBroker) -> None:
    bare_rate = await bare(rows, payload, broker)
    memory = MemoryOutbox()
    for number in range(rows):
        memory.add(CDR_TOPIC, payload, f"{number:036}")
    memory_rate = await drain("relay, rows in memory", rows, memory, memory, broker)
    store = SqliteStore.open(directory / "data", node="node1", boot_id=BOOT_ID, clock=SystemClock())
    for number in range(1, rows + 1):
        store.submit(whole_call(number)[-1])
    while (await store.outbox.outbox_state()).head_seq < rows:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    store.outbox.rows_doubtful()  # as after a restart: read from the file
    record = await store.outbox.pending(0, 1)
    bare_record_rate = await bare(rows, record[0].payload, broker)
    store_rate = await backlog(rows, store, broker)
    memory_share, store_share = memory_rate / bare_rate, store_rate / bare_record_rate
    print(f"of the bare loop: {memory_share:.2f} from memory")
    print(
        f"backlog of {rows} records on disk, in order: {store_share:.2f} of a bare loop with as large"
        f" messages (target {SHARE_MIN})"
    )
    await single_rows(store, broker, rows + 1)
    await store.close()


async def backlog(rows: int, store: SqliteStore, broker: EmbeddedBroker) -> float:
    """Drains what is on disk, and sees that the broker took it in the order of the numbers."""
    taken: list[int] = []

    def on_puback(seq: int, code: int) -> None:
        taken.append(seq)
        OutboxRelay._on_puback(relay, seq, code)

    begun = time.perf_counter(), time.process_time()
    async with relaying(store.outbox, store.outbox, broker) as relay:
        relay._on_puback = on_puback  # type: ignore[method-assign]
        assert await relay.drained(DRAIN_S_MAX)
    rate = told("relay, rows on disk", rows, *begun)
    assert taken == list(range(1, rows + 1)), "not in order"
    return rate


if __name__ == "__main__":
    asyncio.run(main())
