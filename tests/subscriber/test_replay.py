"""What was lost at the broker is asked for, and comes, over a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgpack
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sidecar.wire.replay import ReplayEnd, ReplayRequest, decode_end, encode
from sidecar.wire.topics import cdr_filter, replay_topic, replayed_topic
from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import NODE, USER, Node, holds, publishing, subscribing

AS_USER = ["--username", USER]


@pytest.fixture
def records(tmp_path: Path) -> Place:
    return Place("sqlite", str(tmp_path / "records"))


async def test_what_nobody_heard_is_asked_for(records: Place, tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, publishing(tmp_path, broker) as node:
        await node.publish(1_200)
        async with subscribing(broker, records, tmp_path / "log", AS_USER) as command:
            await holds(records, 1_200)
            await node.publish(10)
            await holds(records, 1_210)
            await command.says("nothing is missing any more of")


async def test_the_queue_of_a_broker_at_its_default_loses_nothing(records: Place, tmp_path: Path) -> None:
    """1300 while the subscriber is away, of which Mosquitto keeps 1000."""
    options = {"max_queued_messages": "1000", "max_inflight_messages": "20"}
    async with mosquitto(tmp_path, options=options) as broker, publishing(tmp_path, broker) as node:
        async with subscribing(broker, records, tmp_path / "log", AS_USER):
            await node.publish(3)
            await holds(records, 3)
        await node.publish(1_300)
        async with subscribing(broker, records, tmp_path / "log", AS_USER) as command:
            await holds(records, 1_303)
            await command.says("asking n1 for")


class Asker:
    """A client that asks by itself."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.came: list[aiomqtt.Message] = []
        self.news = asyncio.Event()

    async def take(self) -> None:
        async for message in self._client.messages:
            self.came.append(message)
            self.news.set()

    async def ask(self, content: bytes, *, answer_to: str = "", user: str = USER, **more: Any) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = answer_to or replayed_topic("_", NODE, USER, "test")
        properties.CorrelationData = b"7"
        await self._client.publish(
            replay_topic("_", NODE, user), content, qos=1, properties=properties, **more
        )

    async def end(self) -> ReplayEnd:
        """The answer, behind all records."""
        async with asyncio.timeout(60):
            while not (ends := [one for one in self.came if "replay_end" in named(one)]):
                self.news.clear()
                await self.news.wait()
        assert self.came[-1] is ends[0]
        assert ends[0].properties is not None
        assert ends[0].properties.CorrelationData == b"7"  # type: ignore[attr-defined]
        return decode_end(payload(ends[0]))

    def seqs(self) -> list[int]:
        return [
            msgpack.unpackb(payload(one), timestamp=3)["seq"] for one in self.came if "replayed" in named(one)
        ]


def named(message: aiomqtt.Message) -> dict[str, str]:
    return dict(getattr(message.properties, "UserProperty", ()))


def payload(message: aiomqtt.Message) -> bytes:
    assert isinstance(message.payload, bytes)
    return message.payload


@asynccontextmanager
async def asking(broker: Mosquitto, *topics: str) -> AsyncIterator[Asker]:
    client = aiomqtt.Client(
        broker.host, broker.port, username=USER, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=20
    )
    async with client, asyncio.TaskGroup() as tasks:
        asker = Asker(client)
        for topic in topics or (replayed_topic("_", NODE, USER, "test"),):
            await client.subscribe(topic, qos=1)
        task = tasks.create_task(asker.take(), name="take")
        try:
            yield asker
        finally:
            task.cancel()


def request(node: Node, first: int, last: int | None = None, epoch: str = "") -> bytes:
    return encode(ReplayRequest(epoch=epoch or node.store.epoch, from_seq=first, to_seq=last))


