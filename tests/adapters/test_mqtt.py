"""The link to the broker: reason codes, limits, properties, the will, and every way of not getting
through."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import inspect
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import msgpack
import paho.mqtt.client as paho
import pytest

from sidecar.adapters.broker import EmbeddedBroker
from sidecar.adapters.mqtt import MqttPublisher, MqttReplayDoor, MqttSettings
from sidecar.adapters.mqtt.client import Client
from sidecar.adapters.mqtt.packets import varint
from sidecar.demo.children import free_ports
from sidecar.ports import Link, LinkError, OutboxRow, OutboxState
from tests.adapters.broker_help import (
    CDR_TOPIC,
    STATUS_TOPIC,
    WITHIN_S,
    Subscriber,
    mqtt_settings,
    payload_of,
    running_broker,
)
from tests.adapters.scripted_broker import Answer, scripted_broker

STATE = OutboxState(epoch="epoch-1", head_seq=7, published=3, commit=9, commit_hash="0a")


def row(seq: int, *, topic: str = CDR_TOPIC, payload: bytes | None = None) -> OutboxRow:
    return OutboxRow(
        seq=seq,
        topic=topic,
        payload=payload_of(seq) if payload is None else payload,
        message_id=f"message-{seq}",
        content_version=1,
    )


async def code_of(link: Link, what: OutboxRow) -> int:
    answered: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    link.send(what, lambda seq, code: answered.set_result((seq, code)))
    async with asyncio.timeout(WITHIN_S):
        seq, code = await answered
    assert seq == what.seq
    return code


@contextlib.asynccontextmanager
async def linked(
    directory: Path, *extra: str, **changes: object
) -> AsyncIterator[tuple[EmbeddedBroker, Link]]:
    async with (
        running_broker(directory, *extra) as broker,
        MqttPublisher(mqtt_settings(broker, **changes), "epoch-1").connect() as link,
    ):
        yield broker, link


async def connect_and_wait(publisher: MqttPublisher) -> None:
    """For a broker that is to refuse: with TLS 1.3 our certificate is refused only after the handshake."""
    async with publisher.connect() as link:
        raise await loss_of(link)


async def loss_of(link: Link) -> LinkError:
    lost: asyncio.Future[LinkError] = asyncio.get_running_loop().create_future()
    link.on_lost(lost.set_result)
    async with asyncio.timeout(WITHIN_S):
        return await lost


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- aiomqtt's own ground -----------------------------------------------------------------------------------


def test_the_private_methods_that_we_override_are_those_of_the_pinned_versions() -> None:
    assert importlib.metadata.version("aiomqtt") == "2.5.1"
    assert importlib.metadata.version("paho-mqtt") == "2.2.0"
    parameters: dict[Callable[..., object], list[str]] = {
        aiomqtt.Client._on_connect: ["self", "client", "userdata", "flags", "reason_code", "properties"],
        aiomqtt.Client._on_disconnect: ["self", "client", "userdata", "flags", "reason_code", "properties"],
        aiomqtt.Client._on_message: ["self", "client", "userdata", "message"],
        aiomqtt.Client._on_socket_register_write: ["self", "client", "userdata", "sock"],
        aiomqtt.Client._wait_for: ["self", "fut", "timeout"],
        paho.Client.loop_read: ["self", "max_packets"],
        paho.Client._sock_recv: ["self", "bufsize"],
        paho.Client._handle_pubackcomp: ["self", "cmd"],
    }
    for method, expected in parameters.items():
        assert list(inspect.signature(method).parameters) == expected


@pytest.mark.parametrize("at", ["_on_connect", "_on_subscribe"])
async def test_a_stop_in_the_turn_in_which_the_broker_answers_is_not_lost(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio.wait_for would drop it before Python 3.12 (gh-86296): the node went on, and never ended."""
    usual = getattr(Client, at)

    def answered(*arguments: Any) -> None:
        usual(*arguments)
        task.cancel()

    async def link() -> None:
        async with MqttReplayDoor(mqtt_settings(broker), ["jane"]).connect():
            await asyncio.Event().wait()

    monkeypatch.setattr(Client, at, answered)
    async with running_broker(tmp_path) as broker, asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(link(), name="link")
    assert task.cancelled()


