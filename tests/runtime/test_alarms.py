"""Alarms on their way out: with a broker, while there is none, and when there are too many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgpack

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.mqtt import MqttPublisher, MqttSettings
from sidecar.core.alarms import LowBalance
from sidecar.core.audit import Change
from sidecar.demo.children import free_ports
from sidecar.runtime.alarms import NOTED_PER_MIN, WAITING_MAX, Alarms
from tests.adapters.broker_help import WITHIN_S, Subscriber, as_bytes, mqtt_settings, running_broker

TOPIC = "sidecar/v1/_/node1/event/low_balance"


def low_balance(account: str) -> LowBalance:
    return LowBalance(
        raised_at=datetime(2026, 11, 27, tzinfo=UTC),
        account=account,
        currency="EUR",
        available=Decimal(1),
        threshold=Decimal(5),
    )


class Rig:
    def __init__(
        self, mqtt: MqttSettings, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self.metrics = Metrics()
        self.noted: list[Change] = []
        self.alarms = Alarms(
            tenant="_",
            node="node1",
            boot_id="boot",
            publisher=MqttPublisher(mqtt, None, "event"),
            note=self.noted.append,
            clock=SystemClock(),
            meter=self.metrics,
            sleep=sleep,
        )

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.alarms.run(), name="alarms")
            try:
                yield
            finally:
                task.cancel()


async def test_an_alarm_is_an_event_on_the_broker_a_count_and_an_entry_for_the_audit_table(
    tmp_path: Path,
) -> None:
    async with running_broker(tmp_path) as broker:
        rig = Rig(mqtt_settings(broker))
        async with Subscriber(broker.host, broker.port, TOPIC) as subscriber, rig.running():
            for number in range(60):  # more than the broker's window, twice
                rig.alarms.raise_alarm(low_balance(f"a{number}"))
            await subscriber.until(lambda: len(subscriber.messages) >= 30)
            rig.alarms.raise_alarm(low_balance("later"))
            await subscriber.until(lambda: len(subscriber.messages) == 61)
    events = [msgpack.unpackb(as_bytes(one), timestamp=3) for one in subscriber.messages]
    assert [one["alarm"]["account"] for one in events] == [*(f"a{number}" for number in range(60)), "later"]
    assert len({one["message_id"] for one in events}) == 61
    message = subscriber.messages[0]
    assert (message.qos, message.retain) == (1, False)
    assert dict(message.properties.UserProperty)["message_id"] == events[0]["message_id"]  # type: ignore[union-attr]
    assert rig.count("sidecar_alarms_total", kind="low_balance") == 61
    assert [change.subject for change in rig.noted] == [one["alarm"]["account"] for one in events]


async def test_alarms_wait_for_a_broker_that_is_not_there(tmp_path: Path) -> None:
    [port] = free_ports("127.0.0.1", 1)
    refused, go_on = asyncio.Event(), asyncio.Event()

    async def pause(_: float) -> None:
        refused.set()
        await go_on.wait()

    rig = Rig(MqttSettings(host="127.0.0.1", port=port, node="node1", status_topic="unused"), pause)
    async with rig.running():
        rig.alarms.raise_alarm(low_balance("early"))
        async with asyncio.timeout(WITHIN_S):
            await refused.wait()
        async with (
            running_broker(tmp_path, port=port) as broker,
            Subscriber(broker.host, broker.port, TOPIC) as subscriber,
        ):
            go_on.set()
            await subscriber.until(lambda: len(subscriber.messages) == 1)
    assert rig.count("sidecar_alarms_lost_total", where="broker") == 0


async def test_the_oldest_of_too_many_are_dropped_and_counted() -> None:
    rig = Rig(MqttSettings(host="127.0.0.1", port=1, node="node1", status_topic="unused"))
    for number in range(WAITING_MAX + 7):
        rig.alarms.raise_alarm(low_balance(f"a{number}"))
    assert rig.count("sidecar_alarms_lost_total", where="broker") == 7
    # All in one minute, or in two where the clock says so just now.
    noted, lost = len(rig.noted), rig.count("sidecar_alarms_lost_total", where="audit")
    assert noted + lost == WAITING_MAX + 7
    assert NOTED_PER_MIN <= noted <= 2 * NOTED_PER_MIN
