"""The daemon as a child process, and the proof of the books from the file that it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import os
import re
import signal
import sqlite3
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import psycopg

from sidecar.adapters.control_client import ControlClient
from sidecar.adapters.postgresql.records import ledger_check as all_nodes_check
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.demo.children import Daemon, daemon, environment
from sidecar.demo.subscriber import Record
from tests.rig.addresses import own_network

WITHIN_S = 30.0
PERIOD_S = 0.02
SIDECAR = (sys.executable, "-m", "sidecar.cli")


class Node:
    """127.x.y.1 is the node; who else is there is said by its profile, which a subclass makes or which is
    given as text. `settings` are variables of the environment. `dsn`: of a PostgreSQL database, which has the
    books then."""

    def __init__(
        self,
        folder: Path,
        profile: str = "",
        *,
        network: str = "",
        program: Sequence[str] = SIDECAR,
        settings: Mapping[str, str] | None = None,
        dsn: str = "",
    ) -> None:
        self.folder, self.data = folder, folder / "data"
        self.network = network or own_network()
        self.host = f"{self.network}.1"
        self.daemon: Daemon
        self.log = folder / "daemon.log"
        self.profile = folder / "node.toml"
        self._profile = profile
        self._program = program
        self._settings = {
            "SIDECAR_NODE__NAME": "node",
            "SIDECAR_NODE__DATA_DIR": str(self.data),
            "SIDECAR_SIP__PROFILE": str(self.profile),
            "SIDECAR_METRICS__LISTEN": f"{self.host}:0",
            **(settings or {}),
        }
        self._dsn = dsn
        if dsn:
            file = folder / "dsn"
            file.touch(mode=0o600)
            file.write_text(f"{dsn}\n")
            self._settings |= {"SIDECAR_STORE__ENGINE": "postgresql", "SIDECAR_STORE__DSN_FILE": str(file)}
        self._more: dict[str, str] = {}
        self._logs = itertools.count(1)

    def profile_text(self) -> str:
        return self._profile

    @asynccontextmanager
    async def up(self, program: Sequence[str] = (), **settings: str) -> AsyncIterator[Daemon]:
        """May be entered again: a restart on the same data, and with the same settings unless others are
        given."""
        self._more = settings or self._more
        self.log = self.folder / f"daemon-{next(self._logs)}.log"
        self.profile.write_text(self.profile_text())
        async with daemon(self.log, self._settings | self._more, program or self._program) as child:
            self.daemon = child
            yield child

    async def killed_while_it_starts(self, after_s: float) -> None:
        child = await asyncio.create_subprocess_exec(
            *(*self._program, "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(**self._settings | self._more),
        )
        await asyncio.sleep(after_s)
        child.kill()
        await child.wait()

    def settings(self) -> Mapping[str, str]:
        """Of the last start: for a process that the test starts itself."""
        return self._settings | self._more

    def kill(self) -> None:
        os.kill(self.daemon.pid, signal.SIGKILL)

    # --- while it is up -------------------------------------------------------------------------------------

    async def control(self, method: str, **words: Any) -> Record:
        """What a method of the control socket answers. The socket may lie in a mount namespace that only the
        daemon sees."""
        return await asyncio.to_thread(self._control, method, words)

    def _control(self, method: str, words: dict[str, Any]) -> Record:
        folder = os.open(f"/proc/{self.daemon.pid}/root{self.data}", os.O_PATH)
        try:
            with ControlClient(Path(f"/proc/self/fd/{folder}/control.sock")) as client:
                return dict(client.call(method, words))
        finally:
            os.close(folder)

    async def status(self) -> Record:
        return await self.control("node.status")

    async def top_up(self, account: str, amount: str) -> None:
        await self.control("account.topup", name=account, amount=amount, reference="test")

    async def account(self, name: str) -> Decimal:
        shown = await self.daemon.command("account", "show", name)
        return sum((Decimal(one["amount"]) for one in shown["balances"]), Decimal(0))

    async def metric(self, name: str, *labels: str) -> float:
        text = await asyncio.to_thread(_read, self.daemon.metrics)
        for line in text.splitlines():
            if line.startswith(name) and all(label in line for label in labels):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    async def live(self, number: str, *, answered: bool = False) -> Record:
        """The live call to this number, once it is admitted (and answered)."""
        found: list[Record] = []

        async def is_there() -> bool:
            up = [one for one in await self.daemon.live_calls() if one["callee"] == number]
            admitted = [one for one in up if one["phase"] != "admitting"]
            found.extend(dict(one) for one in admitted if one["answered_at"] or not answered)
            return bool(found)

        await until(is_there)
        return found[0]

    async def empty(self, within_s: float = WITHIN_S) -> None:
        """Until the bridge holds no call and no leg, and the node has closed all of its own."""

        async def is_empty() -> bool:
            held = [
                await self.metric("sidecar_bridge_total", f'"{n}"') for n in ("live_calls", "abandoned_legs")
            ]
            return not any(held) and not await self.daemon.live_calls()

        await until(is_empty, within_s)

    @asynccontextmanager
    async def journal_locked(self) -> AsyncIterator[None]:
        """Nothing can be committed in the block: the disk is there, but slower than any call can wait."""
        if self._dsn:
            with psycopg.connect(self._dsn) as database:
                database.execute("LOCK TABLE epochs IN EXCLUSIVE MODE")
                yield
            return
        connection = sqlite3.connect(self.data / "journal.db", timeout=10, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()

    # --- after it has stopped -------------------------------------------------------------------------------

    def check_books(self) -> None:
        wrong = _books_of_all(self._dsn) if self._dsn else _books(self.data / "journal.db")
        assert wrong == [], wrong

    def open_entries(self) -> int:
        return int(self.ask("SELECT count(*) FROM open_calls")[0][0])

    def balance(self, account: str) -> Decimal:
        rows = self.ask("SELECT amount FROM balances WHERE account = ?", account)
        return Decimal(rows[0][0]) if rows else Decimal(0)

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._dsn:
            with psycopg.connect(self._dsn, autocommit=True) as database:
                return database.execute(question.replace("?", "%s").encode(), values or None).fetchall()
        with contextlib.closing(sqlite3.connect(self.data / "journal.db", timeout=5)) as connection:
            return connection.execute(question, values).fetchall()


def with_lines(profile: str, more: Mapping[str, str]) -> str:
    """The profile with lines added to its tables, such as {"gateways.main": 'username = "us"'}. A key that
    is there already is replaced."""
    for table, lines in more.items():
        before, header, after = profile.partition(f"[{table}]\n")
        assert header, f"the profile has no table [{table}]"
        kept, bracket, rest = after.partition("\n[")
        for key in re.findall(r"(?m)^\w+(?= *=)", lines):
            kept = re.sub(rf"(?m)^{key} *=.*\n?", "", kept)
        profile = f"{before}{header}{lines}\n{kept}{bracket}{rest}"
    return profile


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


def _books_of_all(dsn: str) -> list[str]:
    server = Server(dsn, "proof")
    try:
        return all_nodes_check(server)
    finally:
        server.close()


def _books(file: Path) -> list[str]:
    connection = apsw.Connection(str(file))
    try:
        return ledger_check(connection)
    finally:
        connection.close()
