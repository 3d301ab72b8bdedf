"""A real Mosquitto that refuses, is not the one that was meant, or drops what it has no place for: calls know
nothing of it, nothing is lost, and what holds a record up is said and can be mended."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from sidecar.demo.children import free_ports
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import subscribing

TALK = Plan(answer_s=0.0, caller_bye_s=0.02)


async def calls(caller: Phone, count: int, *, first: int = 0) -> None:
    for number in range(first, first + count):
        side = await caller.place(f"1{number:04}", TALK)
        assert side.final == 200


async def test_what_the_acl_refuses_is_a_dead_letter_named_to_who_asks_and_sent_when_it_is_mended(
    make_node: MakeNode, tmp_path: Path
) -> None:
    node = make_node()
    acl = tmp_path / "acl"
    everything = "topic readwrite sidecar/v1/#\npattern readwrite sidecar/v1/#\n"
    but_records = "topic readwrite sidecar/v1/+/+/status\npattern readwrite sidecar/v1/+/+/replay/#\n"
    but_records += "pattern read sidecar/v1/#\npattern write sidecar/v1/+/+/replayed/#\n"
    but_records += "topic readwrite sidecar/v1/+/+/replay/#\ntopic readwrite sidecar/v1/+/+/replayed/#\n"
    acl.write_text(everything)
    place = Place("sqlite", str(tmp_path / "records"))
    async with mosquitto(tmp_path, options={"acl_file": str(acl)}) as broker, phones(node) as (caller, _):
        settings = broker.settings() | {"SIDECAR_MQTT__REPLAY_USERS": "biller"}
        async with (
            node.up(**settings) as child,
            subscribing(broker, place, tmp_path / "log", ["--username", "biller"]) as command,
        ):
            caller.peer = child.sip
            await calls(caller, 2)
            await until(lambda: place.seqs() == [1, 2])

            acl.write_text(but_records)
            broker.signal(signal.SIGHUP)
            number = 10
            while not (await node.status())["dead_letters"]:  # it reads the file when it comes to it
                await calls(caller, 1, first=number)
                number += 1
                await until(lambda: _is_decided(node))
            status = await node.status()
            assert status["state"] == "accepting"
            count, dead = 2 + number - 10, await child.command("dead-letter", "list")
            # The subscriber learns of it by the head, asks, and is told that it is a dead letter.
            await command.says(f"asking node for {dead[0]['seq']} to")

            acl.write_text(everything)
            broker.signal(signal.SIGHUP)
            while (await node.status())["dead_letters"]:
                assert (await child.command("dead-letter", "retry", "--all"))["count"] > 0
                await until(lambda: _is_decided(node))
            await until(lambda: place.seqs() == list(range(1, count + 1)))
    node.check_books()


async def _waits(node: Node, count: int) -> bool:
    status = await node.status()
    assert (status["state"], status["broker_connected"]) == ("accepting", False)
    return bool(status["outbox_depth"] == count)


async def _all_left(node: Node, head_seq: int) -> bool:
    status = await node.status()
    return bool(status["outbox_head_seq"] == head_seq and not status["outbox_depth"])


async def _is_decided(node: Node) -> bool:
    return not (await node.status())["outbox_depth"]


async def _dead(node: Node, count: int) -> bool:
    status = await node.status()
    return bool(status["dead_letters"] == count and not status["outbox_depth"])


async def test_behind_a_wrong_ca_records_wait_and_leave_in_order_when_the_right_one_is_there(
    make_node: MakeNode, tmp_path: Path
) -> None:
    node = make_node()
    for name in ("right", "wrong"):
        _openssl(
            tmp_path,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=broker"
            " -addext subjectAltName=IP:127.0.0.1 -addext keyUsage=critical,keyCertSign,digitalSignature"
            f" -keyout {name}.key -out {name}.crt",
        )
    ca = tmp_path / "ca.crt"
    ca.write_bytes((tmp_path / "wrong.crt").read_bytes())
    (port,) = free_ports("127.0.0.1", 1)
    files = (f"certfile {tmp_path / 'right.crt'}", f"keyfile {tmp_path / 'right.key'}")
    more = (f"listener {port} 127.0.0.1", *files)
    async with (
        mosquitto(tmp_path, more=more) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, _),
    ):
        settings = broker.settings() | {
            "SIDECAR_MQTT__PORT": str(port),
            "SIDECAR_MQTT__TLS": "true",
            "SIDECAR_MQTT__CA_FILE": str(ca),
        }
        async with node.up(**settings) as child:
            caller.peer = child.sip
            await calls(caller, 5)
            await until(lambda: _waits(node, 5))
            ca.write_bytes((tmp_path / "right.crt").read_bytes())
            await listener.until(lambda: len(listener.records) == 5, within_s=60)
            check_sequences(listener.records)
            assert [one["seq"] for one in listener.records] == [1, 2, 3, 4, 5]
    assert "the broker's certificate is refused" in node.log.read_text()
    node.check_books()


async def test_records_that_are_too_large_for_the_broker_are_dead_letters_and_hold_up_no_other(
    make_node: MakeNode, tmp_path: Path
) -> None:
    """MQTT 5 Maximum Packet Size, then a broker with room."""
    node = make_node()
    async with (
        mosquitto(tmp_path, options={"max_packet_size": "400"}) as broker,
        phones(node) as (caller, _),
        node.up(**broker.settings()) as child,
        listening(broker.host, broker.port) as listener,
    ):
        caller.peer = child.sip
        await calls(caller, 3)
        await until(lambda: _dead(node, 3))
        assert not listener.records
        [letter, *_] = await child.command("dead-letter", "list")
        assert letter["reason"] == "Packet too large"
    async with (
        mosquitto(tmp_path) as broker,
        listening(broker.host, broker.port) as listener,
        node.up(**broker.settings()) as child,
    ):
        await child.command("dead-letter", "retry", "--all")
        await listener.until(lambda: len(listener.records) == 3)
        assert [one["seq"] for one in listener.records] == [1, 2, 3]
    node.check_books()


async def test_a_quota_of_the_broker_that_drops_records_in_silence_leaves_none_out(
    make_node: MakeNode, tmp_path: Path
) -> None:
    """`max_queued_bytes`: it acknowledges every record, and keeps a few for a subscriber who is away."""
    node = make_node()
    place = Place("json-lines", str(tmp_path / "records"))
    options = {"max_queued_bytes": "5000", "max_inflight_messages": "1"}
    async with mosquitto(tmp_path, options=options) as broker, phones(node) as (caller, _):
        settings = broker.settings() | {"SIDECAR_MQTT__REPLAY_USERS": "biller"}
        async with node.up(**settings) as child:
            caller.peer = child.sip
            async with subscribing(broker, place, tmp_path / "log", ["--username", "biller"]):
                await calls(caller, 1)
                await until(lambda: place.seqs() == [1])
            await calls(caller, 20, first=10)
            await until(lambda: _all_left(node, 21))
            async with subscribing(broker, place, tmp_path / "log", ["--username", "biller"]) as command:
                await until(lambda: place.seqs() == list(range(1, 22)), 60)
                await command.says("asking node for")
    node.check_books()


def _openssl(directory: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)
