"""The whole way: calls of a real node, its own broker and ACL, `sidecar subscribe`, `sidecar cdr replay`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from sidecar.core.terms import HangupOrigin
from sidecar.demo.children import DemoError
from sidecar.wire.topics import cdr_topic, replay_topic, replayed_topic, status_topic
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


async def test_only_the_node_writes_records_and_only_a_user_his_requests(tmp_path: Path) -> None:
    """By the reason code of each PUBACK, and by what reaches whom."""
    node = Node(tmp_path)
    async with node.up(SIDECAR_MQTT__REPLAY_USERS="biller,other") as child:
        words = {
            user: (node.data / "broker" / f"{user}.password").read_text().strip()
            for user in ("biller", "other")
        }
        record = cdr_topic("_", "node", "a", HangupOrigin.CALLER)
        own, others = replay_topic("_", "node", "biller"), replay_topic("_", "node", "other")
        may: dict[str | None, set[str]] = {None: set(), "biller": {own}, "other": {others}}
        for user, allowed in may.items():
            async with client(child.broker, user, words) as connected:
                for topic in (
                    record,
                    own,
                    others,
                    status_topic("_", "node"),
                    replayed_topic("_", "node", "biller"),
                ):
                    assert (await puback(connected, topic) != NOT_AUTHORIZED) == (topic in allowed), (
                        user,
                        topic,
                    )
        with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
            async with client(child.broker, "biller", {"biller": "guessed"}):
                pass


def client(place: tuple[str, int], user: str | None, words: dict[str, str]) -> aiomqtt.Client:
    return aiomqtt.Client(
        *place, username=user, password=words.get(user or ""), protocol=aiomqtt.ProtocolVersion.V5
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
