"""Several nodes on one database and one broker, with the same phones on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.faults.node import Node
from tests.rig.broker import Mosquitto
from tests.rig.node import until

LEASE_S = 2


class OneOf(Node):
    """`n1` is the one whose network the phones are in. `more` as of a Node."""

    def __init__(self, folder: Path, name: str, dsn: str, first: Node | None = None, **more: str) -> None:
        folder.mkdir()
        super().__init__(folder, dsn=dsn, timers="t1_ms = 100", **more)
        self.name = name
        self._settings |= {"SIDECAR_NODE__NAME": name, "SIDECAR_STORE__LEASE_S": str(LEASE_S)}
        self.of_phones = first.network if first is not None else self.network
        if first is not None:
            self.gateway_port = first.gateway_port
        self.siblings: list[OneOf] = []
        self.more_tables = ""

    def profile_text(self) -> str:
        own, self.network = self.network, self.of_phones
        text = super().profile_text()
        self.network = own
        addresses = ", ".join(f'"{one.host}/32"' for one in self.siblings)
        return text + f"\n[peers.nodes]\naddresses = [{addresses}]\n{self.more_tables}"

    def told(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        said = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
        return [one for one in said if one["event"] == event]


def cluster(folder: Path, dsn: str, count: int, **more: str) -> list[OneOf]:
    nodes: list[OneOf] = []
    for name in [f"n{number}" for number in range(1, count + 1)]:
        nodes.append(OneOf(folder / name, name, dsn, nodes[0] if nodes else None, **more))
    for node in nodes:
        node.siblings = [one for one in nodes if one is not node]
    return nodes


@asynccontextmanager
async def up(node: OneOf, broker: Mosquitto) -> AsyncIterator[OneOf]:
    async with node.up(**broker.settings()):
        yield node


async def know_each_other(nodes: list[OneOf]) -> None:
    """Until each has answered all others."""

    async def is_known() -> bool:
        counts = [await one.metric("sidecar_bridge_total", '"options_answered"') for one in nodes]
        return all(count >= len(nodes) - 1 for count in counts)

    await until(is_known)


class Proxy:
    """The way to the database, which may be cut, or long: `round_trip_s`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.round_trip_s = 0.0
        self._server: asyncio.Server
        self._links: set[asyncio.StreamWriter] = set()
        self.is_cut = False
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()

    def cut(self) -> None:
        self.is_cut = True
        for link in self._links:
            link.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._links |= {writer, far_writer}
        try:
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            self._links -= {writer, far_writer}
            writer.close()
            far_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as tasks:
            passing = asyncio.Queue[tuple[float, bytes]]()
            tasks.create_task(_passed_on(passing, writer), name="way")
            with contextlib.suppress(OSError):
                while data := await reader.read(65_536):
                    passing.put_nowait((self.round_trip_s / 2 + asyncio.get_running_loop().time(), data))
            passing.put_nowait((0.0, b""))


async def _passed_on(passing: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Each when it is due; nothing is the end."""
    with contextlib.suppress(OSError):
        while True:
            due_s, data = await passing.get()
            if not data:
                break
            await asyncio.sleep(due_s - asyncio.get_running_loop().time())
            writer.write(data)
            await writer.drain()
    writer.close()
