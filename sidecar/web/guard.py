"""What every request passes first, and every answer last.

Refused before anything is read: who is not a proxy of ours where there are some, methods that are not ours, a
form that another site sent (the browser says from where: `Origin`, and it cannot be made to lie). A body is
read whole, within bounds of size and time. Who it is: a session by its cookie, or what the proxy says; the
user is looked up for each request, so who is disabled is out at once. What programs ask goes another way
(api), which no cookie opens.

Every answer says that it is in no frame and no cache, and that the browser runs and loads nothing but ours.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec
import structlog
from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.config.settings import Web
from sidecar.core.users import User
from sidecar.web.api import PREFIX, Api
from sidecar.web.body import BodyError, read_body
from sidecar.web.node import Node, StoreError
from sidecar.web.sessions import Session, Sessions
from sidecar.web.uploads import Sent

BODY_BYTES_MAX = 65_536
BODY_S_MAX = 10.0
FIELDS_MAX = 100
QUERY_BYTES_MAX = 4_096
METHODS = ("GET", "HEAD", "POST")
UPLOAD = "multipart/form-data"
# `__Host-`: only over TLS, for this host alone, and no other program of the host can have set it.
COOKIE, SECURE_COOKIE = "sidecar", "__Host-sidecar"

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}

log = structlog.get_logger("sidecar.web")


class Visitor(msgspec.Struct, kw_only=True):
    """Who asks. Without a user nobody has signed in."""

    address: str
    is_https: bool
    user: User | None = None
    session: Session | None = None
    token: str = ""
    form: dict[str, str] = {}
    files: dict[str, Sent] = {}


class Guard:
    def __init__(self, app: ASGIApp, api: Api, web: Web, node: Node, sessions: Sessions) -> None:
        self._api = api
        self._app = app
        self._node = node
        self._sessions = sessions
        self._proxies = [ipaddress.ip_network(one) for one in web.proxies]
        # Whoever may open a unix socket is one: its mode is the door.
        self._is_behind_proxy = bool(self._proxies) or isinstance(web.listen, Path)
        self._user_header = web.user_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visitor = self._visitor(scope, headers)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
                if visitor is not None and visitor.is_https:
                    sent["strict-transport-security"] = "max-age=31536000"
            await send(message)

        if visitor is not None and scope["path"].startswith(PREFIX):
            said = await self._api.answer(scope, receive, visitor.address)
            await said(scope, receive, send_guarded)
            return
        answer = await self._refused(scope, headers, receive, visitor)
        if answer is None and visitor is not None:
            try:
                await self._recognise(visitor, headers)
            except StoreError as error:
                log.warning("page_without_journal", error=str(error))
                answer = PlainTextResponse("The journal cannot be read now: try again.", 503)
        if answer is not None:
            await answer(scope, receive, send_guarded)
            return
        scope.setdefault("state", {})["visitor"] = visitor
        await self._app(scope, receive, send_guarded)

    def _visitor(self, scope: Scope, headers: Headers) -> Visitor | None:
        """None: somebody past the proxies."""
        address = scope["client"][0] if scope.get("client") else ""
        is_https = scope["scheme"] == "https"
        if self._is_behind_proxy:
            if self._proxies and not _is_of(address, self._proxies):
                return None
            # The last one is what the proxy itself has seen; those before it anybody may have made up.
            address = headers.get("x-forwarded-for", address).rpartition(",")[2].strip()[:64] or address
            is_https = is_https or headers.get("x-forwarded-proto", "").lower() == "https"
        return Visitor(address=address, is_https=is_https)

    async def _refused(
        self, scope: Scope, headers: Headers, receive: Receive, visitor: Visitor | None
    ) -> Response | None:
        """Why it is not looked at; where it is, `visitor` has its form."""
        if visitor is None:
            return PlainTextResponse("This page is behind a proxy.", 403)
        if scope["method"] not in METHODS:
            return PlainTextResponse("There is nothing to do here with this method.", 405)
        if len(scope["query_string"]) > QUERY_BYTES_MAX:
            return PlainTextResponse("The address is too long.", 414)
        if scope["method"] != "POST":
            return None
        if not _is_own(headers):
            log.warning("page_form_of_another_site", address=visitor.address)
            return PlainTextResponse("This form was sent from elsewhere.", 403)
        if headers.get("content-type", "").lower().startswith(UPLOAD):
            return None  # a file: read where one is wanted, of whom may send it (app)
        try:
            body = await read_body(headers, receive, BODY_BYTES_MAX, BODY_S_MAX)
        except BodyError as error:
            return PlainTextResponse(str(error), error.status)
        try:
            visitor.form = dict(
                parse_qsl(
                    body.decode(),
                    keep_blank_values=True,
                    max_num_fields=FIELDS_MAX,
                    strict_parsing=bool(body),
                )
            )
        except ValueError:
            return PlainTextResponse("This is no form.", 400)
        return None

    async def _recognise(self, visitor: Visitor, headers: Headers) -> None:
        """StoreError where users cannot be looked up."""
        name, now_s = "", time.monotonic()
        visitor.token = _cookie(headers, SECURE_COOKIE if visitor.is_https else COOKIE)
        session = self._sessions.find(visitor.token, now_s) if visitor.token else None
        if self._user_header:
            name = headers.get(self._user_header, "")[:64]
        elif session is not None:
            name = session.user
        if not name:
            return
        user = await run_sync(self._node.user, name)
        if user is None or not user.enabled or user.token is not None:
            self._sessions.end_all_of(name)
            return
        mark = user.password_hash or ""
        if session is not None and (session.user, session.mark) != (name, mark):
            self._sessions.end(visitor.token)
            session = None
        if session is None and not self._user_header:
            return
        if session is None:
            visitor.token, session = self._sessions.begin(name, now_s, mark)
        visitor.user, visitor.session = user, session


def _is_of(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


def _is_own(headers: Headers) -> bool:
    """Browsers send `Origin` with every form (Fetch Standard, 3.2)."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
