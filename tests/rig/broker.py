"""A Mosquitto of the test's own, on one port for as long as the test runs."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.demo.children import end, free_ports
from tests.rig.node import until


class Mosquitto:
    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder, self.host = folder, host
        self.port = port or free_ports(host, 1)[0]
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"user {pwd.getpwuid(os.geteuid()).pw_name}\nlistener {self.port} {self.host}\n"
            "allow_anonymous true\npersistence true\n"
            f"persistence_location {self.folder}/\nautosave_on_changes true\nautosave_interval 1\n"
            "max_queued_messages 100000\nmax_inflight_messages 1000\nset_tcp_nodelay true\n"
        )
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.child = await asyncio.create_subprocess_exec(
            *(program, "-c", str(config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(self._answers)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True

    def signal(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    async def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        await self.child.wait()

    async def stop(self) -> None:
        if self.child is not None and self.child.returncode is None:
            self.signal(signal.SIGCONT)
            await end(self.child)

    def settings(self) -> dict[str, str]:
        return {
            "SIDECAR_MQTT__BROKER": "external",
            "SIDECAR_MQTT__HOST": self.host,
            "SIDECAR_MQTT__PORT": str(self.port),
            "SIDECAR_MQTT__STATUS_INTERVAL_S": "1",
        }


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(folder / "mosquitto")
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
