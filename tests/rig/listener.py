"""A subscriber that keeps its session, and what must hold of the records that it got."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import msgpack
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sidecar.demo.subscriber import Record
from tests.rig.node import PERIOD_S, WITHIN_S

_numbers = itertools.count(1)


class Listener:
    """A subscriber that keeps its session and comes back: what it holds is everything that was published.

    `records` and `events` in order of arrival, each message id once; `again` those that came another time."""

    def __init__(
        self, host: str, port: int, username: str | None = None, password: str | None = None
    ) -> None:
        self._host, self._port = host, port
        self._username, self._password = username, password
        self._name = (
            f"listener-{next(_numbers)}"  # two that come back under one name would push each other out
        )
        self.records: list[Record] = []
        self.statuses: list[Record] = []
        self.events: list[Record] = []
        self._ids: set[str] = set()
        self.again = 0
        self.connects = 0
        self._news = asyncio.Event()

    async def run(self) -> None:
        keep = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        keep.SessionExpiryInterval = 3600
        while True:
            client = aiomqtt.Client(
                self._host,
                self._port,
                username=self._username,
                password=self._password,
                identifier=self._name,
                protocol=aiomqtt.ProtocolVersion.V5,
                clean_start=False,
                properties=keep,
                timeout=2,
            )
            try:
                async with client:
                    await client.subscribe("sidecar/v1/#", qos=1)
                    self.connects += 1
                    self._news.set()
                    async for message in client.messages:
                        self._take(str(message.topic), message.payload)
            except aiomqtt.MqttError:
                await asyncio.sleep(PERIOD_S)

    def _take(self, topic: str, payload: Any) -> None:
        content = msgpack.unpackb(payload, timestamp=3)
        if topic.endswith("/status"):
            self.statuses.append(content)
        elif content["message_id"] in self._ids:
            self.again += 1
        else:
            self._ids.add(content["message_id"])
            (self.events if "/event/" in topic else self.records).append(content)
        self._news.set()

    async def until(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def of(self, sip_call_ids: Iterable[str], within_s: float = WITHIN_S) -> list[Record]:
        """Revision 0 of each of these calls, in their order."""
        wanted = list(sip_call_ids)

        def found() -> dict[str, Record]:
            return {one["leg_a"]["sip_call_id"]: one for one in self.records if one["revision"] == 0}

        try:
            await self.until(lambda: found().keys() >= set(wanted), within_s)
        except TimeoutError:
            missing = set(wanted) - found().keys()
            raise AssertionError(
                f"{len(missing)} of {len(wanted)} without a record: {sorted(missing)[:5]}"
            ) from None
        return [found()[one] for one in wanted]


@asynccontextmanager
async def listening(
    host: str, port: int, username: str | None = None, password: str | None = None
) -> AsyncIterator[Listener]:
    listener = Listener(host, port, username, password)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listener.run(), name="listener")
        await listener.until(lambda: listener.connects > 0)
        try:
            yield listener
        finally:
            task.cancel()


# --- what must hold of any set of records -------------------------------------------------------------------


def check_sequences(records: Iterable[Record]) -> None:
    """Numbers without a gap in each epoch, in the order of arrival too; the chain of each account."""
    by_epoch: dict[str, list[Record]] = defaultdict(list)
    for one in records:
        by_epoch[one["store_epoch"]].append(one)
    for found in by_epoch.values():
        seqs = [one["seq"] for one in found]
        assert sorted(seqs) == list(range(min(seqs), min(seqs) + len(seqs))), seqs
        last: dict[str, int] = {}
        for one in sorted(found, key=lambda one: int(one["seq"])):
            assert one["account_prev_seq"] == last.get(one["account"]), one
            last[one["account"]] = one["seq"]


def charge(record: Record, side: str) -> Record:
    """The charge of one side, `sell` or `buy`."""
    (found,) = (charge for charge in record["charges"] if charge["side"] == side)
    return dict(found)


def sell(record: Record) -> Record:
    return charge(record, "sell")