async def test_a_stop_in_the_turn_in_which_the_broker_refuses_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = Client._on_disconnect

    def refused(*arguments: Any) -> None:
        usual(*arguments)
        task.cancel()

    monkeypatch.setattr(Client, "_on_disconnect", refused)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = MqttSettings(host="127.0.0.1", port=port, node="n", status_topic=STATUS_TOPIC)
        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(connect_and_wait(MqttPublisher(settings, "epoch-1")), name="link")
    assert task.cancelled()


# --- reason codes and limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x95, 0x97, 0x99, 0xEE])
async def test_the_reason_code_of_the_puback_comes_back(code: int) -> None:
    async with scripted_broker(lambda _: Answer(puback=code)) as broker:
        publisher = MqttPublisher(
            MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC), "epoch-1"
        )
        async with publisher.connect() as link:
            assert await code_of(link, row(1)) == code


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 4, 5, 7, 64, 100, 100_000])
async def test_pubacks_are_read_wherever_the_stream_is_cut(piece_bytes: int) -> None:
    shapes = (  # of a PUBACK: without its code, with it, with a reason text, with one longer than 127 bytes
        Answer(puback=None, brief=True),
        Answer(puback=0x97),
        Answer(puback=0x83, reason="x" * 20),
        Answer(puback=0x80, reason="@" * 300),  # each looks like the first byte of a PUBACK
        Answer(puback=0x10, ping=True),
    )
    rows = 20

    def script(seq: int) -> Answer:
        if seq == rows + 1:
            return Answer(disconnect=0x8B)
        return shapes[seq % len(shapes)]

    async with scripted_broker(script, answers_after=rows, piece_bytes=piece_bytes) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        codes: list[tuple[int, int]] = []
        whole = asyncio.Event()

        def acknowledged(seq: int, code: int) -> None:
            codes.append((seq, code))
            if len(codes) == rows:
                whole.set()

        async with MqttPublisher(settings, "epoch-1").connect() as link:
            for seq in range(1, rows + 1):
                link.send(row(seq), acknowledged)
            async with asyncio.timeout(WITHIN_S):
                await whole.wait()
            assert codes == [(seq, shapes[seq % len(shapes)].puback or 0) for seq in range(1, rows + 1)]
            late: list[int] = []
            for seq in range(rows + 1, 2 * rows + 1):
                link.send(row(seq), lambda seq, code: late.append(seq))
            assert (await loss_of(link)).code == 0x8B
            assert late == []  # what comes behind the goodbye is not read


@pytest.mark.parametrize("garbage", [b"\x40\x01\x00", b"\x00\x00", b"\x40\xff\xff\xff\xff\xff"])
async def test_a_malformed_packet_ends_the_link(garbage: bytes) -> None:
    async with scripted_broker(lambda _: Answer(garbage=garbage)) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            link.send(row(1), lambda seq, code: pytest.fail("acknowledged by garbage"))
            assert (await loss_of(link)).code is None


async def test_a_puback_for_nothing_that_waits_is_passed_over() -> None:
    async with scripted_broker(lambda _: Answer(garbage=b"\x40\x02\x7f\x7f", puback=0x97)) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            assert await code_of(link, row(1)) == 0x97
            assert await code_of(link, row(2)) == 0x97


async def test_a_defect_in_what_is_told_of_a_row_ends_the_link() -> None:
    def broken(seq: int, code: int) -> None:
        raise RuntimeError("broken promise")

    async with scripted_broker(lambda _: Answer(puback=0)) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            link.send(row(1), broken)
            assert str(await loss_of(link)) == "broken promise"


async def test_a_broker_that_takes_no_qos_1_is_refused() -> None:
    async with scripted_broker(lambda _: Answer(puback=0), qos_max=0) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        with pytest.raises(LinkError, match="QoS 0 only"):
            async with MqttPublisher(settings, "epoch-1").connect():
                pytest.fail("connected without QoS 1")


