"""The first page: what is up, how calls end, what waits. The node is looked at for all who watch together, so
twenty pages that are open ask no more of it than one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from sidecar.adapters.sqlite.kept_sums import KeptSums
from sidecar.core.alarms import AlarmKind
from sidecar.web.figures import ENDS, LOOK_INTERVAL_S, History, look_of
from sidecar.web.node import DaemonUnreachableError, Node
from sidecar.web.page import Page
from sidecar.web.past import RANGES, rows, series
from sidecar.wire.control import CommandError

ALARMS_SHOWN = 8
STREAMS_MAX = 100
STREAM_S_MAX = 120.0  # then the browser asks again, and it is looked again who it is

log = structlog.get_logger("sidecar.web")


class Now:
    """`fragment` renders the figures. `looking` lasts as long as the process."""

    def __init__(self, node: Node, sums: KeptSums, fragment: Callable[..., str]) -> None:
        self._node = node
        self._sums = sums
        self._fragment = fragment
        self._history = History()
        self._shown: dict[str, Any] = self._nothing("not asked yet")
        self._html = ""
        self._streams = 0
        self._news = asyncio.Condition()
        self._alarms_read = -1.0

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._look_on(), name="looking")
            yield
            task.cancel()

    def show(self, page: Page, request: Request) -> Response:
        """Live, or with a range of the past."""
        chosen = _range_of(request)
        past: dict[str, Any] = {"chosen": chosen, "ranges": list(RANGES)}
        if chosen:
            wanted = RANGES[chosen]
            found = rows(self._sums, wanted, time.time())
            past |= {"rows": found, "step": wanted.step, "behind": self._sums.behind()}
        return page.show(request, "now.html", **self._shown, **past)

    def series(self, request: Request) -> Response:
        chosen = _range_of(request)
        found = series(self._sums, RANGES[chosen], time.time()) if chosen else self._history.series()
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def stream(self, _: Request) -> Response:
        if self._streams >= STREAMS_MAX:
            return PlainTextResponse("Too many pages are open.", 503)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        until_s = time.monotonic() + STREAM_S_MAX
        self._streams += 1
        try:
            yield b"retry: 2000\n\n"
            while time.monotonic() < until_s:
                yield _event(self._html)
                async with self._news:
                    await self._news.wait()
        finally:
            self._streams -= 1

    async def _look_on(self) -> None:
        while True:
            try:
                self._shown = await run_sync(self._look)
            except (DaemonUnreachableError, CommandError, OSError) as error:
                self._shown = self._nothing(str(error))
            except Exception as error:
                log.exception("page_look_failed")  # a defect of ours: the next look may go better
                self._shown = self._nothing(str(error))
            self._html = self._fragment(**self._shown)
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _nothing(self, why: str) -> dict[str, Any]:
        return {"status": None, "why": why, "figures": self._history.figures(), "gateways": [], "alarms": []}

    def _look(self) -> dict[str, Any]:
        with self._node.connected() as client:
            status = client.call("node.status")
            gateways = client.call("node.gateways")["gateways"]
            look = look_of(self._node.metrics(status["metrics"]), time.time())
            alarms = self._shown["alarms"]
            if look.alarms != self._alarms_read or self._shown["status"] is None:
                alarms = self._last_alarms(client.call)
                self._alarms_read = look.alarms
        self._history.add(look, status["boot_id"])
        figures = self._history.figures()
        return {"status": status, "why": "", "figures": figures, "gateways": gateways, "alarms": alarms}

    def _last_alarms(self, call: Callable[..., Any]) -> list[dict[str, Any]]:
        found = [
            entry
            for kind in AlarmKind
            for entry in call("audit.list", {"action": f"alarm.{kind.value}", "limit": ALARMS_SHOWN})[
                "entries"
            ]
        ]
        return sorted(found, key=lambda entry: -entry["entry"])[:ALARMS_SHOWN]


def _range_of(request: Request) -> str:
    """Empty: live."""
    asked = request.query_params.get("range", "")
    if asked and asked not in RANGES:
        raise HTTPException(404)
    return asked


def _event(html: str) -> bytes:
    """HTML standard, 9.2: each line of it is a `data:` line."""
    return "".join(f"data: {line}\n" for line in html.splitlines()).encode() + b"\n"


__all__ = ["ENDS", "Now"]
