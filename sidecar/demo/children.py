"""The child processes of the demo, each ended by its own pid, and addresses that nobody else uses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.adapters.broker import READER
from sidecar.adapters.control_client import ControlClient
from sidecar.adapters.sockets.child import end

REPO = Path(__file__).resolve().parent.parent.parent
SCENARIOS = REPO / "sipp_scenarios"
SIPP_S_MAX = 20
WORDS_SHOWN = 15
PORT_MIN = 10_000
_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


class DemoError(Exception):
    """The demo cannot go on. The text says why and what to do."""


def own_address() -> str:
    """A loopback address by our process id, so that two demos do not meet; never 127.0.0.x."""
    return f"127.0.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"


def free_ports(host: str, count: int) -> list[int]:
    """Different ports of `host` that are free for UDP and TCP now. They are below those that the kernel gives
    to sockets that ask for none, so that nobody gets one by chance before it is used (ip(7),
    ip_local_port_range)."""
    given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(PORT_MIN, given_from if given_from > 2 * PORT_MIN else 65_536)
    found: list[int] = []
    while len(found) < count:
        port = random.choice(candidates)  # noqa: S311  # not a secret
        if port not in found and all(_is_free(host, port, kind) for kind in _KINDS):
            found.append(port)
    return found


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def listens(host: str, port: int) -> bool:
    """Whether somebody has bound this UDP port: proc(5), /proc/net/udp."""
    address = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
    return any(line.split()[1] == address for line in Path("/proc/net/udp").read_text().splitlines()[1:])


def environment(**settings: str) -> dict[str, str]:
    """Ours, without any setting that the user has made for a sidecar of his own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SIDECAR_", "SERVER_BILLING_"))
    }
    path = os.pathsep.join(filter(None, (str(REPO), kept.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path} | settings


# --- SIPp ---------------------------------------------------------------------------------------------------


class Sipp:
    """One SIPp process for one call. `ended` says how it went."""

    def __init__(self, name: str, folder: Path, child: asyncio.subprocess.Process) -> None:
        self.name = name
        self._folder = folder
        self._child = child

    @classmethod
    async def start(
        cls,
        name: str,
        folder: Path,
        host: str,
        port: int,
        control_port: int,
        *more: str,
        remote: str = "",
        patience_s: int = SIPP_S_MAX,
    ) -> Sipp:
        """`name` is that of a scenario file, without `.xml`."""
        command = ["sipp", *([remote] if remote else [])]
        command += ["-sf", str(SCENARIOS / f"{name}.xml"), "-i", host, "-p", str(port)]
        command += ["-ci", "127.0.0.1", "-cp", str(control_port), "-m", "1", "-nostdin"]
        command += ["-aa"]  # 200 to OPTIONS where the scenario does not wait for it
        command += ["-timeout", str(patience_s), "-timeout_error"]
        command += ["-trace_err", "-error_file", str(folder / f"{name}.errors")]
        command += ["-trace_msg", "-message_file", str(folder / f"{name}.messages"), *more]
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=folder,
            )
        except FileNotFoundError:
            raise DemoError("sipp is not installed: `make setup` installs it") from None
        return cls(name, folder, child)

    async def listening(self, host: str, port: int) -> None:
        while not listens(host, port):
            if self._child.returncode is not None:
                raise DemoError(f"{self.name} ended at once: {self.words()}")
            await asyncio.sleep(0.02)

    async def ended(self) -> str:
        """Empty where every message of the scenario came as it should, else what SIPp says."""
        status = await self._child.wait()
        return "" if status == 0 else f"SIPp {self.name} ended with status {status}: {self.words()}"

    def words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / f"{self.name}.errors").read_text(errors="backslashreplace").splitlines()
            return " | ".join(line for line in lines[:WORDS_SHOWN] if line.strip())
        return "it says nothing"

    async def stop(self) -> None:
        await end(self._child)


# --- the daemon and its command line ------------------------------------------------------------------------


class BrokerAccess(NamedTuple):
    host: str
    port: int
    username: str | None
    password: str | None


class Daemon:
    """`sidecar run`, up from `ready` on."""

    def __init__(self, child: asyncio.subprocess.Process, ready: dict[str, Any], log: Path) -> None:
        self._child = child
        self._ready = ready
        self._log = log

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def sip(self) -> tuple[str, int]:
        transport, _, place = self._ready["sip"][0].partition(":")
        assert transport == "udp", self._ready["sip"]
        return _host_port(place)

    @property
    def broker(self) -> BrokerAccess:
        """With what the embedded broker's readers need; the folder may be in a mount namespace of the
        daemon's own."""
        password = Path(f"/proc/{self.pid}/root{self._ready['data_dir']}/broker/{READER}.password")
        host, port = _host_port(self._ready["broker"])
        if not password.exists():  # an external one
            return BrokerAccess(host, port, None, None)
        return BrokerAccess(host, port, READER, password.read_text().strip())

    @property
    def metrics(self) -> str:
        """Where they are read."""
        return f"http://{self._ready['metrics']}/metrics"

    @property
    def page(self) -> str:
        """Where it is, where it is on."""
        return str(self._ready["page"])

    @property
    def engine(self) -> str:
        return str(self._ready["engine"])

    async def command(self, *words: str) -> Any:
        """What `sidecar WORDS --json` prints."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar.cli", *words, "--json", "--socket", self._ready["socket"]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        try:
            said, complaint = await child.communicate()
        finally:
            await end(child)
        if child.returncode:
            raise DemoError(
                f"sidecar {' '.join(words)}: status {child.returncode}: {complaint.decode().strip()}"
            )
        return json.loads(said)

    async def live_calls(self) -> Any:
        """What `sidecar call list` would show, without the start of a Python for every look."""

        def ask() -> Any:
            with ControlClient(Path(self._ready["socket"])) as client:
                return client.call("call.list")["calls"]

        return await asyncio.to_thread(ask)

    async def stop(self) -> int:
        """SIGTERM, and its exit status."""
        await end(self._child)
        return await self.ended()

    async def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        return await self._child.wait()


@asynccontextmanager
async def daemon(
    log: Path, settings: dict[str, str], program: Sequence[str] = (sys.executable, "-m", "sidecar.cli")
) -> AsyncIterator[Daemon]:
    """A sidecar with these settings, until the block is left."""
    child = await asyncio.create_subprocess_exec(
        *(*program, "run"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**settings),
        cwd=log.parent,
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            tasks.create_task(_read_log(child, log, ready), name="daemon-log")
            yield Daemon(child, await ready, log)
            await end(child)
    finally:
        await end(child)


async def _read_log(
    child: asyncio.subprocess.Process, log: Path, ready: asyncio.Future[dict[str, Any]]
) -> None:
    assert child.stderr is not None
    last: list[str] = []
    with log.open("wb", buffering=0) as file:  # it is read while it is written
        async for line in child.stderr:
            file.write(line)
            last = [*last, line.decode(errors="backslashreplace").strip()][-WORDS_SHOWN:]
            if not ready.done() and line.startswith(b"{"):
                event = json.loads(line)
                if event.get("event") == "ready":
                    ready.set_result(event)
    if not ready.done():
        ready.set_exception(DemoError("the sidecar did not start: " + "\n".join(last)))


def _host_port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for one in group.exceptions
        for leaf in (leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]
