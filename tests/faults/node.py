"""A node for the fault tests: the daemon as a child process, phones on both sides of it, a Mosquitto that
outlives it where the test wants that, and the proof of the books from the file that it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import sys
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiomqtt
import apsw
import msgpack
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sidecar.adapters.control_client import ControlClient
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.demo.children import Daemon, daemon, end, environment, free_ports
from tests.faults.phone import Phone, Script

Record = dict[str, Any]
WITHIN_S = 30.0
PERIOD_S = 0.02

_numbers = itertools.count(1)
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

# Numbers: 1... goes to the gateway, 2... to a second one that has its own record flag, 3... nowhere.
PROFILE = """
[sip]
listen_udp = ["{host}:0"]
{sip}

[timers]
{timers}

[peers.callers]
addresses = ["{network}.2/32"]
asserts_identity = true
{callers}
[peers.gateways]
addresses = ["{network}.3/32"]
[peers.others]
addresses = ["{network}.4/32"]

[gateways.main]
host = "{network}.3"
port = {main}
no_response_failover_s = 10
[gateways.second]
host = "{network}.3"
port = {main}
no_response_failover_s = 10
{second}

[[routes]]
prefix = "1"
gateways = ["main"]
[[routes]]
prefix = "2"
gateways = ["second"]

[decks]
sell = "{deck}"

[billing]
deck = "sell"
{billing}

[[account_rules]]
account = "prepaid"
header = "x-account"
header_value = "prepaid"
[[account_rules]]
account = "other"
header = "x-account"
header_value = "other"
[[account_rules]]
account = "demo"
called_prefix = "1"
[[account_rules]]
account = "demo"
called_prefix = "2"

