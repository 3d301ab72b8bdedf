"""A Mosquitto of the test's own, on one port for as long as the test runs."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import free_ports
from tests.rig.node import until


class Mosquitto:
    """`options` of mosquitto.conf replace ours; `more` are whole lines, of which one may stand twice."""

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        options: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self.folder, self.host = folder, host
        self._options = {
            "listener": "",  # first: what follows may be of the listener
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{folder}/",
            "autosave_on_changes": "true",
            "autosave_interval": "1",
            "max_queued_messages": "100000",
            "max_inflight_messages": "1000",
            "set_tcp_nodelay": "true",
            **(options or {}),
        }
        self._more = more
        self.port = port or free_ports(host, 1)[0]
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "mosquitto.conf"
        options = self._options | {"listener": f"{self.port} {self.host}"}
        lines = [f"{name} {value}" for name, value in options.items()]
        config.write_text("\n".join((*lines, *self._more)) + "\n")
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
async def mosquitto(
    folder: Path, *, options: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(folder / "mosquitto", options=options, more=more)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