@pytest.mark.parametrize(
    ("number", "packed"),  # MQTT 5 §1.5.5, table 1-1
    [
        *((0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001")),
        *((2_097_151, "ffff7f"), (2_097_152, "80808001"), (268_435_455, "ffffff7f")),
    ],
)
def test_lengths_are_packed_as_the_standard_has_them(number: int, packed: str) -> None:
    assert varint(number).hex() == packed


async def test_a_packet_id_that_waits_for_its_puback_is_not_taken_again() -> None:
    rows = (1, 2, 3, 4)
    async with scripted_broker(lambda seq: Answer(puback=0x80 + seq), answers_after=len(rows)) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            codes: dict[int, int] = {}
            whole = asyncio.Event()

            def acknowledged(seq: int, code: int) -> None:
                codes[seq] = code
                if len(codes) == len(rows):
                    whole.set()

            for seq in rows:
                link.send(row(seq), acknowledged)
                link._client._packet_id = 65_534  # type: ignore[attr-defined]  # one before the highest
            async with asyncio.timeout(WITHIN_S):
                await whole.wait()
            assert codes == {seq: 0x80 + seq for seq in rows}
        assert sorted(broker.packet_ids) == [1, 2, 3, 65_535]


async def test_mosquitto_says_whether_anybody_listens(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        publisher = MqttPublisher(mqtt_settings(broker), "epoch-1")
        async with publisher.connect() as link:
            assert await code_of(link, row(1)) == 0x10
            async with Subscriber(broker.host, broker.port):
                assert await code_of(link, row(2)) == 0x00


async def test_mosquitto_refuses_a_topic_that_its_acl_forbids(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic write {CDR_TOPIC}\ntopic write {STATUS_TOPIC}\n")
    acl.chmod(0o700)
    async with linked(tmp_path, f"acl_file {acl}") as (_, link):
        assert await code_of(link, row(1, topic="sidecar/v1/_/node1/cdr/_/server")) == 0x87
        assert await code_of(link, row(2)) < 0x80


async def test_mosquitto_refuses_what_is_above_its_message_size_limit(tmp_path: Path) -> None:
    async with linked(tmp_path, "message_size_limit 1000") as (_, link):
        assert await code_of(link, row(1, payload=bytes(1001))) == 0x95
        assert await code_of(link, row(2, payload=bytes(1000))) < 0x80


async def test_the_window_is_the_smaller_of_the_brokers_and_ours(tmp_path: Path) -> None:
    async with scripted_broker(lambda _: Answer(), receive_max=7) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            assert link.window == 7
    async with linked(tmp_path) as (_, link):
        assert link.window == 100


async def test_a_row_larger_than_the_brokers_maximum_packet_never_leaves(tmp_path: Path) -> None:
    async with linked(tmp_path, "max_packet_size 1000") as (_, link):
        small, large = 1, 1000
        while large - small > 1:  # where our count of bytes and Mosquitto's would differ, it would hang up
            middle = (small + large) // 2
            if await code_of(link, row(middle, payload=bytes(middle))) == 0x95:
                large = middle
            else:
                small = middle
        assert 800 < small < 1000
        assert await code_of(link, row(1)) < 0x80


async def test_the_brokers_maximum_packet_size_is_used_to_the_last_byte() -> None:
    async with scripted_broker(lambda _: Answer(puback=0), packet_bytes_max=300) as broker:
        broker.seq_of = len
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            codes = [await code_of(link, row(1, payload=bytes(size))) for size in range(100, 300)]
        assert broker.packet_bytes == list(range(broker.packet_bytes[0], 301))
        assert codes == [0] * len(broker.packet_bytes) + [0x95] * (200 - len(broker.packet_bytes))


@pytest.mark.parametrize("topic", ["", "sidecar/v1/#", "sidecar/+/x", "x" * 65_536])
async def test_a_topic_that_cannot_be_published_to_never_leaves(tmp_path: Path, topic: str) -> None:
    async with linked(tmp_path) as (_, link):
        assert await code_of(link, row(1, topic=topic)) == 0x90
        assert await code_of(link, row(2)) < 0x80


# --- what a subscriber sees ---------------------------------------------------------------------------------


async def test_a_row_carries_its_properties_and_never_expires(tmp_path: Path) -> None:
    async with linked(tmp_path) as (broker, link), Subscriber(broker.host, broker.port) as subscriber:
        await code_of(link, row(5))
        await subscriber.until(lambda: subscriber.seqs == [5])
    message = subscriber.messages[0]
    assert message.qos == 1
    assert not message.retain
    properties = message.properties
    assert properties is not None
    assert vars(properties)["ContentType"] == "application/msgpack"
    assert dict(vars(properties)["UserProperty"]) == {
        "version": "1",
        "node": "node1",
        "message_id": "message-5",
    }
    assert not hasattr(properties, "MessageExpiryInterval")


async def test_a_long_message_id_and_payload_arrive_whole(tmp_path: Path) -> None:
    long = OutboxRow(
        seq=1,
        topic=CDR_TOPIC,
        payload=bytes(msgpack.packb(b"\xff" * 300_000)),
        message_id="m" * 300,
        content_version=1,
    )
    async with linked(tmp_path) as (broker, link), Subscriber(broker.host, broker.port) as subscriber:
        assert await code_of(link, long) == 0
        await subscriber.until(lambda: len(subscriber.messages) == 1)
    assert subscriber.messages[0].payload == long.payload
    assert dict(subscriber.messages[0].properties.UserProperty)["message_id"] == "m" * 300  # type: ignore[union-attr]


@pytest.mark.parametrize("tls", [False, True])
async def test_more_than_a_socket_takes_at_once_arrives_whole_and_in_order(
    certificates: Path, tls: bool
) -> None:
    port, rows = free_ports("127.0.0.1", 1)[0], 60
    large = {seq: bytes(msgpack.packb({"seq": seq, "is": os.urandom(200_000)})) for seq in range(rows)}
    codes: list[tuple[int, int]] = []
    async with (
        running_broker(certificates, *tls_listener(certificates, port)) as broker,
        Subscriber(broker.host, broker.port) as subscriber,
    ):
        settings = tls_settings(certificates, port) if tls else mqtt_settings(broker)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            for seq, payload in large.items():
                link.send(row(seq, payload=payload), lambda seq, code: codes.append((seq, code)))
            await subscriber.until(lambda: len(subscriber.messages) == rows)
            assert await code_of(link, row(rows)) == 0
    assert [message.payload for message in subscriber.messages[:rows]] == list(large.values())
    assert codes == [(seq, 0) for seq in large]


async def test_the_status_is_retained_and_the_will_replaces_it(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        async with MqttPublisher(mqtt_settings(broker), "epoch-1").connect() as link:
            link.publish_status(STATE)
            await code_of(link, row(1))  # the status has left before it
            async with Subscriber(broker.host, broker.port) as early:
                await early.until(lambda: bool(early.messages))
                assert early.messages[0].retain
                assert early.statuses == [
                    {
                        "epoch": "epoch-1",
                        "boot_id": "",
                        "head_seq": 7,
                        "published": 3,
                        "commit": 9,
                        "commit_hash": "0a",
                    }
                ]
        async with Subscriber(broker.host, broker.port) as late:
            await late.until(lambda: bool(late.statuses) and "head_seq" not in late.statuses[-1])
            assert late.statuses[-1] == {"epoch": "epoch-1", "boot_id": ""}


async def test_the_event_loop_rests_after_a_row_and_a_ping_of_the_same_turn(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with linked(tmp_path) as (_, link):
        client: paho.Client = link._client._client  # type: ignore[attr-defined]
        answered = loop.create_future()
        link.send(row(1), lambda _seq, code: answered.set_result(code))
        client._send_pingreq()  # as paho's clock does it
        async with asyncio.timeout(WITHIN_S):
            assert await answered < 0x80
        # Nobody waits for the socket to become writable, which it is: the loop would spin.
        assert not loop.remove_writer(client._sock.fileno())  # type: ignore[union-attr]


def test_the_client_id_is_the_same_at_every_start_of_a_node() -> None:
    settings = MqttSettings(host="h", port=1, tenant="t", node="n", status_topic=STATUS_TOPIC)
    assert settings.identifier == "sidecar-t-n"


# --- not getting through ------------------------------------------------------------------------------------


async def test_nobody_listening_is_a_link_error_that_says_where(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        settings = MqttSettings(host="127.0.0.1", port=port, node="n", status_topic=STATUS_TOPIC)
        with pytest.raises(LinkError, match=f"127.0.0.1:{port}"):
            async with MqttPublisher(settings, "epoch-1").connect():
                pytest.fail("connected to nobody")


async def test_a_stopped_broker_costs_a_timeout_and_no_descriptor(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        publisher = MqttPublisher(mqtt_settings(broker, connect_timeout_s=0.1), "epoch-1")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            descriptors = []
            for _ in range(5):
                with pytest.raises(LinkError, match="timed out"):
                    async with publisher.connect():
                        pytest.fail("connected to a stopped broker")
                descriptors.append(descriptors_open())
            assert len(set(descriptors)) == 1
        finally:
            os.kill(broker.pid, signal.SIGCONT)


async def test_a_silent_link_is_found_lost_by_the_keepalive_alone(tmp_path: Path) -> None:
    async with linked(tmp_path, keepalive_s=1) as (broker, link):
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            lost = await loss_of(link)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert lost.code is None


async def test_a_killed_broker_is_noticed_at_once_and_sending_raises(tmp_path: Path) -> None:
    async with linked(tmp_path) as (broker, link):
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        assert (await loss_of(link)).code is None
        with pytest.raises(LinkError):
            link.send(row(1), lambda seq, code: pytest.fail("acknowledged by a dead broker"))


@pytest.mark.parametrize("code", [0x82, 0x87, 0x8E, 0x95])
async def test_the_brokers_own_goodbye_gives_its_code(code: int) -> None:
    async with scripted_broker(lambda _: Answer(disconnect=code)) as broker:
        settings = MqttSettings(host=broker.host, port=broker.port, node="n", status_topic=STATUS_TOPIC)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            link.send(row(1), lambda seq, code: pytest.fail("acknowledged by a goodbye"))
            assert (await loss_of(link)).code == code


# --- credentials and TLS ------------------------------------------------------------------------------------


@pytest.fixture
def password_entries(tmp_path: Path) -> tuple[str, ...]:
    entries = tmp_path / "entries"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", str(entries), "sidecar", "right"], check=True, capture_output=True
    )
    return ("allow_anonymous false", f"password_file {entries}")


async def test_the_password_is_the_first_line_of_its_file(
    tmp_path: Path, password_entries: tuple[str, ...]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("right\nsecond line\n")
    async with running_broker(tmp_path, *password_entries) as broker:
        settings = mqtt_settings(broker, username="sidecar", password_file=secret)
        async with MqttPublisher(settings, "epoch-1").connect() as link:
            assert await code_of(link, row(1)) < 0x80


async def test_a_wrong_password_is_told_without_the_password(
    tmp_path: Path, password_entries: tuple[str, ...]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wr0ng-w0rd\n")
    async with running_broker(tmp_path, *password_entries) as broker:
        settings = mqtt_settings(broker, username="sidecar", password_file=secret)
        with pytest.raises(LinkError, match="Not authorized") as caught:
            async with MqttPublisher(settings, "epoch-1").connect():
                pytest.fail("connected with a wrong password")
        assert caught.value.code == 0x87
        assert "wr0ng-w0rd" not in str(caught.value) + repr(settings)


async def test_a_missing_password_file_is_named_and_may_come_later(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    async with running_broker(tmp_path) as broker:
        publisher = MqttPublisher(mqtt_settings(broker, username="sidecar", password_file=secret), "epoch-1")
        with pytest.raises(OSError, match=str(secret)):
            publisher.check()
        with pytest.raises(LinkError, match=str(secret)):
            async with publisher.connect():
                pytest.fail("connected without the password")
        secret.write_text("anything\n")
        publisher.check()
        async with publisher.connect():
            pass


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """ca.crt; server and client, .crt and .key, signed by it; other-ca.crt, which signed nothing."""
    for name in ("ca", "other-ca"):
        _openssl(
            tmp_path,
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
            f" -addext keyUsage=critical,keyCertSign,cRLSign -keyout {name}.key -out {name}.crt",
        )
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        _openssl(
            tmp_path,
            f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name}"
            f" -keyout {name}.key -out {name}.csr",
        )
        _openssl(
            tmp_path,
            f"x509 -req -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names"
            f" -in {name}.csr -out {name}.crt",
        )
    return tmp_path


def _openssl(directory: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)


def tls_listener(files: Path, port: int) -> tuple[str, ...]:
    return (
        f"listener {port} 127.0.0.1",
        f"cafile {files / 'ca.crt'}",
        f"certfile {files / 'server.crt'}",
        f"keyfile {files / 'server.key'}",
        "require_certificate true",
    )


def tls_settings(files: Path, port: int, **changes: object) -> MqttSettings:
    fields: dict[str, object] = {
        "host": "127.0.0.1",
        "port": port,
        "node": "node1",
        "status_topic": STATUS_TOPIC,
        "tls": True,
        "ca_file": files / "ca.crt",
        "certificate_file": files / "client.crt",
        "key_file": files / "client.key",
    }
    return MqttSettings(**(fields | changes))  # type: ignore[arg-type]


async def test_a_link_over_tls_with_a_certificate_of_ours(certificates: Path) -> None:
    [port] = free_ports("127.0.0.1", 1)
    async with running_broker(certificates, *tls_listener(certificates, port)):
        publisher = MqttPublisher(tls_settings(certificates, port), "epoch-1")
        publisher.check()
        async with publisher.connect() as link:
            for seq in range(1, 50):
                assert await code_of(link, row(seq, payload=bytes(20_000))) < 0x80


@pytest.mark.parametrize(
    "changes",
    [{"ca_file": "other-ca.crt"}, {"certificate_file": None, "key_file": None}, {"host": "localhost"}],
)
async def test_a_certificate_that_does_not_fit_is_a_link_error(
    certificates: Path, changes: dict[str, str | None]
) -> None:
    [port] = free_ports("127.0.0.1", 1)
    paths = {
        key: certificates / value if value is not None and key != "host" else value
        for key, value in changes.items()
    }
    async with running_broker(certificates, *tls_listener(certificates, port)):
        publisher = MqttPublisher(tls_settings(certificates, port, **paths), "epoch-1")
        with pytest.raises(LinkError):
            await connect_and_wait(publisher)


STRICT = ssl.VERIFY_X509_STRICT
OF_CA = "req -x509 -key ca.key -subj /CN=ca -days 2 -out ca.crt"
OF_SERVER = "x509 -req -days 2 -CA ca.crt -CAkey ca.key -in server.csr -out server.crt -extfile"
BARE_CNF = """
[req]
distinguished_name = bare
[bare]
[of_server]
subjectAltName = IP:127.0.0.1
authorityKeyIdentifier = none
"""


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (OF_CA, "keyUsage keyCertSign in the CA"),  # openssl's own defaults
        (
            f"{OF_CA} -config bare.cnf -addext keyUsage=keyCertSign -addext basicConstraints=CA:TRUE",
            "basicConstraints marked critical in the CA",
        ),
        (
            f"{OF_SERVER} bare.cnf -extensions of_server",
            "authorityKeyIdentifier in the broker's certificate (sign it again)",
        ),
    ],
)
async def test_a_certificate_too_loose_for_python_3_13_is_refused_with_the_command_that_mends_it(
    certificates: Path, command: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(**arguments: Any) -> ssl.SSLContext:
        context = usual(**arguments)
        context.verify_flags |= STRICT  # as since Python 3.13
        return context

    usual = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", strict)
    (certificates / "bare.cnf").write_text(BARE_CNF)
    _openssl(certificates, command)
    [port] = free_ports("127.0.0.1", 1)
    publisher = MqttPublisher(tls_settings(certificates, port), "epoch-1")
    async with running_broker(certificates, *tls_listener(certificates, port)):
        with pytest.raises(LinkError) as refused:
            await connect_and_wait(publisher)
    text = str(refused.value)
    assert f"Python 3.13 and newer need {needed}. " in text
    assert f" {certificates / 'ca.crt'}, " in text
    advised = text.partition(": openssl ")[2].replace("CA.", "ca.").replace("SUBJECT", "/CN=ca")
    _openssl(certificates, advised)
    if "sign it again" in needed:
        _openssl(certificates, f"{OF_SERVER} names")
    async with (
        running_broker(certificates, *tls_listener(certificates, port)),
        publisher.connect() as link,
    ):
        assert await code_of(link, row(1)) < 0x80


def test_a_file_that_is_no_certificate_is_named_before_the_start(certificates: Path) -> None:
    (certificates / "not.crt").write_text("not a certificate")
    with pytest.raises(ValueError, match=r"not\.crt"):
        MqttPublisher(tls_settings(certificates, 1, ca_file=certificates / "not.crt"), "epoch-1").check()
    with pytest.raises(ValueError, match=r"not\.crt"):
        MqttPublisher(
            tls_settings(certificates, 1, certificate_file=certificates / "not.crt"), "epoch-1"
        ).check()
