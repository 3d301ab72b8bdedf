"""The whole way: calls of a real node, its own broker and ACL, `sidecar subscribe`, `sidecar cdr replay`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import msgpack
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sidecar.adapters.broker import BrokerSettings, EmbeddedBroker
from sidecar.core.alarms import AlarmKind
from sidecar.core.terms import HangupOrigin
from sidecar.demo.children import DemoError
from sidecar.wire.topics import (
    cdr_topic,
    event_topic,
    replay_topic,
    replayed_topic,
    report_topic,
    status_topic,
)
from tests.adapters.broker_help import as_bytes
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan
from tests.rig.listener import listening
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import Command

TALK = Plan(answer_s=0.0, caller_bye_s=0.02)
NOT_AUTHORIZED = 0x87


async def calls(caller: Phone, count: int) -> None:
    for number in range(count):
        side = await caller.place(f"1{number:04}", TALK)
        assert side.final == 200


async def test_a_subscriber_of_the_embedded_broker_asks_with_the_password_that_the_node_made(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path)
    place = Place("json-lines", str(tmp_path / "records"))
    async with phones(node) as (caller, _), node.up() as child:
        caller.peer = child.sip
        await calls(caller, 5)  # nobody listens
        await until(lambda: _is_delivered(node))
        password = node.data / "broker" / "biller.password"
        assert password.stat().st_mode & 0o777 == 0o600
        options = ["--username", "biller", "--password-file", str(password)]
        command = Command(child.broker, place, tmp_path / "log", options)
        await command.start("--until-complete")
        assert await command.ended() == 0, command.log.read_text()
        assert place.seqs() == [1, 2, 3, 4, 5]
        assert "5 of them replayed" in command.log.read_text()

        wrong = tmp_path / "wrong"
        wrong.write_text("guessed\n")
        other = Command(
            child.broker,
            Place("sqlite", str(tmp_path / "other")),
            tmp_path / "log2",
            ["--username", "biller", "--password-file", str(wrong)],
        )
        await other.start()
        await other.says("the broker refuses the connection: Not authorized")
        await other.stop()


async def _is_delivered(node: Node) -> bool:
    status = await node.status()
    return bool(status["outbox_head_seq"]) and not status["outbox_depth"]


async def test_a_command_publishes_records_again_under_their_message_ids(tmp_path: Path) -> None:
    node = Node(tmp_path)
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        await calls(caller, 4)
        await listener.until(lambda: len(listener.records) == 4)
        await until(lambda: _is_delivered(node))
        done = await child.command("cdr", "replay", "--from-seq", "2", "--to-seq", "3")
        assert done == {"sent": 2, "to_seq": 3, "waiting": [], "dead_letters": [], "absent": []}
        await listener.until(lambda: listener.again == 2)
        since = listener.records[3]["ended_at"].isoformat()
        assert (await child.command("cdr", "replay", "--since", since))["sent"] == 1
        await listener.until(lambda: listener.again == 3)
        assert len(listener.records) == 4
        for words, said in (
            (("--from-seq", "9"), "status 1"),
            (("--since", "2099-01-01T00:00Z"), "no such record"),
            (("--from-seq", "3", "--to-seq", "2"), "to_seq is below"),
            ((), "give --from-seq or --since"),
        ):
            with pytest.raises(DemoError, match=said):
                await child.command("cdr", "replay", *words)


async def test_whoever_may_only_read_does_nothing_else(tmp_path: Path) -> None:
    """By the reason code of each PUBACK, by what the broker still retains, and by the node's link, which
    nobody took."""
    node = Node(tmp_path)
    async with node.up(
        SIDECAR_MQTT__REPLAY_USERS="biller,other", SIDECAR_MQTT__STATUS_INTERVAL_S="1"
    ) as child:
        files = {user: Path(file) for user, file in (await node.status())["broker_passwords"].items()}
        assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
        words = {user: file.read_text().strip() for user, file in files.items()}
        record, status = cdr_topic("_", "node", "a", HangupOrigin.CALLER), status_topic("_", "node")
        own, others = replay_topic("_", "node", "biller"), replay_topic("_", "node", "other")
        answers = replayed_topic("_", "node", "biller")
        event = event_topic("_", "node", AlarmKind.LOW_BALANCE)
        elsewhere = ("else", "$SYS/broker/version", replay_topic("_", "node", "reader"))
        told, tale = (report_topic("_", "node", user, "c") for user in ("biller", "other"))
        may = {"reader": set[str](), "biller": {own, told}, "other": {others, tale}}
        for user, allowed in may.items():
            async with client(child.broker, user, words) as connected:
                for topic in (record, status, event, own, others, told, tale, answers, *elsewhere):
                    refused = await puback(connected, topic) == NOT_AUTHORIZED
                    assert refused == (topic not in allowed), (user, topic)
        for stranger in (None, "biller", "_node"):
            with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
                async with client(child.broker, stranger, dict.fromkeys(("biller", "_node"), "guessed")):
                    pass
        async with client(child.broker, "reader", words) as watching:
            for topic in ("#", "$SYS/#", "sidecar/v1/#"):
                await watching.subscribe(topic, qos=1)
            for name in ("sidecar-_-node", "sidecar-_-node-event", "sidecar-_-node-status", "sidecar"):
                async with client(child.broker, "reader", words, identifier=name):
                    pass
            seen: list[aiomqtt.Message] = []
            async with asyncio.timeout(30):
                async for message in watching.messages:
                    seen.append(message)
                    if sum(not one.retain for one in seen) >= 6:  # two of them, on three subscriptions
                        break
        assert {str(one.topic) for one in seen} == {status}
        # A will has no head: nobody has pushed the node out, and nobody has deleted what it said.
        assert all("head_seq" in msgpack.unpackb(as_bytes(one)) for one in seen)
        assert await node.metric("sidecar_broker_links_lost_total") == 0
        assert "sidecar-_-node" not in _client_id(node)


def _client_id(node: Node) -> str:
    """With which the node is connected, from what it keeps secret."""
    return EmbeddedBroker(BrokerSettings(directory=node.data / "broker")).client_id()


async def test_a_session_and_its_password_outlive_a_restart(tmp_path: Path) -> None:
    node = Node(tmp_path)
    async with phones(node) as (caller, _):
        for boot in range(2):
            async with node.up() as child:
                caller.peer = child.sip
                words = {"biller": (node.data / "broker" / "biller.password").read_text().strip()}
                async with client(child.broker, "biller", words, identifier="kept", kept=True) as session:
                    if boot == 0:
                        await session.subscribe("sidecar/v1/+/+/cdr/#", qos=1)
                    else:  # what came while it was away, on a subscription of before the restart
                        async with asyncio.timeout(30):
                            message = await anext(aiter(session.messages))
                        assert msgpack.unpackb(as_bytes(message), timestamp=3)["seq"] == 1
                if boot == 0:
                    await calls(caller, 1)
                    await until(lambda: _is_delivered(node))


def client(
    place: Sequence[Any], user: str | None, words: dict[str, str], identifier: str = "", kept: bool = False
) -> aiomqtt.Client:
    keep = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    keep.SessionExpiryInterval = 3600 if kept else 0
    return aiomqtt.Client(
        *place[:2],
        username=user,
        password=words.get(user or ""),
        protocol=aiomqtt.ProtocolVersion.V5,
        identifier=identifier or None,
        clean_start=not kept,
        properties=keep,
    )


async def puback(connected: aiomqtt.Client, topic: str) -> int:
    codes: asyncio.Queue[int] = asyncio.Queue()
    inner: Any = connected._client
    before = inner.on_publish

    def published(*words: Any) -> None:
        codes.put_nowait(words[3].value)
        before(*words)

    inner.on_publish = published
    try:
        await connected.publish(topic, b"x", qos=1)
        return await codes.get()
    finally:
        inner.on_publish = before
