"""What the pages have in common: templates, who asks, where an answer leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sidecar.config.settings import Web
from sidecar.core.numbers import mask
from sidecar.core.rights import MAY, Right
from sidecar.core.windows import instant_of
from sidecar.web import show
from sidecar.web.assets import assets
from sidecar.web.guard import COOKIE, SECURE_COOKIE, Visitor
from sidecar.web.node import Node
from sidecar.web.sessions import NOTICE_LENGTH_MAX, Sessions
from sidecar.wire.control_users import Deed


class Tab(NamedTuple):
    path: str
    title: str
    needs: Right


TABS = (
    Tab("/", "Now", Right.SEE),
    Tab("/calls", "Calls", Right.SEE),
    Tab("/records", "Records", Right.SEE),
    Tab("/revenue", "Revenue", Right.MONEY),
    Tab("/accounts", "Accounts", Right.MONEY),
    Tab("/rates", "Rates", Right.MONEY),
    Tab("/numbers", "Numbers", Right.MONEY),
    Tab("/delivery", "Delivery", Right.SEE),
    Tab("/node", "Node", Right.SEE),
    Tab("/audit", "Audit", Right.AUDIT),
)


Handler = Callable[["Page", Request], Response]  # asked in a thread
AsyncHandler = Callable[["Page", Request], Awaitable[Response]]


class NotAllowedError(Exception):
    """The text says what may not be done."""


class Page:
    """What handlers have in common."""

    def __init__(self, web: Web, node: Node) -> None:
        self.node = node
        self.sessions = Sessions()
        self.assets = assets()
        self.has_passwords = not web.user_header
        self.templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters.update(
            text=show.text,
            number=show.number,
            line=show.line,
            uri=show.uri,
            offset=show.offset,
            moment=show.moment,
            clock=show.clock,
            duration=show.duration,
            count=show.count,
            share=show.share,
            amount=show.amount,
        )
        self.templates.globals.update(asset=self._asset, Right=Right)

    def _asset(self, name: str) -> str:
        """Where it is, with its hash, so that browsers may keep it; empty where it was not installed."""
        found = self.assets.get(name)
        return "" if found is None else f"/assets/{name}?{found.etag}"

    def fragment(self, template: str, **values: object) -> str:
        return self.templates.get_template(template).render(values)

    def show(self, request: Request, template: str, code: int = 200, **values: object) -> Response:
        visitor = visitor_of(request)
        rights = MAY[visitor.user.role] if visitor.user is not None else frozenset()
        notice = ""
        if visitor.session is not None:
            notice, visitor.session.notice = visitor.session.notice, ""
        said: dict[str, Any] = {
            "user": visitor.user,
            "csrf": visitor.session.csrf if visitor.session is not None else "",
            "rights": rights,
            "tabs": [tab for tab in TABS if tab.needs in rights],
            "path": request.url.path,
            "notice": notice,
            "has_passwords": self.has_passwords,
            **values,
        }
        answer = HTMLResponse(self.fragment(template, **said), code)
        self.set_cookie(visitor, answer)
        return answer

    def set_cookie(self, visitor: Visitor, answer: Response) -> None:
        """Where the browser has not that of its session yet."""
        if visitor.session is not None:
            answer.set_cookie(
                SECURE_COOKIE if visitor.is_https else COOKIE,
                visitor.token,
                secure=visitor.is_https,
                httponly=True,
                samesite="lax",
            )


def visitor_of(request: Request) -> Visitor:
    visitor = request.scope["state"]["visitor"]
    assert isinstance(visitor, Visitor)
    return visitor


def moment_in(text: str, zone: str) -> datetime:
    """Of the zone where it has no offset of its own. ValueError says what is wrong."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text}: not a time like 2026-11-01 or 2026-11-01T08:00Z") from None
    return instant_of(moment, zone) if moment.tzinfo is None else moment


def may(request: Request, right: Right) -> bool:
    user = visitor_of(request).user
    return user is not None and right in MAY[user.role]


def wants_whole(page: Page, request: Request) -> bool:
    """Whether numbers are shown whole, because who may asked for it (`whole=1`): that is noted first. The
    audit table is not reached by the erasing of a number, so it has none."""
    if request.query_params.get("whole") != "1":
        return False
    user = visitor_of(request).user
    if user is None or not may(request, Right.NUMBERS):
        raise NotAllowedError("Your role may not see whole numbers.")
    asked = (
        f"{name}={mask(value) if name == 'number' else value}"
        for name, value in request.query_params.items()
        if value and name not in ("whole", "sort", "order")
    )
    page.node.note(Deed.LOOK, user.name, " ".join((request.url.path, *asked))[:200])
    return True


def back(request: Request, path: str, notice: str) -> Response:
    """After a form: the page that shows what has become of it."""
    session = visitor_of(request).session
    assert session is not None
    session.notice = notice[:NOTICE_LENGTH_MAX]
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)