[accounts.demo]
currency = "EUR"
[accounts.prepaid]
currency = "EUR"
prepaid = true
[accounts.other]
currency = "EUR"
prepaid = true
"""
# A cent a second, by the second.
DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps\n"
    "1,One,EUR,0,0.60,1,1,\n"
    "2,Two,EUR,0,0.60,1,1,\n"
)


class Node:
    """127.x.y.1 is the node, .2 the callers, .3 the callees, .4 a listed stranger, .9 one that is not."""

    def __init__(self, folder: Path, **profile: str) -> None:
        number = next(_numbers)
        self.network = f"127.{150 + _worker}.{number % 250 + 1}"
        self.host = f"{self.network}.1"
        self.folder = folder
        self.data = folder / "data"
        self.gateway_port = free_ports(f"{self.network}.3", 1)[0]
        self.child: Daemon
        self.more: dict[str, str] = {}
        self._profile = profile
        self.log = folder / "daemon.log"
        self._logs = itertools.count(1)

    def write_profile(self, gateway_port: int = 0) -> None:
        deck = self.folder / "deck.csv"
        deck.write_text(DECK)
        parts = dict.fromkeys(("sip", "timers", "callers", "second", "billing"), "") | self._profile
        text = PROFILE.format(
            network=self.network, host=self.host, main=gateway_port or self.gateway_port, deck=deck, **parts
        )
        (self.folder / "node.toml").write_text(text)

    @asynccontextmanager
    async def up(
        self, settings: dict[str, str] | None = None, program: tuple[str, ...] = ()
    ) -> AsyncIterator[Daemon]:
        """May be entered again: a restart on the same data, and with the same settings."""
        self.more = self.more if settings is None else settings
        how = {"program": program} if program else {}
        self.log = self.folder / f"daemon-{next(self._logs)}.log"
        async with daemon(self.log, self._settings(), **how) as child:
            self.child = child
            yield child

    def _settings(self) -> dict[str, str]:
        return {
            "SIDECAR_NODE__NAME": "node",
            "SIDECAR_NODE__DATA_DIR": str(self.data),
            "SIDECAR_SIP__PROFILE": str(self.folder / "node.toml"),
            "SIDECAR_METRICS__LISTEN": f"{self.host}:0",
            "SIDECAR_LOG__LEVEL": "debug",
            **self.more,
        }

    async def killed_while_it_starts(self, after_s: float) -> None:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar.cli", "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(**self._settings()),
        )
        await asyncio.sleep(after_s)
        child.kill()
        await child.wait()

    def kill(self) -> None:
        os.kill(self.child.pid, signal.SIGKILL)

    async def metric(self, name: str, *labels: str) -> float:
        text = await asyncio.to_thread(_read, self.child.metrics)
        for line in text.splitlines():
            if line.startswith(name) and all(label in line for label in labels):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    async def status(self) -> Record:
        return await asyncio.to_thread(self._ask, "node.status")

    async def empty(self, within_s: float = WITHIN_S) -> None:
        """Until the bridge holds no call and no leg, and the node has closed all of its own."""

        async def is_empty() -> bool:
            held = [
                await self.metric("sidecar_bridge_total", f'"{n}"') for n in ("live_calls", "abandoned_legs")
            ]
            return not any(held) and not await self.child.live_calls()

        await until(is_empty, within_s)

    async def live(self, number: str, *, answered: bool = False) -> Record:
        """The live call to this number, once it is there (and answered)."""
        found: list[Record] = []

        async def is_there() -> bool:
            up = [one for one in await self.child.live_calls() if one["callee"] == number]
            found.extend(dict(one) for one in up if one["answered_at"] or not answered)
            return bool(found)

        await until(is_there)
        return found[0]

    @asynccontextmanager
    async def journal_locked(self) -> AsyncIterator[None]:
        """Nothing can be committed in the block: the disk is there, but slower than any call can wait."""
        connection = sqlite3.connect(self.data / "journal.db", timeout=10, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()

    async def top_up(self, account: str, amount: str) -> None:
        """As the command does it; the socket may lie in a mount namespace that only the daemon sees."""
        await asyncio.to_thread(self._ask, "account.topup", name=account, amount=amount, reference="test")

    def _ask(self, method: str, **words: Any) -> Record:
        folder = os.open(f"/proc/{self.child.pid}/root{self.data}", os.O_PATH)
        try:
            with ControlClient(Path(f"/proc/self/fd/{folder}/control.sock")) as client:
                return dict(client.call(method, words))
        finally:
            os.close(folder)

    async def account(self, name: str) -> Decimal:
        shown = await self.child.command("account", "show", name)
        return sum((Decimal(one["amount"]) for one in shown["balances"]), Decimal(0))

    # --- after the node has stopped ---

    def check_books(self) -> None:
        assert (wrong := _books(self.data / "journal.db")) == [], wrong

    def open_entries(self) -> int:
        return int(self.ask("SELECT count(*) FROM open_calls")[0][0])

    def balance(self, account: str) -> Decimal:
        rows = self.ask("SELECT amount FROM balances WHERE account = ?", account)
        return Decimal(rows[0][0]) if rows else Decimal(0)

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.data / "journal.db", timeout=5)) as connection:
            return connection.execute(question, values).fetchall()


async def until(holds: Callable[[], Any], within_s: float = WITHIN_S) -> None:
    """Ask again and again; `holds` may be a coroutine function."""
    async with asyncio.timeout(within_s):
        while True:
            said = holds()
            if await said if inspect.isawaitable(said) else said:
                return
            await asyncio.sleep(PERIOD_S)


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def _books(file: Path) -> list[str]:
    connection = apsw.Connection(str(file))
    try:
        return ledger_check(connection)
    finally:
        connection.close()


class Listener:
    """A subscriber that keeps its session and comes back: what it holds is everything that was published.

    `records` in order of arrival, each message id once; `again` those that came another time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.records: list[Record] = []
        self.statuses: list[Record] = []
        self._ids: set[str] = set()
        self.again = 0
        self.connects = 0
        self._news = asyncio.Event()

    async def run(self) -> None:
        keep = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        keep.SessionExpiryInterval = 3600
        while True:
            client = aiomqtt.Client(
                self._host,
                self._port,
                identifier="listener",
                protocol=aiomqtt.ProtocolVersion.V5,
                clean_start=False,
                properties=keep,
                timeout=2,
            )
            try:
                async with client:
                    await client.subscribe("sidecar/v1/#", qos=1)
                    self.connects += 1
                    self._news.set()
                    async for message in client.messages:
                        self._take(str(message.topic), message.payload)
            except aiomqtt.MqttError:
                await asyncio.sleep(PERIOD_S)

    def _take(self, topic: str, payload: Any) -> None:
        content = msgpack.unpackb(payload, timestamp=3)
        if topic.endswith("/status"):
            self.statuses.append(content)
        elif content["message_id"] in self._ids:
            self.again += 1
        else:
            self._ids.add(content["message_id"])
            self.records.append(content)
        self._news.set()

    async def until(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def of(self, sip_call_ids: Iterable[str], within_s: float = WITHIN_S) -> list[Record]:
        """Revision 0 of each of these calls, in their order."""
        wanted = list(sip_call_ids)

        def found() -> dict[str, Record]:
            return {one["leg_a"]["sip_call_id"]: one for one in self.records if one["revision"] == 0}

        try:
            await self.until(lambda: found().keys() >= set(wanted), within_s)
        except TimeoutError:
            missing = set(wanted) - found().keys()
            raise AssertionError(
                f"{len(missing)} of {len(wanted)} without a record: {sorted(missing)[:5]}"
            ) from None
        return [found()[one] for one in wanted]


@asynccontextmanager
async def listening(host: str, port: int) -> AsyncIterator[Listener]:
    listener = Listener(host, port)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listener.run(), name="listener")
        await listener.until(lambda: listener.connects > 0)
        try:
            yield listener
        finally:
            task.cancel()


@asynccontextmanager
async def phones(node: Node, script: Script | None = None) -> AsyncIterator[tuple[Phone, Phone]]:
    """A caller and a callee; `node` must be up before the caller dials."""
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(await Phone.listen(f"{node.network}.2"))
        callee = await stack.enter_async_context(
            await Phone.listen(f"{node.network}.3", node.gateway_port, script)
        )
        yield caller, callee


class Mosquitto:
    """A broker of the test's own, on one port for as long as the test runs."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder, self.host = folder, host
        self.port = port or _free_tcp_port(host)
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"user {_user()}\nlistener {self.port} {self.host}\nallow_anonymous true\npersistence true\n"
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


def _free_tcp_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


# --- what must hold of any set of records -------------------------------------------------------------------


def check_sequences(records: Iterable[Record]) -> None:
    """Numbers without a gap in each epoch, in the order of arrival too; the chain of each account."""
    by_epoch: dict[str, list[Record]] = defaultdict(list)
    for one in records:
        by_epoch[one["store_epoch"]].append(one)
    for found in by_epoch.values():
        seqs = [one["seq"] for one in found]
        assert sorted(seqs) == list(range(min(seqs), min(seqs) + len(seqs))), seqs
        last: dict[str, int] = {}
        for one in sorted(found, key=lambda one: int(one["seq"])):
            assert one["account_prev_seq"] == last.get(one["account"]), one
            last[one["account"]] = one["seq"]


def sell(record: Record) -> Record:
    (line,) = (line for line in record["charges"] if line["side"] == "sell")
    return dict(line)
