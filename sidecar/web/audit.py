"""What people have done, here and on the command line, and what was raised by itself: the audit table."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sidecar.web.node import Node
from sidecar.web.page import Page, wants_whole

PER_PAGE = 50
FILTERS = {"by": 64, "action": 64, "subject": 200}  # and how long each may be


class AuditPages:
    def __init__(self, node: Node) -> None:
        self._node = node

    def list(self, page: Page, request: Request) -> Response:
        wanted = {
            name: request.query_params.get(name, "").strip()[:length] for name, length in FILTERS.items()
        }
        asked = request.query_params.get("before", "")
        before = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 19 else None
        whole = wants_whole(page, request)
        given = {name: value or None for name, value in wanted.items()}
        found = self._node.ask("audit.list", **given, before_entry=before, limit=PER_PAGE + 1)["entries"]
        entries = found[-PER_PAGE:][::-1]
        kept = wanted | {"before": asked if before is not None else "", "whole": "1" if whole else ""}

        def place(**other: object) -> str:
            said = {name: value for name, value in {**kept, **other}.items() if value}
            return "/audit?" + urlencode(said)

        return page.show(
            request,
            "audit.html",
            entries=[(one, _state(one["before"]), _state(one["after"])) for one in entries],
            wanted=wanted,
            is_first=before is None,
            onward=entries[-1]["entry"] if len(found) > PER_PAGE else None,
            whole=whole,
            place=place,
        )


def _state(state: object) -> str:
    return "" if state is None else msgspec.json.encode(state).decode()
