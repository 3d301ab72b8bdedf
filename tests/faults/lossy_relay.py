"""A UDP relay between one phone and the node that loses, doubles and delays datagrams by chance.

It has one socket for each of the two, and each takes the relay for the other: what comes in at one leaves
from the other. Delays differ, so datagrams overtake one another.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial
from types import TracebackType

Address = tuple[str, int]


class _End(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport
        self.other: _End
        self.peer: Address | None = None  # where this end sends to
        self.relay: LossyRelay

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.relay.pass_on(data, self.other)


class LossyRelay:
    def __init__(
        self, host: str, *, seed: int, loss: float, double: float = 0.05, delay_ms_max: float = 20.0
    ) -> None:
        self._host = host
        self._chance = random.Random(seed)
        self._loss, self._double, self._delay_s_max = loss, double, delay_ms_max / 1000
        self.counts: Counter[str] = Counter()
        self._phone_end, self._node_end = _End(), _End()

    async def __aenter__(self) -> LossyRelay:
        loop = asyncio.get_running_loop()
        for end, other in ((self._phone_end, self._node_end), (self._node_end, self._phone_end)):
            end.relay, end.other = self, other
            end.transport, _ = await loop.create_datagram_endpoint(
                partial(_same, end), local_addr=(self._host, 0)
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phone_end.transport.close()
        self._node_end.transport.close()

    @property
    def to_phone(self) -> Address:
        """What the node takes for the phone."""
        return _address(self._node_end)

    @property
    def to_node(self) -> Address:
        """What the phone takes for the node."""
        return _address(self._phone_end)

    def join(self, *, phone: Address, node: Address) -> None:
        self._phone_end.peer, self._node_end.peer = phone, node

    def pass_on(self, data: bytes, end: _End) -> None:
        self.counts["seen"] += 1
        if self._chance.random() < self._loss:
            self.counts["lost"] += 1
            return
        self._send_later(data, end)
        if self._chance.random() < self._double:
            self.counts["doubled"] += 1
            self._send_later(data, end)

    def _send_later(self, data: bytes, end: _End) -> None:
        delay_s = self._chance.random() * self._delay_s_max
        asyncio.get_running_loop().call_later(delay_s, self._send, data, end)

    def _send(self, data: bytes, end: _End) -> None:
        if end.peer is not None and not end.transport.is_closing():
            end.transport.sendto(data, end.peer)


def _same(end: _End) -> _End:
    return end


def _address(end: _End) -> Address:
    host, port = end.transport.get_extra_info("sockname")[:2]
    return str(host), int(port)
