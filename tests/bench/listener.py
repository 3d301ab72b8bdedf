"""An MQTT 5 subscriber that shares nothing with the publisher, not even a library, and costs next to nothing:
a thread notes each message and when it came, and reads it later.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import msgpack

TOPIC = "sidecar/v1/+/+/cdr/#"
CONNECT_S_MAX = 5.0
_MQTT_5 = b"\x00\x04MQTT\x05"
_REST = (3600).to_bytes(2, "big") + b"\x00" + b"\x00\x05bench"  # keep alive, no properties, client id
_CONNACK, _PUBLISH, _PUBACK, _SUBACK = 0x20, 0x30, 0x40, 0x90

Record = dict[str, Any]


class Listener:
    """Use as a context manager: subscribed when it is entered."""

    def __init__(
        self, host: str, port: int, username: str | None = None, password: str | None = None
    ) -> None:
        self._place = (host, port)
        self._access = [text.encode() for text in (username, password) if text is not None]
        self._arrived: list[tuple[int, bytes]] = []  # wall clock in ns, and the packet
        self._socket: socket.socket
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._rest = bytearray()

    def __enter__(self) -> Listener:
        self._socket = socket.create_connection(self._place, CONNECT_S_MAX)
        flags = b"\xc2" if self._access else b"\x02"  # clean start; user name and password
        access = b"".join(len(one).to_bytes(2, "big") + one for one in self._access)
        connect = _MQTT_5 + flags + _REST + access
        self._socket.sendall(b"\x10" + bytes([len(connect)]) + connect)
        self._expect(_CONNACK, 3)
        topic = TOPIC.encode()
        subscribe = b"\x00\x01\x00" + len(topic).to_bytes(2, "big") + topic + b"\x01"  # QoS 1
        self._socket.sendall(b"\x82" + bytes([len(subscribe)]) + subscribe)
        self._expect(_SUBACK, -1)
        self._socket.settimeout(None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    @property
    def count(self) -> int:
        return len(self._arrived)

    def records(self, since: int = 0) -> list[tuple[int, Record]]:
        """When they came (wall clock, ns), and what they say; without the first `since`."""
        return [(at_ns, _record(packet)) for at_ns, packet in self._arrived[since:]]

    def _expect(self, kind: int, code_at: int) -> None:
        while True:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the broker hung up")
            self._rest += data
            for packet in self._packets():
                if packet[0] & 0xF0 == kind and packet[code_at] < 0x80:
                    return
                raise ConnectionError(f"the broker says {packet.hex()}")

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(262_144):
                at_ns = time.time_ns()
                self._rest += data
                acknowledgements = bytearray()
                for packet in self._packets():
                    if packet[0] & 0xF0 == _PUBLISH:
                        self._arrived.append((at_ns, packet))
                        if packet[0] & 0x06:
                            acknowledgements += bytes((_PUBACK, 2)) + _packet_id(packet)
                if acknowledgements:
                    self._socket.sendall(acknowledgements)

    def _packets(self) -> list[bytes]:
        """Whole packets, taken from what has come; what is not whole stays."""
        found, rest, start = [], self._rest, 0
        while len(rest) - start >= 2:
            try:
                length, at = _varint(rest, start + 1)
            except IndexError:
                break
            if len(rest) < at + length:
                break
            found.append(bytes(rest[start : at + length]))
            start = at + length
        del rest[:start]
        return found


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
        shift += 7


def _after_topic(packet: bytes) -> int:
    _, at = _varint(packet, 1)
    return at + 2 + int.from_bytes(packet[at : at + 2], "big")


def _packet_id(packet: bytes) -> bytes:
    at = _after_topic(packet)
    return packet[at : at + 2]


def _record(packet: bytes) -> Record:
    at = _after_topic(packet) + (2 if packet[0] & 0x06 else 0)
    length, at = _varint(packet, at)
    record: Record = msgpack.unpackb(packet[at + length :], timestamp=3)
    return record
