"""The calls that are up: filtered, sorted and paged here, of one list that all pages share and that is at
most LISTED_S_MAX old. So the node makes one list, a thousand calls at a time, however many look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.rights import Right
from sidecar.web.node import Node
from sidecar.web.page import NotAllowedError, Page, back, may, visitor_of, wants_whole
from sidecar.wire.control import ROWS_MAX, CommandError, ErrorCode

LISTED_S_MAX = 2.0
CALLS_MAX = 100_000  # as node.calls_max
PER_PAGE = 50
FILTER_LENGTH_MAX = 64

Call = Mapping[str, Any]

COLUMNS: Mapping[str, tuple[str, Callable[[Call], Any]]] = {
    "invited": ("Began", lambda call: call["invited_at"]),
    "phase": ("Phase", lambda call: call["phase"]),
    "account": ("Account", lambda call: call["account"]),
    "peer": ("From", lambda call: call["peer"]),
    "gateway": ("Gateway", lambda call: call["gateway"] or ""),
    "talk": ("Talk", lambda call: call["talk_s"]),
    "granted": ("Granted", lambda call: call["granted_s"] or 0),
}
FILTERS = ("account", "peer", "gateway", "phase")  # exactly
SORTED_BY = "invited"


class CallPages:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._calls: Sequence[Call] = ()
        self._listed_s = -LISTED_S_MAX

    def list(self, page: Page, request: Request) -> Response:
        asked = request.query_params
        wanted = {name: asked.get(name, "").strip()[:FILTER_LENGTH_MAX] for name in (*FILTERS, "number")}
        if wanted["number"] and not may(request, Right.NUMBERS):
            raise NotAllowedError("Your role may not search by numbers.")
        whole = wants_whole(page, request)
        sort = asked.get("sort", SORTED_BY)
        if sort not in COLUMNS:
            sort = SORTED_BY
        is_down = asked.get("order") == "down"
        every = self._listed()
        found = [call for call in every if _fits(call, wanted)]
        found.sort(key=COLUMNS[sort][1], reverse=is_down)
        pages = max(1, -(-len(found) // PER_PAGE))
        number = min(max(1, _whole(asked.get("page", ""))), pages)
        kept = {name: value for name, value in wanted.items() if value} | ({"whole": "1"} if whole else {})

        def place(**other: object) -> str:
            said = {**kept, "sort": sort, **({"order": "down"} if is_down else {}), **other}
            return "/calls?" + urlencode({name: value for name, value in said.items() if value})

        return page.show(
            request,
            "calls.html",
            calls=found[(number - 1) * PER_PAGE : number * PER_PAGE],
            total=len(every),
            found=len(found),
            first=(number - 1) * PER_PAGE + 1,
            number=number,
            pages=pages,
            wanted=wanted,
            sort=sort,
            is_down=is_down,
            columns={name: title for name, (title, _) in COLUMNS.items()},
            whole=whole,
            place=place,
            options={name: sorted({str(call[name] or "") for call in every} - {""}) for name in FILTERS},
        )

    def ask(self, page: Page, request: Request) -> Response:
        """Before a call is released: which, and why."""
        call_id = str(request.path_params["call_id"])
        call = next((one for one in self._listed() if one["call_id"] == call_id), None)
        if call is None:
            raise CommandError(ErrorCode.NOT_FOUND, f"Call {call_id} is not up any more.")
        return page.show(request, "release.html", call=call)

    def release(self, page: Page, request: Request) -> Response:
        visitor, call_id = visitor_of(request), str(request.path_params["call_id"])
        assert visitor.user is not None
        reason = visitor.form.get("reason", "").strip()
        if not reason:
            raise CommandError(
                ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the record of the call."
            )
        self._node.ask("call.release", call_id=call_id, operator=visitor.user.name, text=reason)
        with self._lock:
            self._listed_s = -LISTED_S_MAX
        return back(request, "/calls", f"Call {call_id} was released.")

    def _listed(self) -> Sequence[Call]:
        """Whoever comes while the list is made waits for it, and has it too."""
        with self._lock:
            if time.monotonic() - self._listed_s > LISTED_S_MAX:
                calls: list[Call] = []
                with self._node.connected() as client:
                    while len(calls) < CALLS_MAX:
                        after = {"after": calls[-1]["call_id"]} if calls else {}
                        part = client.call("call.list", {"limit": ROWS_MAX, **after})["calls"]
                        calls += part
                        if len(part) < ROWS_MAX:
                            break
                self._calls, self._listed_s = calls, time.monotonic()
            return self._calls


def _fits(call: Call, wanted: Mapping[str, str]) -> bool:
    if any(wanted[name] and wanted[name] != (call[name] or "") for name in FILTERS):
        return False
    number = wanted["number"].lstrip("+")
    return not number or any(str(call[who]).lstrip("+").startswith(number) for who in ("caller", "callee"))


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
