"""A broker of somebody else's, with the very rules that the reference shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiomqtt
import msgpack
import pytest

import sidecar
from sidecar.adapters.broker import password_hash
from sidecar.core.alarms import AlarmKind
from sidecar.core.terms import HangupOrigin
from sidecar.wire.topics import (
    ANY,
    ROOT,
    cdr_topic,
    event_topic,
    replay_topic,
    replayed_topic,
    report_topic,
    status_filter,
    status_topic,
)
from tests.adapters.broker_help import as_bytes
from tests.faults.node import Node, phones
from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import Command
from tests.subscriber.test_with_node import NOT_AUTHORIZED, _is_delivered, calls, client, puback

WORDS = {"sidecar": "node", "biller": "reads", "stranger": "else"}


def shown() -> list[str]:
    """The rules, as the reference has them."""
    page = (Path(sidecar.__file__).parent / "reference" / "subscriber.md").read_text()
    lines = [line[4:] for line in page.splitlines() if line.startswith(("    user ", "    topic "))]
    assert lines
    return lines


def test_the_reference_shows_the_rules_that_are_made_of_the_topics() -> None:
    """As the one for the embedded broker, but of every node, and nothing for users that are not named."""
    every = f"{ROOT}/{ANY}/{ANY}"
    assert shown() == [
        "user sidecar",
        f"topic write {every}/cdr/#",
        f"topic readwrite {status_filter()}",  # the start asks what was published
        f"topic write {every}/event/+",
        f"topic read {every}/replay/+",
        f"topic read {every}/report/+/+",
        f"topic write {every}/replayed/#",
        "user biller",
        f"topic read {every}/cdr/#",
        f"topic read {status_filter()}",
        f"topic read {every}/event/+",
        f"topic write {every}/replay/biller",
        f"topic read {replayed_topic(None, None, 'biller')}/#",
        f"topic write {every}/report/biller/+",
    ]


def guarded(folder: Path) -> dict[str, str]:
    (folder / "acl").write_text("\n".join(shown()) + "\n")
    users = "".join(f"{user}:{password_hash(word)}\n" for user, word in WORDS.items())
    for name, text in (("passwords", users), ("node", "node\n"), ("reads", "reads\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return {
        "allow_anonymous": "false",
        "acl_file": str(folder / "acl"),
        "password_file": str(folder / "passwords"),
    }


def credentials(broker: Mosquitto, folder: Path) -> dict[str, str]:
    return broker.settings() | {
        "SIDECAR_MQTT__USERNAME": "sidecar",
        "SIDECAR_MQTT__PASSWORD_FILE": str(folder / "node"),
        "SIDECAR_MQTT__REPLAY_USERS": "biller",
    }


async def test_the_rules_let_a_node_publish_and_a_reader_read_and_ask_and_nobody_else_anything(
    tmp_path: Path,
) -> None:
    options = guarded(tmp_path)
    topics: dict[str, str] = {
        "record": cdr_topic("_", "other", "a", HangupOrigin.CALLER),
        "status": status_topic("_", "other"),
        **{kind.value: event_topic("_", "other", kind) for kind in AlarmKind},
        "answer": replayed_topic("_", "other", "biller", "client"),
        "request": replay_topic("_", "other", "biller"),
        "request of another": replay_topic("_", "other", "stranger"),
        "report": report_topic("_", "other", "biller", "client"),
        "report of another": report_topic("_", "other", "stranger", "client"),
    }
    requests = {"request", "request of another", "report", "report of another"}
    may_write = {"sidecar": set(topics) - requests, "biller": {"request", "report"}, "stranger": set[str]()}
    may_read = {
        "sidecar": {"status", "request", "report"},
        "biller": set(topics) - requests,
        "stranger": set[str](),
    }
    async with mosquitto(tmp_path, options=options) as broker:
        place = (broker.host, broker.port)
        for user, allowed in may_write.items():
            async with client(place, user, WORDS) as connected:
                codes = {name: await puback(connected, topic) for name, topic in topics.items()}
            assert {name for name, code in codes.items() if code != NOT_AUTHORIZED} == allowed, user
        with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
            async with client(place, None, {}):
                pass
        async with client(place, "sidecar", WORDS) as node, client(place, "biller", WORDS) as biller:
            for user, allowed in may_read.items():
                async with client(place, user, WORDS) as reading:
                    await reading.subscribe("#", qos=1)
                    for name, topic in topics.items():
                        await puback(biller if name in requests else node, topic)
                    assert await puback(reading, "else") == NOT_AUTHORIZED  # behind what came before
                    messages = aiter(reading.messages)
                    got = {str((await anext(messages)).topic) for _ in range(len(reading.messages))}
                    assert got == {topics[name] for name in allowed}, user


async def test_a_node_and_its_subscriber_work_under_the_rules_and_a_session_outlives_an_absence(
    tmp_path: Path,
) -> None:
    options = guarded(tmp_path)
    node = Node(tmp_path)
    place = Place("json-lines", str(tmp_path / "records"))
    async with mosquitto(tmp_path, options=options) as broker:
        at = (broker.host, broker.port)
        async with client(at, "biller", WORDS, identifier="kept", kept=True) as session:
            await session.subscribe("sidecar/v1/+/+/cdr/#", qos=1)
        async with phones(node) as (caller, _), node.up(**credentials(broker, tmp_path)) as child:
            caller.peer = child.sip
            await calls(caller, 3)
            await until(lambda: _is_delivered(node))
            async with client(at, "biller", WORDS, identifier="kept", kept=True) as session:
                async with asyncio.timeout(30):  # sent while it was away, because its session was kept
                    messages = aiter(session.messages)
                    kept = [msgpack.unpackb(as_bytes(await anext(messages)), timestamp=3) for _ in range(3)]
            assert [one["seq"] for one in kept] == [1, 2, 3]
            words = ["--username", "biller", "--password-file", str(tmp_path / "reads")]
            command = Command(at, place, tmp_path / "log", words)
            await command.start("--until-complete")  # a new one: it has to ask for all
            assert await command.ended() == 0, command.log.read_text()
            assert place.seqs() == [1, 2, 3]
            assert "3 of them replayed" in command.log.read_text()