async def test_records_come_as_they_were_published_and_then_the_answer(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        asking(broker, cdr_filter()) as live,
        publishing(tmp_path, broker) as node,
    ):
        await node.publish(230)
        await until(lambda: len(live.came) == 230)
        async with asking(broker) as asker:
            await asker.ask(request(node, 11, 220))
            end = await asker.end()
            assert (end.sent, end.to_seq, end.head_seq, end.error) == (210, 220, 230, "")
            assert (end.waiting, end.dead, end.absent) == ((), (), ())
            assert asker.seqs() == list(range(11, 221))
            published = {named(one)["message_id"]: payload(one) for one in live.came}
            for one in asker.came[:-1]:
                assert published[named(one)["message_id"]] == payload(one)
                assert {"node", "version", "replayed"} <= named(one).keys()
        assert not any("replayed" in named(one) for one in live.came)
        await node.store.written()
        [noted] = [one.change for one in await node.store.audit.list()]
        assert (noted.operator.name, noted.operator.uid, noted.action) == (USER, None, "cdr.replay")
        assert (noted.subject, noted.after) == ("11-220", f'{{"epoch":"{node.store.epoch}","sent":210}}')
        assert (node.replayer.counters.requests, node.replayer.counters.records) == (1, 210)


async def test_numbers_that_cannot_be_sent_are_named(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, publishing(tmp_path, broker) as node:
        await node.publish(7)
        await broker.stop()
        node.write(2)
        await until(lambda: node.relay.is_busy)
        await node.store.outbox.acknowledge([], [(8, 0x97)])
        page = await node.store.replays.replay(node.store.epoch, 1, None, 100)
        assert [row.seq for row in page.rows] == [1, 2, 3, 4, 5, 6, 7]
        assert (page.waiting, page.dead, page.absent) == (((9, 9),), ((8, 8),), ())
        other = await node.store.replays.replay("another", 1, None, 100)
        assert (other.rows, other.to_seq, other.head_seq) == ((), 0, 0)


async def test_an_epoch_that_the_journal_does_not_know_is_an_error(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, publishing(tmp_path, broker) as node, asking(broker) as asker:
        await node.publish(2)
        await asker.ask(request(node, 1, 2, epoch="another"))
        assert "no such epoch" in (await asker.end()).error
        assert asker.seqs() == []


async def test_a_request_that_is_none_is_answered_with_what_is_wrong(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, publishing(tmp_path, broker) as node, asking(broker) as asker:
        await node.publish(1)
        await asker.ask(encode({"epoch": "e", "from_seq": 5, "to_seq": 4}))
        assert "to_seq" in (await asker.end()).error


async def test_an_answer_goes_to_the_users_own_topics_alone(tmp_path: Path) -> None:
    """A request for the topic of the records themselves, of another user or with a wildcard gets nothing; the
    next one does."""
    async with (
        mosquitto(tmp_path) as broker,
        publishing(tmp_path, broker) as node,
        asking(broker, "sidecar/v1/+/+/replayed/#", cdr_filter(), "others/#") as asker,
    ):
        await node.publish(3)
        await until(lambda: len(asker.came) == 3)
        for place in (
            "sidecar/v1/_/n1/cdr/acme/caller",
            replayed_topic("_", NODE, "other"),
            replayed_topic("_", NODE, USER) + "-not",
            replayed_topic("_", "n2", USER),
            "others/command",
        ):
            await asker.ask(request(node, 1), answer_to=place)
        await asker.ask(request(node, 1), user="other")
        await asker.ask(request(node, 1))
        end = await asker.end()
        assert end.sent == 3
        assert {str(one.topic) for one in asker.came[3:]} == {replayed_topic("_", NODE, USER, "test")}
        assert len(asker.came) == 7


async def test_replays_go_on_after_the_broker_was_killed_and_wait_for_live_records(
    records: Place, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as broker, publishing(tmp_path, broker) as node:
        await node.publish(2_000)
        async with subscribing(broker, records, tmp_path / "log", AS_USER) as command:
            await command.says("asking n1 for")
            await broker.kill()
            node.write(300)
            await broker.start()
            await node.delivered()
            await holds(records, 2_300)
