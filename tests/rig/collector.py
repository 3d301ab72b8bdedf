"""A collector of HEP version 3, written by the letter of the protocol."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from typing import NamedTuple

Place = tuple[str, int]


class Copy(NamedTuple):
    source: Place
    destination: Place
    protocol: int
    text: bytes
    correlation_id: bytes
    key: bytes
    node: int
    wall_s: float


class Homer(asyncio.DatagramProtocol):
    """A collector."""

    def __init__(self) -> None:
        self.copies: list[Copy] = []

    async def listen(self, host: str) -> Place:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))
        host, port = self.transport.get_extra_info("sockname")[:2]
        return host, port

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.copies.append(copy_of(data))

    @property
    def seen(self) -> list[tuple[Place, Place, bytes]]:
        return sorted((one.source, one.destination, one.text) for one in self.copies)


def copy_of(packet: bytes) -> Copy:
    """github.com/sipcapture/HEP, HEP3 network protocol specification: each chunk is its vendor, its kind, its
    length with these six bytes, and a value."""
    assert packet[:4] == b"HEP3"
    assert int.from_bytes(packet[4:6]) == len(packet)
    chunks: dict[int, bytes] = {}
    at = 6
    while at < len(packet):
        vendor, kind, length = struct.unpack_from("!HHH", packet, at)
        assert (vendor, kind in chunks) == (0, False)
        chunks[kind] = packet[at + 6 : at + length]
        at += length
    assert at == len(packet)
    number = {kind: int.from_bytes(value) for kind, value in chunks.items()}
    assert number[11] == 1  # SIP
    first = {2: 3, 10: 5}[number[1]]
    return Copy(
        (str(ipaddress.ip_address(chunks[first])), number[7]),
        (str(ipaddress.ip_address(chunks[first + 1])), number[8]),
        number[2],
        chunks[15],
        chunks[17],
        chunks.get(14, b""),
        number[12],
        number[9] + number[10] / 1e6,
    )
