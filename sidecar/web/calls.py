"""The calls that are up: filtered, sorted and paged here, of one list that all pages share and that is at
most LISTED_S_MAX old. So the node makes one list, a thousand calls at a time, however many look. Where other
nodes share its database there is a list of the calls of all: each of them is asked through the database, so
at most for ROWS_MAX, and less often."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.rights import Right
from sidecar.web.node import Node
from sidecar.web.page import NotAllowedError, Page, back, may, visitor_of, wants_whole
from sidecar.wire.control import ROWS_MAX, CommandError, ErrorCode

LISTED_S_MAX = 2.0
ALL_LISTED_S_MAX = 10.0
CALLS_MAX = 100_000  # as node.calls_max
PER_PAGE = 50
FILTER_LENGTH_MAX = 64

Call = Mapping[str, Any]


class Listed(NamedTuple):
    calls: Sequence[Call] = ()
    lacks: Sequence[str] = ()  # what is not in it, of which node and why
    at_s: float = -math.inf


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
OF_ALL: Mapping[str, tuple[str, Callable[[Call], Any]]] = {"node": ("Node", lambda call: call["node"])}
SORTED_BY = "invited"


class CallPages:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock, self._lock_of_all = threading.Lock(), threading.Lock()
        self._own, self._all = Listed(), Listed()

    def list(self, page: Page, request: Request) -> Response:
        asked = request.query_params
        is_of_all = self._node.books.is_shared and asked.get("nodes") == "all"
        filters = (*OF_ALL, *FILTERS) if is_of_all else FILTERS
        columns = {**OF_ALL, **COLUMNS} if is_of_all else COLUMNS
        wanted = {name: asked.get(name, "").strip()[:FILTER_LENGTH_MAX] for name in (*filters, "number")}
        if wanted["number"] and not may(request, Right.NUMBERS):
            raise NotAllowedError("Your role may not search by numbers.")
        whole = wants_whole(page, request)
        sort = asked.get("sort", SORTED_BY)
        if sort not in columns:
            sort = SORTED_BY
        is_down = asked.get("order") == "down"
        listed = self._listed_of_all() if is_of_all else self._listed()
        every = listed.calls
        found = [call for call in every if _fits(call, wanted, filters)]
        found.sort(key=columns[sort][1], reverse=is_down)
        pages = max(1, -(-len(found) // PER_PAGE))
        number = min(max(1, _whole(asked.get("page", ""))), pages)
        kept = {name: value for name, value in wanted.items() if value} | ({"whole": "1"} if whole else {})
        kept |= {"nodes": "all"} if is_of_all else {}

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
            columns={name: title for name, (title, _) in columns.items()},
            is_shared=self._node.books.is_shared,
            is_of_all=is_of_all,
            lacks=listed.lacks,
            whole=whole,
            place=place,
            options={name: sorted({str(call[name] or "") for call in every} - {""}) for name in filters},
        )

    def ask(self, page: Page, request: Request) -> Response:
        """Before a call is released: which, and why."""
        call_id = str(request.path_params["call_id"])
        node = request.query_params.get("node", "")[:FILTER_LENGTH_MAX]
        every = (self._listed_of_all() if node else self._listed()).calls
        call = next((one for one in every if one["call_id"] == call_id), None)
        if call is None:
            raise CommandError(ErrorCode.NOT_FOUND, f"Call {call_id} is not up any more.")
        return page.show(request, "release.html", call=call, node=node)

    def release(self, page: Page, request: Request) -> Response:
        visitor, call_id = visitor_of(request), str(request.path_params["call_id"])
        assert visitor.user is not None
        reason = visitor.form.get("reason", "").strip()
        if not reason:
            raise CommandError(
                ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the record of the call."
            )
        node = visitor.form.get("node", "")[:FILTER_LENGTH_MAX]
        self._node.ask_of(node, "call.release", call_id=call_id, operator=visitor.user.name, text=reason)
        with self._lock:
            self._own = Listed()
        with self._lock_of_all:
            self._all = Listed()
        return back(request, "/calls?nodes=all" if node else "/calls", f"Call {call_id} was released.")

    def _listed(self) -> Listed:
        """Whoever comes while the list is made waits for it, and has it too."""
        with self._lock:
            if time.monotonic() - self._own.at_s > LISTED_S_MAX:
                calls: list[Call] = []
                with self._node.connected() as client:
                    while len(calls) < CALLS_MAX:
                        after = {"after": calls[-1]["call_id"]} if calls else {}
                        part = client.call("call.list", {"limit": ROWS_MAX, **after})["calls"]
                        calls += part
                        if len(part) < ROWS_MAX:
                            break
                self._own = Listed(calls, (), time.monotonic())
            return self._own

    def _listed_of_all(self) -> Listed:
        with self._lock_of_all:
            if time.monotonic() - self._all.at_s > ALL_LISTED_S_MAX:
                calls = [{**call, "node": self._node.name} for call in self._listed().calls]
                lacks = []
                for one in self._node.ask("node.list")["nodes"]:
                    name = one["node"]
                    if name == self._node.name or (one["state"] is None and not one["open_calls"]):
                        continue
                    try:
                        found = self._node.ask_of(name, "call.list", limit=ROWS_MAX)
                    except CommandError as error:
                        lacks.append(
                            f"{one['open_calls']} calls of {name}, as the books have it: {error.text}"
                        )
                        continue
                    calls += [{**call, "node": name} for call in found["calls"]]
                    if (more := found["total"] - len(found["calls"])) > 0:
                        lacks.append(f"{more} more calls of {name}: the page of that node has them")
                self._all = Listed(calls, lacks, time.monotonic())
            return self._all


def _fits(call: Call, wanted: Mapping[str, str], filters: Sequence[str]) -> bool:
    if any(wanted[name] and wanted[name] != (call[name] or "") for name in filters):
        return False
    number = wanted["number"].lstrip("+")
    return not number or any(str(call[who]).lstrip("+").startswith(number) for who in ("caller", "callee"))


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
