"""aiomqtt's client with a short way for rows and PUBACKs, which are the bulk.

aiomqtt, and paho below it, connect, keep the link alive and find it lost. The rest is done here, on private
methods of both, which is why their versions are pinned and tests/adapters/test_mqtt.py pins what they get:

- What is sent in one turn of the event loop is written at once, and the socket is read in blocks. paho makes
  objects and locks for each message, reads byte by byte, and has aiomqtt wake the event loop for each write:
  three times the CPU for a row (`python -m tests.bench_relay`).
- Reason codes come back as they are. aiomqtt releases a waiting `publish()` whatever the PUBACK says, and
  paho drops the link at a code that the standard does not list. Mosquitto answers a message above its
  `message_size_limit` with such a one (0x95).
- The limits that the broker states in its CONNACK are kept; aiomqtt does not show them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from sidecar.adapters.mqtt.packets import PACKET_BYTES_MAX, PUBACK, PUBLISH_QOS_1
from sidecar.ports import LinkError

BLOCK_BYTES = 65_536
T = TypeVar("T")


class Client(aiomqtt.Client):
    """aiomqtt's client; rows, PUBACKs and the limits of the broker are read and written here."""

    receive_max = 65_535
    packet_bytes_max = PACKET_BYTES_MAX
    qos_max = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # By packet id; bounded by the window.
        self._waiting: dict[int, tuple[int, Callable[[int, int], None]]] = {}
        self._packet_id = 0  # the last one taken
        self._unwritten: list[bytes] = []  # of this turn of the event loop; bounded by the window
        self._block = b""  # read from the socket, and not yet read by paho
        self._server_code: int | None = None
        self._take: Callable[[paho.MQTTMessage], None] | None = None
        self._read_socket = self._client._sock_recv
        self._client._sock_recv = self._read_from_block  # type: ignore[method-assign, assignment]
        self._client.loop_read = self._read_block  # type: ignore[method-assign]
        self._paho_reads_puback = self._client._handle_pubackcomp
        self._client._handle_pubackcomp = self._read_puback  # type: ignore[method-assign]

    @property
    def is_open(self) -> bool:
        """False also where the link was lost before aiomqtt had looked: it would not tell then."""
        return self._client._sock is not None

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109
        """As aiomqtt's, which waits by `asyncio.wait_for`: before Python 3.12 that drops a cancellation that
        comes in the same turn as the answer (gh-86296), and the node would not stop."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None

    def bound_connect(self, timeout_s: float) -> None:
        self._client.connect_timeout = timeout_s

    def free_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % 65_535 + 1
            if self._packet_id not in self._waiting:
                return self._packet_id

    def expect_puback(self, packet_id: int, seq: int, acknowledged: Callable[[int, int], None]) -> None:
        self._waiting[packet_id] = (seq, acknowledged)

    def send(self, *parts: bytes) -> None:
        """A whole packet; written after the caller's turn, with what else was sent in it."""
        if self._client._sock is None:
            raise LinkError(paho.error_string(MQTTErrorCode.MQTT_ERR_NO_CONN))
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten += parts

    def _write(self) -> None:
        packets = b"".join(self._unwritten)
        self._unwritten.clear()
        # paho's `_packet_queue` would leave the writing to a callback, for three system calls more.
        self._client._out_packet.append(
            {
                "command": PUBLISH_QOS_1,
                "mid": 0,
                "qos": 1,  # at 0 paho would report it as published
                "pos": 0,
                "to_process": len(packets),
                "packet": memoryview(packets),  # type: ignore[typeddict-item]  # paho slices it at each write
                "info": None,
            }
        )
        # Where paho waits for the socket to become writable its callback writes these too. Written here they
        # would end its wait before aiomqtt has begun it, a turn later: nobody would end it then, and the loop
        # would spin.
        if not self._client._registered_write:
            self._client.loop_write()

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        def lost(_: object) -> None:
            if self._disconnected.cancelled():
                return  # cut by us
            error = self._disconnected.exception()
            notify(LinkError(str(error or "the link was closed"), self._server_code))

        self._disconnected.add_done_callback(lost)

    def on_published(self, take: Callable[[paho.MQTTMessage], None]) -> None:
        """What comes on a subscription goes there at once, and waits in no queue."""
        self._take = take

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if self._take is not None:
            self._take(message)

    def cut(self) -> None:
        """Close the socket in whatever state it is; aiomqtt leaves it open when a CONNACK does not come in
        time."""
        self._client._sock_close()
        if self._disconnected.done():
            self._disconnected.exception()  # retrieved, or asyncio would complain
        else:
            self._disconnected.cancel()

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.receive_max = getattr(properties, "ReceiveMaximum", self.receive_max)
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", self.packet_bytes_max)
        self.qos_max = getattr(properties, "MaximumQoS", self.qos_max)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._server_code = reason_code.value
        if not self._connected.done():
            # aiomqtt would let the CONNECT run into its time-out. With TLS 1.3 a broker that wants a
            # certificate says so only now, after the handshake.
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # retrieved: aiomqtt may forget it

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """As aiomqtt's, but for a socket that is closed before the event loop comes to it."""

        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)

    def _read_block(self, max_packets: int = 1) -> MQTTErrorCode:
        """In place of paho's `loop_read`: everything that the socket holds, up to BLOCK_BYTES."""
        client = self._client
        try:
            self._block = block = self._read_socket(BLOCK_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        except OSError:
            block = b""
        if not block:
            return client._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        client._last_bytes_received = time.monotonic()
        at, end = 0, len(block)
        while at < end:
            if (
                block[at] == PUBACK
                and at + 1 < end
                and 2 <= block[at + 1] < 0x80
                and at + 2 + block[at + 1] <= end
                and not client._in_packet["command"]  # else this is the middle of a longer packet
            ):
                length = block[at + 1]
                self._puback(block[at + 2 : at + 2 + length])
                at += 2 + length
                continue
            self._block = block[at:]
            rc = client._packet_read()
            at = end - len(self._block)
            if rc > MQTTErrorCode.MQTT_ERR_SUCCESS:
                return client._loop_rc_handle(rc)
            if client._sock is None:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _read_from_block(self, count: int) -> bytes:
        """In place of paho's reading from the socket."""
        if not self._block:
            raise BlockingIOError
        read, self._block = self._block[:count], self._block[count:]
        return read

    def _read_puback(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """A PUBACK that was cut in two, or is a long one, and so went through paho."""
        packet = self._client._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) < 2:
            return self._paho_reads_puback(cmd)
        self._puback(packet)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _puback(self, packet: bytes | bytearray) -> None:
        waiting = self._waiting.pop(int.from_bytes(packet[:2], "big"), None)
        if waiting is not None:
            seq, acknowledged = waiting
            acknowledged(seq, packet[2] if len(packet) > 2 else 0)  # MQTT 5 §3.4.2.1: left out where it is 0
