"""A broker that answers as a test tells it to, for the reason codes that Mosquitto never sends. It speaks as
much of MQTT 5 as a publisher needs, and keeps the broker's side of the window: more than `receive_max`
unanswered is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgpack

from sidecar.adapters.mqtt.packets import varint


@dataclass(frozen=True)
class Answer:
    """`puback`: answer with this code, and `reason` as its text; `brief`: with code 0, left out. `ping`: a
    PINGRESP before it. `garbage`: exactly this. `disconnect`: hang up with this code. Nothing of these: say
    nothing."""

    puback: int | None = None
    reason: str = ""
    garbage: bytes = b""
    brief: bool = False
    ping: bool = False
    disconnect: int | None = None

    def packets(self, packet_id: int) -> bytes:
        out = b"\xd0\x00" if self.ping else b""
        rest = packet_id.to_bytes(2, "big")
        if self.puback is not None:
            rest += bytes((self.puback,))
            if self.reason:
                text = self.reason.encode()
                properties = b"\x1f" + len(text).to_bytes(2, "big") + text
                rest += varint(len(properties)) + properties
        if self.brief or self.puback is not None:
            out += b"\x40" + varint(len(rest)) + rest
        out += self.garbage
        if self.disconnect is not None:
            out += b"\xe0\x01" + bytes((self.disconnect,))
        return out


Script = Callable[[int], Answer]
ACCEPT = Answer(puback=0)


class ScriptedBroker:
    """`script(seq)` answers each row, whose payload is its sequence number."""

    def __init__(
        self,
        script: Script,
        *,
        receive_max: int,
        qos_max: int,
        packet_bytes_max: int,
        answers_after: int,
        piece_bytes: int,
    ) -> None:
        self._script = script
        self._receive_max = receive_max
        self._qos_max = qos_max
        self._packet_bytes_max = packet_bytes_max
        self._answers_after = answers_after
        self._piece_bytes = piece_bytes
        self.host, self.port = "127.0.0.1", 0
        self.connects = 0
        self.received: list[int] = []
        self.packet_ids: list[int] = []
        self.packet_bytes: list[int] = []
        self.unanswered_most = 0
        self.breaches: list[str] = []
        self.seq_of: Callable[[bytes], int] = msgpack.unpackb

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: list[tuple[int, int]] = []
        try:
            while True:
                kind, body = await _packet(reader)
                if kind >> 4 == 1:  # CONNECT
                    self.connects += 1
                    properties = b"\x21" + self._receive_max.to_bytes(2, "big")
                    if self._qos_max < 2:  # at 2 it must not be there (MQTT 5 §3.2.2.3.4)
                        properties += bytes((0x24, self._qos_max))
                    if self._packet_bytes_max:
                        properties += b"\x27" + self._packet_bytes_max.to_bytes(4, "big")
                    head = bytes((0x20, 3 + len(properties), 0, 0, len(properties)))
                    writer.write(head + properties)
                elif kind >> 4 == 12:  # PINGREQ
                    writer.write(b"\xd0\x00")
                elif kind >> 4 == 3 and kind & 0x06:  # PUBLISH, QoS 1
                    topic_end = 2 + int.from_bytes(body[:2], "big")
                    packet_id = int.from_bytes(body[topic_end : topic_end + 2], "big")
                    # The properties are shorter than 128 bytes in these tests.
                    properties_end = topic_end + 3 + body[topic_end + 2]
                    seq = self.seq_of(body[properties_end:])
                    self.received.append(seq)
                    self.packet_ids.append(packet_id)
                    self.packet_bytes.append(1 + len(varint(len(body))) + len(body))
                    waiting.append((packet_id, seq))
                    self.unanswered_most = max(self.unanswered_most, len(waiting))
                    if len(waiting) > self._receive_max:
                        self.breaches.append(f"{len(waiting)} unanswered")
                    if len(waiting) >= self._answers_after:
                        answers = [(number, self._script(seq)) for number, seq in waiting]
                        waiting.clear()
                        await self._write(writer, b"".join(what.packets(number) for number, what in answers))
                        if any(what.disconnect is not None for _, what in answers):
                            return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, packets: bytes) -> None:
        for start in range(0, len(packets), self._piece_bytes):
            writer.write(packets[start : start + self._piece_bytes])
            await asyncio.sleep(0)  # the client, in the same event loop, reads this piece by itself
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def scripted_broker(
    script: Script,
    *,
    receive_max: int = 65_535,
    qos_max: int = 2,
    packet_bytes_max: int = 0,
    answers_after: int = 1,
    piece_bytes: int = 1 << 20,
) -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker(
        script,
        receive_max=receive_max,
        qos_max=qos_max,
        packet_bytes_max=packet_bytes_max,
        answers_after=answers_after,
        piece_bytes=piece_bytes,
    )
    server = await asyncio.start_server(broker.serve, broker.host, 0)
    async with server:
        broker.port = server.sockets[0].getsockname()[1]
        yield broker
    assert not broker.breaches


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)
