"""Two SIP stacks that are not ours, each a process of its own, driven alike: what is asked of them, and what
they say that happened.

Events: `incoming`, `ringing`, `established`, `closed`; of baresip also `transfer_failed`; of pjsua2 also
`talking`, `holding` (by itself), `held` (by the other side), `answered` (a request of its own, with
`method`, `code` and `talked_s`), `referred`, `transfer` (with `code`) and `replaced`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import environment, free_ports
from sidecar.demo.subscriber import Record
from tests.rig.node import until

WITHIN_S: Final = 60.0

# It takes the port above that of `sip_listen` too, for TLS.
BARESIP_CONFIG: Final = """
sip_listen {host}:{port}
net_interface {host}
ctrl_tcp_listen {host}:{control}
call_local_timeout 120
call_max_calls 4
audio_player aubridge,loop
audio_source aubridge,loop
audio_alert aubridge,loop
ring_aufile none
ringback_aufile none
module_path /usr/lib/baresip/modules
module g711.so
module aubridge.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
"""


class Agent:
    """What is asked of it concerns its last call, unless its name is given."""

    kind = ""

    def __init__(self, folder: Path, host: str, number: str) -> None:
        self.folder, self.host, self.number = folder, host, number
        self.port, self.control = self._ports()
        self.child: asyncio.subprocess.Process
        self.events: list[Record] = []
        self._news = asyncio.Event()

    def _ports(self) -> tuple[int, int]:
        while True:
            port, control = free_ports(self.host, 2)
            if control != port + 1:
                return port, control

    async def start(self) -> None:
        """Up to where it can be called."""
        raise NotImplementedError

    async def read(self) -> None:
        """Its events, until it is gone."""
        raise NotImplementedError

    async def do(self, what: str, **more: Any) -> None:
        raise NotImplementedError

    def take(self, name: str, call: str, **more: Any) -> None:
        self.events.append({"event": name, "call": call, **more})
        self._news.set()

    async def event(self, name: str, since: int = 0, *, within_s: float = WITHIN_S, **more: Any) -> int:
        """The first event of this name and content among those from the number `since` on; what it returns
        is the number of the next one."""
        wanted = {"event": name, **more}.items()
        try:
            async with asyncio.timeout(within_s):
                while not (found := [n for n, one in self._from(since) if wanted <= one.items()]):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.kind}: no {name} {more} in {self.events[since:]}") from None
        return found[0] + 1

    def _from(self, since: int) -> Iterable[tuple[int, Record]]:
        return enumerate(self.events[since:], start=since)

    def last_call(self) -> str:
        return str(self.events[-1]["call"])

    def freeze(self) -> None:
        """It says and hears nothing any more."""
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        self.thaw()
        await end(self.child)


class Baresip(Agent):
    kind = "baresip"
    _EVENTS: Final = {
        "CALL_INCOMING": "incoming",
        "CALL_RINGING": "ringing",
        "CALL_ESTABLISHED": "established",
        "CALL_CLOSED": "closed",
        "TRANSFER_FAILED": "transfer_failed",
    }
    _WORDS: Final = {"answer": "accept", "hang_up": "hangup", "reject": "hangup"}
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def start(self) -> None:
        config = BARESIP_CONFIG.format(host=self.host, port=self.port, control=self.control)
        (self.folder / "config").write_text(config)
        (self.folder / "accounts").write_text(f"<sip:{self.number}@{self.host}:{self.port}>;regint=0\n")
        (self.folder / "contacts").touch()
        (self.folder / "uuid").touch()
        with (self.folder / "baresip.log").open("wb") as log:
            self.child = await asyncio.create_subprocess_exec(
                *("baresip", "-f", str(self.folder), "-s"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
            )
        await until(self._is_up)

    async def _is_up(self) -> bool:
        try:
            self._reader, self._writer = await asyncio.open_connection(self.host, self.control)
        except OSError:
            return False
        return True

    async def stop(self) -> None:
        self._writer.close()
        await super().stop()

    async def read(self) -> None:
        """Netstrings, of what happened and of answers to commands."""
        while length := (await self._reader.read(1)):
            length += await self._reader.readuntil(b":")
            said = json.loads(await self._reader.readexactly(int(length[:-1])))
            await self._reader.readexactly(1)
            if (name := self._EVENTS.get(said.get("type", ""))) is not None:
                self.take(name, said["id"], text=said.get("param", ""))

    async def do(self, what: str, **more: Any) -> None:
        word = {"command": self._WORDS.get(what, what)} | ({"params": more["uri"]} if "uri" in more else {})
        text = json.dumps(word).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        await self._writer.drain()


class Pjsua(Agent):
    """`session_expires_s`: it insists on a session timer, whatever the other side says."""

    kind = "pjsua"

    def __init__(self, folder: Path, host: str, number: str, session_expires_s: int = 0) -> None:
        super().__init__(folder, host, number)
        self._session_expires_s = session_expires_s

    async def start(self) -> None:
        with (self.folder / "pjsua.log").open("wb") as log:
            self.child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.stacks.pjsua", str(self.folder), self.host),
                *(str(self.port), str(self._session_expires_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
        assert self.child.stdout is not None
        ready = await self.child.stdout.readline()
        assert b"ready" in ready, (self.folder / "pjsua.log").read_text()

    async def read(self) -> None:
        assert self.child.stdout is not None
        async for line in self.child.stdout:
            said = json.loads(line)
            self.take(said.pop("event"), said.pop("call"), **said)

    async def do(self, what: str, **more: Any) -> None:
        assert self.child.stdin is not None
        call = {} if what == "dial" else {"call": self.last_call()}
        self.child.stdin.write(json.dumps({"do": what, **call, **more}).encode() + b"\n")
        await self.child.stdin.drain()


@asynccontextmanager
async def up(*agents: Agent) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for one in agents:
            one.folder.mkdir()
            await one.start()
            stack.push_async_callback(one.stop)
        readers = [tasks.create_task(one.read(), name=one.kind) for one in agents]
        yield
        for reader in readers:
            reader.cancel()
