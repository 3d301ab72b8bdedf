"""A node with its page, people who may use it, and a browser that they sit at."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from argon2 import PasswordHasher
from playwright.async_api import Browser, BrowserContext, CDPSession, ConsoleMessage, Page, async_playwright

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.sqlite import SqliteStore
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.core.users import Role
from tests.rig.node import until
from tests.sipp.rig import Rig

AXE = Path(__file__).parents[2] / "sidecar/web/node/node_modules/axe-core/axe.min.js"
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE_MS = 60_000
LASTING_S = 170  # what is to be seen lasts until it was: as long as a test may
LONG = f"ring_timeout_s = {LASTING_S}\nmax_duration_s = 600"
PASSWORD = "correct horse battery"
# Quick: what is tested is that it is asked, not how long a guess takes.
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)


AnyStore = SqliteStore | PostgresqlStore


def store_at(data_dir: Path, dsn: str = "") -> AnyStore:
    """Of a node that does not run; `dsn`: of the database that has its books."""
    node, boot_id, clock = "node", "before", SystemClock()
    if not dsn:
        return SqliteStore.open(data_dir, node=node, boot_id=boot_id, clock=clock)
    data_dir.mkdir(mode=0o700)
    key_file = data_dir / KEY_FILE_NAME
    return PostgresqlStore.open(dsn, node=node, boot_id=boot_id, clock=clock, key_file=key_file)


class PageRig(Rig):
    """`users` are made at the start, each with PASSWORD."""

    place_of_page: str
    ringing = f"ring_timeout_s = {LASTING_S}"  # the line of its profile

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        folder: Path,
        users: Mapping[str, Role],
        before: Callable[[AnyStore], Awaitable[None]] | None = None,
        *,
        dsn: str = "",
        **settings: str,
    ) -> AsyncIterator[PageRig]:
        """`before`: what is done to its store first."""
        rig = cls(folder, {"timers": LONG}, dsn=dsn)
        if before is not None:
            store = store_at(rig.data, dsn)
            await before(store)
            await store.close()
        async with rig.up(SIDECAR_WEB__LISTEN=f"{rig.host}:0", **settings):
            rig.place_of_page = rig.ready["page"]
            for name, role in users.items():
                await rig.control("user.add", name=name, role=role, password_hash=HASH, operator="test")
            await until(rig.is_served)
            yield rig

    @property
    def ready(self) -> dict[str, Any]:
        [ready] = [line for line in self.lines() if line["event"] == "ready"]
        return ready

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    async def is_served(self) -> bool:
        try:
            answer = await asyncio.to_thread(Visit(self.place_of_page).get, "/sign-in")
        except OSError:
            return False
        return answer.status == 200

    async def audited(self, action: str) -> list[dict[str, Any]]:
        return list((await self.control("audit.list", action=action))["entries"])


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.cookies = [value for name, value in answer.getheaders() if name.lower() == "set-cookie"]
        self.text = answer.read().decode()


class Visit:
    """Somebody without a browser, who may send whatever he likes. Keeps the cookie that he was given."""

    def __init__(self, place: str, cookie: str = "", *, source: str = "") -> None:
        self._source = (source, 0) if source else None
        self._is_tls = place.startswith("https")
        found = urlsplit(place)
        assert found.hostname is not None
        assert found.port is not None
        self.host, self.port = found.hostname, found.port
        self.cookie = cookie

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        how: dict[str, Any] = {"timeout": 30, "source_address": self._source}
        if self._is_tls:
            how["context"] = ssl._create_unverified_context()  # who it is is not what is tested
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self.host, self.port, **how)
        try:
            cookie = {"cookie": self.cookie} if self.cookie else {}
            connection.request(method, path, body, {**cookie, **(headers or {})})
            answer = Answer(connection.getresponse())
        finally:
            connection.close()
        if answer.cookies:
            self.cookie = answer.cookies[-1].split(";")[0]
        return answer

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def made(self, path: str) -> Answer:
        """What is there once it is made: as a browser asks again."""
        answer = self.get(path)
        for _ in range(LASTING_S):
            if answer.status != 202:
                break
            after_s, _, place = answer.headers["refresh"].partition("; url=")
            time.sleep(int(after_s))
            answer = self.get(place)
        return answer

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        sent = {"origin": f"http{'s' if self._is_tls else ''}://{self.host}:{self.port}", **headers}
        sent["content-type"] = "application/x-www-form-urlencoded"
        return self.send("POST", path, urlencode(fields).encode(), sent)

    def sign_in(self, name: str, password: str = PASSWORD) -> Answer:
        return self.post("/sign-in", {"name": name, "password": password})

    def csrf(self) -> str:
        return self.get("/").text.partition('name="csrf" value="')[2].partition('"')[0]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS], timeout=PATIENCE_MS
        )
        try:
            yield browser
        finally:
            await browser.close()


class Faults:
    """What the browser complained of: an error of a script, something that our policy would not let it do. It
    also says of each form that was refused that it was, which is what we meant."""

    def __init__(self, page: Page) -> None:
        self.found: list[str] = []
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("console", self._said)

    def _said(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not any(f"a status of {code}" in said.text for code in (400, 409)):
            self.found.append(said.text)


@asynccontextmanager
async def desk(
    browser: Browser, rig: PageRig, *, dark: bool = False, width: int = 1280, script: bool = True
) -> AsyncIterator[Page]:
    """A page of a browser without a past; in the end there was no complaint of it."""
    context: BrowserContext = await browser.new_context(
        base_url=rig.place_of_page,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 900},
        java_script_enabled=script,
        bypass_csp=False,
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    faults = Faults(page)
    try:
        yield page
        assert faults.found == []
    finally:
        await context.close()


async def sign_in(page: Page, name: str) -> None:
    await page.goto("/sign-in")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", level=1).wait_for()


async def violations(page: Page) -> list[str]:
    """What axe finds, of WCAG and of good practice. By the debugger: our own policy forbids such scripts."""
    session = await page.context.new_cdp_session(page)
    await _evaluated(session, AXE.read_text())
    found = await _evaluated(session, "axe.run(document).then(found => JSON.stringify(found.violations))")
    await session.detach()
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in json.loads(found)]


async def _evaluated(session: CDPSession, expression: str) -> str:
    how = {"expression": expression, "awaitPromise": True, "returnByValue": True}
    said = await session.send("Runtime.evaluate", how)
    assert "exceptionDetails" not in said, said["exceptionDetails"]
    return str(said["result"].get("value"))


def shots(folder: Path) -> Path:
    """Where pictures go: into a folder that is kept where one is named."""
    return Path(os.environ.get("SIDECAR_SHOTS", folder))
